"""The record schema: which columns a record has, of what type, in what range, and who can change them.

A schema is inferred from training data, written as `schema.json`, may be edited by hand, travels in the bundle and is
enforced at prediction. Columns enter the model as two tensors: numbers as `numeric` float32 [N, F] (numeric, integer
and boolean columns, in schema order) and categories as `codes` int64 [N, C] (categorical columns, in schema order).
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

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
    """One of some names. A name that is not listed is coded as `UNKNOWN_CODE`, which the model has a slot for."""

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

    Checked when it is built: `hauberk.errors.SchemaError` where names repeat, ranges are upside down or not finite,
    or the benign class is not among the classes.
    """

    FORMAT: ClassVar[int] = 1

    features: tuple[Feature, ...]
    label: Label | None = None
    format: int = FORMAT

    @property
    def numbers(self) -> tuple[NumberFeature, ...]:
        """The columns of the `numeric` tensor, in order."""
        return tuple(feature for feature in self.features if not isinstance(feature, CategoricalFeature))

    @property
    def categoricals(self) -> tuple[CategoricalFeature, ...]:
        """The columns of the `codes` tensor, in order."""
        return tuple(feature for feature in self.features if isinstance(feature, CategoricalFeature))
