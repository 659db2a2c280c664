"""Which column is the label, what its classes are called, and which of them means that nothing is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.data.table import Table, count_missing, first_missing
from hauberk.errors import InputError
from hauberk.schema import Label

LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "target",
    "attack",
    "attack_type",
    "attack_cat",
    "category",
    "is_attack",
    "y",
)
"""Column names, lower case, that are taken for the label where the caller names none."""

BENIGN_NAMES = ("normal", "benign", "legitimate", "ham", "clean", "good", "negative", "no", "false", "0")
"""Class names, lower case, that are taken for "nothing is wrong" where the caller names none."""

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,20}")


def find_label(table: Table, asked: str | None) -> str:
    """The name of the label column: the one asked for, one with a usual name, else the last.

    Raises:
        InputError: There is no such column, there are only labels, or several columns have a usual name.
    """
    names = table.columns
    if len(names) < 2:
        raise InputError(f"{table.where}: has only the column {names[0]!r}; give features and a label")
    if asked is not None:
        if asked not in names:
            raise InputError(f"{table.where}: there is no column {asked!r}; the columns are {_listed(names)}")
        return asked
    usual = [name for name in names if name.lower() in LABEL_NAMES]
    if len(usual) > 1:
        raise InputError(
            f"{table.where}: {_listed(usual)} all look like labels; name one (--label) and drop the others (--drop), "
            "or they would give the answer away"
        )
    return usual[0] if usual else names[-1]


def class_names(table: Table, name: str) -> NDArray[Any]:
    """The label column as text, object [N]: numbers as they are written, truth values as "true" and "false".

    Raises:
        InputError: Labels are missing, or are real numbers with fractions.
    """
    column = table[name]
    missing = count_missing(column)
    if missing:
        raise InputError(
            f"{table.where}: the label {name!r} is missing in {missing} of {len(column)} records, first in record"
            f" {first_missing(column)}"
        )
    if column.dtype.kind == "f":
        if not (np.isfinite(column) & (column == np.rint(column))).all():
            raise InputError(f"{table.where}: the label {name!r} holds real numbers; give classes")
        column = column.astype(np.int64)
    texts = np.empty(len(column), dtype=object)
    texts[:] = [str(value).lower() if isinstance(value, bool) else str(value).strip() for value in column.tolist()]
    return texts


def make_label(name: str, texts: NDArray[Any], benign: str | None, where: str) -> Label:
    """The label with its classes in order (numbers by size, then texts).

    Args:
        name: The label column.
        texts: The class of each record.
        benign: The class that means "nothing is wrong"; `None` takes the one with a usual name.
        where: The file, for messages.

    Raises:
        InputError: One class only, more classes than a label has, or no telling which is benign.
    """
    classes = sorted(set(texts.tolist()), key=_order)
    if len(classes) < 2:
        raise InputError(f"{where}: every record has the {name} {classes[0]!r}; a detector needs at least two classes")
    if len(classes) > max(20, len(texts) // 10):
        raise InputError(
            f"{where}: the label {name!r} has {len(classes)} different values; name another column (--label)"
        )
    if benign is None:
        usual = [text for text in classes if text.lower() in BENIGN_NAMES]
        if len(usual) != 1:
            raise InputError(
                f"{where}: which class of {name!r} is benign? say it with --benign; the classes are {_listed(classes)}"
            )
        benign = usual[0]
    if benign not in classes:
        raise InputError(f"{where}: no record has the benign class {benign!r}; the classes are {_listed(classes)}")
    return Label(name=name, classes=tuple(classes), benign=benign)


def encode_labels(label: Label, texts: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Int64 [N]: the index of each record's class.

    Raises:
        InputError: A record has a class that the label does not list.
    """
    index = {text: number for number, text in enumerate(label.classes)}
    unknown = sorted(set(texts.tolist()) - index.keys())
    if unknown:
        raise InputError(
            f"{where}: the label {label.name!r} has the class {unknown[0]!r}, which the schema does not list; "
            "add it there"
        )
    return np.array([index[text] for text in texts.tolist()], dtype=np.int64)


def _order(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if _WHOLE_NUMBER.fullmatch(text) else (1, 0, text)


def _listed(names: Collection[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
