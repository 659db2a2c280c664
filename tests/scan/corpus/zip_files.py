"""A writer of zip archives that lets every field lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
STORED, DEFLATED = 0, 8
UTF8, DESCRIPTOR = 1 << 11, 1 << 3


@dataclass(frozen=True)
class Entry:
    """A member.

    Attributes:
        name: In both headers.
        data: Unpacked.
        method: 0 or 8; others store the data as they are.
        flags: In both headers.
        attributes: External ones, of Unix in the upper half.
        extra: Extra field of the directory.
        packed: Bytes of the member in the archive, where they are not what the method makes of `data`.
        local: Fields of the header in front that differ: signature, needed, flags, method, crc, compressed, size, name,
            extra.
        central: Fields of the directory that differ: made, needed, flags, method, crc, compressed, size, name, disk,
            offset, comment.
        descriptor: Figures behind the member: `None` for none.
        behind: Bytes behind the member that belong to nothing.
        listed: Whether the directory has it.
        written: Whether it is there at all.
    """

    name: str | bytes
    data: bytes = b""
    method: int = STORED
    flags: int = 0
    attributes: int = 0
    extra: bytes = b""
    packed: bytes | None = None
    local: Mapping[str, int | bytes] = field(default_factory=dict)
    central: Mapping[str, int | bytes] = field(default_factory=dict)
    descriptor: bytes | None = None
    behind: bytes = b""
    listed: bool = True
    written: bool = True


def deflated(data: bytes) -> bytes:
    """A raw deflate stream."""
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return machine.compress(data) + machine.flush()


def archive(
    entries: Sequence[Entry],
    *,
    before: bytes = b"",
    behind: bytes = b"",
    gap: bytes = b"",
    comment: bytes = b"",
    end: Mapping[str, int] = {},
    end64: Mapping[str, int] | None = None,
) -> bytes:
    """All bytes of an archive.

    Args:
        entries: The members in order.
        before: Bytes in front; offsets count from behind them unless fields say otherwise.
        behind: Bytes behind everything.
        gap: Bytes between the members and the directory.
        comment: Of the archive.
        end: Fields of the end record that differ: disk, first, here, count, size, offset, comment.
        end64: Writes the larger end record too; fields of it that differ, and `place` of the locator.
    """
    body, directory = bytearray(before), bytearray()
    for entry in entries:
        offset = len(body)
        raw = entry.name.encode() if isinstance(entry.name, str) else entry.name
        packed = entry.packed
        if packed is None:
            packed = deflated(entry.data) if entry.method == DEFLATED else entry.data
        true = {"needed": 20, "flags": entry.flags, "method": entry.method, "crc": zlib.crc32(entry.data)}
        true |= {"compressed": len(packed), "size": len(entry.data), "name": raw, "disk": 0, "offset": offset}
        true |= {"made": 3 << 8 | 20, "comment": b"", "extra": b"", "signature": b"PK\x03\x04"}
        if entry.written:
            body += _local({**true, **entry.local}) + packed + (entry.descriptor or b"") + entry.behind
        if entry.listed:
            directory += _central({**true, "extra": entry.extra, **entry.central}, entry.attributes)
    body += gap
    count = sum(entry.listed for entry in entries)
    true_end = {"disk": 0, "first": 0, "here": count, "count": count, "size": len(directory), "offset": len(body)}
    body += directory
    if end64 is not None:
        place = len(body)
        large = {**true_end, "length": END64.size - 12, "made": 45, "needed": 45, **end64}
        order = ("length", "made", "needed", "disk", "first", "here", "count", "size", "offset")
        body += END64.pack(b"PK\x06\x06", *(large[key] for key in order))
        body += LOCATOR.pack(b"PK\x06\x07", 0, large.get("place", place), large.get("disks", 1))
    small = {**true_end, "comment": len(comment), **end}
    order = ("disk", "first", "here", "count", "size", "offset", "comment")
    return bytes(body) + END.pack(b"PK\x05\x06", *(small[key] for key in order)) + comment + behind


def _local(at: Mapping[str, int | bytes]) -> bytes:
    order = ("signature", "needed", "flags", "method")
    head = [at[key] for key in order]
    figures = [at[key] for key in ("crc", "compressed", "size")]
    return LOCAL.pack(*head, 0, 33, *figures, len(at["name"]), len(at["extra"])) + at["name"] + at["extra"]


def _central(at: Mapping[str, int | bytes], attributes: int) -> bytes:
    head = [at[key] for key in ("made", "needed", "flags", "method")]
    figures = [at[key] for key in ("crc", "compressed", "size")]
    lengths = [len(at[key]) for key in ("name", "extra", "comment")]
    tail = (at["disk"], 0, attributes, at["offset"])
    header = CENTRAL.pack(b"PK\x01\x02", *head, 0, 33, *figures, *lengths, *tail)
    return header + at["name"] + at["extra"] + at["comment"]
