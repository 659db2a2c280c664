"""A zip archive, read so that no other reader can see a different one in the same bytes.

Python's `zipfile`, miniz (which torch reads with) and Info-ZIP look for the end, the members and their sizes in
different places and forgive different faults. This reader looks in all of these places. The directory must end where
its end record begins, the members must fill the file from its first byte to the directory, and every header in front of
a member must say what the directory says; whatever differs is a finding (see `zip_rules`).

Only headers are read: a checkpoint of 20 GB costs one small read for each of its members. So the checksum of a member
is compared when it is unpacked to its end or `Zip.check` is called, which every kind of archive does for all that a
loader interprets; the numbers of tensors that are stored as they are are not read.
"""

from __future__ import annotations

import stat
import struct
import zlib
from typing import Any, NamedTuple

from hauberk.scan.archives import zip_rules as rules
from hauberk.scan.archives.names import alike, is_ambiguous, leaves_folder
from hauberk.scan.archives.unpacked import Deflate, Unpacked, bzip2
from hauberk.scan.archives.zip_directory import (
    AES,
    BZIP2,
    DEFLATED,
    DESCRIPTOR,
    ENCRYPTED_FLAGS,
    LOCAL,
    STORED,
    Directory,
    Entry,
    extra_fields,
    read_directory,
)
from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import shown

_LOCAL = struct.Struct("<4s5H3L2H")
_FULL32 = 0xFFFFFFFF
_SETTLED_FLAGS = ~(1 << 1 | 1 << 2)  # how hard a writer tried is nobody's business
_DESCRIPTORS = {12: "<LLL", 16: "<4xLLL", 20: "<LQQ", 24: "<4xLQQ"}
_STRONGEST = 1040  # bytes that one deflated byte can become
_BOMB_RATIO = 200
_BLOCK = 1 << 22
_SEARCHED = 1 << 24  # bytes of a gap that are searched for members
_SPECIAL = frozenset({stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})


class ZipMember(NamedTuple):
    """A file in a zip archive.

    Attributes:
        name: As the directory has it.
        size: Bytes, unpacked.
        compressed_size: Bytes in the archive.
        method: Of compression: 0 stored, 8 deflated, 12 bzip2; no other one is unpacked.
        offset: Where its bytes begin in the archive; -1 where no reader would find them.
        crc: CRC-32 that it states.
        encrypted: Nobody can look inside.
    """

    name: str
    size: int
    compressed_size: int
    method: int
    offset: int
    crc: int
    encrypted: bool

    @property
    def readable(self) -> bool:
        """Whether it can be looked into; where not, that has been found already."""
        return self.offset >= 0 and self.method in {STORED, DEFLATED, BZIP2} and not self.encrypted


