"""Groups of an HDF5 file: the links that lead from one object to others, however a group keeps them.

A group that is searched by name and by the order of creation has two tables of its links; both must hold the same ones,
since some readers go by one and some by the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hauberk.scan.content import CutError
from hauberk.scan.frameworks.hdf5_heaps import FractalHeap, records
from hauberk.scan.frameworks.hdf5_objects import SHARED, Kind, Message, Reader
from hauberk.scan.frameworks.hdf5_trees import LINKS, nodes
from hauberk.scan.frameworks.hdf5_values import NotFollowedError, checksum, number

_NAME_MOST = 1 << 16
_BY_NAME, _BY_ORDER, _ATTRIBUTES_BY_NAME, _ATTRIBUTES_BY_ORDER = 5, 6, 8, 9
_CACHED_GROUP, _CACHED_LINK = 1, 2


@dataclass
class Link:
    """A name in a group.

    Attributes:
        name: As it stands there.
        kind: `hard`, `soft`, `external`, or `user-defined`.
        address: Of the object's header, of a hard link.
        target: What any other link names.
    """

    name: bytes
    kind: str
    address: int = 0
    target: bytes = b""


def links_of_table(reader: Reader, message: Message) -> Iterator[Link]:
    """The links of a group that keeps them in a symbol table, in the order of their names.

    Raises:
        NotFollowedError: It is damaged.
        CutError: It ends before it should.
    """
    tree, heap = reader.offset(message.data, 0), reader.offset(message.data, reader.offset_size)
    names = _Names(reader, heap)
    before = b""
    for node in nodes(reader, tree, LINKS, reader.length_size, reader.tree_rank):
        borders = [names.get(reader.length(key, 0)) for key in node.keys] if node.children else []
        if borders != sorted(borders):
            raise NotFollowedError(f"keys out of order in the group with the tree at byte {tree}")
        for index, child in enumerate(node.children if not node.level else ()):
            for found in _entries(reader, child, names):
                if not max(before, borders[index]) < found.name <= borders[index + 1]:
                    raise NotFollowedError(f"names out of order at byte {child}")
                before = found.name
                yield found


class _Names:
    """The heap of names of a group.

    Args:
        reader: The file.
        address: Of the heap.

    Raises:
        NotFollowedError: It is damaged, or what is free in it lies outside.
    """

    def __init__(self, reader: Reader, address: int) -> None:
        sizes = reader.length_size
        head = reader.read(address, 8 + 2 * sizes + reader.offset_size)
        if head[:5] != b"HEAP\0":
            raise NotFollowedError(f"no heap of names at byte {address}")
        size, free = reader.length(head, 8), reader.length(head, 8 + sizes)
        if size > 64 << 20:
            raise NotFollowedError(f"a heap of names of {size} bytes")
        self._data = reader.read(reader.offset(head, 8 + 2 * sizes), size)
        seen = set()
        while free != 1:
            following, length = reader.length(self._data, free), reader.length(self._data, free + sizes)
            if not following or free + length > size or free in seen:
                raise NotFollowedError(f"a damaged list of free places in the heap at byte {address}")
            seen.add(free)
            free = following

    def get(self, at: int) -> bytes:
        """The name at a place.

        Raises:
            CutError: It lies outside, or does not end.
        """
        end = self._data.find(b"\0", at)
        if at >= len(self._data) or end < 0:
            raise CutError("a name lies outside the heap of names")
        return self._data[at:end]


def _entries(reader: Reader, node: int, names: _Names) -> Iterator[Link]:
    head = reader.read(node, 8)
    count = number(head, 6, 2)
    if head[:5] != b"SNOD\1" or count > 2 * reader.leaf_rank:
        raise NotFollowedError(f"no symbols at byte {node}")
    offsets = reader.offset_size
    step = 2 * offsets + 24
    data = reader.read(node + 8, 2 * reader.leaf_rank * step)
    for at in range(0, count * step, step):
        name, address = names.get(reader.offset(data, at)), reader.offset(data, at + offsets)
        cache, scratch = number(data, at + 2 * offsets, 4), at + 2 * offsets + 8
        if cache > _CACHED_LINK:
            raise NotFollowedError(f"an entry of kind {cache} at byte {node}")
        if cache == _CACHED_LINK:
            yield Link(name, "soft", 0, names.get(number(data, scratch, 4)))
            continue
        if cache == _CACHED_GROUP:
            noted = (reader.offset(data, scratch), reader.offset(data, scratch + offsets))
            if reader.cached.setdefault(address, noted) != noted:
                raise NotFollowedError(f"two notes of one group at byte {node}")
        yield Link(name, "hard", address)


def link(reader: Reader, data: bytes) -> Link:
    """Decode a link message.

    Raises:
        NotFollowedError: A version that is not followed.
        CutError: It ends before it should.
    """
    version, flags, at, kind = number(data, 0, 1), number(data, 1, 1), 2, 0
    if version != 1 or flags > 31:
        raise NotFollowedError(f"version {version} of a link")
    if flags & 8:
        kind, at = number(data, at, 1), at + 1
    at += 8 if flags & 4 else 0
    if flags & 16:
        if number(data, at, 1) > 1:
            raise NotFollowedError("a name in an unknown set of characters")
        at += 1
    width = 1 << (flags & 3)
    size, at = number(data, at, width), at + width
    name, at = data[at : at + size], at + size
    if len(name) != size or not 0 < size <= _NAME_MOST or b"\0" in name:
        raise NotFollowedError("a link without a name")
    if kind == 0:
        return Link(name, "hard", reader.offset(data, at))
    size = number(data, at, 2)
    value = data[at + 2 : at + 2 + size]
    if len(value) != size or not size:
        raise CutError("a link that leads nowhere")
    return Link(name, {1: "soft", 64: "external"}.get(kind, "user-defined"), 0, value.replace(b"\0", b" ").strip())


def dense_links(reader: Reader, message: Message) -> Iterator[Link]:
    """Links of a group with many of them, which keeps them in a heap; none where there is no heap.

    Raises:
        NotFollowedError: It is damaged, or its tables name different links.
        CutError: It ends before it should.
    """
    for identifier, record in _dense(reader, message, 8, (_BY_NAME, _BY_ORDER), 4):
        found = link(reader, identifier)
        if checksum(found.name) != number(record, 0, 4):
            raise NotFollowedError("a link that is kept under another name")
        yield found


def dense_attributes(reader: Reader, message: Message) -> Iterator[Message]:
    """Attributes of an object with many of them, as messages; none where there is no heap.

    Raises:
        NotFollowedError: It is damaged, its tables name different attributes, or one is shared by several objects.
        CutError: It ends before it should.
    """
    for data, record in _dense(reader, message, 2, (_ATTRIBUTES_BY_NAME, _ATTRIBUTES_BY_ORDER), 0):
        if record[8] & SHARED:
            raise NotFollowedError("an attribute that several objects share")
        found = Message(Kind.ATTRIBUTE, 0, data, 0)
        if checksum(reader.attribute(found).name) != number(record, 13, 4):
            raise NotFollowedError("an attribute that is kept under another name")
        yield found


def _dense(
    reader: Reader, message: Message, counted: int, kinds: tuple[int, int], lead: int
) -> Iterator[tuple[bytes, bytes]]:
    """Objects of a heap that a table names, each with its record in the table.

    Args:
        reader: The file.
        message: Says where the heap and its tables lie.
        counted: Bytes of the largest number of the order, where that is kept.
        kinds: Of the tables by name and by order.
        lead: Bytes before the identifier in a record of the table by name.
    """
    data, offsets = message.data, reader.offset_size
    version, flags = number(data, 0, 1), number(data, 1, 1)
    if version or flags > 3:
        raise NotFollowedError(f"version {version} of a list of many")
    at = 2 + (counted if flags & 1 else 0)
    heap, tree = reader.offset(data, at), reader.offset(data, at + offsets)
    if heap == reader.undefined:
        return
    objects = FractalHeap(reader, heap)
    width = 7 if lead else 8
    named = [(record[lead : lead + width], record) for record in records(reader, tree, kinds[0])]
    hashes = [record[-4:][::-1] if lead == 0 else record[3::-1] for _, record in named]
    if hashes != sorted(hashes):
        raise NotFollowedError("a table that is out of order")
    if flags & 2:
        second = 8 if lead else 0
        ordered = {
            record[second : second + width]
            for record in records(reader, reader.offset(data, at + 2 * offsets), kinds[1])
        }
        if ordered != {identifier for identifier, _ in named}:
            raise NotFollowedError("two tables of one group or object that name different things")
    for identifier, record in named:
        yield objects.get(identifier), record
