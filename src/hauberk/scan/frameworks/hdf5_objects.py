"""The structure of an HDF5 file: its superblock, the headers of its objects, and their attributes.

Only headers are read, never the elements of a dataset. Every address, count, size and checksum of the file is checked
before it is used. What is not followed here raises `NotFollowedError`.

Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (HDF5 File Format Specification 3.0).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.frameworks.hdf5_values import (
    Dataspace,
    Datatype,
    NotFollowedError,
    check_sum,
    dataspace,
    datatype,
    number,
    padded,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SHARED = 2
_HEADER_BYTES_MOST = 4 << 20  # its checksum takes a second
_BLOCKS_MOST = 4096
_STEPS = 512  # between two looks at the clock; a read is one, and one more for every 2 KiB
_COMMITTED = 2
_CHUNK_RANK = 32  # children of half a node of a tree of chunks, where the superblock does not say


class Kind(IntEnum):
    """Messages of an object's header that something follows from."""

    DATASPACE = 0x01
    LINK_INFO = 0x02
    DATATYPE = 0x03
    OLD_FILL_VALUE = 0x04
    FILL_VALUE = 0x05
    LINK = 0x06
    EXTERNAL_FILES = 0x07
    LAYOUT = 0x08
    BOGUS = 0x09
    GROUP_INFO = 0x0A
    FILTERS = 0x0B
    ATTRIBUTE = 0x0C
    SHARED_TABLE = 0x0F
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11
    DRIVER = 0x14
    ATTRIBUTE_INFO = 0x15


_KINDS = frozenset(range(0x18)) - {Kind.BOGUS}
_REPEATED = frozenset({Kind.LINK, Kind.ATTRIBUTE})


@dataclass
class Message:
    """One message of an object's header: its number, its flags, its bytes, and where they lie."""

    kind: int
    flags: int
    data: bytes
    at: int


@dataclass
class Attribute:
    """A named value beside an object."""

    name: bytes
    type: Datatype
    space: Dataspace
    data: bytes


@dataclass
class Object:
    """What a header says.

    Attributes:
        address: Of the header.
        messages: All of them but continuations, in their order.
    """

    address: int
    messages: list[Message] = field(default_factory=list)