class Zip:
    """A zip archive whose structure has been examined.

    Args:
        content: All of it.
        examination: Told of everything that is wrong with it; counts what is unpacked.

    Attributes:
        members: Files by name, in the order of the directory; folders are left out. Of two of one name, which is a
            finding, the last.

    Raises:
        StopScan: It has no directory that can be read; the finding is noted.
    """

    def __init__(self, content: Content, examination: Examination) -> None:
        self._content = content
        self._examination = examination
        self._open: dict[str, Content] = {}
        directory = read_directory(content, examination)
        offsets = _Layout(content, examination, directory).offsets
        self.members: dict[str, ZipMember] = {}
        for index, entry in enumerate(directory.entries):
            if entry.raw.endswith(b"/") and not entry.size:
                continue
            self.members[entry.name] = ZipMember(
                entry.name,
                entry.size,
                entry.compressed_size,
                entry.method,
                offsets[index],
                entry.crc,
                bool(entry.flags & ENCRYPTED_FLAGS) or entry.method == AES,
            )
        _Names(examination).check(directory.entries)
        self._check_sizes()

    def content(self, name: str) -> Content:
        """The bytes of a member, unpacked as far as they are read.

        Args:
            name: Of `members`.

        Raises:
            KeyError: There is none of this name.
            StopScan: It cannot be looked into (`ZipMember.readable`); the finding has been noted.
        """
        if name not in self._open:
            self._open[name] = self._opened(self.members[name])
        return self._open[name]

    def check(self, name: str) -> None:
        """Read a member to its end and compare its checksum; to be called for whatever a loader interprets.

        Raises:
            KeyError: There is none of this name.
            StopScan: It cannot be looked into, or unpacks to too much; the finding is noted.
        """
        content = self.content(name)
        if isinstance(content, Unpacked):
            content.check()
            return
        total = at = 0
        while at < content.size:
            block = content.read(at, min(_BLOCK, content.size - at))
            total = zlib.crc32(block, total)
            at += len(block)
            self._examination.check_time()
        if total != self.members[name].crc:
            stated = self.members[name].crc
            self._examination.find(rules.CHECKSUM, f"{shown(name)!r}: CRC-32 {total:08x}, stated is {stated:08x}")

    def _opened(self, member: ZipMember) -> Content:
        if not member.readable:
            raise StopScan
        packed = self._content.part(member.offset, member.compressed_size)
        if member.method == STORED:
            return packed
        return Unpacked(
            packed,
            member.size,
            Deflate if member.method == DEFLATED else bzip2,
            self._examination,
            damaged=rules.CONTRADICTION,
            what=repr(shown(member.name)),
            checksum=member.crc,
            wrong=rules.CHECKSUM,
        )

    def _check_sizes(self) -> None:
        """Methods that are not followed, sizes that cannot be, and bombs."""
        packed = unpacked = 0
        for member in self.members.values():
            if member.encrypted:
                continue
            if member.method == STORED:
                if member.size != member.compressed_size:
                    what = f"{shown(member.name)!r}: {member.size} bytes, stored as {member.compressed_size}"
                    self._examination.find(rules.CONTRADICTION, what)
                continue
            packed += member.compressed_size
            unpacked += member.size
            if not member.readable and member.offset >= 0:
                self._examination.find(rules.METHOD, f"{shown(member.name)!r}: method {member.method}")
            elif member.method == DEFLATED and member.size > _STRONGEST * max(1, member.compressed_size):
                what = f"{shown(member.name)!r}: {member.size} bytes out of {member.compressed_size}"
                self._examination.find(rules.CONTRADICTION, what)
        if unpacked > self._examination.limits.unpacked and unpacked > _BOMB_RATIO * packed:
            self._examination.find(rules.BOMB, f"{packed} bytes unpack to {unpacked}")


