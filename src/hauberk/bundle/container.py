"""The outer form of a bundle: a zip file in the one way that it can be written here.

Members are stored, not compressed; time stamps, flags, attributes and comments are constants; nothing lies before,
between or after the members. Reading takes names and sizes from the central directory, encodes the whole framing again
from them and from the members' bytes, and compares: a file that differs in one bit from what `pack` would write is
refused. The layout is in `docs/reference/bundle-format.md`; the fields are those of PKWARE's APPNOTE, sections 4.3.7,
4.3.12 and 4.3.16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from hauberk.errors import BundleError, InputError

SIZE_LIMIT = (1 << 31) - 1
"""The longest container, in bytes."""

MEMBER_LIMIT = 64
"""The most members."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION = 20  # 2.0, the oldest that knows folders
_MADE_BY = 3 << 8 | _VERSION  # Unix, so that the next line means a regular file with mode 0644
_ATTRIBUTES = 0o100644 << 16
_DATE = 1 << 5 | 1  # 1980-01-01, the first day that zip knows
_NAME_LIMIT = 120
_PUNCTUATION = str.maketrans("", "", "._-")


def is_plain_name(name: str) -> bool:
    """Whether a name is made of ASCII letters, digits, `.`, `_` and `-`, the first of them a letter or a digit."""
    return name.isascii() and name[:1].isalnum() and name.translate(_PUNCTUATION).isalnum()


def is_member_name(name: str) -> bool:
    """Whether a member may have that name: relative, of plain parts."""
    return len(name) <= _NAME_LIMIT and all(is_plain_name(part) for part in name.split("/"))


def pack(members: Mapping[str, bytes | memoryview]) -> bytes:
    """Write a container.

    Args:
        members: Content by name, in the order in which they are written.

    Raises:
        InputError: A name that is not safe, too many members, or more than `SIZE_LIMIT` bytes.
    """
    if len(members) > MEMBER_LIMIT or not all(is_member_name(name) for name in members):
        raise InputError(f"container: expected at most {MEMBER_LIMIT} members with plain relative names")
    pieces: list[bytes | memoryview] = []
    central = []
    offset = 0
    for name, content in members.items():
        local, entry = _framing(name, content, offset)
        pieces += (local, content)
        central.append(entry)
        offset += len(local) + len(content)
        if offset > SIZE_LIMIT:
            raise InputError(f"container: more than {SIZE_LIMIT} bytes; bundles hold models of less than 2 GiB")
    return b"".join([*pieces, _tail(central, offset)])


def unpack(container: bytes | memoryview) -> dict[str, memoryview]:
    """Take a container apart, having compared every byte that is not a member's content with what `pack` writes.

    Returns:
        Views of the members by name, in order.

    Raises:
        BundleError: It is anything but what `pack` would have written.
    """
    view = memoryview(container).cast("B")
    members: dict[str, memoryview] = {}
    central = []
    offset = 0
    for name, size in _directory(view):
        start = offset + _LOCAL.size + len(name)
        content = view[start : start + size]
        if len(content) != size:
            raise BundleError(f"container: cut off in {name}")
        if name in members:
            raise BundleError(f"container: {name} is there twice")
        local, entry = _framing(name, content, offset)
        if view[offset:start] != local:
            raise BundleError(f"container: the frame of {name} is not in canonical form, or its content was changed")
        members[name] = content
        central.append(entry)
        offset = start + size
    if view[offset:] != _tail(central, offset):
        raise BundleError("container: the directory is not in canonical form")
    return members


def _framing(name: str, content: bytes | memoryview, offset: int) -> tuple[bytes, bytes]:
    """The header before a member and its entry in the central directory."""
    text = name.encode("ascii")
    checksum, size = zlib.crc32(content), len(content)
    common = (0, 0, 0, _DATE, checksum, size, size, len(text), 0)  # no flags, stored, midnight; no extra field
    local = _LOCAL.pack(b"PK\x03\x04", _VERSION, *common) + text
    entry = _CENTRAL.pack(b"PK\x01\x02", _MADE_BY, _VERSION, *common, 0, 0, 0, _ATTRIBUTES, offset) + text
    return local, entry


def _tail(central: list[bytes], offset: int) -> bytes:
    """The central directory and its end record."""
    directory = b"".join(central)
    return directory + _END.pack(b"PK\x05\x06", 0, 0, len(central), len(central), len(directory), offset, 0)


def _directory(view: memoryview) -> list[tuple[str, int]]:
    """Names and sizes, bounded but not yet believed."""
    if len(view) > SIZE_LIMIT:
        raise BundleError(f"container: longer than {SIZE_LIMIT} bytes")
    if len(view) < _END.size:
        raise BundleError("container: this is not a bundle, or it is cut off")
    mark, _, _, _, count, _, position, _ = _END.unpack_from(view, len(view) - _END.size)
    if mark != b"PK\x05\x06" or count > MEMBER_LIMIT:
        raise BundleError("container: this is not a bundle, or it is cut off")
    entries = []
    for _ in range(count):
        if position + _CENTRAL.size > len(view):
            raise BundleError("container: the directory is cut off")
        fields = _CENTRAL.unpack_from(view, position)
        size, length = fields[9], fields[10]
        name = bytes(view[position + _CENTRAL.size : position + _CENTRAL.size + length]).decode("latin-1")
        if not is_member_name(name):
            raise BundleError("container: a member has a name that is not admitted")
        entries.append((name, size))
        position += _CENTRAL.size + length
    return entries
