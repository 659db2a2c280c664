"""Where HDF5 keeps what does not fit a header: texts of variable length, and groups and attributes in great numbers."""

from __future__ import annotations

from collections.abc import Iterator

from hauberk.scan.content import CutError
from hauberk.scan.frameworks.hdf5_objects import Attribute, NotFollowedError, Reader, number

TEXT_MOST = 64 << 20
_COLLECTION_MOST = 1 << 30


def texts(reader: Reader, attribute: Attribute) -> list[bytes] | None:
    """The texts that an attribute holds.

    Returns:
        One for each element; `None` where it holds no text.

    Raises:
        NotFollowedError: They are too long, or their heap is damaged.
        CutError: They end before they should.
    """
    kind, count = attribute.type, attribute.space.count
    if kind is None:
        raise NotFollowedError("an attribute whose type is kept elsewhere")
    if kind.kind not in {3, 9} or (kind.kind == 9 and not kind.variable_text):
        return None
    if count * kind.size > len(attribute.data):
        raise CutError(f"an attribute says {count} elements of {kind.size} bytes and has {len(attribute.data)} bytes")
    pieces = [attribute.data[index * kind.size : (index + 1) * kind.size] for index in range(count)]
    if kind.kind == 3:
        return [piece.rstrip(b"\0 ") for piece in pieces]
    found, total = [], 0
    for piece in pieces:
        size, address, index = (
            number(piece, 0, 4),
            reader.offset(piece, 4),
            number(piece, 4 + reader.offset_size, 4),
        )
        total += size
        if total > TEXT_MOST:
            raise NotFollowedError(f"texts of more than {TEXT_MOST} bytes")
        found.append(_global_object(reader, address, index)[:size] if size else b"")
    return found


def _global_object(reader: Reader, collection: int, wanted: int) -> bytes:
    """One object of a global heap."""
    head = reader.read(collection, 8 + reader.length_size)
    size = reader.length(head, 8)
    if head[:4] != b"GCOL" or size > _COLLECTION_MOST:
        raise NotFollowedError(f"no heap of texts at byte {collection}")
    at, end = 8 + reader.length_size, size
    at = (at + 7) & ~7
    step = 8 + reader.length_size
    while at + step <= end:
        entry = reader.read(collection + at, step)
        index, length = number(entry, 0, 2), reader.length(entry, 8)
        if index == 0:
            break
        if index == wanted:
            if length > TEXT_MOST:
                raise NotFollowedError(f"a text of {length} bytes")
            return reader.read(collection + at + step, length)
        at += step + ((length + 7) & ~7)
    raise CutError(f"a text is missing from the heap at byte {collection}")


