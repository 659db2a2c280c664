"""Raw records become tensors: `numeric` float32 [N, F] and `codes` int64 [N, C].

Every input has a defined outcome (the table is in `docs/reference/schema.md`): a category that the schema does not
list is coded as unknown, an absent value takes the schema's `missing` or is an error, a value of the wrong type is an
error, and a column that the schema does not name is ignored. Numbers outside the range seen in training are kept as
they are: clamping would hide drift and blunt honest attacks.

One record in production should cost microseconds, so each path first does what is right for good records, finds out
with a few whole-array operations whether they were good, and only then looks at single values to repair or to name.
"""

from __future__ import annotations

import math
import reprlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import SchemaError
from hauberk.schema.record import (
    UNKNOWN_CODE,
    BooleanFeature,
    CategoricalFeature,
    Feature,
    NumberFeature,
    NumericFeature,
    RecordSchema,
)

_UNSETTLED = -1
_FEW = 32
_FLOAT32, _INT64 = np.dtype(np.float32), np.dtype(np.int64)


class Coded(NamedTuple):
    """Records as tensors.

    Attributes:
        numeric: Float32 [N, F], C-contiguous: numbers, integers and truth values in schema order.
        codes: Int64 [N, C], C-contiguous: categories in schema order, 0 for unknown, k + 1 for category number k.
    """

    numeric: NDArray[np.float32]
    codes: NDArray[np.int64]


