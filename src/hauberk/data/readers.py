"""Readers: CSV, TSV (also gzipped), Parquet and NPZ become a `Table`.

A column's kind of storage is the file's own: whole numbers, real numbers, truth values or text. Missing values become
NaN or None. What a column means (ranges, categories) is decided later, from training rows alone.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hauberk.data.table import Table
from hauberk.errors import InputError

if TYPE_CHECKING:
    import polars as pl

NPZ_ERRORS = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError)
"""What reading an NPZ raises; a RuntimeError where it is encrypted or compressed in an unknown way."""

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz")


def read_bytes(path: Path) -> bytes:
    """The content of a file, so that its digest and what is read from it cannot differ.

    Raises:
        InputError: It cannot be read, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the data: {error.strerror or error}") from error
    if not content:
        raise InputError(f"{path}: the file is empty; give records with a header line")
    return content


def sha256(content: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(content).hexdigest()


def parse_table(content: bytes, path: Path) -> Table:
    """Read a table from the content of a file; the suffix of `path` says in which format.

    Args:
        content: The file's bytes.
        path: Its name, for the format and for messages.

    Returns:
        At least one column and one row.

    Raises:
        InputError: Unknown suffix, not in that format, no rows, or a column that holds dates, lists or other things
            that are neither numbers nor text.
    """
    for suffix, read in _readers().items():
        if path.name.lower().endswith(suffix):
            table = read(content, str(path))
            break
    else:
        raise InputError(f"{path}: unknown kind of file; known are {', '.join(SUFFIXES)}")
    if len(table) == 0:
        raise InputError(f"{path}: there are no records, only a header")
    return table


def parse_delimited(
    content: bytes, where: str, *, separator: str = ",", columns: tuple[str, ...] | None = None
) -> Table:
    """Read CSV or TSV, gzipped or not.

    Args:
        content: The file's bytes.
        where: The file, for messages.
        separator: What stands between values.
        columns: Names of the columns of a file without a header.

    Raises:
        InputError: Not UTF-8, lines of different lengths, two columns of one name, or damaged compression.
    """
    import polars as pl  # noqa: PLC0415 - the reader's weight is for those who read

    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # its zero bytes would pass for text
        raise InputError(f"{where}: is UTF-16; save it as UTF-8")
    try:
        frame = pl.read_csv(
            content,
            separator=separator,
            has_header=columns is None,
            new_columns=list(columns) if columns else None,
            infer_schema_length=None,  # all rows: a column that turns to text in its last row is text
        )
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{where}: the file is empty; give records with a header line") from error
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        problem = _long_line(content, separator, columns) or _brief(error)
        raise InputError(f"{where}: cannot be read as text separated by {separator!r}: {problem}") from error
    if columns is not None and frame.width != len(columns):
        raise InputError(f"{where}: has {frame.width} columns; {len(columns)} are right")
    for name in frame.columns:
        original, renamed, number = name.rpartition("_duplicated_")
        if renamed and number.isdecimal() and original in frame.columns:  # polars renames in silence
            raise InputError(f"{where}: two columns are called {original!r}; names must differ")
    return _from_polars(frame.with_columns(_as_numbers(series) for series in frame.get_columns()), where)


def _long_line(content: bytes, separator: str, columns: tuple[str, ...] | None) -> str | None:
    """The first line with more values than there are columns, in words; `None` where none is found."""
    try:
        text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        reader = csv.reader(io.StringIO(text.decode(), newline=""), delimiter=separator)
        wanted = len(next(reader) if columns is None else columns)
        row = next((row for row in reader if len(row) > wanted), None)
    except (OSError, EOFError, zlib.error, ValueError, StopIteration, csv.Error):
        return None
    return None if row is None else f"line {reader.line_num} has {len(row)} values, there are {wanted} columns"


def _as_numbers(series: pl.Series) -> pl.Series:
    """A text column as real numbers, where all of it is, some of it in a spelling that polars does not know.

    Published flow tables write `Infinity`, numpy writes `nan`, and some leave a space after the comma.
    """
    import polars as pl  # noqa: PLC0415

    if series.dtype != pl.String:
        return series
    known = {"nan": "NaN", "infinity": "inf", "+infinity": "inf", "-infinity": "-inf"}
    numbers = series.str.strip_chars().str.to_lowercase().replace(known).cast(pl.Float64, strict=False)
    return numbers if numbers.null_count() == series.null_count() else series


def _readers() -> dict[str, Callable[[bytes, str], Table]]:
    def tabbed(content: bytes, where: str) -> Table:
        return parse_delimited(content, where, separator="\t")

    return {
        ".csv": parse_delimited,
        ".csv.gz": parse_delimited,
        ".tsv": tabbed,
        ".tsv.gz": tabbed,
        ".parquet": _parse_parquet,
        ".npz": _parse_npz,
    }


def _parse_parquet(content: bytes, where: str) -> Table:
    import polars as pl  # noqa: PLC0415

    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as Parquet: {_brief(error)}") from error
    return _from_polars(frame, where)


def _from_polars(frame: pl.DataFrame, where: str) -> Table:
    columns: dict[str, NDArray[Any]] = {}
    for series in frame.get_columns():
        name = series.name.strip()  # published flow tables have names such as " Label"
        if name in columns:
            raise InputError(f"{where}: two columns are called {name!r}; names must differ")
        columns[name] = _array(series, where)
    return Table(columns, where)


def _array(series: pl.Series, where: str) -> NDArray[Any]:
    import polars as pl  # noqa: PLC0415

    kind = series.dtype
    if kind == pl.String or (kind == pl.Boolean and series.null_count()):
        return _objects(series.to_list())
    if kind == pl.Boolean:
        return series.to_numpy()
    if kind.is_integer():
        return series.cast(pl.Float64).to_numpy() if series.null_count() else series.to_numpy()
    if kind.is_numeric():
        return series.cast(pl.Float64).to_numpy()
    if kind in (pl.Categorical, pl.Enum):
        return _objects(series.cast(pl.String).to_list())
    if kind == pl.Null:
        return np.full(len(series), np.nan)
    raise InputError(f"{where}: column {series.name!r} holds {kind}; make it numbers or text, or drop it")


def _objects(values: list[Any]) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def read_arrays(content: bytes, where: str, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names that an NPZ file holds; nothing in it is unpickled.

    Raises:
        InputError: No NPZ, damaged, encrypted, or an array is larger than memory.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in names if key in archive}
    except NPZ_ERRORS as error:
        raise InputError(f"{where}: cannot be read as NPZ without pickles: {_brief(error)}") from error


def unnamed(columns: int) -> list[str]:
    """What the columns of an NPZ file without `names` are called."""
    return [f"feature_{column}" for column in range(columns)]


def is_unnamed(name: str, columns: int) -> bool:
    """Whether `unnamed` calls one of so many columns this; none of them is made, a file may claim any number."""
    number = re.fullmatch(r"feature_(0|[1-9][0-9]{0,17})", name)
    return number is not None and int(number[1]) < columns


def _parse_npz(content: bytes, where: str) -> Table:
    arrays = read_arrays(content, where, ("features", "labels", "names"))
    if "features" not in arrays or "labels" not in arrays:
        raise InputError(f"{where}: needs the arrays 'features' [N, D] and 'labels' [N], and may have 'names' [D]")
    features, labels = arrays["features"], arrays["labels"]
    if features.ndim != 2 or features.dtype.kind not in "biuf" or labels.shape != features.shape[:1]:
        raise InputError(
            f"{where}: 'features' is {features.dtype} {features.shape} and 'labels' {labels.shape}; "
            "give numbers [N, D] and one label a row"
        )
    names = [str(name) for name in arrays.get("names", unnamed(features.shape[1]))]
    if len(names) != features.shape[1] or len({*names, "label"}) != len(names) + 1:
        raise InputError(f"{where}: 'names' must be {features.shape[1]} different names, none of them 'label'")
    columns: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(features[:, column]) for column, name in enumerate(names)
    }
    columns["label"] = _objects(labels.tolist()) if labels.dtype.kind == "U" else labels
    return Table(columns, where)


def _brief(error: Exception) -> str:
    """The first line of a library's message, short enough to stand in one of ours."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= 200 else f"{line[:200]}…"
