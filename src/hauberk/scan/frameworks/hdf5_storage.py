"""How an HDF5 file keeps the elements of a dataset: in its header, in one piece, or in chunks behind filters.

Places and sizes are checked; the elements are not read, but for large compressed chunks, which are unpacked to see how
much they hold: the library unpacks a chunk to whatever size that takes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from hauberk.scan.content import CutError
from hauberk.scan.frameworks.hdf5_heaps import listed
from hauberk.scan.frameworks.hdf5_objects import Reader
from hauberk.scan.frameworks.hdf5_trees import CHUNKS, nodes
from hauberk.scan.frameworks.hdf5_values import Dataspace, Datatype, NotFollowedError, check_sum, number, padded

DEFLATE, SHUFFLE, CHECKSUM, LZF = 1, 2, 3, 32000
KNOWN_FILTERS = {DEFLATE: 1, SHUFFLE: 1, CHECKSUM: 0, LZF: 3}
"""Filters that are followed, with the number of values that each has."""
COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)
_PIECE = 1 << 20  # bytes that are read, or unpacked, at once
_INFLATED = 1032  # bytes that one byte of deflate can hold at the most
_SINGLE, _IMPLICIT, _FIXED = 1, 2, 3
_HALF_PAGED = 1 << 10
_VARIABLE, _TEXTS_MOST = 9, 16 << 20


@dataclass
class Filter:
    """One step on the way from a chunk's elements to what is stored."""

    identifier: int
    values: tuple[int, ...]


@dataclass
class Layout:
    """Where elements lie.

    Attributes:
        kind: `COMPACT`, `CONTIGUOUS`, `CHUNKED` or `VIRTUAL`.
        address: Of the elements, or of the index of chunks.
        size: Bytes that are said to be stored there.
        chunk: Extent of a chunk, without the size of an element.
        index: How chunks are found; 0 for a B-tree of version 1.
        filtered: Bytes of a single chunk that went through filters; 0 where it did not.
    """

    kind: int
    address: int = 0
    size: int = 0
    chunk: tuple[int, ...] = ()
    index: int = 0
    filtered: int = 0


def filters(data: bytes) -> Iterator[Filter]:
    """Decode a message of filters.

    Raises:
        NotFollowedError: It is damaged.
        CutError: It ends before it should.
    """
    version, count = number(data, 0, 1), number(data, 1, 1)
    if version not in {1, 2} or not 0 < count <= 32:
        raise NotFollowedError(f"{count} filters, version {version}")
    at = 8 if version == 1 else 2
    for _ in range(count):
        identifier, at = number(data, at, 2), at + 2
        named = version == 1 or identifier >= 256
        length, at = (number(data, at, 2), at + 2) if named else (0, at)
        values = number(data, at + 2, 2)
        at += 4 + (padded(length) if version == 1 else length)
        yield Filter(identifier, tuple(number(data, at + 4 * index, 4) for index in range(values)))
        at += 4 * values + (4 if version == 1 and values % 2 else 0)


def layout(reader: Reader, data: bytes) -> Layout:
    """Decode a layout message.

    Raises:
        NotFollowedError: It is of a version that is not followed, or damaged.
        CutError: It ends before it should.
    """
    version = number(data, 0, 1)
    if version in {1, 2}:
        return _old_layout(reader, data)
    kind, at = number(data, 1, 1), 2
    if not 3 <= version <= 5 or kind > VIRTUAL or (kind == VIRTUAL and version == 3):
        raise NotFollowedError(f"version {version} of a layout, kind {kind}")
    if kind == COMPACT:
        return Layout(kind, 0, _held(data, number(data, at, 2), at + 2))
    if kind == CONTIGUOUS:
        return Layout(kind, reader.offset(data, at), reader.length(data, at + reader.offset_size))
    if kind == VIRTUAL:
        return Layout(kind)
    if version == 3:
        rank, at = number(data, at, 1), at + 1
        chunk = tuple(number(data, at + reader.offset_size + 4 * index, 4) for index in range(rank))
        return Layout(kind, reader.offset(data, at), 0, _chunk(chunk))
    return _new_chunks(reader, data, at)


