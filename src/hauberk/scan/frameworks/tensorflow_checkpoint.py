"""The index of a TensorFlow checkpoint: a sorted table that says where each variable lies in the files beside it.

The files with the numbers themselves (`….data-00000-of-00001`) have no mark and no structure: nothing recognises them.
Format: `tensor_bundle.proto` and `lib/io/table_format.txt` of https://github.com/tensorflow/tensorflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from hauberk import protobuf
from hauberk.errors import RefusedModelError
from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.report import Outcome, Rule, Severity, shown

BOUNDS = Rule(
    "checkpoint-bounds",
    "a variable that is not where the index says",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The loader reads as many bytes as stand here, from where it stands here, into a tensor of another size.",
    "https://cwe.mitre.org/data/definitions/130.html",
)
DAMAGED = Rule(
    "checkpoint-damaged",
    "an index of a checkpoint that cannot be followed",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It is cut short, compressed or damaged, so it is not known what the loader would read.",
    "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto",
)

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER, _TRAILER = 48, 5
_BLOCK_MOST = 64 << 20
SIZES = {1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 8: 8, 9: 8, 10: 1, 14: 2, 17: 2, 18: 16, 19: 2, 22: 4, 23: 8}
"""Bytes of an element, by the number of its type."""
_LARGEST = 1 << 62


def recognise(_: bytes, content: Content) -> bool:
    """The mark at the end."""
    return content.size > _FOOTER and content.tail(8) == _MAGIC


def examine(content: Content, examination: Examination) -> None:
    """Every variable: its place, its size and its shape."""
    count = 0
    try:
        for key, value in _entries(content, examination):
            if key:
                count += 1
                _check(key, value, examination)
    except (RefusedModelError, CutError, ValueError, IndexError) as error:
        examination.find(DAMAGED, shown(str(error)))
    examination.facts["variables"] = count


def _entries(content: Content, examination: Examination) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the table, in their order."""
    footer = content.tail(_FOOTER)
    at = 0
    handles = []
    for _ in range(4):
        number, at = _varint(footer, at)
        handles.append(number)
    for _, handle in _block(content, handles[2], handles[3]):
        examination.check_time()
        offset, end = _varint(handle, 0)
        yield from _block(content, offset, _varint(handle, end)[0])


def _block(content: Content, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key repeats the start of the one before it."""
    if size > _BLOCK_MOST:
        raise ValueError(f"a block of {size} bytes")
    data = content.read(offset, size + _TRAILER)
    if data[size]:
        raise ValueError(f"a block that is compressed by method {data[size]}")
    restarts = int.from_bytes(data[size - 4 : size], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise ValueError(f"{restarts} restarts in a block of {size} bytes")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(data, at)
        own, at = _varint(data, at)
        length, at = _varint(data, at)
        if shared > len(key) or at + own + length > end:
            raise ValueError(f"an entry that does not fit its block at byte {offset + at}")
        key = key[:shared] + data[at : at + own]
        yield key, data[at + own : at + own + length]
        at += own + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number without an end")


def _check(key: bytes, value: bytes, examination: Examination) -> None:
    kind = offset = size = 0
    dims: list[int] = []
    sliced = False
    for number, field in protobuf.fields(memoryview(value)):
        if number == 2 and isinstance(field, memoryview):
            dims = [_size(part) for inner, part in protobuf.messages(field) if inner == 2]
        elif number == 7:
            sliced = True
        elif isinstance(field, int):
            kind, offset, size = (field if number == each else old for each, old in ((1, kind), (4, offset), (5, size)))
    elements = math.prod(dims)
    if max(offset, size, elements, *dims, 0) >= _LARGEST:
        examination.find(BOUNDS, f"{shown(key)}: {size} bytes at {offset}, shape {dims}")
    elif kind in SIZES and not sliced and size != elements * SIZES[kind]:
        examination.find(BOUNDS, f"{shown(key)}: {size} bytes for shape {dims} of {SIZES[kind]} bytes an element")


def _size(dimension: memoryview) -> int:
    return next((value for number, value in protobuf.fields(dimension) if number == 1 and isinstance(value, int)), 0)


FORMATS = (Format("tensorflow-checkpoint-index", recognise, examine, (BOUNDS, DAMAGED)),)
