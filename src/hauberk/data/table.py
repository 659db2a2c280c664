"""Columns by name, as numpy arrays: what every reader returns, so that nothing after it knows a file format."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """Columns of equal length, in the order of the file; `Coder` takes it as a frame.

    Attributes:
        data: Column name to array [N]: bool, int64 or uint64, float32 or float64 (NaN where missing), or object holding
            `str` or `bool` (None where missing).
        where: The file, for messages.
    """

    data: Mapping[str, NDArray[Any]]
    where: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in file order."""
        return tuple(self.data)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.data[name]

    def __len__(self) -> int:
        return len(next(iter(self.data.values()), ()))

    def take(self, rows: NDArray[np.int64]) -> Table:
        """The rows of these indices, in their order."""
        return Table({name: column[rows] for name, column in self.data.items()}, self.where)

    def without(self, names: Collection[str]) -> Table:
        """The other columns."""
        return Table({name: column for name, column in self.data.items() if name not in names}, self.where)

    def renamed(self, name: str, new: str) -> Table:
        """The same columns, one of them under another name."""
        return Table({new if each == name else each: column for each, column in self.data.items()}, self.where)


def count_missing(column: NDArray[Any]) -> int:
    """How many values of a column are missing (NaN or None)."""
    return int(np.count_nonzero(_missing(column)))


def first_missing(column: NDArray[Any]) -> int:
    """The first record, counted from 1, whose value is missing; there is one."""
    return 1 + int(_missing(column).argmax())


def _missing(column: NDArray[Any]) -> NDArray[np.bool_]:
    missing = np.zeros(len(column), dtype=np.bool_)
    if column.dtype.kind == "f":
        missing |= np.isnan(column)
    elif column.dtype == object:
        missing |= [value is None for value in column.tolist()]
    return missing
