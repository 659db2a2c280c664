"""Where the members of a zip archive lie, and whether the header in front of each says what the directory says."""

from __future__ import annotations

import struct
from typing import Any

from hauberk.scan.archives import zip_rules as rules
from hauberk.scan.archives.zip_directory import (
    DESCRIPTOR,
    LARGE_FIGURES,
    LOCAL,
    Directory,
    Entry,
    check_field,
    extra_fields,
)
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.report import shown

_LOCAL = struct.Struct("<4s5H3L2H")
_FULL32 = 0xFFFFFFFF
_SETTLED_FLAGS = ~(1 << 1 | 1 << 2)  # how hard a writer tried is nobody's business
_MARK = b"PK\x07\x08"
_USUAL = struct.Struct("<4sLLL")
_DESCRIPTORS = {12: "<LLL", 16: "<4xLLL", 20: "<LQQ", 24: "<4xLQQ"}
_SMALL_DESCRIPTORS = frozenset({12, 16})
_NONE = (0, 0, 0)
_BLOCK = 1 << 22
_GROUP = 4096  # members between two looks at the time
_SEARCHED = 1 << 24  # bytes of a gap that are searched for members
_AHEAD = 80  # bytes read behind a header: torch fills up to 64, and the first bytes of the member follow
_FILLING = b"FB"  # the extra field that torch fills up with
ARRAY = b"\x93NUMPY"
"""What an array of numpy begins with."""


