"""One-hot groups that may move: which member is hot, and how another is chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.threat import Features


def change_groups(
    points: Features,
    chosen: NDArray[np.bool_],
    groups: tuple[range, ...],
    highest: Features,
    generator: np.random.Generator,
) -> None:
    """Make another member of some one-hot groups the hot one, drawn evenly from those that may be; in place.

    Args:
        points: Float32 [n, D].
        chosen: Bool [n, G], the groups to change. One without another member to choose stays as it is.
        groups: Columns of each of the G groups.
        highest: Float32 [n, D], highest values; a member may be hot where it is at least 1.
        generator: Draws the members.
    """
    for number, group in enumerate(groups):
        rows = np.flatnonzero(chosen[:, number])
        if not rows.size:
            continue
        columns = slice(group.start, group.stop)
        present = points[rows, columns]
        free = (highest[rows, columns] >= 1) & (present != 1)
        drawn = np.where(free, generator.random(free.shape, dtype=np.float32), -1).argmax(axis=1)
        changed = np.zeros_like(present)
        changed[np.arange(len(rows)), drawn] = 1
        points[rows, columns] = np.where(free.any(axis=1)[:, None], changed, present)