def _held(data: bytes, size: int, at: int) -> int:
    if at + size > len(data):
        raise CutError(f"{size} bytes of elements in a header that has fewer")
    return size


def _chunk(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The extent of a chunk, whose last figure is the size of an element."""
    if not 2 <= len(sizes) <= 33 or not all(sizes):
        raise NotFollowedError(f"chunks of extent {sizes}")
    return sizes


def _old_layout(reader: Reader, data: bytes) -> Layout:
    rank, kind, at = number(data, 1, 1), number(data, 2, 1), 8
    if kind > CHUNKED or not 0 < rank <= 33:
        raise NotFollowedError(f"an old layout of kind {kind}, rank {rank}")
    address = 0
    if kind != COMPACT:
        address, at = reader.offset(data, at), at + reader.offset_size
    sizes = tuple(number(data, at + 4 * index, 4) for index in range(rank))
    at += 4 * rank
    if kind == COMPACT:
        return Layout(kind, 0, _held(data, number(data, at, 4), at + 4))
    if kind == CONTIGUOUS:  # how many bytes there are follows from the extent
        return Layout(kind, address, -1)
    return Layout(kind, address, 0, _chunk(sizes))


def _new_chunks(reader: Reader, data: bytes, at: int) -> Layout:
    flags, rank, width = number(data, at, 1), number(data, at + 1, 1), number(data, at + 2, 1)
    if flags > 3 or not 0 < width <= 8:
        raise NotFollowedError(f"chunks with flags {flags} and numbers of {width} bytes")
    at += 3
    sizes = _chunk(tuple(number(data, at + width * index, width) for index in range(rank)))
    at += width * rank
    index, at = number(data, at, 1), at + 1
    size = 0
    if index == _SINGLE and flags & 2:
        size, at = reader.length(data, at), at + reader.length_size + 4
    elif index == _FIXED:
        at += 1
    elif index not in {_SINGLE, _IMPLICIT}:
        at += {4: 5, 5: 6}.get(index, len(data))
    return Layout(CHUNKED, reader.offset(data, at), 0, sizes, index, size)


def check(reader: Reader, kept: Layout, space: Dataspace, kind: Datatype, steps: list[Filter]) -> None:
    """Whether the elements lie where they should, and are as many as they should be.

    Args:
        reader: The file.
        kept: Where they lie.
        space: The extent of the dataset.
        kind: The type of its elements.
        steps: Filters between chunks and what is stored.

    Raises:
        NotFollowedError: They are not, or the way to them is one that is not followed.
        CutError: They lie beyond the end of the file.
    """
    size = space.count * kind.size
    if kept.kind == COMPACT and kept.size != size:
        raise NotFollowedError(f"{kept.size} bytes of elements, {size} expected")
    if kept.kind == CONTIGUOUS and kept.address != reader.undefined:
        if kept.size not in {-1, size}:
            raise NotFollowedError(f"{kept.size} bytes of elements, {size} expected")
        reader.check_inside(kept.address, size)
    if kind.kind == _VARIABLE:
        _check_texts(reader, kept, space, kind, steps)
    if kept.kind == CHUNKED:
        _check_chunks(reader, kept, space, kind, steps)
    elif steps:
        raise NotFollowedError("filters where there are no chunks")


def _check_texts(reader: Reader, kept: Layout, space: Dataspace, kind: Datatype, steps: list[Filter]) -> None:
    """Elements of variable length: the library never returns from some damaged heaps, so each is looked up."""
    if kept.address == reader.undefined or kept.kind == VIRTUAL or not space.count:
        return
    if kept.kind == COMPACT or steps or space.count * kind.size > _TEXTS_MOST:
        raise NotFollowedError("texts behind filters, in a header, or in great numbers")
    if kept.kind == CONTIGUOUS:
        listed(reader, kind, reader.read(kept.address, space.count * kind.size))
        return
    whole = math.prod(kept.chunk)
    if whole > _TEXTS_MOST or len(kept.chunk) != 1 + len(space.dims or ()):
        raise NotFollowedError("texts in great numbers")
    for address, _ in _chunks(reader, kept, space.dims or (), whole, filtered=False):
        listed(reader, kind, reader.read(address, whole))


def _check_chunks(reader: Reader, kept: Layout, space: Dataspace, kind: Datatype, steps: list[Filter]) -> None:
    *extent, width = kept.chunk
    if width != kind.size or space.dims is None or len(extent) != len(space.dims):
        raise NotFollowedError(f"chunks of extent {kept.chunk} for elements of {kind.size} bytes, {space.dims}")
    identifiers = [step.identifier for step in steps]
    if len(set(identifiers)) != len(identifiers) or set(identifiers) >= {DEFLATE, LZF}:
        raise NotFollowedError("chunks that are compressed more than once")
    whole = math.prod(kept.chunk)
    if any(step.identifier == LZF and step.values[2:3] != (whole,) for step in steps):
        raise NotFollowedError("chunks of another size than their filter makes")
    if kept.address != reader.undefined:
        for address, stored in _chunks(reader, kept, space.dims, whole, filtered=bool(steps)):
            _check_chunk(reader, address, stored, whole, identifiers)


def _check_chunk(reader: Reader, address: int, stored: int, whole: int, identifiers: list[int]) -> None:
    """One chunk: it lies in the file and does not unpack to far more than it stands for."""
    reader.check_inside(address, stored)
    if not identifiers:
        if stored != whole:
            raise NotFollowedError(f"a chunk of {stored} bytes, {whole} expected")
        return
    if stored > whole + whole // 8 + 1024:
        raise NotFollowedError(f"{stored} bytes that stand for a chunk of {whole}")
    if DEFLATE in identifiers and stored * _INFLATED > reader.examination.limits.model_memory:
        held = 0
        for count in _unpacked(reader, address, stored):
            held += count
            if held > whole + 4:
                raise NotFollowedError(f"a chunk that unpacks to more than its {whole} bytes")


def _unpacked(reader: Reader, address: int, stored: int) -> Iterator[int]:
    """How many bytes the pieces of a chunk unpack to, one piece after the other; none of them is kept."""
    unpacker = zlib.decompressobj()
    for at in range(0, stored, _PIECE):
        piece, count = reader.read(address + at, min(_PIECE, stored - at)), _PIECE
        while (piece or count == _PIECE) and not unpacker.eof:  # a full piece may leave some behind without input
            reader.examination.check_time()
            try:
                count = len(unpacker.decompress(piece, _PIECE))
            except zlib.error as error:
                raise NotFollowedError(f"a chunk that cannot be unpacked: {error}") from None
            reader.examination.unpack(count)
            yield count
            piece = unpacker.unconsumed_tail


def _chunks(
    reader: Reader, kept: Layout, dims: tuple[int, ...], whole: int, *, filtered: bool
) -> Iterator[tuple[int, int]]:
    """Places and stored sizes of all chunks."""
    counts = [-(-size // part) for size, part in zip(dims, kept.chunk, strict=False)]
    if kept.index == 0:
        yield from _tree(reader, kept, dims)
    elif kept.index == _SINGLE:
        yield kept.address, kept.filtered or whole
    elif kept.index == _IMPLICIT and not filtered:
        reader.check_inside(kept.address, math.prod(counts) * whole)
    elif kept.index == _FIXED:
        yield from _fixed_array(reader, kept.address, math.prod(counts), whole, filtered=filtered)
    else:
        raise NotFollowedError(f"an index of chunks of kind {kept.index}")


def _tree(reader: Reader, kept: Layout, dims: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Chunks below a B-tree of version 1, whose keys are their places in the dataset."""
    rank = len(kept.chunk)
    before: tuple[int, ...] = (-1,)
    for node in nodes(reader, kept.address, CHUNKS, 8 + 8 * rank, reader.chunk_rank):
        last = [number(node.keys[-1], 8 + 8 * axis, 8) for axis in range(rank)]
        if node.children and any(at % part for at, part in zip(last, kept.chunk, strict=True)):
            raise NotFollowedError(f"a tree of chunks that ends at {last}")
        for key, child in zip(node.keys, node.children, strict=False):
            place = tuple(number(key, 8 + 8 * axis, 8) for axis in range(rank))
            inside = all(at < size and at % part == 0 for at, size, part in zip(place, dims, kept.chunk, strict=False))
            if not inside or place[-1]:
                raise NotFollowedError(f"a chunk at {place} of a dataset of extent {dims}")
            if not node.level:
                if place <= before or number(key, 4, 4):
                    raise NotFollowedError(f"a chunk at {place} behind one at {before}, or one without its filters")
                before = place
                yield child, number(key, 0, 4)


def _fixed_array(reader: Reader, address: int, chunks: int, whole: int, *, filtered: bool) -> Iterator[tuple[int, int]]:
    """Chunks of a dataset that cannot grow, one after the other in an array of one page."""
    head = reader.read(address, 12 + reader.length_size + reader.offset_size)
    check_sum(head, "an array of chunks")
    width, bits, count = head[6], head[7], reader.length(head, 8)
    if head[:5] != b"FAHD\0" or head[5] != filtered or count != chunks or count > 1 << bits or bits > _HALF_PAGED:
        raise NotFollowedError(f"an array of {count} chunks, of {chunks}, at byte {address}")
    start = reader.offset(head, 8 + reader.length_size)
    if start == reader.undefined:
        return
    lead = 6 + reader.offset_size
    data = reader.read(start, lead + count * width + 4)
    check_sum(data, "an array of chunks")
    if data[:6] != b"FADB\0" + bytes([filtered]) or reader.offset(data, 6) != address:
        raise NotFollowedError(f"no array of chunks at byte {start}")
    sizes = width - reader.offset_size - 4
    for at in range(lead, lead + count * width, width):
        chunk = reader.offset(data, at)
        if chunk == reader.undefined:
            continue
        stored = number(data, at + reader.offset_size, sizes) if filtered else whole
        if filtered and number(data, at + reader.offset_size + sizes, 4):
            raise NotFollowedError("a chunk without its filters")
        yield chunk, stored


def check_fill_value(reader: Reader, data: bytes, kind: Datatype, *, old: bool) -> None:
    """The value that elements have before they are written: it has their size, and its text can be looked up.

    Args:
        reader: The file.
        data: Of the message.
        kind: Of the elements.
        old: Whether it is the message of the first version of the format.

    Raises:
        NotFollowedError: It has not, or cannot.
        CutError: It ends before it should.
    """
    value = _fill_value(data, kind.size, old=old)
    if value and kind.kind == _VARIABLE:
        listed(reader, kind, value)


def _fill_value(data: bytes, size: int, *, old: bool) -> bytes:
    if old:
        length, at = number(data, 0, 4), 4
    else:
        version, flags, at, length = number(data, 0, 1), number(data, 1, 1), 2, 0
        if version in {1, 2}:
            late, written, defined, at = flags, number(data, 2, 1), number(data, 3, 1), 4
            if late not in {1, 2, 3} or written > 2 or defined > 1:
                raise NotFollowedError(f"a first value with flags {late}, {written}, {defined}")
            present = version == 1 or defined == 1
        elif version == 3:
            present = bool(flags & 0x20)
            if flags & ~0x3F or not flags & 3 or flags & 0x30 == 0x30 or flags >> 2 & 3 > 2:
                raise NotFollowedError(f"a first value with flags {flags:#x}")
        else:
            raise NotFollowedError(f"version {version} of a first value")
        if present:
            length, at = number(data, at, 4), at + 4
    if at + length > len(data) or length not in {0, size}:
        raise NotFollowedError(f"a first value of {length} bytes for elements of {size}")
    return data[at : at + length]
