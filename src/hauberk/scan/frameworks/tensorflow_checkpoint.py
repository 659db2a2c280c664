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
LARGE = Rule(
    "checkpoint-large",
    "a variable that is larger than what is there",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The loader takes memory for the shape that stands here before it reads. The file with the numbers is not beside"
    " the index, so that it cannot be told whether it has as many.",
    "https://cwe.mitre.org/data/definitions/789.html",
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
_BLOCK_MOST = 8 << 20  # TensorFlow begins another after 256 KiB
_ENTRIES_BETWEEN_LOOKS = 4096
_SHARDS_MOST = 10_000
SIZES = {
    1: 4,
    2: 8,
    3: 4,
    4: 1,
    5: 2,
    6: 1,
    8: 8,
    9: 8,
    10: 1,
    11: 1,
    12: 1,
    13: 4,
    14: 2,
    15: 2,
    16: 2,
    17: 2,
    18: 16,
    19: 2,
    22: 4,
    23: 8,
} | {24: 1, 25: 1}
"""Bytes of an element, by the number of its type."""
_TEXT = 7
TEXT_SIZE = 24
"""Bytes of an empty text."""
_LARGEST = 1 << 62
_DIMENSIONS_MOST = 254  # TensorFlow's own limit


def recognise(_: bytes, content: Content) -> bool:
    """The mark at the end."""
    return content.size > _FOOTER and content.tail(8) == _MAGIC


def examine(content: Content, examination: Examination) -> None:
    """Every variable: its place, its size and its shape."""
    count = 0
    shards: list[int | None] = []
    try:
        for key, value in _entries(content, examination):
            if key:
                count += 1
                _check(key, value, shards, examination)
            else:
                shards = _shards(value, examination)
    except (RefusedModelError, CutError, ValueError, IndexError) as error:
        examination.find(DAMAGED, shown(str(error)))
    examination.facts["variables"] = count


def _shards(header: bytes, examination: Examination) -> list[int | None]:
    """Sizes of the files with the numbers; `None` for one that is not beside the index."""
    fields = {number: value for number, value in protobuf.fields(memoryview(header)) if isinstance(value, int)}
    count, path = fields.get(1, 0), examination.path
    if fields.get(2, 0) or not 0 < count <= _SHARDS_MOST:
        raise ValueError(f"{count} files with numbers, in order {fields.get(2, 0)}")
    if path is None or path.suffix != ".index":
        return [None] * count
    names = [path.with_suffix(f".data-{number:05}-of-{count:05}") for number in range(count)]
    return [name.stat().st_size if name.is_file() else None for name in names]


def _entries(content: Content, examination: Examination) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the table, in their order."""
    footer = content.tail(_FOOTER)
    at = 0
    handles = []
    for _ in range(4):
        number, at = _varint(footer, at)
        handles.append(number)
    before = None
    for _, handle in _block(content, handles[2], handles[3]):
        examination.check_time()
        offset, end = _varint(handle, 0)
        for count, (key, value) in enumerate(_block(content, offset, _varint(handle, end)[0]), 1):
            if count % _ENTRIES_BETWEEN_LOOKS == 0:
                examination.check_time()
            if before is not None and key <= before:
                raise ValueError(f"keys out of order: {key!r} behind {before!r}")
            before = key
            yield key, value


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
    places = {int.from_bytes(data[end + 4 * index : end + 4 * index + 4], "little") for index in range(restarts)}
    at, key = 0, b""
    if end:
        _check_restarts(places, end)
    while at < end:
        whole = at in places
        places.discard(at)
        shared, at = _varint(data, at)
        if whole and shared:
            raise ValueError(f"a search that begins within a key at byte {offset + at}")
        own, at = _varint(data, at)
        length, at = _varint(data, at)
        if shared > len(key) or at + own + length > end:
            raise ValueError(f"an entry that does not fit its block at byte {offset + at}")
        key = key[:shared] + data[at : at + own]
        yield key, data[at + own : at + own + length]
        at += own + length
    if end and places:
        raise ValueError(f"a search that begins within a value, at {sorted(places)[:4]} of the block at byte {offset}")


def _check_restarts(places: set[int], end: int) -> None:
    """The loader finds keys by going on from one of these places."""
    if 0 not in places or max(places) >= end:
        raise ValueError(f"searches begin at {sorted(places)[:4]}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number without an end")


def _entry(value: bytes) -> tuple[dict[int, int], list[int], bool]:
    """Numbers of an entry by their fields, the shape, and whether the variable is kept in slices."""
    numbers: dict[int, int] = {}
    dims: list[int] = []
    sliced = False
    for number, field in protobuf.fields(memoryview(value)):
        if number == 2 and isinstance(field, memoryview):
            dims += [_size(part) for inner, part in protobuf.messages(field) if inner == 2]
        elif number == 7:
            sliced = True
        elif isinstance(field, int):
            numbers[number] = field
    if len(dims) > _DIMENSIONS_MOST:
        raise ValueError(f"a variable of {len(dims)} dimensions")
    return numbers, dims, sliced


def _check(key: bytes, value: bytes, shards: list[int | None], examination: Examination) -> None:
    numbers, dims, sliced = _entry(value)
    kind, shard, offset, size = (numbers.get(number, 0) for number in (1, 3, 4, 5))
    elements = math.prod(dims)
    taken = elements * SIZES.get(kind, TEXT_SIZE)
    if kind != _TEXT and kind not in SIZES:
        examination.find(DAMAGED, f"{shown(key)}: a variable of type {kind}")
    elif max(offset, size, elements, *dims, 0) >= _LARGEST or shard >= len(shards):
        examination.find(BOUNDS, f"{shown(key)}: {size} bytes at {offset} of file {shard}, shape {dims}")
    elif not sliced and (size < elements if kind == _TEXT else size != taken):
        examination.find(BOUNDS, f"{shown(key)}: {size} bytes for shape {dims} of type {kind}")
    elif (there := shards[shard]) is not None and not sliced:
        if offset + size > there:
            examination.find(BOUNDS, f"{shown(key)}: {size} bytes at {offset} of {there}")
    elif taken > examination.limits.model_memory:
        examination.find(LARGE, f"{shown(key)}: {taken} bytes for shape {dims}")


def _size(dimension: memoryview) -> int:
    """The last size that stands there, which is the one that protobuf takes."""
    size = 0
    for number, value in protobuf.fields(dimension):
        size = value if number == 1 and isinstance(value, int) else size
    return size


FORMATS = (Format("tensorflow-checkpoint-index", recognise, examine, (BOUNDS, LARGE, DAMAGED)),)
