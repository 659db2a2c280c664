"""The threat model: how far an adversary can move a record in feature space.

The adversary moves every mutable column by at most `radius` (L-infinity norm) and stays in the range that the schema
knows. Columns that cannot be changed, and one-hot groups of categoricals, never move. Attacks project on this set
**outside** the function that they differentiate: a clamp inside it has a zero gradient for every column that lies on
its edge, and the attack would report robustness that is not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.schema import FeatureSpace

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureThreat:
    """An L-infinity ball in feature space, cut with a box, over the mutable columns.

    Attributes:
        radius: Largest move of one column, in units of the feature space; at least 0 and finite.
        low: Float32 [D], lowest value of each column. A record that lies below keeps its own value as its lowest.
        high: Float32 [D], highest value of each column, likewise.
        mutable: Bool [D], the columns that may move.

    Raises:
        InputError: Shapes or dtypes differ, the radius is negative or not finite, or a range is upside down.
    """

    radius: float
    low: Features
    high: Features
    mutable: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise InputError(f"threat model: the radius must be a finite number of at least 0, not {self.radius}")
        for name, array, dtype in (
            ("low", self.low, np.float32),
            ("high", self.high, np.float32),
            ("mutable", self.mutable, np.bool_),
        ):
            if array.dtype != dtype or array.shape != (self.width,):
                raise InputError(
                    f"threat model: {name} must be {np.dtype(dtype).name} [{self.width}],"
                    f" not {array.dtype} {list(array.shape)}"
                )
        upside_down = np.flatnonzero(~(self.low <= self.high))
        if upside_down.size:
            raise InputError(f"threat model: column {upside_down[0]} has a lowest value above its highest (or a NaN)")

    @classmethod
    def from_space(cls, space: FeatureSpace, radius: float) -> FeatureThreat:
        """The default threat model of a feature space: its mutable numbers, within the ranges seen in training."""
        low, high = space.bounds
        return cls(radius=radius, low=low, high=high, mutable=space.mutable)

    @property
    def width(self) -> int:
        """D, the number of columns."""
        return int(self.low.size)

    def describe(self) -> str:
        """The threat model in one sentence, for reports."""
        return (
            f"The adversary moves each of {int(self.mutable.sum())} of {self.width} columns of the feature space by at"
            f" most {self.radius:g} (L-infinity), within the ranges of the schema; the other columns never move."
        )

    def limits(self, records: Features) -> tuple[Features, Features]:
        """Lowest and highest value of each column of each record, exactly representable and never beyond the ball.

        Args:
            records: Float32 [N, D].

        Returns:
            Float32 [N, D] twice. Immutable columns have their own value as both ends.
        """
        below = _inwards(records, -self.radius)
        above = _inwards(records, self.radius)
        lowest = np.maximum(below, np.minimum(records, self.low))
        highest = np.minimum(above, np.maximum(records, self.high))
        return np.where(self.mutable, lowest, records), np.where(self.mutable, highest, records)

    def project(self, adversarial: Features, records: Features) -> Features:
        """The nearest point of the threat model to each adversarial record; a NaN falls back to the record's value.

        Columns that did not move, immutable ones among them, come out bit-identical to those of `records`.

        Args:
            adversarial: Float32 [N, D].
            records: Float32 [N, D], the records that they came from.

        Returns:
            Float32 [N, D].
        """
        lowest, highest = self.limits(records)
        inside = np.clip(adversarial, lowest, highest)
        return np.where(np.isnan(inside) | (inside == records), records, inside)

    def violations(self, adversarial: Features, records: Features) -> NDArray[np.bool_]:
        """Bool [N, D]: where adversarial records leave the threat model, compared exactly (no tolerance).

        The ball is that of the real numbers, not of rounded ones; immutable columns are compared bit by bit.
        """
        inside = (adversarial >= np.minimum(records, self.low)) & (adversarial <= np.maximum(records, self.high))
        inside &= ~_further_than(adversarial, records, self.radius)
        same = np.ascontiguousarray(adversarial).view(np.uint32) == np.ascontiguousarray(records).view(np.uint32)
        return ~np.where(self.mutable, inside, same)


def _inwards(records: Features, move: float) -> Features:
    """`records + move` in float32, rounded towards the record where rounding would leave the ball."""
    with np.errstate(over="ignore"):
        moved: Features = (records.astype(np.float64) + move).astype(np.float32)
    beyond = _further_than(moved, records, abs(move))
    moved[beyond] = np.nextafter(moved[beyond], records[beyond])
    return moved


def _further_than(moved: Features, records: Features, radius: float) -> NDArray[np.bool_]:
    """Where `|moved - records| > radius` holds exactly.

    The difference of two float32 numbers may need more than the 53 bits of a float64. Knuth's two-sum (The Art of
    Computer Programming, volume 2, section 4.2.2, theorem B) gives what rounding left out, and that decides ties.
    """
    first, second = moved.astype(np.float64), -records.astype(np.float64)
    total = first + second
    part = total - first
    left_out = (first - (total - part)) + (second - part)
    distance = np.abs(total)
    further: NDArray[np.bool_] = (distance > radius) | ((distance == radius) & (left_out * total > 0))
    return further
