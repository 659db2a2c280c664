"""Tensors of an ONNX file: read without their data, and checked for data that fit their shape.

The data themselves are looked at only where they are few (shapes, counts: their values decide what the model costs),
where their number must be counted (packed numbers of any length) or where they are indices of a sparse tensor.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.protobuf import Source
from hauberk.scan.examination import Examination
from hauberk.scan.graphs import definition, rules
from hauberk.scan.graphs.elements import DATA_FIELDS, ELEMENTS, STRING, UINT8, Element, data_bytes
from hauberk.scan.graphs.model import MOST_VALUES, SparseWeights, Weights
from hauberk.scan.graphs.wire import Packed, Reader, integer, pieces, varints
from hauberk.scan.report import Rule, shown

LARGEST = (1 << 62) - 1
"""Elements beyond which sizes in bytes no longer fit 64 bits."""

_MOST_DIMENSIONS = 64
_WIDTHS = {"float_data": 4, "double_data": 8}
_VALUE_FIELDS = {"int32_data": "int32", "int64_data": "int64", "uint64_data": "uint64"}
_EXTERNAL = 1
_LONGEST_ENTRY = 4096


@dataclass
class _Data:
    """What the fields of one tensor hold."""

    raw_data: Source | None = None
    counts: dict[str, int] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)
    data_location: int = 0
    entries: list[tuple[str, str]] = field(default_factory=list)
    segment: Source | None = None
    digits: Source | None = None
    """Numbers that were packed, if each of them is one byte."""


def read_tensor(reader: Reader, message: Source, at: int, *, sparse: bool = False, most_bytes: int = 0) -> Weights:
    """Read a `TensorProto`, and report what is wrong with it.

    Args:
        reader: Of this file.
        message: The tensor.
        at: Where it begins in the file.
        sparse: It is a part of a sparse tensor.
        most_bytes: Up to so many elements, values of one byte are kept (of other types, `MOST_VALUES`).
    """
    weights, data, dims = Weights(at=at), _Data(), list[int]()
    for name, value, place in reader.fields(message, definition.TENSOR, at):
        match name:
            case "dims":
                dims += _numbers(value, place)
            case "data_type" | "name":
                setattr(weights, "element" if name == "data_type" else name, value)
            case "external_data":
                data.entries.append(_entry(reader, value, place))
            case "raw_data" | "data_location" | "segment":
                setattr(data, name, value)
            case _ if name in DATA_FIELDS:
                _read_numbers(reader, data, name, value, place, weights)
    if len(dims) > _MOST_DIMENSIONS:
        reader.examination.find(rules.NEGATIVE, f"a tensor of {len(dims)} dimensions", at=at)
    weights.dims = tuple(dims[:_MOST_DIMENSIONS])
    reader.keep(8 * len(dims))
    _check(reader.examination, weights, data, sparse=sparse)
    if weights.element == UINT8 and weights.values is None:
        weights.values = _bytes(reader, data, math.prod(weights.dims), most_bytes)
    return weights


def _bytes(reader: Reader, data: _Data, count: int, most: int) -> NDArray[Any] | None:
    """Values of one byte each, if there are no more than that."""
    source = data.raw_data if data.raw_data is not None else data.digits
    if source is None or len(source) != count or count > most:
        return None
    reader.keep(count)
    return np.frombuffer(b"".join(pieces(source)), np.uint8)


def read_sparse(reader: Reader, message: Source, at: int) -> SparseWeights:
    """Read a `SparseTensorProto`, and check every index of it against its shape."""
    parts, dims = {}, list[int]()
    for name, value, place in reader.fields(message, definition.SPARSE_TENSOR, at):
        if name == "dims":
            dims += _numbers(value, place)
        else:
            parts[name] = (value, place)
    values, indices = (
        read_tensor(reader, *parts[name], sparse=True) if name in parts else Weights(at=at)
        for name in ("values", "indices")
    )
    tensor = SparseWeights(values, indices, tuple(dims[:_MOST_DIMENSIONS]), at)
    name = shown(values.name)
    if _bad_dims(tensor.dims):
        reader.examination.find(rules.NEGATIVE, f"sparse tensor '{name}' is {list(tensor.dims)}", at=at)
    elif indices.outside is not None:
        reader.examination.find(rules.EXTERNAL_INDICES, f"sparse tensor '{name}'", at=at)
    elif "indices" in parts:
        _check_indices(reader, tensor, *parts["indices"])
    return tensor


def _packed(value: Any) -> bool:
    return isinstance(value, Packed)


def _numbers(value: Any, at: int) -> list[int]:
    """What one field of a repeated int64 adds."""
    return [integer(each, "int64", at) for each in varints(value.source)] if _packed(value) else [value]


def _entry(reader: Reader, message: Source, at: int) -> tuple[str, str]:
    """Key and value of a `StringStringEntryProto`; a value is cut where it is longer than any path."""
    key = text = ""
    for name, value, _ in reader.fields(message, definition.ENTRY, at):
        if name == "key":
            key = value
        else:
            text = bytes(value[0 : min(len(value), _LONGEST_ENTRY)]).decode("utf-8", "surrogateescape")
            reader.keep(len(text))
    return key, text


def _read_numbers(reader: Reader, data: _Data, name: str, value: Any, at: int, weights: Weights) -> None:
    """Count the entries of a field of data, and keep the first few."""
    kept = len(data.numbers) < MOST_VALUES
    if name == "string_data":
        data.counts[name] = data.counts.get(name, 0) + 1
        weights.longest = max(weights.longest, len(value))
        return
    if not _packed(value):
        data.counts[name] = data.counts.get(name, 0) + 1
        if kept:
            data.numbers.append(value)
        return
    source, width = value.source, _WIDTHS.get(name)
    if width:
        count = len(source) // width
        if len(source) % width:
            reader.examination.find(rules.TENSOR_SIZE, f"{name} ends inside a number", at=at)
        if kept and count <= MOST_VALUES:
            data.numbers += struct.unpack(f"<{count}{'f' if width == 4 else 'd'}", source[0 : count * width])
    else:
        count = 0
        for piece in pieces(source):
            reader.examination.check_time()
            count += int(np.count_nonzero(np.frombuffer(piece, np.uint8) < 0x80))
        data.digits = source if count == len(source) else None
        if len(source) <= 10 * MOST_VALUES:
            data.numbers += [integer(each, _VALUE_FIELDS[name], at) for each in varints(source)]
    data.counts[name] = data.counts.get(name, 0) + count


def _bad_dims(dims: tuple[int, ...]) -> bool:
    return any(size < 0 for size in dims) or math.prod(max(size, 1) for size in dims) > LARGEST


def _check(examination: Examination, weights: Weights, data: _Data, *, sparse: bool) -> None:
    """Report data that do not fit the shape; keep the values of small tensors."""
    name = f"tensor '{shown(weights.name)}'"
    if data.data_location == _EXTERNAL or data.entries:
        weights.outside = tuple(data.entries)
    if data.data_location not in {0, _EXTERNAL} or data.segment is not None:
        examination.find(rules.INVALID, f"{name} lies in a place of a kind that ONNX does not define", at=weights.at)
    if _bad_dims(weights.dims):
        examination.find(rules.NEGATIVE, f"{name} is {list(weights.dims)}", at=weights.at)
        weights.dims = ()
        return
    element = ELEMENTS.get(weights.element)
    if element is None:
        examination.find(rules.TENSOR_KIND, f"{name} has element type {weights.element}", at=weights.at)
        return
    wrong = _wrong_data(weights, data, element)
    if wrong is not None:
        examination.find(wrong[0], f"{name} {wrong[1]}", at=weights.at)
        return
    few = math.prod(weights.dims) <= MOST_VALUES and weights.outside is None and not sparse
    if few and element.dtype is not None and element.dtype.kind != "c":
        weights.values = _values(weights, data, element.dtype, element.field)


def _wrong_data(weights: Weights, data: _Data, element: Element) -> tuple[Rule, str] | None:
    """What is wrong with where the data lie, or how many there are; `None` where nothing is."""
    held = [key for key, number in data.counts.items() if number]
    if weights.outside is not None:
        twice = data.raw_data is not None or held or data.data_location != _EXTERNAL
        return (rules.AMBIGUOUS, "lies in this file and in another") if twice else None
    places = held + ["raw_data"] * (data.raw_data is not None)
    if len(places) > 1 or set(held) - {element.field} or (data.raw_data is not None and weights.element == STRING):
        return rules.AMBIGUOUS, f"of type {element.name} has data in {' and '.join(places)}"
    count = math.prod(weights.dims)
    if data.raw_data is not None:
        found, needed, unit = len(data.raw_data), data_bytes(weights.element, count), "bytes"
    else:
        found, needed, unit = data.counts.get(element.field, 0), math.ceil(count * element.entries), "entries"
    if found != needed:
        return rules.TENSOR_SIZE, f"is {list(weights.dims)} {element.name}, {needed} {unit}, and has {found}"
    return None


def _values(weights: Weights, data: _Data, dtype: np.dtype[Any], field_name: str) -> NDArray[Any]:
    """The values of a small tensor."""
    if data.raw_data is not None:
        flat: NDArray[Any] = np.frombuffer(bytes(data.raw_data[0 : len(data.raw_data)]), dtype)
    elif dtype == np.float16:  # its bits stand in int32_data
        flat = np.array([int(bits) & 0xFFFF for bits in data.numbers], np.uint16).view(np.float16)
    elif field_name in _VALUE_FIELDS:
        wide = np.uint64 if field_name == "uint64_data" else np.int64
        flat = np.array(data.numbers, wide).astype(dtype)
    else:
        flat = np.array(data.numbers, dtype)
    return flat.reshape(weights.dims)


def _check_indices(reader: Reader, tensor: SparseWeights, message: Source, at: int) -> None:
    """Every index must lie inside: [NNZ] are places in the flattened tensor, [NNZ, rank] one number a dimension."""
    indices, name = tensor.indices, f"sparse tensor '{shown(tensor.values.name)}'"
    flat = len(indices.dims) == 1
    bounds = [math.prod(tensor.dims)] if flat else list(tensor.dims)
    count = tensor.values.dims[0] if len(tensor.values.dims) == 1 else -1
    if indices.element != 7 or indices.dims != ((count,) if flat else (count, len(tensor.dims))):
        what = f"{name} has indices {list(indices.dims)} for values {list(tensor.values.dims)}"
        reader.examination.find(rules.TENSOR_SIZE, what, at=at)
        return
    if not bounds or count == 0:
        return
    for numbers in _int64_pieces(reader, message, at, len(bounds)):
        reader.examination.check_time()
        rows = numbers.reshape(-1, len(bounds))
        if (rows < 0).any() or (rows >= np.array(bounds, np.int64)).any():
            reader.examination.find(rules.SPARSE_INDEX, f"{name} of shape {list(tensor.dims)}", at=at)
            return


def _int64_pieces(reader: Reader, message: Source, at: int, width: int) -> list[NDArray[np.int64]] | Any:
    """The numbers of an int64 tensor, whole rows of `width` at a time."""
    for name, value, place in reader.fields(message, definition.TENSOR, at):
        if name == "raw_data":
            rest = b""
            for piece in pieces(value):
                whole = rest + bytes(piece)
                end = len(whole) - len(whole) % (8 * width)
                rest = whole[end:]
                yield np.frombuffer(whole[:end], "<i8")
        elif name == "int64_data" and _packed(value) and len(value.source) <= 1 << 24:
            whole = b"".join(pieces(value.source))
            yield np.array([integer(each, "int64", place) for each in varints(memoryview(whole))], np.int64)
        elif name == "int64_data":
            reader.examination.find(rules.TOO_LARGE, "indices of a sparse tensor, not in raw_data", at=place)
