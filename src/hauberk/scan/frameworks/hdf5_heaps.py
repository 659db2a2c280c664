"""Where HDF5 keeps what does not fit a header: texts of variable length, and groups and attributes in great numbers."""

from __future__ import annotations

from collections.abc import Iterator

from hauberk.scan.content import CutError
from hauberk.scan.frameworks.hdf5_objects import Attribute, Reader
from hauberk.scan.frameworks.hdf5_values import Datatype, NotFollowedError, check_sum, number, padded

TEXT_MOST = 64 << 20
_COLLECTION_LEAST, _COLLECTION_MOST = 4096, 1 << 30
_TEXT, _VARIABLE = 3, 9
_MANAGED, _TINY = 0, 2
_CHECKED = 2  # flag: direct blocks have checksums
_BLOCK_MOST = 4 << 20
_HEAP_MOST = 32 << 20  # bytes of blocks that are kept of one heap; the library makes blocks of 64 KiB


def texts(reader: Reader, attribute: Attribute) -> list[bytes] | None:
    """The texts that an attribute holds; lists of variable length are looked up, too, as the library does.

    Returns:
        One for each element; `None` where it holds no text.

    Raises:
        NotFollowedError: They are too long, or their heap is damaged.
        CutError: They end before they should.
    """
    kind, count = attribute.type, attribute.space.count
    if kind.kind not in {_TEXT, _VARIABLE}:
        return None
    pieces = [attribute.data[index * kind.size : (index + 1) * kind.size] for index in range(count)]
    if kind.kind == _TEXT:
        return [piece.rstrip(b"\0 ") for piece in pieces]
    found = listed(reader, kind, attribute.data[: count * kind.size])
    return found if kind.variable_text else None


def listed(reader: Reader, kind: Datatype, data: bytes) -> list[bytes]:
    """Values of variable length, from the heaps that they lie in.

    Args:
        reader: The file.
        kind: Their type.
        data: The elements, each of which says where its value lies.

    Raises:
        NotFollowedError: They are too long, or a heap is damaged.
        CutError: They end before they should.
    """
    found, total = [], 0
    for at in range(0, len(data), kind.size):
        size, address, index = (
            number(data, at, 4) * kind.part,
            reader.offset(data, at + 4),
            number(data, at + 4 + reader.offset_size, 4),
        )
        total += size
        if total > TEXT_MOST:
            raise NotFollowedError(f"texts of more than {TEXT_MOST} bytes")
        value = _global_object(reader, address, index) if size else b""
        if len(value) != size:
            raise CutError(f"{size} bytes of which the heap at byte {address} holds {len(value)}")
        found.append(value[:size])
    return found


def _global_object(reader: Reader, collection: int, wanted: int) -> bytes:
    """One object of a global heap."""
    if collection not in reader.collections:
        reader.collections[collection] = _collection(reader, collection)
    place = reader.collections[collection].get(wanted)
    if place is None:
        raise CutError(f"a text is missing from the heap at byte {collection}")
    return reader.read(place[0], min(place[1], TEXT_MOST))


