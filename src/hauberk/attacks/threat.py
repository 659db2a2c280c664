"""The threat model: how far an adversary can move a record in feature space.

The adversary moves the mutable columns within a ball around the record (L-infinity or L2 norm, or none) and stays in
the range that the schema knows. Columns that cannot be changed, and one-hot groups of categoricals, never move; a
`RecordThreat` knows more about columns than this. Attacks project on this set **outside** the function that they
differentiate: a clamp inside it has a zero gradient for every column that lies on its edge, and the attack would
report robustness that is not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.schema import FeatureSpace

Features = NDArray[np.float32]
Norm = Literal["linf", "l2", "none"]

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class FeatureThreat:
    """A ball in feature space, cut with a box, over the mutable columns.

    Attributes:
        radius: Radius of the ball, in units of the feature space; at least 0 and finite. Without a norm it means
            nothing and must be 0, so that nobody takes it for a limit.
        low: Float32 [D], lowest value of each column. A record that lies below keeps its own value as its lowest.
        high: Float32 [D], highest value of each column, likewise.
        mutable: Bool [D], the columns that may move.
        norm: What the radius bounds: the largest move of one column ("linf"), the Euclidean length of all moves
            together ("l2"), or nothing ("none": the box alone bounds moves).
        shape: Shape of one record before it became a row of D numbers, such as (3, 32, 32) for an image; () for a row
            of a table, whose columns have no neighbours.

    Raises:
        InputError: Shapes or dtypes differ, the radius is negative or not finite, there is a radius but no norm, or a
            range is upside down.
    """

    radius: float
    low: Features
    high: Features
    mutable: NDArray[np.bool_]
    norm: Norm = field(default="linf", kw_only=True)
    shape: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise InputError(f"threat model: the radius must be a finite number of at least 0, not {self.radius}")
        if self.norm not in get_args(Norm):
            raise InputError(f"threat model: the norm must be one of {', '.join(get_args(Norm))}, not {self.norm!r}")
        if self.norm == "none" and self.radius:
            raise InputError(f"threat model: without a norm, the radius must be 0, not {self.radius}")
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
        if self.shape and (min(self.shape) < 1 or math.prod(self.shape) != self.width):
            raise InputError(f"threat model: records of shape {list(self.shape)} do not have {self.width} columns")

    @classmethod
    def from_space(cls, space: FeatureSpace, radius: float, *, norm: Norm = "linf") -> FeatureThreat:
        """The default threat model of a feature space: its mutable numbers, within the ranges seen in training."""
        low, high = space.bounds
        return cls(radius=radius, low=low, high=high, mutable=space.mutable, norm=norm)

    @property
    def width(self) -> int:
        """D, the number of columns."""
        return int(self.low.size)

    @property
    def groups(self) -> tuple[range, ...]:
        """The columns of each one-hot group that may move: none here."""
        return ()

    @property
    def constrained(self) -> bool:
        """Whether `project` does more than clip to `limits`; then every point has to go through it."""
        return self.norm == "l2"

    def describe(self) -> str:
        """The threat model in one sentence, for reports."""
        columns = f"{int(self.mutable.sum())} of {self.width} columns of the feature space"
        move = {
            "linf": f"moves each of {columns} by at most {self.radius:g} (L-infinity)",
            "l2": f"moves {columns} by at most {self.radius:g} together (L2)",
            "none": f"moves {columns} as far as they like",
        }[self.norm]
        return f"The adversary {move}, within the ranges of the schema; the other columns never move."

    def limits(self, records: Features) -> tuple[Features, Features]:
        """Lowest and highest value of each column of each record, exactly representable and never beyond the ball.

        Under the L2 norm these are the ends that each column reaches when it moves alone.

        Args:
            records: Float32 [N, D].

        Returns:
            Float32 [N, D] twice. Immutable columns have their own value as both ends.
        """
        lowest, highest = np.minimum(records, self.low), np.maximum(records, self.high)
        if self.norm != "none":
            lowest = np.maximum(lowest, _inwards(records, -self.radius))
            highest = np.minimum(highest, _inwards(records, self.radius))
        return np.where(self.mutable, lowest, records), np.where(self.mutable, highest, records)

    def project(self, adversarial: Features, records: Features) -> Features:
        """The nearest point of the threat model to each adversarial record; a NaN falls back to the record's value.

        Columns that did not move, immutable ones among them, come out bit-identical to those of `records`; a record
        that satisfies the threat model comes out as it is. (Under the L2 norm "nearest" is up to float32 rounding,
        and "inside" is exact nevertheless.)

        Args:
            adversarial: Float32 [N, D].
            records: Float32 [N, D], the records that they came from.

        Returns:
            Float32 [N, D].
        """
        if self.norm == "l2":
            return self._project_on_ball(adversarial, records)
        lowest, highest = self.limits(records)
        inside = np.clip(adversarial, lowest, highest)
        return np.where(np.isnan(inside) | (inside == records), records, inside)

    def violations(self, adversarial: Features, records: Features) -> NDArray[np.bool_]:
        """Bool [N, D]: where adversarial records leave the threat model, compared exactly (no tolerance).

        The ball is that of the real numbers, not of rounded ones; immutable columns are compared bit by bit. A record
        that leaves the L2 ball does so in every column that moved.
        """
        inside = (adversarial >= np.minimum(records, self.low)) & (adversarial <= np.maximum(records, self.high))
        if self.norm == "linf":
            inside &= ~_further_than(adversarial, records, self.radius)
        elif self.norm == "l2":
            outside = _longer_than(np.where(self.mutable, adversarial, records), records, self.radius)
            inside &= ~(outside[:, None] & (adversarial != records))
        same = np.ascontiguousarray(adversarial).view(np.uint32) == np.ascontiguousarray(records).view(np.uint32)
        return ~np.where(self.mutable, inside, same)

    def _project_on_ball(self, adversarial: Features, records: Features) -> Features:
        """The nearest point of the L2 ball cut with the box, which is not the clipped point pulled towards the centre.

        With d the wanted move of a column and c the most that the box lets it move that way, the nearest point moves it
        by min(t |d|, c), for the one t in [0, 1] at which the moves have the length of the radius (the Karush-Kuhn-
        Tucker conditions). Columns at their c stay there as t grows, so fixing them and solving for t again ends.
        """
        low = np.where(self.mutable, np.minimum(records, self.low), records)
        high = np.where(self.mutable, np.maximum(records, self.high), records)
        inside = np.clip(adversarial, low, high)
        inside = np.where(np.isnan(inside) | (inside == records), records, inside)
        rows = np.flatnonzero(_longer_than(inside, records, self.radius))
        if not rows.size:
            return inside
        sources = records[rows].astype(np.float64)
        wanted = np.nan_to_num(adversarial[rows].astype(np.float64), nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)
        wanted = np.where(np.isnan(adversarial[rows]), 0.0, wanted - sources)
        most = np.where(wanted > 0, high[rows] - sources, sources - low[rows])
        # Float64 rounding errs by far less than this; what float32 rounds is rounded towards the record.
        radius = self.radius * (1 - (self.width + 8) * 2.0**-50)
        move = np.copysign(_shorten(np.abs(wanted), most, radius), wanted)
        moved = np.clip(_rounded_inwards(records[rows], move), low[rows], high[rows])
        moved = np.where(moved == records[rows], records[rows], moved)
        # Where the radius is so small that float64 rounds differently (denormals), records stay where they are.
        inside[rows] = np.where(_longer_than(moved, records[rows], self.radius)[:, None], records[rows], moved)
        return inside


def _shorten(wanted: NDArray[np.float64], most: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """`min(t * wanted, most)` [n, D] with the t of each row that makes it as long as the radius; all at least 0."""
    free = np.ones(wanted.shape, dtype=np.bool_)
    while True:
        rest = radius**2 - np.sum(np.where(free, 0.0, most) ** 2, axis=1)
        length = np.sqrt(np.sum(np.where(free, wanted, 0.0) ** 2, axis=1))
        share = np.minimum(np.sqrt(np.maximum(rest, 0.0)) / np.where(length > 0, length, 1.0), 1.0)
        at_the_end = free & (share[:, None] * wanted > most)
        if not at_the_end.any():
            return np.where(free, share[:, None] * wanted, most)
        free &= ~at_the_end


def _inwards(records: Features, move: float) -> Features:
    """`records + move` in float32, rounded towards the record where rounding would leave the ball."""
    return _rounded_inwards(records, np.float64(move))


def _rounded_inwards(records: Features, move: NDArray[np.float64] | np.float64) -> Features:
    with np.errstate(over="ignore"):
        moved: Features = (records.astype(np.float64) + move).astype(np.float32)
    beyond = _further_than(moved, records, np.abs(move))
    np.nextafter(moved, records, out=moved, where=beyond)
    return moved


def _further_than(
    moved: Features, records: Features, radius: float | np.float64 | NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Where `|moved - records| > radius` holds exactly.

    The difference of two float32 numbers may need more than the 53 bits of a float64. Knuth's two-sum (The Art of
    Computer Programming, volume 2, section 4.2.2, theorem B) gives what rounding left out, and that decides ties.
    """
    first, second = moved.astype(np.float64), -records.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinite distance leaves nothing out
        total = first + second
        part = total - first
        left_out = (first - (total - part)) + (second - part)
        distance = np.abs(total)
        further: NDArray[np.bool_] = (distance > radius) | ((distance == radius) & (left_out * total > 0))
    return further


def _longer_than(moved: Features, records: Features, radius: float) -> NDArray[np.bool_]:
    """Bool [N]: where the Euclidean length of `moved - records` is above the radius, exactly; true for a NaN.

    All terms are positive, so float64 is right to D + 8 half units in the last place. Within that, fractions decide.
    """
    with np.errstate(invalid="ignore"):
        length = np.sqrt(np.sum((moved.astype(np.float64) - records) ** 2, axis=1))
    longer: NDArray[np.bool_] = ~(length <= radius)
    doubt = np.abs(length - radius) <= (moved.shape[1] + 8) * 2.0**-53 * radius
    for row in np.flatnonzero(doubt & (length > 0)):
        places = np.flatnonzero(moved[row] != records[row])
        moves = (Fraction(float(moved[row, place])) - Fraction(float(records[row, place])) for place in places)
        longer[row] = sum(move**2 for move in moves) > Fraction(radius) ** 2
    return longer
