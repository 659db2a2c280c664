"""The record schema: which columns a record has, of what type, in what range, and who can change them.

A schema is inferred from training data, written as `schema.json`, may be edited by hand, travels in the bundle and is
enforced at prediction. Columns enter the model as two tensors: numbers as `numeric` float32 [N, F] (numeric, integer
and boolean columns, in schema order) and categories as `codes` int64 [N, C] (categorical columns, in schema order).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from hauberk.errors import SchemaError

UNKNOWN_CODE = 0
"""The code of a category that the schema does not list; category number k of the schema has code k + 1."""


class _Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    name: str
    mutable: bool = True
    """Whether an adversary can change this column; the default threat model attacks only mutable ones."""


class NumericFeature(_Feature, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="numeric"):
    """A real number. `low` and `high` are the range seen in training; `missing` is used for an absent or NaN value."""

    low: float
    high: float
    missing: float | None = None


class IntegerFeature(_Feature, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="integer"):
    """A whole number, same fields as `NumericFeature`. Exact in float32 up to 2**24."""

    low: int
    high: int
    missing: int | None = None


class BooleanFeature(_Feature, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="boolean"):
    """A truth value, 0 or 1 in the tensor."""

    missing: bool | None = None


class CategoricalFeature(_Feature, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="categorical"):
    """One of some names. A name that is not listed is coded as `UNKNOWN_CODE`, which the model has a slot for.

    `missing` is the name that stands for an absent value; one that is not listed is coded as unknown.
    """

    categories: tuple[str, ...]
    missing: str | None = None


Feature = NumericFeature | IntegerFeature | BooleanFeature | CategoricalFeature
NumberFeature = NumericFeature | IntegerFeature | BooleanFeature


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label column: its classes, and the one that means "nothing is wrong". Every other class is an attack."""

    name: str
    classes: tuple[str, ...]
    benign: str


class RecordSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of a record, in order, and the label they were trained for.

    Checked when it is built: `hauberk.errors.SchemaError` where there are no columns, a name is empty or repeats, a
    range is upside down or not finite in float32, or the benign class is not among at least two classes.
    """

    FORMAT: ClassVar[int] = 1

    features: tuple[Feature, ...]
    label: Label | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != self.FORMAT:
            raise SchemaError(f"schema: format {self.format} is not known; this version reads format {self.FORMAT}")
        if not self.features:
            raise SchemaError("schema: there are no features; a record needs at least one column")
        _require_names("feature", [feature.name for feature in self.features])
        for feature in self.features:
            _check_feature(feature)
        if self.label is not None:
            _check_label(self.label, self.features)

    @property
    def numbers(self) -> tuple[NumberFeature, ...]:
        """The columns of the `numeric` tensor, in order."""
        return tuple(feature for feature in self.features if not isinstance(feature, CategoricalFeature))

    @property
    def categoricals(self) -> tuple[CategoricalFeature, ...]:
        """The columns of the `codes` tensor, in order."""
        return tuple(feature for feature in self.features if isinstance(feature, CategoricalFeature))


LARGEST = 3.4028234663852886e38
"""The largest finite float32; numbers enter the model as float32."""


def _check_feature(feature: Feature) -> None:
    if isinstance(feature, CategoricalFeature):
        _require_names(f"feature {feature.name!r}: category", feature.categories)
    elif not isinstance(feature, BooleanFeature):
        given = (feature.low, feature.high) if feature.missing is None else (feature.low, feature.high, feature.missing)
        if not all(math.isfinite(value) and abs(value) <= LARGEST for value in given):
            raise SchemaError(f"schema: feature {feature.name!r}: low, high and missing must be finite float32 numbers")
        if feature.low > feature.high:
            raise SchemaError(f"schema: feature {feature.name!r}: low {feature.low} is above high {feature.high}")


def _check_label(label: Label, features: tuple[Feature, ...]) -> None:
    _require_names("label", [label.name])
    _require_names("class", label.classes)
    if any(feature.name == label.name for feature in features):
        raise SchemaError(f"schema: {label.name!r} is both the label and a feature; take it out of the features")
    if len(label.classes) < 2:
        raise SchemaError(f"schema: label {label.name!r} has one class; a detector needs at least two")
    if label.benign not in label.classes:
        raise SchemaError(f"schema: the benign class {label.benign!r} is not among the classes {list(label.classes)}")


def _require_names(what: str, names: Iterable[str]) -> None:
    """Refuse empty and repeated names."""
    counts = Counter(names)
    if "" in counts:
        raise SchemaError(f"schema: a {what} has an empty name")
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise SchemaError(f"schema: {what} {repeated[0]!r} is there {counts[repeated[0]]} times; names must differ")