def _collection(reader: Reader, address: int) -> dict[int, tuple[int, int]]:
    """Place and length of every object of a global heap; what is free comes last and takes all that is left."""
    head = reader.read(address, 8 + reader.length_size)
    size = reader.length(head, 8)
    if head[:8] != b"GCOL\1\0\0\0" or not _COLLECTION_LEAST <= size <= _COLLECTION_MOST:
        raise NotFollowedError(f"no heap of texts at byte {address}")
    reader.check_inside(address, size)
    step = 8 + reader.length_size
    at, found = padded(step), dict[int, tuple[int, int]]()
    while at + step <= size:
        entry = reader.read(address + at, step)
        index, length = number(entry, 0, 2), reader.length(entry, 8)
        if index == 0:
            if at + length != size:
                raise NotFollowedError(f"{length} free bytes in a heap of texts with {size - at} left")
            return found
        following = at + step + padded(length)
        if following > size or index in found:
            raise CutError(f"a text that does not fit the heap at byte {address}, or one of two with one number")
        found[index] = (address + at + step, length)
        at = following
    return found


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
        self._reader, self._address = reader, address
        sizes, offsets = reader.length_size, reader.offset_size
        head = reader.read(address, 26 + 12 * sizes + 3 * offsets)
        if head[:5] != b"FRHP\0" or number(head, 7, 2):
            raise NotFollowedError(f"no heap of objects at byte {address}, or a compressed one")
        check_sum(head, f"the heap at byte {address}")
        self._identifier, self._flags = number(head, 5, 2), head[9]
        largest = number(head, 10, 4)
        space = reader.offset(head, 14 + 2 * sizes + offsets)
        if space != reader.undefined:
            head_of_space = reader.read(space, 18 + 7 * sizes + offsets)
            check_sum(head_of_space, f"the free space at byte {space}")
            if head_of_space[:5] != b"FSHD\0":
                raise NotFollowedError(f"no list of free space at byte {space}")
        at = 14 + sizes + offsets + sizes + offsets + 8 * sizes
        self._width, at = number(head, at, 2), at + 2
        self._start, at = reader.length(head, at), at + sizes
        self._largest_block, at = reader.length(head, at), at + sizes
        bits, at = number(head, at, 2), at + 4
        self._root, at = reader.offset(head, at), at + offsets
        self._rows = number(head, at, 2)
        powers = all(each and not each & (each - 1) for each in (self._width, self._start, self._largest_block))
        if not 1 <= bits <= 64 or not powers or not self._start <= self._largest_block <= _BLOCK_MOST:
            raise NotFollowedError(f"a damaged heap of objects at byte {address}")
        self._offset_bytes = (bits + 7) // 8
        limit = min(self._largest_block, largest)
        self._length_bytes = max(1, (limit.bit_length() + 7) // 8)
        self._lead = 5 + offsets + self._offset_bytes
        self._direct: dict[int, bytes] = {}
        self._indirect: dict[int, bytes] = {}
        self._kept = 0

    def get(self, identifier: bytes) -> bytes:
        """The object that an identifier names.

        Raises:
            NotFollowedError: It lies outside the blocks of the heap.
            CutError: It ends before it should.
        """
        kind = identifier[0] >> 4
        if kind == _TINY:
            return identifier[1 : 1 + (identifier[0] & 15) + 1]
        if kind != _MANAGED or len(identifier) > self._identifier:
            raise NotFollowedError("a large object in a heap")
        offset = number(identifier, 1, self._offset_bytes)
        length = number(identifier, 1 + self._offset_bytes, self._length_bytes)
        data, inside = self._block(offset)
        if not length or inside < self._lead or inside + length > len(data):
            raise CutError("an object does not fit its block of a heap")
        return data[inside : inside + length]

    def _block(self, offset: int) -> tuple[bytes, int]:
        """The direct block that holds an offset of the heap, and the place in it."""
        if self._rows == 0:
            return self._direct_block(self._root, 0, self._start), offset
        at, rows, first = self._root, self._rows, 0  # first: offset of the heap at which the indirect block begins
        direct_rows = (self._largest_block // self._start).bit_length() + 1
        for _ in range(64):
            row_start, row = first, 0
            while True:
                size = self._start << max(0, row - 1)
                if offset < row_start + size * self._width:
                    break
                row_start, row = row_start + size * self._width, row + 1
                if row >= rows:
                    raise NotFollowedError("an object outside its heap")
            column = (offset - row_start) // size
            entry = self._lead + (row * self._width + column) * self._reader.offset_size
            child = self._reader.offset(self._indirect_block(at, rows, first), entry)
            begin = row_start + column * size
            if row < direct_rows:
                return self._direct_block(child, begin, size), offset - begin
            # As many rows as it takes to fill a place of this size with blocks.
            at, first, rows = child, begin, (size // (self._start * self._width)).bit_length()
        raise NotFollowedError("a heap too deep")

    def _direct_block(self, address: int, begin: int, size: int) -> bytes:
        if address not in self._direct:
            data = self._kept_block(address, size)
            self._check_block(data, b"FHDB\0", begin, address)
            if self._flags & _CHECKED:
                end = self._lead + 4
                check_sum(data[: self._lead] + bytes(4) + data[end:] + data[self._lead : end], "a block of a heap")
            self._direct[address] = data
        return self._direct[address]

    def _indirect_block(self, address: int, rows: int, begin: int) -> bytes:
        if address not in self._indirect:
            data = self._kept_block(address, self._lead + rows * self._width * self._reader.offset_size + 4)
            self._check_block(data, b"FHIB\0", begin, address)
            check_sum(data, "a table of a heap")
            self._indirect[address] = data
        return self._indirect[address]

    def _kept_block(self, address: int, size: int) -> bytes:
        """A block that is kept: blocks of a hostile heap are large, and overlap."""
        self._kept += size
        if size > _BLOCK_MOST or self._kept > _HEAP_MOST:
            raise NotFollowedError(f"a heap of objects with a block of {size} bytes, {self._kept} in all")
        return self._reader.read(address, size)

    def _check_block(self, data: bytes, mark: bytes, begin: int, address: int) -> None:
        """A block says of which heap it is, and where in it."""
        place = 5 + self._reader.offset_size
        owner, stated = self._reader.offset(data, 5), number(data, place, self._offset_bytes)
        if data[:5] != mark or owner != self._address or stated != begin:
            raise NotFollowedError(f"no block of a heap at byte {address}")


def records(reader: Reader, address: int, kind: int) -> Iterator[bytes]:
    """The records of a B-tree of version 2, in their order.

    Args:
        reader: The file.
        address: Of the tree.
        kind: Number of the kind that its records must be of.

    Raises:
        NotFollowedError: It is damaged.
        CutError: It ends before it should.
    """
    sizes, offsets = reader.length_size, reader.offset_size
    head = reader.read(address, 22 + offsets + sizes)
    if head[:5] != b"BTHD\0" or head[5] != kind:
        raise NotFollowedError(f"no tree of records at byte {address}")
    check_sum(head, f"the tree at byte {address}")
    node, record, depth = number(head, 6, 4), number(head, 10, 2), number(head, 12, 2)
    root, count = reader.offset(head, 16), number(head, 16 + offsets, 2)
    stated = reader.length(head, 18 + offsets)
    if record != _RECORDS.get(kind) or not 32 <= node <= _BLOCK_MOST or depth > 16 or head[14] > 100 or head[15] > 100:
        raise NotFollowedError(f"a damaged tree of records at byte {address}")
    tree = _Tree(reader, node, record, depth, kind)
    found = 0
    for each in tree.below(root, count, depth) if count else ():
        found += 1
        yield each
    if found != stated:
        raise NotFollowedError(f"{found} records in a tree of {stated} at byte {address}")


_RECORDS = {5: 11, 6: 15, 8: 17, 9: 13}
"""Bytes of a record: links by name and by order, attributes by name and by order."""


class _Tree:
    """Nodes of a B-tree of version 2: `node` bytes each, records of `record` bytes, `depth` levels above the leaves."""

    def __init__(self, reader: Reader, node: int, record: int, depth: int, kind: int) -> None:
        self._reader, self._node, self._record, self._kind = reader, node, record, kind
        self._most = [(node - 10) // record]  # records of a node, by its level above the leaves
        self._totals = [self._most[0]]
        self._width = (self._most[0].bit_length() + 7) // 8
        for level in range(1, depth + 1):
            pointer = self._pointer(level)
            self._most.append((node - 10 - pointer) // (record + pointer))
            self._totals.append((self._most[level] + 1) * self._totals[level - 1] + self._most[level])
        self._seen: set[int] = set()

    def _pointer(self, level: int) -> int:
        """Bytes of a child: its address, its records, and those below it where it is no leaf."""
        below = (self._totals[level - 1].bit_length() + 7) // 8 if level > 1 else 0
        return self._reader.offset_size + self._width + below

    def below(self, at: int, count: int, level: int) -> Iterator[bytes]:
        """Records of a node and what lies below it, in their order."""
        if at in self._seen or count > self._most[level]:
            raise NotFollowedError(f"a damaged tree of records at byte {at}")
        self._seen.add(at)
        pointer = self._pointer(level) if level else 0
        end = 6 + count * self._record
        data = self._reader.read(at, end + (count + 1) * pointer + 4)
        if data[:6] != (b"BTIN\0" if level else b"BTLF\0") + bytes([self._kind]):
            raise NotFollowedError(f"no node of a tree of records at byte {at}")
        check_sum(data, f"the node at byte {at}")
        for index in range(count + 1):
            if level:
                place = end + index * pointer
                child, inner = self._reader.offset(data, place), place + self._reader.offset_size
                yield from self.below(child, number(data, inner, self._width), level - 1)
            if index < count:
                yield data[6 + index * self._record : 6 + (index + 1) * self._record]
