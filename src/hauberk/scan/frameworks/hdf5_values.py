"""What everything in an HDF5 file is made of: numbers, checksums, types and extents, each decoded strictly.

The HDF5 library refuses what breaks these rules; a type that it knows and that nobody keeps weights in is not followed.
Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (HDF5 File Format Specification 3.0).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from itertools import pairwise

from hauberk.scan.content import CutError

_DEEPEST = 8
_MEMBERS_MOST = 1 << 12
_RANK_MOST = 32
# Places and widths of the parts of a number, and its bias: IEEE 754, bfloat16, and the long numbers of x86.
_FLOATS = {
    (2, 0, 16, 10, 5, 0, 10, 15),
    (2, 0, 16, 7, 8, 0, 7, 127),
    (4, 0, 32, 23, 8, 0, 23, 127),
    (8, 0, 64, 52, 11, 0, 52, 1023),
    (16, 0, 80, 64, 15, 0, 64, 16383),
    (16, 0, 128, 112, 15, 0, 112, 16383),
}
_INTEGER, _FLOAT, _TEXT, _BITS, _OPAQUE, _COMPOUND, _REFERENCE, _ENUM, _VARIABLE, _ARRAY = 0, 1, 3, 4, 5, 6, 7, 8, 9, 10
_FIXED_PARTS, _FLOAT_PARTS = struct.Struct("<HH"), struct.Struct("<HHBBBBI")


class NotFollowedError(Exception):
    """A structure that the specification allows and that is not followed here, or a damaged one."""


def number(data: bytes, at: int, width: int) -> int:
    """An unsigned number, least significant byte first.

    Raises:
        CutError: The bytes end before it does.
    """
    piece = data[at : at + width]
    if len(piece) != width:
        raise CutError("a number does not fit")
    return int.from_bytes(piece, "little")


def is_text(name: bytes) -> bool:
    """Whether a name is UTF-8, as readers take it."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass
class Dataspace:
    """Extent of a dataset or an attribute; no dimensions for a scalar, `None` for nothing at all."""

    dims: tuple[int, ...] | None

    @property
    def count(self) -> int:
        """Elements."""
        return 0 if self.dims is None else math.prod(self.dims)


@dataclass
class Datatype:
    """Type of an element.

    Attributes:
        kind: Class number: 3 text of fixed length, 7 reference, 9 variable length, others as the specification has it.
        size: Bytes of an element.
        variable_text: Whether a variable length is that of a text.
        part: Bytes of a part, of a variable length.
    """

    kind: int
    size: int
    variable_text: bool = False
    part: int = 0


def dataspace(data: bytes, width: int) -> Dataspace:
    """Decode a dataspace message.

    Args:
        data: Its bytes.
        width: Bytes of a length in this file.

    Raises:
        NotFollowedError: It is damaged, or of a version that is not followed.
        CutError: It ends before it should.
    """
    version, rank, flags = number(data, 0, 1), number(data, 1, 1), number(data, 2, 1)
    if version not in {1, 2} or flags > 1 or rank > _RANK_MOST:
        raise NotFollowedError(f"a dataspace of version {version}, rank {rank}, flags {flags}")
    kind = number(data, 3, 1) if version == 2 else int(rank > 0)
    if kind > 2 or (rank > 0) != (kind == 1) or (version == 1 and any(data[3:8])):
        raise NotFollowedError(f"a dataspace of kind {kind} and rank {rank}")
    if kind == 2:
        return Dataspace(None)
    at = 8 if version == 1 else 4
    dims = tuple(number(data, at + index * width, width) for index in range(rank))
    if flags and any(
        number(data, at + (rank + index) * width, width) < size for index, size in enumerate(dims)
    ):  # the number that stands for no limit is the largest one
        raise NotFollowedError(f"extent {dims} beyond what it may grow to")
    return Dataspace(dims)


