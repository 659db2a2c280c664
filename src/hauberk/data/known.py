"""What is the same for every data set that Hauberk knows by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hauberk.data.table import Table


@dataclass(frozen=True)
class SourceFile:
    """One file of a data set.

    Attributes:
        name: File name.
        sha256: Digest that it must have, hex.
        records: How many records it holds.
    """

    name: str
    sha256: str
    records: int


@dataclass(frozen=True)
class KnownDataSet:
    """A data set that can be asked for by name.

    Attributes:
        name: What to ask for.
        title: What it is, in one sentence.
        publisher: Who publishes it, and where.
        citation: How to cite it.
        licence: Under which terms.
        files: What it is made of; the last one is the test split where `has_test_file` is set.
        folder: Where the files lie, or `None` where `HAUBERK_DATA` is not set.
        parse: Reads the content of one file.
        label: The label column.
        benign: The class that means "nothing is wrong".
        classes: All classes, where not every one of them is in the training rows; else empty.
        mutable: Whether the default adversary can change a column.
        booleans: Columns stored as 0 and 1 that are truth values.
        adversary: The default adversary, in one sentence.
        has_test_file: Whether the publisher set a test file apart.
    """

    name: str
    title: str
    publisher: str
    citation: str
    licence: str
    files: tuple[SourceFile, ...]
    folder: Callable[[], Path | None]
    parse: Callable[[bytes, str], Table]
    label: str
    benign: str
    classes: tuple[str, ...]
    mutable: Callable[[str], bool]
    booleans: frozenset[str]
    adversary: str
    has_test_file: bool