class FractalHeap:
    """A heap of small objects: the links or the attributes of one object, where there are many.

    Args:
        reader: The file.
        address: Of the heap's header.

    Raises:
        NotFollowedError: It is compressed or damaged.
        CutError: It ends before it should.
    """

    def __init__(self, reader: Reader, address: int) -> None:
        self._reader = reader
        sizes, offsets = reader.length_size, reader.offset_size
        head = reader.read(address, 22 + 12 * sizes + 3 * offsets)
        if head[:4] != b"FRHP" or head[4] != 0:
            raise NotFollowedError(f"no heap of objects at byte {address}")
        if number(head, 7, 2):
            raise NotFollowedError("a compressed heap of objects")
        self._flags = head[9]
        largest = number(head, 10, 4)
        at = 14 + sizes + offsets + sizes + offsets + 8 * sizes
        self._width, at = number(head, at, 2), at + 2
        self._start, at = reader.length(head, at), at + sizes
        self._largest_block, at = reader.length(head, at), at + sizes
        bits, at = number(head, at, 2), at + 4
        self._root, at = reader.offset(head, at), at + offsets
        self._rows = number(head, at, 2)
        if not 1 <= bits <= 64 or not self._width or not self._start or self._start & (self._start - 1):
            raise NotFollowedError(f"a damaged heap of objects at byte {address}")
        self._offset_bytes = (bits + 7) // 8
        limit = min(self._largest_block, largest)
        self._length_bytes = max(1, (limit.bit_length() + 7) // 8)

    def get(self, identifier: bytes) -> bytes:
        """The object that an identifier names.

        Raises:
            NotFollowedError: It lies outside the blocks of the heap.
            CutError: It ends before it should.
        """
        kind = identifier[0] >> 4 & 3
        if kind == 2:
            return identifier[1 : 1 + (identifier[0] & 15) + 1]
        if kind != 0:
            raise NotFollowedError("a large object in a heap")
        offset = number(identifier, 1, self._offset_bytes)
        length = number(identifier, 1 + self._offset_bytes, self._length_bytes)
        block, inside, size = self._block(offset)
        if inside + length > size:
            raise CutError("an object does not fit its block of a heap")
        return self._reader.read(block + inside, length)

    def _block(self, offset: int) -> tuple[int, int, int]:
        """Address of the direct block that holds an offset of the heap, the place in it, and its size."""
        if self._rows == 0:
            return self._root, offset, self._start
        at = self._root
        first = 0  # offset of the heap at which the indirect block begins
        direct_rows = (self._largest_block // self._start).bit_length() + 1
        lead = 5 + self._reader.offset_size + self._offset_bytes
        for _ in range(64):
            row_start, row = first, 0
            while True:
                size = self._start << max(0, row - 1)
                if offset < row_start + size * self._width:
                    break
                row_start, row = row_start + size * self._width, row + 1
                if row > 64:
                    raise NotFollowedError("an object outside its heap")
            column = (offset - row_start) // size
            entry = lead + (row * self._width + column) * self._reader.offset_size
            if self._reader.read(at, 4) != b"FHIB":
                raise NotFollowedError(f"no block of a heap at byte {at}")
            child = self._reader.offset(self._reader.read(at + entry, self._reader.offset_size), 0)
            inside = offset - row_start - column * size
            if row < direct_rows:
                return child, inside, size
            at, first = child, row_start + column * size
        raise NotFollowedError("a heap too deep")


def records(reader: Reader, address: int) -> Iterator[bytes]:
    """The records of a B-tree of version 2, in no particular order.

    Raises:
        NotFollowedError: It is damaged.
        CutError: It ends before it should.
    """
    sizes, offsets = reader.length_size, reader.offset_size
    head = reader.read(address, 16 + offsets + 2 + sizes)
    if head[:4] != b"BTHD" or head[4] != 0:
        raise NotFollowedError(f"no tree of records at byte {address}")
    node, record, depth = number(head, 6, 4), number(head, 10, 2), number(head, 12, 2)
    root, count = reader.offset(head, 16), number(head, 16 + offsets, 2)
    if not record or node < 32 or node > 1 << 24 or depth > 16:
        raise NotFollowedError(f"a damaged tree of records at byte {address}")
    most = [(node - 10) // record]  # records of a node, by its level above the leaves
    totals = [most[0]]
    width = (most[0].bit_length() + 7) // 8
    for level in range(1, depth + 1):
        pointer = offsets + width + ((totals[level - 1].bit_length() + 7) // 8 if level > 1 else 0)
        most.append((node - 10 - pointer) // (record + pointer))
        totals.append((most[level] + 1) * totals[level - 1] + most[level])
    waiting, seen = ([(root, count, depth)] if count else []), set()
    while waiting:
        at, count, level = waiting.pop()
        if at in seen or count > most[level]:
            raise NotFollowedError(f"a damaged tree of records at byte {at}")
        seen.add(at)
        data = reader.read(at, node)
        if data[:4] != (b"BTIN" if level else b"BTLF"):
            raise NotFollowedError(f"no node of a tree of records at byte {at}")
        for index in range(count):
            yield data[6 + index * record : 6 + (index + 1) * record]
        if level:
            total_width = (totals[level - 1].bit_length() + 7) // 8 if level > 1 else 0
            step, place = offsets + width + total_width, 6 + count * record
            for index in range(count + 1):
                at = place + index * step
                waiting.append((reader.offset(data, at), number(data, at + offsets, width), level - 1))
