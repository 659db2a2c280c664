"""A record schema from training rows: kinds as the file stores them, ranges and categories as these rows show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.data.table import Table
from hauberk.errors import InputError
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Feature,
    IntegerFeature,
    Label,
    NumericFeature,
    RecordSchema,
)

MOST_CATEGORIES = 256
"""A text column with more different values than this is no category but an identifier or free text."""

FEW_CATEGORIES = 20
"""Up to this many, a text column is a category however few records there are."""


def infer_schema(
    table: Table,
    label: Label,
    *,
    mutable: Callable[[str], bool] = lambda _: True,
    booleans: frozenset[str] = frozenset(),
) -> RecordSchema:
    """Infer the schema of training rows.

    Stored whole numbers make an integer column, real numbers a numeric one, truth values a boolean one, and text with
    few different values a categorical one. A column of zeros and ones stays an integer column: tomorrow it may hold a
    two, and a truth value enters the model as the same number.

    Args:
        table: Training rows, features only, nothing missing.
        label: The label.
        mutable: Whether an adversary can change a column, by its name.
        booleans: Columns that are truth values although they are stored as 0 and 1.

    Raises:
        InputError: A text column has too many different values, or is numbers with a few words between them.
    """
    features: list[Feature] = []
    for name in table.columns:
        kind = "boolean" if name in booleans else None
        features.append(_feature(name, table[name], mutable(name), kind, table.where))
    return RecordSchema(features=tuple(features), label=label)


def _feature(name: str, column: NDArray[Any], mutable: bool, kind: str | None, where: str) -> Feature:  # noqa: FBT001
    if kind == "boolean" or column.dtype == np.bool_:
        return BooleanFeature(name=name, mutable=mutable)
    if column.dtype.kind in "iu":
        return IntegerFeature(name=name, low=int(column.min()), high=int(column.max()), mutable=mutable)
    if column.dtype.kind == "f":
        return NumericFeature(name=name, low=float(column.min()), high=float(column.max()), mutable=mutable)
    return CategoricalFeature(name=name, categories=_categories(name, column, where), mutable=mutable)


def _categories(name: str, column: NDArray[Any], where: str) -> tuple[str, ...]:
    counts = Counter(str(value) for value in column.tolist())
    if len(counts) <= FEW_CATEGORIES or len(counts) <= min(MOST_CATEGORIES, len(column) // 2):
        return tuple(sorted(counts))
    words = [text for text in counts.elements() if not _is_number(text)]
    if words and len(words) * 2 < len(column):
        raise InputError(
            f"{where}: column {name!r} holds numbers and {len(words)} texts such as {words[0]!r}; "
            "make them empty or numbers, or drop the column"
        )
    raise InputError(
        f"{where}: column {name!r} has {len(counts)} different texts in {len(column)} records, like an identifier or "
        "free text; drop it (--drop), or list its categories in a schema"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
