"""Raw records from files, with the standard library alone: CSV, TSV, JSON and JSON Lines, gzipped or not.

What a text means depends on the schema: "1" is a number in a numeric column and a name in a categorical one.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np

from hauberk.errors import InputError, SchemaError
from hauberk.runtime.detector import Detector, Prediction
from hauberk.schema import BooleanFeature, CategoricalFeature, Feature, RecordSchema

Format = Literal["csv", "tsv", "json", "jsonl"]

FORMATS: tuple[Format, ...] = ("csv", "tsv", "json", "jsonl")

_BATCH = 4096
"""Records held as Python objects at a time; they take a hundred times the memory of their tensors."""

_LONGEST_JSON = 1 << 30
_LONGEST_LINE = 1 << 24
"""Bytes and characters that are held as text: a megabyte of gzip can be a gigabyte of it."""

_TRUTHS = {"true": True, "false": False}


def format_of(name: str) -> Format:
    """The format that a file name ends in, `.gz` left aside.

    Raises:
        InputError: It ends in none that is known.
    """
    for form in FORMATS:
        if name.lower().removesuffix(".gz").endswith(f".{form}"):
            return form
    raise InputError(f"{name}: unknown kind of file; known are .{', .'.join(FORMATS)}, or say which with --format")


def predict_stream(detector: Detector, stream: io.BufferedReader, form: Format, *, where: str) -> Prediction:
    """Score all records of a file.

    Args:
        detector: Who scores them.
        stream: The file, opened for reading bytes, gzipped or not.
        form: Its format. CSV and TSV begin with a header; JSON is one record or a list of them.
        where: The file's name, for messages.

    Returns:
        Scores and labels, one a record, in the order of the file.

    Raises:
        InputError: The file is not of that format, not UTF-8, or holds no record.
        SchemaError: A record does not fit; the message names it, counted from 0, and the column.
    """
    parts: list[Prediction] = []
    count = 0
    try:
        for batch in _batches(_records(stream, form, detector.schema)):
            parts.append(_predict(detector, batch, first=count))
            count += len(batch)
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: after record {count}: not UTF-8; save the file as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{where}: the compression is damaged: {error}") from error
    if not parts:
        raise InputError(f"{where}: there are no records; give at least one")
    return Prediction(np.concatenate([part.scores for part in parts]), np.concatenate([part.labels for part in parts]))


def _predict(detector: Detector, batch: list[Any], *, first: int) -> Prediction:
    try:
        return detector.predict(batch)
    except SchemaError as error:
        # The detector counts from the start of the batch, the reader of the message from the start of the file.
        message = re.sub(r"^record (\d+)", lambda match: f"record {first + int(match[1])}", str(error))
        raise SchemaError(message) from error


def _batches(records: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(records, _BATCH)):
        yield batch


def _records(stream: io.BufferedReader, form: Format, schema: RecordSchema) -> Iterator[Any]:
    is_zipped = stream.peek(2)[:2] == b"\x1f\x8b"
    clear: io.BufferedReader | gzip.GzipFile = gzip.GzipFile(fileobj=stream) if is_zipped else stream
    if form == "json":
        return _json_records(clear.read(_LONGEST_JSON + 1))
    lines = _bounded_lines(io.TextIOWrapper(clear, encoding="utf-8-sig", newline=""))
    if form == "jsonl":
        return _json_lines(lines)
    return _delimited(lines, "," if form == "csv" else "\t", schema)


def _bounded_lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise InputError(f"a line of more than {_LONGEST_LINE} characters; give one record a line")
        yield line


def _json_records(content: bytes) -> Iterator[Any]:
    if len(content) > _LONGEST_JSON:
        raise InputError(f"more than {_LONGEST_JSON} bytes of JSON; give JSON Lines, which are read bit by bit")
    try:
        decoded = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"not JSON: {error}; give one record or a list of them") from error
    return iter(decoded if isinstance(decoded, list) else [decoded])


def _json_lines(lines: Iterable[str]) -> Iterator[Any]:
    count = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(f"record {count}: not JSON: {error}; give one record a line") from error
        count += 1


def _delimited(lines: Iterable[str], separator: str, schema: RecordSchema) -> Iterator[dict[str, Any]]:
    rows = csv.reader(lines, delimiter=separator, strict=True)
    count = 0
    try:
        header = [name.strip() for name in next(rows, [])]
        columns = _columns(header, schema)
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(f"record {count}: {len(row)} values, the header names {len(header)} columns")
            yield {feature.name: _value(feature, row[at], count) for feature, at in columns}
            count += 1
    except csv.Error as error:
        raise InputError(f"record {count}: not text separated by {separator!r}: {error}") from error


def _columns(header: list[str], schema: RecordSchema) -> list[tuple[Feature, int]]:
    """Where in a row the features stand; those that are not there are left to the schema's `missing`."""
    if not header:
        raise InputError("the file is empty; give records with a header line")
    places: dict[str, int] = {}
    wanted = {feature.name for feature in schema.features}
    for at, name in enumerate(header):
        if name in wanted and name in places:
            raise InputError(f"two columns are called {name!r}; names must differ")
        places[name] = at
    return [(feature, places[feature.name]) for feature in schema.features if feature.name in places]


def _value(feature: Feature, text: str, record: int) -> Any:
    """What a cell means in its column; an empty one is a missing value."""
    if isinstance(feature, CategoricalFeature):
        return text if text or text in feature.categories else None
    text = text.strip()
    if not text:
        return None
    convert: Callable[[str], Any] = _truth if isinstance(feature, BooleanFeature) else float
    try:
        return convert(text)
    except ValueError:
        wanted = "true, false, 1 or 0" if isinstance(feature, BooleanFeature) else "a number"
        raise SchemaError(f"record {record}, column {feature.name!r}: {text[:80]!r} is not {wanted}") from None


def _truth(text: str) -> bool | float:
    known = _TRUTHS.get(text.lower())
    return float(text) if known is None else known