def datatype(data: bytes) -> Datatype:
    """Decode a datatype message.

    Raises:
        NotFollowedError: It is damaged, or of a kind that is not followed.
        CutError: It ends before it should.
    """
    return _type(data, 0, 0)[0]


def _type(data: bytes, at: int, depth: int) -> tuple[Datatype, int]:
    """A type, and where it ends."""
    first, bits, size = number(data, at, 1), number(data, at + 1, 3), number(data, at + 4, 4)
    version, kind = first >> 4, first & 15
    if not 1 <= version <= 5 or not size or depth > _DEEPEST:
        raise NotFollowedError(f"a type of version {version} and {size} bytes, {depth} types around it")
    part = Datatype(kind, size)
    end = _plain_end(data, at + 8, bits, part)
    if end is None and kind == _COMPOUND:
        end = _compound(data, at + 8, bits, size, version, depth)
    elif end is None and kind == _ENUM:
        end = _enum(data, at + 8, bits, size, version, depth)
    elif end is None and kind == _ARRAY and version > 1:
        end = _array(data, at + 8, size, version, depth)
    elif end is None and kind == _VARIABLE and not depth and bits & 15 <= 1 and bits >> 4 & 15 <= 2 and bits >> 8 <= 1:
        inner, end = _type(data, at + 8, depth + 1)
        part = Datatype(kind, size, bits & 15 == 1, inner.size)
    if end is None:
        raise NotFollowedError(f"a type of class {kind} with bits {bits:#x}")
    return part, end


def _plain_end(data: bytes, at: int, bits: int, kind: Datatype) -> int | None:
    """Where a type ends that is made of no others; `None` for any other type."""
    if kind.kind in {_INTEGER, _BITS}:
        return _fixed(data, at, bits, kind.size)
    if kind.kind == _FLOAT:
        return _float(data, at, bits, kind.size)
    if kind.kind == _OPAQUE and bits < 256:
        return at + padded(bits)
    is_text = kind.kind == _TEXT and bits & 15 <= 2 and bits >> 4 <= 1
    is_reference = kind.kind == _REFERENCE and (bits, kind.size) in {(0, 8), (0, 4)}
    return at if is_text or is_reference else None


def padded(length: int) -> int:
    """A length with what follows it up to the next multiple of 8."""
    return (length + 7) & ~7


def _fixed(data: bytes, at: int, bits: int, size: int) -> int:
    """Whole numbers fill their bytes."""
    start, precision = _FIXED_PARTS.unpack(_piece(data, at, 4))
    if (start, precision) != (0, 8 * size) or bits & ~9:
        raise NotFollowedError(f"numbers of {precision} bits at bit {start} of {size} bytes")
    return at + 4


def _float(data: bytes, at: int, bits: int, size: int) -> int:
    """Floating-point numbers are those of processors."""
    parts = _FLOAT_PARTS.unpack(_piece(data, at, 12))
    sign = parts[0] + parts[1] - 1
    if (size, *parts) not in _FLOATS or bits & ~0xFF31 or bits >> 8 != sign or bits >> 4 & 3 > 2:
        raise NotFollowedError(f"numbers of {size} bytes with parts {parts}")
    return at + 12


def _piece(data: bytes, at: int, length: int) -> bytes:
    piece = data[at : at + length]
    if len(piece) != length:
        raise CutError("a type does not fit its message")
    return piece


def _name_end(data: bytes, at: int, version: int) -> int:
    """Behind a name, which older versions fill up to eight bytes."""
    end = data.find(b"\0", at)
    if end < 0 or end == at:
        raise NotFollowedError("a part of a type without a name")
    return end + 1 if version > 2 else at + padded(end + 1 - at)