class Reader:
    """An HDF5 file.

    Args:
        content: Its bytes.
        examination: Its time limit holds.
        start: Where the superblock lies.

    Attributes:
        root: Address of the root group's header.
        leaf_rank: Half of the links that a node of a symbol table has at the most.
        tree_rank: Half of the children that a node of a tree of links has at the most.
        chunk_rank: The same of a tree of chunks.
        collections: By the address of a heap of texts, place and length of each.
        cached: By the address of a group's header, the tree and the heap of names that are noted beside a link to it.

    Raises:
        NotFollowedError: A superblock that is damaged or not followed.
        CutError: It ends before it should.
    """

    def __init__(self, content: Content, examination: Examination, start: int = 0) -> None:
        self.content = content
        self.examination = examination
        self.cached: dict[int, tuple[int, int]] = {}
        self.collections: dict[int, dict[int, tuple[int, int]]] = {}
        self._steps = 0
        self.leaf_rank, self.tree_rank, self.chunk_rank = 4, 16, _CHUNK_RANK
        self.base, self.end = 0, 0
        version = content.read(start + 8, 1)[0]
        head = content.read(start, min(128, content.size - start))
        if version in {0, 1}:
            self._superblock_0(head, version)
        elif version in {2, 3}:
            self._superblock_2(head)
        else:
            raise NotFollowedError(f"version {version} of the superblock")
        if self.base not in {0, start}:
            raise NotFollowedError(f"addresses count from byte {self.base}")
        self.limit = self.end - self.base
        self.base = start
        if self.end == self.undefined or content.size < start + self.limit:
            raise CutError(f"it says that it has {start + self.limit} bytes, and has {content.size}")

    def _superblock_0(self, head: bytes, version: int) -> None:
        self.offset_size, self.length_size = number(head, 13, 1), number(head, 14, 1)
        self._check_sizes()
        self.leaf_rank, self.tree_rank = number(head, 16, 2), number(head, 18, 2)
        if any(head[9:13]) or head[15] or not self.leaf_rank or not self.tree_rank:
            raise NotFollowedError("a superblock of unknown versions, or without ranks")
        if version == 1:
            self.chunk_rank = number(head, 24, 2)
        at = 24 if version == 0 else 28
        self.base, free, self.end, driver = (self.offset(head, at + index * self.offset_size) for index in range(4))
        at += 5 * self.offset_size
        self.root = self.offset(head, at)
        self.extension = self.undefined
        cache = number(head, at + self.offset_size, 4)
        if cache == 1:
            scratch = at + self.offset_size + 8
            self.cached[self.root] = (self.offset(head, scratch), self.offset(head, scratch + self.offset_size))
        if {driver, free} != {self.undefined} or cache > 1 or not self.chunk_rank or any(head[20:24]):
            raise NotFollowedError("a driver information block, a list of free space, or a root of an unknown kind")

    def _superblock_2(self, head: bytes) -> None:
        self.offset_size, self.length_size = number(head, 9, 1), number(head, 10, 1)
        self._check_sizes()
        self.base, self.extension, self.end, self.root = (
            self.offset(head, 12 + index * self.offset_size) for index in range(4)
        )
        if number(head, 11, 1):
            raise NotFollowedError("a file that somebody is still writing")
        check_sum(head[: 16 + 4 * self.offset_size], "the superblock")

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
        self._steps += 1 + (length >> 11)
        if self._steps >= _STEPS:
            self._steps = 0
            self.examination.check_time()
        self.check_inside(address, length)
        return self.content.read(self.base + address, length)

    def check_inside(self, address: int, length: int) -> None:
        """Whether something lies inside what the file says that it has.

        Raises:
            CutError: It does not.
        """
        if address == self.undefined:
            raise CutError("an address that stands for none is used")
        if address + length > self.limit:
            raise CutError(f"{length} bytes at byte {address}, beyond the end of the file")

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
        kinds = [message.kind for message in found.messages if message.kind not in _REPEATED]
        if len(set(kinds)) != len(kinds):
            raise NotFollowedError(f"a header with one message twice at byte {address}")
        return found

    def _header_1(self, found: Object) -> None:
        head = self.read(found.address, 16)
        version, count, size = head[0], number(head, 2, 2), number(head, 8, 4)
        if version != 1 or head[1] or not number(head, 4, 4):
            raise NotFollowedError(f"version {version} of an object's header at byte {found.address}, or one of no use")
        blocks, total, seen = [(found.address + 16, size)], 0, 0
        for place, length in blocks:  # grows while it is gone through
            total += length
            self._check_blocks(blocks, total, found.address)
            data = self.read(place, length)
            at = 0
            while at < length:
                kind, size, flags = number(data, at, 2), number(data, at + 2, 2), number(data, at + 4, 1)
                body = data[at + 8 : at + 8 + size]
                if len(body) != size or size % 8:
                    raise CutError(f"a message of {size} bytes does not fit the header at byte {place}")
                seen += 1
                self._message(found, blocks, Message(kind, flags, body, place + at))
                at += 8 + size
        if seen != count:
            raise NotFollowedError(f"{seen} messages in a header of {count} at byte {found.address}")

    def _header_2(self, found: Object) -> None:
        head = self.read(found.address, min(48, self.limit - found.address))
        flags = number(head, 5, 1)
        if head[4] != 2 or flags & ~0x3F:
            raise NotFollowedError(f"version {head[4]} of an object's header at byte {found.address}")
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        begin = at + width
        blocks, total = [(found.address, begin + number(head, at, width) + 4)], 0
        lead = 6 if flags & 4 else 4
        for index, (start, length) in enumerate(blocks):  # grows while it is gone through
            total += length
            self._check_blocks(blocks, total, found.address)
            data = self.read(start, length)
            if index and data[:4] != b"OCHK":
                raise NotFollowedError(f"no continuation of a header at byte {start}")
            check_sum(data, f"the header at byte {start}")
            at, end = (4 if index else begin), length - 4
            while at + lead <= end:
                kind, size, bits = data[at], number(data, at + 1, 2), data[at + 3]
                if at + lead + size > end:
                    raise CutError(f"a message of {size} bytes does not fit the header at byte {start}")
                body = data[at + lead : at + lead + size]
                self._message(found, blocks, Message(kind, bits, body, start + at))
                at += lead + size

    def _check_blocks(self, blocks: list[tuple[int, int]], total: int, address: int) -> None:
        if len(blocks) > _BLOCKS_MOST or total > _HEADER_BYTES_MOST or len(set(blocks)) != len(blocks):
            raise NotFollowedError(f"a header without end at byte {address}")

    def _message(self, found: Object, blocks: list[tuple[int, int]], message: Message) -> None:
        wrong = message.flags > 5 or (
            message.flags & SHARED and message.kind != Kind.DATATYPE
        )  # constant, shared or never shared
        if message.kind not in _KINDS or wrong:
            raise NotFollowedError(f"a message of kind {message.kind} with flags {message.flags}")
        if message.kind == Kind.CONTINUATION:
            blocks.append((self.offset(message.data, 0), self.length(message.data, self.offset_size)))
        elif message.kind:
            found.messages.append(message)

    def dataspace(self, data: bytes) -> Dataspace:
        """Decode a dataspace message; see `hdf5_values.dataspace`."""
        return dataspace(data, self.length_size)

    def datatype(self, data: bytes, *, shared: bool) -> Datatype:
        """Decode a datatype message, or find the one that it refers to.

        Args:
            data: Its bytes.
            shared: Whether the type is kept as an object of its own.

        Raises:
            NotFollowedError: It is damaged or not followed.
            CutError: It ends before it should.
        """
        if not shared:
            return datatype(data)
        version, kind = number(data, 0, 1), number(data, 1, 1)
        if version not in {1, 2, 3} or (kind != _COMMITTED if version == 3 else kind not in {0, _COMMITTED}):
            raise NotFollowedError("a type in a table that many objects share")
        found = self.object(self.offset(data, 8 if version == 1 else 2))
        kept = [message for message in found.messages if message.kind == Kind.DATATYPE and not message.flags & SHARED]
        if not kept:
            raise NotFollowedError(f"no type at byte {found.address}")
        return datatype(kept[0].data)

    def attribute(self, message: Message) -> Attribute:
        """Decode an attribute message.

        Raises:
            NotFollowedError: A version that is not followed.
            CutError: A part is shorter than it says.
        """
        data = message.data
        version, flags = number(data, 0, 1), number(data, 1, 1)
        if version not in {1, 2, 3} or flags > (1 if version > 1 else 0):
            raise NotFollowedError(f"version {version} of an attribute, or one that several objects share")
        sizes = (number(data, 2, 2), number(data, 4, 2), number(data, 6, 2))
        at = 9 if version == 3 else 8
        parts = []
        for size in sizes:
            parts.append(data[at : at + size])
            if len(parts[-1]) != size:
                raise CutError(f"an attribute at byte {message.at} does not fit its message")
            at += size if version > 1 else padded(size)
        name, end, _ = parts[0].partition(b"\0")
        if not name or not end or len(name) + 1 != sizes[0] or (version == 3 and number(data, 8, 1) > 1):
            raise NotFollowedError(f"an attribute without a name at byte {message.at}")
        kind, space = self.datatype(parts[1], shared=bool(flags)), self.dataspace(parts[2])
        if space.count * kind.size > len(data) - at:
            raise CutError(f"an attribute of {space.count} elements of {kind.size} bytes in {len(data) - at}")
        return Attribute(name, kind, space, data[at:])
