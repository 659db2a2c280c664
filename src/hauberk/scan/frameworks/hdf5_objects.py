"""The structure of an HDF5 file: objects, their links and attributes, found without the HDF5 library.

Only headers are read, never the elements of a dataset. Every address, count and size of the file is checked before it
is used, and an object is visited once, whatever refers to it. What is not followed here raises `NotFollowedError`.

Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (HDF5 File Format Specification 3.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEADER_BYTES_MOST = 64 << 20
_BLOCKS_MOST = 4096


class NotFollowedError(Exception):
    """A structure that the specification allows and that is not followed here, or a damaged one."""


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


@dataclass
class Message:
    """One message of an object's header: its number, its flags, its bytes, and where they lie."""

    kind: int
    flags: int
    data: bytes
    at: int


@dataclass
class Dataspace:
    """Extent of a dataset or an attribute; no dimensions for a scalar, `None` for nothing at all."""

    dims: tuple[int, ...] | None

    @property
    def count(self) -> int:
        """Elements."""
        if self.dims is None:
            return 0
        count = 1
        for dim in self.dims:
            count *= dim
        return count


@dataclass
class Datatype:
    """Type of an element.

    Attributes:
        kind: Class number: 3 text of fixed length, 7 reference, 9 variable length, others as the specification has it.
        size: Bytes of an element.
        variable_text: Whether a variable length is that of a text.
    """

    kind: int
    size: int
    variable_text: bool = False


@dataclass
class Attribute:
    """A named value beside an object; `None` where the type is one that is not followed."""

    name: bytes
    type: Datatype | None
    space: Dataspace
    data: bytes