class _Layout:
    """Headers in front of the members: each where it should be, and saying what the directory says.

    Attributes:
        offsets: Where the bytes of each entry begin; -1 where no header can be read.
    """

    def __init__(self, content: Content, examination: Examination, directory: Directory) -> None:
        self._content = content
        self._examination = examination
        self._end = directory.start
        entries = directory.entries
        self.offsets = [-1] * len(entries)
        at = 0
        before: Entry | None = None
        for count, index in enumerate(sorted(range(len(entries)), key=lambda index: entries[index].header)):
            if not count % 4096:
                examination.check_time()
            at = self._member(at, before, entries[index], index)
            before = entries[index]
        self._between(at, directory.start, before, b"")

    def _member(self, at: int, before: Entry | None, entry: Entry, index: int) -> int:
        """Check one member; `at` is where the one before it ends. Returns where this one ends."""
        needed = _LOCAL.size + len(entry.raw)
        if entry.header + needed > self._end:
            what = f"{shown(entry.name)!r} lies at byte {entry.header}, behind the members"
            self._examination.find(rules.CONTRADICTION, what)
            return at
        if at <= entry.header <= at + 24:  # what may stand between is read together with the header
            read = self._content.read(at, entry.header - at + needed)
            gap, header = read[: entry.header - at], read[entry.header - at :]
        else:
            gap, header = b"", self._content.read(entry.header, needed)
        if entry.header >= at:
            self._between(at, entry.header, before, gap)
        else:
            self._examination.find(rules.OVERLAP, f"{shown(entry.name)!r} begins before byte {at}", at=entry.header)
        fields: tuple[Any, ...] = _LOCAL.unpack_from(header)
        if fields[0] != LOCAL:
            self._examination.find(rules.CONTRADICTION, f"no header of {shown(entry.name)!r}", at=entry.header)
            return max(at, entry.header)
        start: int = entry.header + _LOCAL.size + fields[9] + fields[10]
        self._compare(entry, fields, header[_LOCAL.size :])
        if start + entry.compressed_size > self._end:
            what = f"{shown(entry.name)!r} ends at byte {start + entry.compressed_size}, in the directory"
            self._examination.find(rules.OVERLAP, what, at=entry.header)
            return max(at, entry.header)
        self.offsets[index] = start
        return max(at, start + entry.compressed_size)

    def _compare(self, entry: Entry, fields: tuple[int, ...], raw: bytes) -> None:
        """The header in front of a member against the directory."""
        _, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = fields
        differs = []
        if name_length != len(entry.raw) or raw != entry.raw:
            differs.append(f"name {shown(raw[:name_length])!r}")
        if (flags ^ entry.flags) & _SETTLED_FLAGS:
            differs.append(f"flags {flags:#06x} for {entry.flags:#06x}")
        if method != entry.method:
            differs.append(f"method {method} for {entry.method}")
        if _FULL32 in (size, compressed):
            size, compressed = self._large(entry, size, compressed, name_length, extra_length)
        open_ended = bool(entry.flags & DESCRIPTOR)  # the figures stand behind the member, and here or not
        for what, here, there in (
            ("CRC-32", crc, entry.crc),
            ("compressed size", compressed, entry.compressed_size),
            ("size", size, entry.size),
        ):
            if here != there and not (open_ended and here == 0):
                differs.append(f"{what} {here} for {there}")
        if differs:
            what = f"the header of {shown(entry.name)!r} differs from the directory: {', '.join(differs)}"
            self._examination.find(rules.CONTRADICTION, what, at=entry.header)

    def _large(self, entry: Entry, size: int, compressed: int, name_length: int, extra_length: int) -> tuple[int, int]:
        """Size and compressed size from the extra field of a header in front of a member."""
        at = entry.header + _LOCAL.size + name_length
        if at + extra_length > self._end:
            return size, compressed
        for kind, data in extra_fields(self._content.read(at, extra_length), at, self._examination):
            if kind == 0x0001:
                figures = [int.from_bytes(data[place : place + 8], "little") for place in range(0, len(data) - 7, 8)]
                if size == _FULL32 and figures:
                    size = figures.pop(0)
                if compressed == _FULL32 and figures:
                    compressed = figures.pop(0)
        return size, compressed

    def _between(self, at: int, end: int, before: Entry | None, gap: bytes) -> None:
        """What stands between two members: the figures of the first one, or nothing."""
        length = end - at
        if before is not None and before.flags & DESCRIPTOR:
            if length in _DESCRIPTORS:
                figures = gap or self._content.read(at, length)
                stated = struct.unpack(_DESCRIPTORS[length], figures)
                marked = length in {12, 20} or figures.startswith(b"PK\x07\x08")
                if not marked or stated != (before.crc, before.compressed_size, before.size):
                    what = f"the figures behind {shown(before.name)!r} differ from the directory"
                    self._examination.find(rules.CONTRADICTION, what, at=at)
                return
            if not length:
                what = f"the figures that should stand behind {shown(before.name)!r} are not there"
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


class _Names:
    """What members are called, and whether two readers would call them the same."""

    def __init__(self, examination: Examination) -> None:
        self._examination = examination

    def check(self, entries: list[Entry]) -> None:
        """All names, each alone and against the others."""
        seen: set[str] = set()
        for count, entry in enumerate(entries):
            if not count % 4096:
                self._examination.check_time()
            self._check_alone(entry)
            name = entry.name.rstrip("/")
            if name in seen:
                self._examination.find(rules.DUPLICATE, f"{shown(name)!r}")
            seen.add(name)
        for one, other in alike(seen):
            self._examination.find(rules.ALIKE, f"{shown(one)!r} and {shown(other)!r}")

    def _check_alone(self, entry: Entry) -> None:
        name = entry.name
        kind = stat.S_IFMT(entry.attributes >> 16)
        if kind in _SPECIAL:
            self._examination.find(rules.LINK, f"{shown(name)!r} has type {kind:#o}")
        if name.endswith("/") and entry.size:
            self._examination.find(rules.CONTRADICTION, f"{shown(name)!r} is a folder of {entry.size} bytes")
        if leaves_folder(name):
            self._examination.find(rules.PATH, f"{shown(name)!r}")
        if "\0" in name:
            self._examination.find(rules.CONTRADICTION, f"{shown(name)!r}: some readers end it at the zero byte")
        if is_ambiguous(name):
            self._examination.find(rules.NAME, f"{shown(name)!r}")


def open_zip(content: Content, examination: Examination) -> Zip:
    """A zip archive whose structure has been examined; what is cut is a finding.

    Raises:
        StopScan: It has no directory that can be read; the finding is noted.
    """
    try:
        return Zip(content, examination)
    except CutError as error:
        examination.find(rules.DAMAGED, str(error))
        raise StopScan from error
