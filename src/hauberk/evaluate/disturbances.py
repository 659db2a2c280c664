"""What happens to records without any adversary: noise, gaps, categories that nobody has seen, gauges that drift.

A disturbance works on raw coded records, before preprocessing, and what it returns are raw coded records again: whole
numbers stay whole, truth values stay 0 or 1, codes stay codes that the schema knows. So it does to a detector what the
world would do to it, scaling and one-hot coding included.

Noise and gauges follow the feature space: where a column is scaled by its logarithm, noise is added to the logarithm.
The spread of bytes sent is that of a few huge transfers, and noise in proportion to it would drown every other record.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.schema import UNKNOWN_CODE, BooleanFeature, Coded, FeatureSpace, IntegerFeature

Numbers = NDArray[np.float32]
Codes = NDArray[np.int64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Usual:
    """What columns look like when nothing is wrong: what disturbances measure themselves by.

    Attributes:
        space: The schema, and which columns are scaled by their logarithm.
        records: Coded records to take spread, middle and frequencies from: training or validation records.

    Raises:
        InputError: There are no records.
    """

    space: FeatureSpace
    records: Coded

    def __post_init__(self) -> None:
        if not len(self.records.numeric):
            raise InputError("drift: there are no records to take the spread of columns from")

    @cached_property
    def spread(self) -> NDArray[np.float64]:
        """Float64 [F], standard deviation of each number, after the logarithm where it is scaled by it."""
        spread: NDArray[np.float64] = self.logged(self.records.numeric).std(axis=0)
        return spread

    @cached_property
    def middle(self) -> Numbers:
        """Float32 [F], a value that occurs: the lower median of each number."""
        ordered = np.sort(self.records.numeric, axis=0)
        middle: Numbers = ordered[(len(ordered) - 1) // 2]
        return middle

    @cached_property
    def rarity(self) -> tuple[NDArray[np.float64], ...]:
        """For each categorical, minus the logarithm of every code's frequency, float64 [categories + 1].

        One record more of every code keeps it finite (Laplace).
        """
        found = []
        for column, feature in enumerate(self.space.schema.categoricals):
            counts = np.bincount(self.records.codes[:, column], minlength=len(feature.categories) + 1) + 1.0
            found.append(-np.log(counts / counts.sum()))
        return tuple(found)

    @cached_property
    def logarithms(self) -> NDArray[np.bool_]:
        """Bool [F], the columns that are scaled by their logarithm."""
        return np.array([scaling.logarithm for scaling in self.space.preprocessing.scalings], dtype=np.bool_)

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Bool [F], the columns of whole numbers."""
        return np.array([isinstance(f, IntegerFeature) for f in self.space.schema.numbers], dtype=np.bool_)

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """Bool [F], the columns of truth values: they are right or wrong, and neither noisy nor scaled."""
        return np.array([isinstance(f, BooleanFeature) for f in self.space.schema.numbers], dtype=np.bool_)

    @cached_property
    def ends(self) -> tuple[Numbers, Numbers]:
        """Float32 [F] twice, the range of each number in the schema."""
        low, high = (
            np.array([getattr(feature, name, value) for feature in self.space.schema.numbers], dtype=np.float32)
            for name, value in (("low", 0.0), ("high", 1.0))
        )
        return low, high

    def logged(self, numeric: Numbers) -> NDArray[np.float64]:
        """Float64 [N, F]: `sign(x) log(1 + |x|)` of the columns that are scaled by it, the others as they are."""
        exact = numeric.astype(np.float64)
        return np.where(self.logarithms, np.sign(exact) * np.log1p(np.abs(exact)), exact)

    def unlogged(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `logged`."""
        with np.errstate(over="ignore"):  # what becomes infinite is brought back into a range by whoever asks
            return np.where(self.logarithms, np.sign(values) * np.expm1(np.abs(values)), values)

    def settled(self, values: NDArray[np.float64], before: Numbers) -> Numbers:
        """Numbers as a sensor can report them: whole where the column is, finite in float32, truth values untouched."""
        limit = float(np.finfo(np.float32).max)
        whole = np.where(self.whole, np.rint(values), values)
        numeric: Numbers = np.where(self.truth, before, np.clip(whole, -limit, limit)).astype(np.float32)
        return numeric


class Disturbance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="disturbance"):
    """One thing that goes wrong, with its strength. Subclasses set `tag="name"` and the attribute."""

    @property
    def name(self) -> str:
        """The tag: "noise", "missing" and so on."""
        return str(self.__struct_config__.tag)

    @property
    @abstractmethod
    def strength(self) -> float:
        """How much of it, in the unit that the subclass says."""

    @abstractmethod
    def apply(self, coded: Coded, usual: Usual, generator: np.random.Generator) -> tuple[Coded, Rows]:
        """Disturb records; those handed in stay as they are.

        Args:
            coded: N records of the schema of `usual`.
            usual: What columns look like otherwise.
            generator: Where chance comes from.

        Returns:
            M records, and int64 [M]: which of the N each of them was.
        """

    def note(self, usual: Usual) -> str:  # noqa: ARG002 - most have nothing to add
        """What a reader must know to read the figure right; empty where nothing."""
        return ""

    def _require(self, what: str, value: float, most: float = math.inf) -> None:
        if not (0 < value <= most and math.isfinite(value)):
            end = "" if math.isinf(most) else f" and at most {most:g}"
            raise InputError(f"drift: {what} of {self.name} must be a finite number above 0{end}, not {value}")


class Noise(Disturbance, frozen=True, kw_only=True, tag="noise"):
    """Every number is measured a little wrong: normal noise, kept within the range that the schema knows.

    A record that lies outside the range already may stay where it is. Truth values and categories are left alone.

    Attributes:
        spreads: Standard deviation of the noise, in standard deviations of the column (after the logarithm where the
            column is scaled by it); above 0.
    """

    spreads: float

    def __post_init__(self) -> None:
        self._require("the strength", self.spreads)

    @property
    def strength(self) -> float:
        """In standard deviations of the column."""
        return self.spreads

    def apply(self, coded: Coded, usual: Usual, generator: np.random.Generator) -> tuple[Coded, Rows]:
        """The same records with noise in their numbers."""
        before = coded.numeric
        noise = self.spreads * usual.spread * generator.standard_normal(before.shape)
        low, high = usual.ends
        moved = np.clip(usual.unlogged(usual.logged(before) + noise), np.minimum(before, low), np.maximum(before, high))
        return Coded(usual.settled(moved, before), coded.codes), np.arange(len(before))


class Missing(Disturbance, frozen=True, kw_only=True, tag="missing"):
    """Values get lost, each on its own.

    A lost number takes the schema's `missing`, a lost category the name that the schema has for it, or unknown. Where
    the schema has no `missing` for a number, a record without it would be refused, so that a sensor has to fill the gap
    itself: the column's median stands in.

    Attributes:
        share: Share of the values that get lost, in (0, 1].
    """

    share: float

    def __post_init__(self) -> None:
        self._require("the share", self.share, 1)

    @property
    def strength(self) -> float:
        """Share of values."""
        return self.share

    def apply(self, coded: Coded, usual: Usual, generator: np.random.Generator) -> tuple[Coded, Rows]:
        """The same records with gaps filled in."""
        schema = usual.space.schema
        given = [feature.missing for feature in schema.numbers]
        stand_ins = np.array(
            [middle if value is None else float(value) for value, middle in zip(given, usual.middle, strict=True)],
            dtype=np.float32,
        )
        lost = generator.random(coded.numeric.shape) < self.share
        numeric = np.where(lost, stand_ins, coded.numeric)
        codes = np.array(
            [
                1 + feature.categories.index(feature.missing) if feature.missing in feature.categories else UNKNOWN_CODE
                for feature in schema.categoricals
            ],
            dtype=np.int64,
        )
        unnamed = generator.random(coded.codes.shape) < self.share
        return Coded(numeric, np.where(unnamed, codes, coded.codes)), np.arange(len(numeric))

    def note(self, usual: Usual) -> str:
        """How many columns had to be filled in with their median."""
        numbers = usual.space.schema.numbers
        without = sum(feature.missing is None for feature in numbers)
        if not without:
            return ""
        return (
            f"the schema has no 'missing' for {without} of {len(numbers)} numbers, and records without them would be"
            " refused: their median stands in"
        )


class UnknownCategories(Disturbance, frozen=True, kw_only=True, tag="unknown-categories"):
    """Categories turn up that the schema does not list, such as a new service: they fall into the unknown slot.

    Attributes:
        share: Share of the categories, each column on its own, in (0, 1].
    """

    share: float

    def __post_init__(self) -> None:
        self._require("the share", self.share, 1)

    @property
    def strength(self) -> float:
        """Share of categories."""
        return self.share

    def apply(self, coded: Coded, usual: Usual, generator: np.random.Generator) -> tuple[Coded, Rows]:  # noqa: ARG002
        """The same records, some of their categories unknown."""
        unknown = generator.random(coded.codes.shape) < self.share
        return Coded(coded.numeric, np.where(unknown, UNKNOWN_CODE, coded.codes)), np.arange(len(coded.codes))


class RareCategories(Disturbance, frozen=True, kw_only=True, tag="rare-categories"):
    """Frequencies shift: records with rare categories become frequent. The records themselves stay as they are.

    A quarter of the records is drawn without replacement, with weights `f ** -tilt`, where `f` is the geometric mean of
    the frequencies of a record's categories. At a tilt of 1 and with one categorical, every category is as likely.

    Attributes:
        tilt: How far, above 0.
    """

    tilt: float

    def __post_init__(self) -> None:
        self._require("the tilt", self.tilt)

    @property
    def strength(self) -> float:
        """The tilt."""
        return self.tilt

    def apply(self, coded: Coded, usual: Usual, generator: np.random.Generator) -> tuple[Coded, Rows]:
        """A quarter of the records."""
        count = len(coded.numeric)
        columns = [rarity[coded.codes[:, column]] for column, rarity in enumerate(usual.rarity)]
        logarithm = self.tilt * np.mean(columns, axis=0) if columns else np.zeros(count)
        # The largest of "log weight + Gumbel noise" are a weighted draw without replacement.
        keys = logarithm + generator.gumbel(size=count)
        rows = np.sort(np.argsort(-keys, kind="stable")[: math.ceil(count / 4)]).astype(np.int64)
        return Coded(coded.numeric[rows], coded.codes[rows]), rows


class Gauges(Disturbance, frozen=True, kw_only=True, tag="gauges"):
    """Gauges drift: every number is reported a factor too high or too low, the same factor for all records.

    Which columns go up and which go down is drawn once. Nothing keeps the numbers within the range seen in training:
    that is what happens when a unit changes, a link becomes faster or a counter counts twice. Truth values stay.

    Attributes:
        factor: Above 1; a column is multiplied or divided by it.
    """

    factor: float

    def __post_init__(self) -> None:
        if not (1 < self.factor < math.inf):
            raise InputError(f"drift: the factor of {self.name} must be a finite number above 1, not {self.factor}")

    @property
    def strength(self) -> float:
        """The factor."""
        return self.factor

    def apply(self, coded: Coded, usual: Usual, generator: np.random.Generator) -> tuple[Coded, Rows]:
        """The same records, each number times or divided by the factor."""
        up = generator.random(coded.numeric.shape[1]) < 0.5
        moved = coded.numeric.astype(np.float64) * np.where(up, self.factor, 1 / self.factor)
        return Coded(usual.settled(moved, coded.numeric), coded.codes), np.arange(len(moved))


DISTURBANCES: tuple[Disturbance, ...] = (
    Noise(spreads=0.05),
    Noise(spreads=0.2),
    Noise(spreads=0.5),
    Noise(spreads=1.0),
    Missing(share=0.05),
    Missing(share=0.2),
    UnknownCategories(share=0.2),
    UnknownCategories(share=1.0),
    RareCategories(tilt=1.0),
    Gauges(factor=1.2),
    Gauges(factor=2.0),
    Gauges(factor=5.0),
)
"""What is measured where nobody asks for anything else."""


def applicable(disturbances: tuple[Disturbance, ...], space: FeatureSpace) -> tuple[Disturbance, ...]:
    """Those that can change anything in records of this schema: without categoricals, their drift is none."""
    kept = tuple(d for d in disturbances if not isinstance(d, UnknownCategories | RareCategories))
    return disturbances if space.schema.categoricals else kept