class Layout:
    """Headers in front of the members: each where it should be, and saying what the directory says.

    Args:
        content: The archive.
        examination: Told of everything that is wrong.
        directory: Of the archive.
        attached: Something else stands before the first member.

    Attributes:
        offsets: Where the bytes of each entry begin; -1 where no header can be read.
        arrays: Indexes of entries that begin as arrays of numpy, whose reader takes them out of any zip archive.
    """

    def __init__(
        self, content: Content, examination: Examination, directory: Directory, *, attached: bool = False
    ) -> None:
        self._content = content
        self._examination = examination
        self._end = directory.start
        entries = directory.entries
        self.offsets = [-1] * len(entries)
        self.arrays: set[int] = set()
        self._has_large_figures = False  # in front of the member before
        order = sorted(range(len(entries)), key=[entry.header for entry in entries].__getitem__)
        at = min((entry.header for entry in entries), default=directory.start) if attached else 0
        done = 0
        before: Entry | None = None
        while done < len(order):
            examination.check_time()
            at, done = self._usual(at, entries, order, done)
            before = entries[order[done - 1]] if done else None
            if done < len(order):
                index = order[done]
                at = self._member(at, before, entries[index], index)
                before = entries[index]
                done += 1
        self._between(at, directory.start, before, b"")

    def _usual(self, at: int, entries: list[Entry], order: list[int], done: int) -> tuple[int, int]:
        """Check members as `_member` does, as long as they are as most writers leave them: in one go, for speed.

        Args:
            at: Where the one before ends.
            entries: All of them.
            order: Their indexes, by where they lie.
            done: How many have been checked.

        Returns:
            Where the last that was checked ends, and how many have been.
        """
        content = self._content
        figures: bytes | None = _figures(entries[order[done - 1]]) if done else b""
        most = content.size - _AHEAD
        for index in order[done : done + _GROUP]:
            raw, _, flags, method, crc, compressed, size, place, _ = entries[index]
            gap = place - at
            behind = gap + _LOCAL.size + len(raw)
            if at + behind > most or figures is None or gap != len(figures):
                break
            read = content.read(at, behind + _AHEAD)
            fields: tuple[Any, ...] = _LOCAL.unpack_from(read, gap)
            signature, _, here, by, _, _, its_crc, its_compressed, its_size, length, extra = fields
            start: int = behind + extra
            after = at + start + compressed
            if signature != LOCAL or here != flags or by != method or length != len(raw) or after > self._end:
                break
            if not read.startswith(raw, gap + _LOCAL.size) or read[:gap] != figures or extra > _AHEAD - len(ARRAY):
                break
            if extra and (
                read[behind : behind + 2] != _FILLING or read[behind + 2] + 256 * read[behind + 3] + 4 != extra
            ):
                break
            figures = b""
            if flags & DESCRIPTOR:
                figures = _figures(entries[index])
                crc = compressed = size = 0
            if its_crc != crc or its_compressed != compressed or its_size != size:
                break
            self.offsets[index] = at + start
            if read.startswith(ARRAY, start):
                self.arrays.add(index)
            at = after
            done += 1
            self._has_large_figures = False
        return at, done

    def _member(self, at: int, before: Entry | None, entry: Entry, index: int) -> int:
        """Check one member; `at` is where the one before it ends. Returns where this one ends."""
        needed = _LOCAL.size + len(entry.raw)
        if entry.header + needed > self._end:
            what = f"'{shown(entry.name)}' lies at byte {entry.header}, behind the members"
            self._examination.find(rules.CONTRADICTION, what)
            return at
        # What may stand between is read together with the header and what stands behind it.
        first = at if at <= entry.header <= at + 24 else entry.header
        read = self._content.read(first, min(entry.header - first + needed + _AHEAD, self._content.size - first))
        header = read[entry.header - first :] if first < entry.header else read
        if entry.header > at:
            self._between(at, entry.header, before, read[: entry.header - first])
        elif entry.header == at:
            if before is not None and before.flags & DESCRIPTOR:
                self._between(at, at, before, b"")
        else:
            self._examination.find(rules.OVERLAP, f"'{shown(entry.name)}' begins before byte {at}", at=entry.header)
        self._has_large_figures = False
        fields: tuple[Any, ...] = _LOCAL.unpack_from(header)
        if fields[0] != LOCAL:
            self._examination.find(rules.CONTRADICTION, f"no header of '{shown(entry.name)}'", at=entry.header)
            return max(at, entry.header)
        length: int = _LOCAL.size + fields[9] + fields[10]
        start = entry.header + length
        self._compare(entry, fields, header)
        end = start + entry.compressed_size
        if end > self._end:
            what = f"'{shown(entry.name)}' ends at byte {end}, in the directory"
            self._examination.find(rules.OVERLAP, what, at=entry.header)
            return max(at, entry.header)
        self.offsets[index] = start
        if len(header) < length + len(ARRAY):
            header, length = self._content.read(start, min(len(ARRAY), entry.compressed_size)), 0
        if header.startswith(ARRAY, length):
            self.arrays.add(index)
        return max(at, end)

    def _compare(self, entry: Entry, fields: tuple[int, ...], header: bytes) -> None:
        """The header in front of a member against the directory."""
        _, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = fields
        extra = _LOCAL.size + name_length
        raw = header[_LOCAL.size : extra]
        if raw == entry.raw and flags == entry.flags and method == entry.method:
            figures = (crc, compressed, size)
            if figures == (_NONE if flags & DESCRIPTOR else entry[4:7]) and _is_filling(header, extra, extra_length):
                return
        if extra_length:
            where = entry.header + extra
            held = header[extra : extra + extra_length]
            if len(held) < extra_length and where + extra_length <= self._end:
                held = self._content.read(where, extra_length)
            size, compressed = self._extras(entry, size, compressed, held, where)
        differs = [f"name '{shown(raw[: len(entry.raw)])}'"] if raw != entry.raw else []
        if (flags ^ entry.flags) & _SETTLED_FLAGS:
            differs.append(f"flags {flags:#06x} for {entry.flags:#06x}")
        if method != entry.method:
            differs.append(f"method {method} for {entry.method}")
        differs += _different_figures(entry, crc, compressed, size)
        if differs:
            what = f"the header of '{shown(entry.name)}' differs from the directory: {', '.join(differs)}"
            self._examination.find(rules.CONTRADICTION, what, at=entry.header)

    def _extras(self, entry: Entry, size: int, compressed: int, extra: bytes, at: int) -> tuple[int, int]:
        """Size and compressed size, with what the extra fields of a header in front of a member say."""
        known = {0, entry.size, entry.compressed_size, entry.header}  # miniz states the place of the header here, too
        for kind, data in extra_fields(extra, at, self._examination):
            check_field(kind, data, entry.raw, at, self._examination)
            if kind == LARGE_FIGURES:
                self._has_large_figures = True
                figures = [int.from_bytes(data[place : place + 8], "little") for place in range(0, len(data) - 7, 8)]
                if len(data) % 8 or not known.issuperset(figures):
                    what = f"'{shown(entry.name)}' has large figures in front that differ: {shown(data.hex())}"
                    self._examination.find(rules.CONTRADICTION, what, at=at)
                if size == _FULL32 and figures:
                    size = figures.pop(0)
                if compressed == _FULL32 and figures:
                    compressed = figures.pop(0)
        return size, compressed

    def _between(self, at: int, end: int, before: Entry | None, gap: bytes) -> None:
        """What stands between two members: the figures of the first one, or nothing."""
        length = end - at
        if before is not None and before.flags & DESCRIPTOR:
            if length == len(gap) and _figures(before) == gap:
                return
            # Large figures behind a member that does not say so in front: readers that read on take the small ones.
            if length in (_DESCRIPTORS if self._has_large_figures else _SMALL_DESCRIPTORS):
                figures = gap or self._content.read(at, length)
                stated = struct.unpack(_DESCRIPTORS[length], figures)
                marked = length in {12, 20} or figures.startswith(_MARK)
                if not marked or stated != (before.crc, before.compressed_size, before.size):
                    what = f"the figures behind '{shown(before.name)}' differ from the directory"
                    self._examination.find(rules.CONTRADICTION, what, at=at)
                return
            if not length:
                what = f"the figures that should stand behind '{shown(before.name)}' are not there"
                self._examination.find(rules.CONTRADICTION, what, at=at)
                return
        if not length:
            return
        if before is None:
            self._examination.find(rules.SURROUNDED, f"{length} bytes before the first member", at=at)
        if self._holds_header(at, end):
            self._examination.find(rules.HIDDEN, f"in {length} bytes that belong to no member", at=at)
        else:
            self._examination.find(rules.GAP, f"{length} bytes", at=at)

    def _holds_header(self, at: int, end: int) -> bool:
        """Whether a header of a member stands in a gap, as far as gaps are searched."""
        end = min(end, at + _SEARCHED)
        while at < end:
            if LOCAL in self._content.read(at, min(_BLOCK, end - at)):
                return True
            self._examination.check_time()
            at += _BLOCK - len(LOCAL) + 1
        return False


def _figures(entry: Entry) -> bytes | None:
    """What stands behind a member by most writers; `None` where its sizes are too large for that."""
    if not entry.flags & DESCRIPTOR:
        return b""
    if entry.size > _FULL32 or entry.compressed_size > _FULL32:
        return None
    return _USUAL.pack(_MARK, entry.crc, entry.compressed_size, entry.size)


def _is_filling(header: bytes, at: int, length: int) -> bool:
    """Whether extra fields are none, or the one that torch fills up with."""
    return not length or (header.startswith(_FILLING, at) and header[at + 2] + 256 * header[at + 3] + 4 == length)


def _different_figures(entry: Entry, crc: int, compressed: int, size: int) -> list[str]:
    """What a header in front of a member says differently from the directory."""
    open_ended = bool(entry.flags & DESCRIPTOR)  # the figures stand behind the member, and here or not
    return [
        f"{what} {here} for {there}"
        for what, here, there in (
            ("CRC-32", crc, entry.crc),
            ("compressed size", compressed, entry.compressed_size),
            ("size", size, entry.size),
        )
        if here != there and not (open_ended and here == 0)
    ]