class Coder:
    """Codes records of one schema. Immutable after construction, so threads may share it.

    Args:
        schema: What the records must look like.
    """

    def __init__(self, schema: RecordSchema) -> None:
        self.schema = schema
        self._numbers = schema.numbers
        self._categoricals = schema.categoricals
        self._pick_numbers = _picker([feature.name for feature in self._numbers])
        self._pick_categories = _picker([feature.name for feature in self._categoricals])
        self._pack_numbers = struct.Struct(f"{len(self._numbers)}f")
        self._pack_codes = struct.Struct(f"{len(self._categoricals)}q")
        self._vocabularies = tuple(
            {name: code for code, name in enumerate(feature.categories, start=UNKNOWN_CODE + 1)}
            for feature in self._categoricals
        )
        self._lookups = tuple(vocabulary.get for vocabulary in self._vocabularies)
        self._highest_codes = tuple(len(vocabulary) for vocabulary in self._vocabularies)
        # What a value must equal after rounding and clamping: anything (weight 0), a whole number, or 0 or 1.
        self._weight = np.array([not isinstance(f, NumericFeature) for f in self._numbers], dtype=np.float32)
        truth = np.array([isinstance(f, BooleanFeature) for f in self._numbers], dtype=np.bool_)
        self._floor = np.where(truth, 0.0, -np.inf).astype(np.float32)
        self._ceiling = np.where(truth, 1.0, np.inf).astype(np.float32)
        self._any_whole = bool(self._weight.any())
        self._stand_ins = [(j, f.missing) for j, f in enumerate(self._numbers) if f.missing is not None]

    def code(self, records: Any) -> Coded:
        """Code records.

        Args:
            records: One dict; a list of dicts; a numpy array [N, F] of numbers in schema order, where the schema has no
                categoricals; a `Coded`; or a pandas or polars frame.

        Returns:
            Freshly made tensors, except that float32 arrays which are right already are passed on as they are.

        Raises:
            SchemaError: Something does not fit; the message names record index and column.
        """
        if isinstance(records, Coded):
            return self.check(records)
        if isinstance(records, Mapping):
            return self._code_records([records])
        if isinstance(records, np.ndarray):
            return self._code_array(records)
        if isinstance(records, (list, tuple)):
            return self._code_records(records)
        if hasattr(records, "columns") and hasattr(records, "__getitem__"):
            return self._code_frame(records)
        raise SchemaError(
            f"records are a {type(records).__name__}; give a dict, a list of dicts, a numpy array [N, F], "
            "a pandas or polars frame, or coded tensors"
        )

    def check(self, coded: Coded) -> Coded:
        """Check tensors that someone else coded: dtypes, shapes, finite numbers, codes in range.

        Returns:
            The same tensors, copied only where they are not C-contiguous.

        Raises:
            SchemaError: Something does not fit.
        """
        numeric, codes = coded
        if numeric.dtype != _FLOAT32 or codes.dtype != _INT64:
            raise SchemaError(f"coded records are {numeric.dtype} and {codes.dtype}; give float32 and int64")
        count = len(numeric)
        if numeric.shape != (count, len(self._numbers)) or codes.shape != (count, len(self._categoricals)):
            raise SchemaError(
                f"coded records have shapes {numeric.shape} and {codes.shape}; "
                f"give [N, {len(self._numbers)}] and [N, {len(self._categoricals)}]"
            )
        if not _all_finite(numeric):
            self._refuse_first(numeric, ~np.isfinite(numeric), "is not a finite number")
        if not self._codes_fit(codes):
            row, column = np.argwhere((codes < 0) | (codes > self._highest_codes))[0]
            raise SchemaError(
                f"record {row}, column {self._categoricals[column].name!r}: code {codes[row, column]} is out of range; "
                f"give 0 (unknown) to {self._highest_codes[column]}"
            )
        if numeric.flags.c_contiguous and codes.flags.c_contiguous:
            return coded
        return Coded(np.ascontiguousarray(numeric), np.ascontiguousarray(codes))

    def _codes_fit(self, codes: NDArray[np.int64]) -> bool:
        if codes.size <= _FEW:
            # For a handful of codes, Python is three times as fast as numpy.
            for row in codes.tolist():
                for code, highest in zip(row, self._highest_codes, strict=True):
                    if not 0 <= code <= highest:
                        return False
            return True
        return not ((codes < 0) | (codes > np.array(self._highest_codes))).any()

    def _code_records(self, records: Sequence[Any]) -> Coded:
        count = len(records)
        # Packing with `struct` refuses text and None, which numpy would convert in silence.
        numbers, codes = self._pack_numbers, self._pack_codes
        number_bytes, code_bytes = bytearray(count * numbers.size), bytearray(count * codes.size)
        for row, record in enumerate(records):
            try:
                numbers.pack_into(number_bytes, row * numbers.size, *self._pick_numbers(record))
                picked = self._pick_categories(record)
                found = [lookup(name, _UNSETTLED) for lookup, name in zip(self._lookups, picked, strict=True)]
                if _UNSETTLED in found:
                    found = self._exact_codes(record, row)
            except (KeyError, IndexError, TypeError, OverflowError, struct.error):
                numbers.pack_into(number_bytes, row * numbers.size, *self._exact_numbers(record, row))
                found = self._exact_codes(record, row)
            codes.pack_into(code_bytes, row * codes.size, *found)
        numeric = np.ndarray((count, len(self._numbers)), np.float32, number_bytes)
        return Coded(self._settle(numeric), np.ndarray((count, len(self._categoricals)), np.int64, code_bytes))

    def _exact_numbers(self, record: Any, row: int) -> list[float]:
        values = []
        for feature in self._numbers:
            where = f"record {row}, column {feature.name!r}"
            values.append(_exact_number(feature, _value(record, feature, row), where))
        return values

    def _exact_codes(self, record: Any, row: int) -> list[int]:
        codes = []
        for feature, vocabulary in zip(self._categoricals, self._vocabularies, strict=True):
            where = f"record {row}, column {feature.name!r}"
            codes.append(_exact_code(feature, vocabulary, _value(record, feature, row), where))
        return codes

    def _code_array(self, array: NDArray[Any]) -> Coded:
        if self._categoricals:
            names = ", ".join(feature.name for feature in self._categoricals)
            raise SchemaError(
                f"a numpy array cannot hold the categorical columns ({names}); give dicts, a frame or coded tensors"
            )
        if array.ndim != 2 or array.shape[1] != len(self._numbers):
            raise SchemaError(
                f"the array has shape {array.shape}; give [N, {len(self._numbers)}], one row a record "
                "and the columns in the order of the schema"
            )
        if array.dtype.kind not in "biuf":
            raise SchemaError(f"the array holds {array.dtype}; give numbers")
        numeric = array
        if array.dtype != _FLOAT32 or not array.flags.c_contiguous:
            with np.errstate(over="ignore"):  # what becomes infinite is refused below, by name
                numeric = np.ascontiguousarray(array, dtype=np.float32)
        return Coded(self._settle(numeric), np.empty((len(numeric), 0), dtype=np.int64))

    def _code_frame(self, frame: Any) -> Coded:
        names, count = set(frame.columns), len(frame)
        numeric = np.empty((count, len(self._numbers)), dtype=np.float32)
        codes = np.empty((count, len(self._categoricals)), dtype=np.int64)
        with np.errstate(over="ignore"):
            for column, number in enumerate(self._numbers):
                numeric[:, column] = self._number_column(_column(frame, number, names, count), number)
        for column, (category, vocabulary) in enumerate(zip(self._categoricals, self._vocabularies, strict=True)):
            values = _column(frame, category, names, count)
            codes[:, column] = _code_column(values.tolist(), category, vocabulary)
        return Coded(self._settle(numeric), codes)

    @staticmethod
    def _number_column(values: NDArray[Any], feature: NumberFeature) -> NDArray[Any]:
        if values.dtype.kind in "biuf":
            return values
        if values.dtype.kind not in "OUS":
            raise SchemaError(f"column {feature.name!r} holds {values.dtype}; give numbers")
        where = f"column {feature.name!r}"
        exact = (_exact_number(feature, value, f"record {row}, {where}") for row, value in enumerate(values.tolist()))
        return np.fromiter(exact, dtype=np.float64, count=len(values))

    def _settle(self, numeric: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill in what is missing and refuse what is no number of its column's kind."""
        if not _all_finite(numeric):
            numeric = numeric.copy()  # it may be the caller's
            for column, stand_in in self._stand_ins:
                numeric[np.isnan(numeric[:, column]), column] = stand_in
            self._refuse_first(numeric, np.isnan(numeric), "is missing and the schema gives no value for 'missing'")
            self._refuse_first(numeric, np.isinf(numeric), "is not a finite float32 number")
        if self._any_whole:
            residual = np.rint(numeric)
            np.maximum(residual, self._floor, out=residual)
            np.minimum(residual, self._ceiling, out=residual)
            residual -= numeric
            residual *= self._weight
            if np.count_nonzero(residual):
                self._refuse_first(numeric, residual != 0, "is not of the column's type")
        return numeric

    def _refuse_first(self, numeric: NDArray[np.float32], bad: NDArray[np.bool_], complaint: str) -> None:
        if not bad.any():
            return
        row, column = np.argwhere(bad)[0]
        feature = self._numbers[column]
        wanted = {"boolean": "true, false, 0 or 1", "integer": "a whole number"}.get(_type(feature), "a finite number")
        raise SchemaError(
            f"record {row}, column {feature.name!r}: {float(numeric[row, column])!r} {complaint}; give {wanted}"
        )


def _all_finite(array: NDArray[np.float32]) -> bool:
    # The sum of squares is finite for finite values unless it overflows: two operations instead of three, and the
    # exact test only where that says no.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def _picker(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Like `itemgetter`, but a tuple also for one name or none."""
    if len(names) > 1:
        return itemgetter(*names)
    if not names:
        return lambda _: ()
    pick = itemgetter(names[0])
    return lambda record: (pick(record),)


def _value(record: Any, feature: Feature, row: int) -> Any:
    if not isinstance(record, Mapping):
        raise SchemaError(f"record {row} is a {type(record).__name__}; give a dict of column names and values")
    if feature.name not in record and feature.missing is None:
        raise SchemaError(
            f"record {row}, column {feature.name!r} is not there; give it, or set 'missing' in the schema"
        )
    return record.get(feature.name)


def _column(frame: Any, feature: Feature, names: set[Any], count: int) -> NDArray[Any]:
    if feature.name not in names:
        if feature.missing is None:
            raise SchemaError(f"column {feature.name!r} is not there; give it, or set 'missing' in the schema")
        return np.full(count, feature.missing, dtype=object)
    values = np.asarray(frame[feature.name])
    if values.ndim != 1:
        raise SchemaError(f"column {feature.name!r} is there more than once, or holds arrays; give one value a record")
    return values


def _code_column(values: list[Any], feature: CategoricalFeature, vocabulary: dict[str, int]) -> NDArray[np.int64]:
    try:
        codes = np.fromiter(map(vocabulary.get, values, repeat(_UNSETTLED)), dtype=np.int64, count=len(values))
        unsettled: Iterable[int] = np.flatnonzero(codes == _UNSETTLED)
    except TypeError:  # something that cannot be hashed; the exact way names it
        codes, unsettled = np.empty(len(values), dtype=np.int64), range(len(values))
    for row in unsettled:
        codes[row] = _exact_code(feature, vocabulary, values[row], f"record {row}, column {feature.name!r}")
    return codes


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    return type(value).__name__ in {"NAType", "NaTType"}  # pandas, which is not imported here


def _exact_number(feature: NumberFeature, value: Any, where: str) -> float:
    if _is_missing(value):
        if feature.missing is None:
            raise SchemaError(f"{where} is missing; give it, or set 'missing' in the schema")
        return float(feature.missing)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") or isinstance(value, np.ndarray):
        raise SchemaError(f"{where}: {reprlib.repr(value)} is a {type(value).__name__}; give a number")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"{where}: {reprlib.repr(value)} is not a finite float32 number") from error


def _exact_code(feature: CategoricalFeature, vocabulary: dict[str, int], value: Any, where: str) -> int:
    if _is_missing(value):
        if feature.missing is None:
            raise SchemaError(f"{where} is missing; give it, or set 'missing' in the schema")
        value = feature.missing
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = str(value)  # a port or a status code read from a file that does not quote it
    elif isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = str(int(value))  # the same, in a frame that holds integers with gaps as floats
    if not isinstance(value, str):
        raise SchemaError(f"{where}: {reprlib.repr(value)} is a {type(value).__name__}; give the category's name")
    return vocabulary.get(value, UNKNOWN_CODE)


def _type(feature: Feature) -> str:
    return str(feature.__struct_config__.tag)
