"""Element types of ONNX: how large they are and how they are written (onnx.proto, `TensorProto.DataType`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Element(NamedTuple):
    """An element type.

    Attributes:
        name: As ONNX calls it.
        bits: Of one element, as it lies in `raw_data` and in memory.
        dtype: What numpy calls it; `None` where it has none.
        field: Where it lies if not in `raw_data`.
        entries: Entries of that field for one element.
    """

    name: str
    bits: int
    dtype: np.dtype[Any] | None
    field: str
    entries: float = 1


def _element(name: str, bits: int, field: str, entries: float = 1, *, numpy: bool = True) -> Element:
    return Element(name, bits, np.dtype(name).newbyteorder("<") if numpy else None, field, entries)


FLOAT, UINT8, INT8, INT32, INT64, STRING, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 2, 3, 6, 7, 8, 9, 10, 11, 16

TEXT_BYTES = 32
"""Bytes that a text takes in memory beside its letters (a `std::string`)."""

ELEMENTS: dict[int, Element] = {
    FLOAT: _element("float32", 32, "float_data"),
    UINT8: _element("uint8", 8, "int32_data"),
    INT8: _element("int8", 8, "int32_data"),
    4: _element("uint16", 16, "int32_data"),
    5: _element("int16", 16, "int32_data"),
    INT32: _element("int32", 32, "int32_data"),
    INT64: _element("int64", 64, "int64_data"),
    STRING: _element("string", TEXT_BYTES * 8, "string_data", numpy=False),
    BOOL: _element("bool", 8, "int32_data"),
    FLOAT16: _element("float16", 16, "int32_data"),
    DOUBLE: _element("float64", 64, "double_data"),
    12: _element("uint32", 32, "uint64_data"),
    13: _element("uint64", 64, "uint64_data"),
    14: _element("complex64", 64, "float_data", 2),
    15: _element("complex128", 128, "double_data", 2),
    BFLOAT16: _element("bfloat16", 16, "int32_data", numpy=False),
    17: _element("float8e4m3fn", 8, "int32_data", numpy=False),
    18: _element("float8e4m3fnuz", 8, "int32_data", numpy=False),
    19: _element("float8e5m2", 8, "int32_data", numpy=False),
    20: _element("float8e5m2fnuz", 8, "int32_data", numpy=False),
    21: _element("uint4", 4, "int32_data", 0.5, numpy=False),
    22: _element("int4", 4, "int32_data", 0.5, numpy=False),
    23: _element("float4e2m1", 4, "int32_data", 0.5, numpy=False),
    24: _element("float8e8m0", 8, "int32_data", numpy=False),
    25: _element("uint2", 2, "int32_data", 0.25, numpy=False),
    26: _element("int2", 2, "int32_data", 0.25, numpy=False),
    27: _element("float6e2m3", 6, "int32_data", numpy=False),
    28: _element("float6e3m2", 6, "int32_data", numpy=False),
}

DATA_FIELDS = frozenset(element.field for element in ELEMENTS.values())


def data_bytes(element: int, count: int) -> int:
    """Bytes of that many elements, as they lie in `raw_data` or in memory; texts without their letters."""
    return (ELEMENTS[element].bits * count + 7) // 8


def integral(element: int) -> bool:
    """Whether its values are whole numbers (truth values included)."""
    return ELEMENTS[element].name.startswith(("int", "uint", "bool"))
