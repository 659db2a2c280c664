"""Units: what is removed together or not at all.

Every element of every tensor carries the number of the unit it belongs to. Numbers are kept as **labels**: an integer
array that broadcasts against the tensor's shape, of size 1 along every axis on which the number does not depend. The
result of a convolution has labels [1, C, 1, 1]; flattened, they are [1, C·H·W]; split into heads, [1, 1, heads, width].
Where an operator needs two elements to come and go together, their units are tied (union-find).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Units:
    """Union-find over units, some of them frozen for a reason."""

    def __init__(self) -> None:
        self._parents = np.arange(1024, dtype=np.int64)
        self._count = 0
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> Labels:
        """Numbers of `count` new units."""
        first, self._count = self._count, self._count + count
        if self._count > len(self._parents):
            grown = np.arange(2 * self._count, dtype=np.int64)
            grown[: len(self._parents)] = self._parents
            self._parents = grown
        return np.arange(first, self._count, dtype=np.int64)

    def fixed(self, rank: int, reason: str) -> Labels:
        """Labels of a tensor of which nothing can be removed."""
        labels = self.fresh(1).reshape((1,) * rank)
        self.freeze(labels, reason)
        return labels

    def roots(self, labels: Labels) -> Labels:
        """The number that stands for each label's unit."""
        roots = self._parents[labels]
        while (following := self._parents[roots]).tobytes() != roots.tobytes():
            roots = following
        return roots

    def tie(self, first: Labels, second: Labels) -> None:
        """Make one unit of each pair; arrays broadcast."""
        left, right = (side.ravel() for side in np.broadcast_arrays(self.roots(first), self.roots(second)))
        while (apart := left != right).any():
            low, high = np.minimum(left, right)[apart], np.maximum(left, right)[apart]
            np.minimum.at(self._parents, high, low)
            for root in self._reasons.keys() & set(high.tolist()):
                self._reasons.setdefault(int(self.roots(np.array(root))), self._reasons.pop(root))
            left, right = self.roots(left), self.roots(right)

    def freeze(self, labels: Labels, reason: str) -> None:
        """Never remove these; the first reason is kept."""
        for root in np.unique(self.roots(labels)):
            self._reasons.setdefault(int(root), reason)

    def reason(self, label: int) -> str:
        """Why a unit is frozen; empty where it is not."""
        return self._reasons.get(int(self.roots(np.array([label]))[0]), "")

    def live(self, labels: Labels) -> NDArray[np.bool_]:
        """Which labels are of units that may be removed."""
        return ~np.isin(self.roots(labels), list(self._reasons))

    def canonical(self, labels: Labels) -> Labels:
        """The labels' roots, shortened to size 1 along every axis on which they do not depend."""
        roots = self.roots(labels)
        for axis in range(roots.ndim):
            first = np.take(roots, [0], axis)
            if roots.shape[axis] > 1 and bool((roots == first).all()):
                roots = first
        return roots

    def tie_along(self, labels: Labels, axes: tuple[int, ...]) -> Labels:
        """Make one unit of all that differ along these axes only; return the canonical labels."""
        for axis in axes:
            self.tie(labels, np.take(labels, [0], axis))
        return self.canonical(labels)


def varying(labels: Labels) -> tuple[int, ...]:
    """Axes on which canonical labels depend."""
    return tuple(axis for axis, size in enumerate(labels.shape) if size > 1)


def reshaped(labels: Labels, before: tuple[int, ...], after: tuple[int, ...]) -> Labels:
    """Labels of a tensor of shape `before` after it was given the shape `after`.

    Axes are matched in blocks of equal size, [2, 3, 4] and [6, 4] as (2, 3)→(6) and (4)→(4); only blocks on which the
    labels depend are written out.
    """
    wide, narrow = list(labels.shape), [1] * len(after)
    for sources, targets in _blocks(before, after):
        if any(labels.shape[axis] > 1 for axis in sources):
            for axis in sources:
                wide[axis] = before[axis]
            for axis in targets:
                narrow[axis] = after[axis]
    return np.broadcast_to(labels, wide).reshape(narrow)


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Axes of both shapes in the shortest runs of equal size."""
    blocks: list[tuple[list[int], list[int]]] = []
    source = target = 0
    while source < len(before) or target < len(after):
        sources: list[int] = []
        targets: list[int] = []
        left = right = 1
        while (left != right or not (sources or targets)) or (left == right == 1 and not (sources and targets)):
            if source >= len(before) and target >= len(after):
                break
            if (left <= right and source < len(before)) or target >= len(after):
                left *= before[source]
                sources.append(source)
                source += 1
            else:
                right *= after[target]
                targets.append(target)
                target += 1
        blocks.append((sources, targets))
    return blocks


def reshape_like(labels: Labels, rank: int) -> Labels:
    """Labels with axes of size 1 put in front up to a rank, as broadcasting does."""
    shape: tuple[Any, ...] = (1,) * (rank - labels.ndim) + labels.shape
    return labels.reshape(shape)
