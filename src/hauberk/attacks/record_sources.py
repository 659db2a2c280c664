"""What a threat model of records starts from: what each number may do, and what is known of the records themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.relations import Raw
from hauberk.attacks.threat import Features


@dataclass(frozen=True)
class NumberRules:
    """What each number of a record lets the adversary do.

    Attributes:
        low: Float64 [F], lowest raw value that it may be moved to; a record that lies below keeps its own as lowest.
        high: Float64 [F], highest, likewise. Both count as what float32 makes of them, as records do.
        rising: Bool [F], whether it may become larger.
        falling: Bool [F], whether it may become smaller; where neither, it never moves.
        whole: Bool [F], whether it can only be moved to whole numbers.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rising: NDArray[np.bool_]
    falling: NDArray[np.bool_]
    whole: NDArray[np.bool_]


@dataclass(frozen=True)
class Sources:
    """Records, and what has to be known of them.

    Attributes:
        features: Float32 [N, D].
        own: Float32 [N, M], the columns of the numbers that may move.
        lowest: Float32 [N, M], what each of those may fall to.
        highest: Float32 [N, M], what it may rise to.
        raw: The raw records.
        excess: Float64 [R, N], by how much they break each relation.
    """

    features: Features
    own: Features
    lowest: Features
    highest: Features
    raw: Raw
    excess: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> Sources:
        """Some of the records."""
        raw = Raw(self.raw.numeric[rows], self.raw.codes[rows])
        features = (self.features[rows], self.own[rows], self.lowest[rows], self.highest[rows])
        return Sources(*features, raw, self.excess[:, rows])