def _compound(data: bytes, at: int, members: int, size: int, version: int, depth: int) -> int:
    """Members lie inside and apart."""
    if not 0 < members <= _MEMBERS_MOST:
        raise NotFollowedError(f"a type of {members} members")
    width = 4 if version < 3 else max(1, (size.bit_length() + 7) // 8)
    taken, names = [], set()
    for _ in range(members):
        end = _name_end(data, at, version)
        names.add(data[at:end].split(b"\0")[0])
        offset, at = number(data, end, width), end + width
        count = 1
        if version == 1:
            rank = number(data, at, 1)
            if rank > 4:
                raise NotFollowedError(f"a member of rank {rank}")
            count = math.prod(number(data, at + 12 + 4 * index, 4) for index in range(rank))
            at += 28
        part, at = _type(data, at, depth + 1)
        taken.append((offset, offset + part.size * count))
    taken.sort()
    apart = all(before[1] <= after[0] for before, after in pairwise(taken))
    if not apart or taken[-1][1] > size or len(names) != members:
        raise NotFollowedError("members that overlap, lie outside their type or have one name")
    return at


def _enum(data: bytes, at: int, members: int, size: int, version: int, depth: int) -> int:
    base, at = _type(data, at, depth + 1)
    if base.kind != _INTEGER or base.size != size or members > _MEMBERS_MOST:
        raise NotFollowedError(f"{members} names of values of {base.size} bytes, of {size}")
    for _ in range(members):
        at = _name_end(data, at, version)
    _piece(data, at, members * size)
    return at + members * size


def _array(data: bytes, at: int, size: int, version: int, depth: int) -> int:
    rank = number(data, at, 1)
    at += 4 if version < 3 else 1
    count = math.prod(number(data, at + 4 * index, 4) for index in range(rank))
    at += 4 * rank * (2 if version < 3 else 1)
    part, at = _type(data, at, depth + 1)
    if not 0 < rank <= _RANK_MOST or count * part.size != size:
        raise NotFollowedError(f"an array of {count} elements of {part.size} bytes in {size}")
    return at


def checksum(data: bytes) -> int:
    """Bob Jenkins' lookup3 (`hashlittle`, begun with 0), which guards headers of the newer versions.

    Source: https://burtleburtle.net/bob/c/lookup3.c.
    """
    most = 0xFFFFFFFF
    length = len(data)
    a = b = c = (0xDEADBEEF + length) & most
    if not length:
        return c
    whole = (length - 1) // 12
    for first, second, third in struct.iter_unpack("<3I", memoryview(data)[: 12 * whole]):
        a, b, c = (a + first) & most, (b + second) & most, (c + third) & most
        a = (a - c & most) ^ (c << 4 & most | c >> 28)
        c = c + b & most
        b = (b - a & most) ^ (a << 6 & most | a >> 26)
        a = a + c & most
        c = (c - b & most) ^ (b << 8 & most | b >> 24)
        b = b + a & most
        a = (a - c & most) ^ (c << 16 & most | c >> 16)
        c = c + b & most
        b = (b - a & most) ^ (a << 19 & most | a >> 13)
        a = a + c & most
        c = (c - b & most) ^ (b << 4 & most | b >> 28)
        b = b + a & most
    last: tuple[int, ...] = struct.unpack("<3I", data[12 * whole :].ljust(12, b"\0"))
    a, b, c = (a + last[0]) & most, (b + last[1]) & most, (c + last[2]) & most
    c = ((c ^ b) - (b << 14 & most | b >> 18)) & most
    a = ((a ^ c) - (c << 11 & most | c >> 21)) & most
    b = ((b ^ a) - (a << 25 & most | a >> 7)) & most
    c = ((c ^ b) - (b << 16 & most | b >> 16)) & most
    a = ((a ^ c) - (c << 4 & most | c >> 28)) & most
    b = ((b ^ a) - (a << 14 & most | a >> 18)) & most
    return ((c ^ b) - (b << 24 & most | b >> 8)) & most


def check_sum(data: bytes, what: str) -> None:
    """The last four bytes must be the checksum of those before.

    Raises:
        NotFollowedError: They are not.
    """
    if len(data) < 8 or checksum(data[:-4]) != number(data, len(data) - 4, 4):
        raise NotFollowedError(f"a checksum of {what} that is wrong")