@dataclass
class Object:
    """What a header says.

    Attributes:
        address: Of the header.
        messages: All of them but continuations, in their order.
        problems: What could not be followed, in words.
    """

    address: int
    messages: list[Message] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Reader:
    """An HDF5 file.

    Args:
        content: Its bytes.
        examination: Its time limit holds.
        start: Where the superblock lies.

    Raises:
        NotFollowedError: A superblock that is not followed.
        CutError: It ends before it should.
    """

    def __init__(self, content: Content, examination: Examination, start: int = 0) -> None:
        self.content = content
        self.examination = examination
        self._steps = 0
        version = content.read(start + 8, 1)[0]
        head = content.read(start, min(128, content.size - start))
        if version in {0, 1}:
            self.offset_size, self.length_size = head[13], head[14]
            self._check_sizes()
            at = 24 if version == 0 else 28
            self.base, _, self.end, driver = (self.offset(head, at + index * self.offset_size) for index in range(4))
            self.root = self.offset(head, at + 5 * self.offset_size)
            self.extension = self.undefined
            if driver != self.undefined:
                raise NotFollowedError("a driver information block: the file may be spread over several")
        elif version in {2, 3}:
            self.offset_size, self.length_size = head[9], head[10]
            self._check_sizes()
            self.base, self.extension, self.end, self.root = (
                self.offset(head, 12 + index * self.offset_size) for index in range(4)
            )
        else:
            raise NotFollowedError(f"version {version} of the superblock")
        if self.base not in {0, start}:
            raise NotFollowedError(f"addresses count from byte {self.base}")
        self.base = start

    @property
    def undefined(self) -> int:
        """The address that stands for none."""
        return (1 << 8 * self.offset_size) - 1

    def _check_sizes(self) -> None:
        if self.offset_size not in {4, 8} or self.length_size not in {4, 8}:
            raise NotFollowedError(f"addresses of {self.offset_size} and lengths of {self.length_size} bytes")

    def read(self, address: int, length: int) -> bytes:
        """Bytes at an address of the file; every read counts against the time.

        Raises:
            CutError: There are none.
        """
        self._steps += 1
        if self._steps % 512 == 0:
            self.examination.check_time()
        if address == self.undefined:
            raise CutError("an address that stands for none is used")
        return self.content.read(self.base + address, length)

    def offset(self, data: bytes, at: int) -> int:
        """An address inside bytes that were read."""
        return number(data, at, self.offset_size)

    def length(self, data: bytes, at: int) -> int:
        """A length inside bytes that were read."""
        return number(data, at, self.length_size)

    def object(self, address: int) -> Object:
        """Read the header of an object.

        Raises:
            NotFollowedError: A version or a form that is not followed.
            CutError: It ends before it should.
        """
        found = Object(address)
        if self.read(address, 4) == b"OHDR":
            self._header_2(found)
        else:
            self._header_1(found)
        return found

    def _header_1(self, found: Object) -> None:
        head = self.read(found.address, 16)
        version, count, size = head[0], number(head, 2, 2), number(head, 8, 4)
        if version != 1:
            raise NotFollowedError(f"version {version} of an object's header at byte {found.address}")
        blocks, total, seen = [(found.address + 16, size)], 0, 0
        for place, length in blocks:  # grows while it is gone through
            total += length
            self._check_blocks(blocks, total, found.address)
            data = self.read(place, length)
            at = 0
            while at + 8 <= length and seen < count:
                kind, size, flags = number(data, at, 2), number(data, at + 2, 2), data[at + 4]
                body = data[at + 8 : at + 8 + size]
                if len(body) != size:
                    raise CutError(f"a message of {size} bytes does not fit the header at byte {place}")
                seen += 1
                self._message(found, blocks, Message(kind, flags, body, place + at))
                at += 8 + size

    def _header_2(self, found: Object) -> None:
        head = self.read(found.address, min(48, self.content.size - self.base - found.address))
        if head[4] != 2:
            raise NotFollowedError(f"version {head[4]} of an object's header at byte {found.address}")
        flags = head[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = number(head, at, width)
        blocks, total = [(found.address + at + width, size)], 0
        lead = 6 if flags & 4 else 4
        for index, (start, length) in enumerate(blocks):  # grows while it is gone through
            total += length
            self._check_blocks(blocks, total, found.address)
            data = self.read(start, length)
            place = start
            if index:
                if data[:4] != b"OCHK":
                    raise NotFollowedError(f"no continuation of a header at byte {start}")
                data, place = data[4:-4], start + 4
            at = 0
            while at + lead <= len(data):
                kind, size, bits = data[at], number(data, at + 1, 2), data[at + 3]
                body = data[at + lead : at + lead + size]
                if len(body) != size:
                    raise CutError(f"a message of {size} bytes does not fit the header at byte {start}")
                self._message(found, blocks, Message(kind, bits, body, place + at))
                at += lead + size

    def _check_blocks(self, blocks: list[tuple[int, int]], total: int, address: int) -> None:
        if len(blocks) > _BLOCKS_MOST or total > _HEADER_BYTES_MOST or len(set(blocks)) != len(blocks):
            raise NotFollowedError(f"a header without end at byte {address}")

    def _message(self, found: Object, blocks: list[tuple[int, int]], message: Message) -> None:
        if message.kind == 0x10:
            blocks.append((self.offset(message.data, 0), self.length(message.data, self.offset_size)))
        elif message.kind:
            found.messages.append(message)

    def dataspace(self, data: bytes) -> Dataspace:
        """Decode a dataspace message.

        Raises:
            NotFollowedError: A version that is not followed.
        """
        version, rank, flags = data[0], data[1], data[2]
        if version == 1:
            at = 8
        elif version == 2:
            at = 4
            if data[3] == 2:
                return Dataspace(None)
        else:
            raise NotFollowedError(f"version {version} of a dataspace")
        if flags > 3 or rank > 32:
            raise NotFollowedError(f"a dataspace of rank {rank}")
        return Dataspace(tuple(self.length(data, at + index * self.length_size) for index in range(rank)))

    def datatype(self, data: bytes) -> Datatype:
        """Decode the head of a datatype message."""
        kind = data[0] & 15
        return Datatype(kind, number(data, 4, 4), kind == 9 and data[1] & 15 == 1)

    def attribute(self, message: Message) -> Attribute:
        """Decode an attribute message.

        Raises:
            NotFollowedError: A version that is not followed.
            CutError: A part is shorter than it says.
        """
        data = message.data
        version = data[0]
        if version not in {1, 2, 3}:
            raise NotFollowedError(f"version {version} of an attribute")
        sizes = (number(data, 2, 2), number(data, 4, 2), number(data, 6, 2))
        at = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(data[at : at + size])
            if len(parts[-1]) != size:
                raise CutError(f"an attribute at byte {message.at} does not fit its message")
            at += size if version > 1 else (size + 7) & ~7
        shared = version > 1 and data[1] & 1
        if version > 1 and data[1] & 2:
            raise NotFollowedError("an attribute whose extent is kept elsewhere")
        kind = None if shared else self.datatype(parts[1])
        return Attribute(parts[0].split(b"\0")[0], kind, self.dataspace(parts[2]), data[at:])

    def links_of_table(self, message: Message) -> Iterator[Link]:
        """The links of a group that keeps them in a symbol table.

        Raises:
            NotFollowedError: It is damaged.
            CutError: It ends before it should.
        """
        tree, heap = self.offset(message.data, 0), self.offset(message.data, self.offset_size)
        head = self.read(heap, 8 + 2 * self.length_size + self.offset_size)
        if head[:4] != b"HEAP":
            raise NotFollowedError(f"no heap of names at byte {heap}")
        names = (self.offset(head, 8 + 2 * self.length_size), self.length(head, 8))
        for node in self._leaves(tree):
            yield from self._entries(node, names)

    def _leaves(self, root: int) -> Iterator[int]:
        """Addresses of the symbol nodes below a B-tree of version 1."""
        waiting, seen = [root], set[int]()
        while waiting:
            at = waiting.pop()
            if at in seen or len(seen) > 1 << 20:
                raise NotFollowedError(f"a tree that holds itself at byte {at}")
            seen.add(at)
            head = self.read(at, 8 + 2 * self.offset_size)
            if head[:4] != b"TREE" or head[4] != 0:
                raise NotFollowedError(f"no tree of a group at byte {at}")
            level, count = head[5], number(head, 6, 2)
            step = self.length_size + self.offset_size
            keys = self.read(at + len(head), count * step + self.length_size)
            children = [self.offset(keys, index * step + self.length_size) for index in range(count)]
            if level:
                waiting += children
            else:
                yield from children

    def _entries(self, node: int, names: tuple[int, int]) -> Iterator[Link]:
        head = self.read(node, 8)
        if head[:4] != b"SNOD":
            raise NotFollowedError(f"no symbols at byte {node}")
        step = 2 * self.offset_size + 24
        data = self.read(node + 8, number(head, 6, 2) * step)
        for at in range(0, len(data), step):
            name = self._heap_text(names, self.offset(data, at))
            if number(data, at + 2 * self.offset_size, 4) == 2:
                yield Link(name, "soft", 0, self._heap_text(names, number(data, at + 2 * self.offset_size + 8, 4)))
            else:
                yield Link(name, "hard", self.offset(data, at + self.offset_size))

    def _heap_text(self, names: tuple[int, int], at: int) -> bytes:
        start, size = names
        if at >= size:
            raise CutError("a name lies outside the heap of names")
        return self.read(start + at, min(size - at, 4096)).split(b"\0")[0]

    def link(self, data: bytes) -> Link:
        """Decode a link message.

        Raises:
            NotFollowedError: A version that is not followed.
        """
        if data[0] != 1:
            raise NotFollowedError(f"version {data[0]} of a link")
        flags, at, kind = data[1], 2, 0
        if flags & 8:
            kind, at = data[at], at + 1
        at += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        width = 1 << (flags & 3)
        size, at = number(data, at, width), at + width
        name, at = data[at : at + size], at + size
        if kind == 0:
            return Link(name, "hard", self.offset(data, at))
        value = data[at + 2 : at + 2 + number(data, at, 2)]
        return Link(name, {1: "soft", 64: "external"}.get(kind, "user-defined"), 0, value.replace(b"\0", b" ").strip())


def number(data: bytes, at: int, width: int) -> int:
    """An unsigned number, least significant byte first.

    Raises:
        CutError: The bytes end before it does.
    """
    piece = data[at : at + width]
    if len(piece) != width:
        raise CutError("a number does not fit")
    return int.from_bytes(piece, "little")
