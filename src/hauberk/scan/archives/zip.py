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

import re
import stat
import zlib
from functools import cached_property
from typing import NamedTuple

from hauberk.scan.archives import zip_rules as rules
from hauberk.scan.archives.names import alike, are_plain, is_ambiguous, leaves_folder
from hauberk.scan.archives.unpacked import Deflate, Unpacked, bzip2
from hauberk.scan.archives.zip_directory import (
    AES,
    BZIP2,
    DEFLATED,
    ENCRYPTED_FLAGS,
    STORED,
    Entry,
    read_directory,
)
from hauberk.scan.archives.zip_layout import Layout
from hauberk.scan.content import BytesContent, Content, CutError
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import shown

_STRONGEST = 1040  # bytes that one deflated byte can become
_BOMB_RATIO = 200
_BLOCK = 1 << 22
_SMALL = 1 << 16
_BELOW_TOP = re.compile(r"^[^/\n]*/([^/\n]+/?)", re.MULTILINE)
_NOTHING = 14  # bytes that nothing takes, compressed by any method
_FOLDER = 1 << 4  # among the attributes of DOS
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
        attached: It stands behind something else, with places counted from the beginning of that.

    Attributes:
        members: Files by name, in the order of the directory; folders are left out. Of two of one name, which is a
            finding, the last.
        arrays: Names of files that begin as arrays of numpy: its reader takes them out of any zip archive.

    Raises:
        StopScan: It has no directory that can be read; the finding is noted.
    """

    def __init__(self, content: Content, examination: Examination, *, attached: bool = False) -> None:
        self._content = content
        self._examination = examination
        self._last: tuple[str, Content] | None = None
        directory = read_directory(content, examination)
        layout = Layout(content, examination, directory, attached=attached)
        self.arrays = frozenset(directory.entries[index].name for index in layout.arrays)
        self.members: dict[str, ZipMember] = {}
        for (raw, name, flags, method, crc, compressed, size, _, _), offset in zip(
            directory.entries, layout.offsets, strict=True
        ):
            if not size and raw.endswith(b"/"):
                continue
            encrypted = bool(flags & ENCRYPTED_FLAGS) or method == AES
            self.members[name] = ZipMember(name, size, compressed, method, offset, crc, encrypted)
        _Names(examination).check(directory.entries)
        self._check_sizes()

    @cached_property
    def lower_names(self) -> str:
        """All names, each behind the end of a line, in lower case: torch's reader finds members in any case."""
        return "\n" + "\n".join(self.members).casefold()

    @cached_property
    def below_top(self) -> frozenset[str]:
        """What members are called below their topmost folder, in lower case; of those in folders there, the folder.

        That tells formats of torch from others.
        """
        return frozenset(_BELOW_TOP.findall(self.lower_names))

    def content(self, name: str) -> Content:
        """The bytes of a member, unpacked as far as they are read.

        The last one that was asked for is kept, no other: what has been unpacked would fill the memory.

        Args:
            name: Of `members`.

        Raises:
            KeyError: There is none of this name.
            StopScan: It cannot be looked into (`ZipMember.readable`); the finding has been noted.
        """
        if self._last is None or self._last[0] != name:
            self._last = (name, self._opened(self.members[name]))
        return self._last[1]

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
            self._examination.find(rules.CHECKSUM, f"'{shown(name)}': CRC-32 {total:08x}, stated is {stated:08x}")

    def _opened(self, member: ZipMember) -> Content:
        if not member.readable:
            raise StopScan
        packed = self._content.part(member.offset, member.compressed_size)
        if member.method == STORED:
            # Small ones are read at once, as many formats look at them before one recognises them.
            return packed if packed.size > _SMALL else BytesContent(packed.read(0, packed.size))
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
                    what = f"'{shown(member.name)}': {member.size} bytes, stored as {member.compressed_size}"
                    self._examination.find(rules.CONTRADICTION, what)
                continue
            packed += member.compressed_size
            unpacked += member.size
            if not member.readable and member.offset >= 0:
                self._examination.find(rules.METHOD, f"'{shown(member.name)}': method {member.method}")
            elif member.method == DEFLATED and member.size > _STRONGEST * max(1, member.compressed_size):
                what = f"'{shown(member.name)}': {member.size} bytes out of {member.compressed_size}"
                self._examination.find(rules.CONTRADICTION, what)
        if unpacked > self._examination.limits.unpacked and unpacked > _BOMB_RATIO * packed:
            self._examination.find(rules.BOMB, f"{packed} bytes unpack to {unpacked}")


class _Names:
    """What members are called, and whether two readers would call them the same."""

    def __init__(self, examination: Examination) -> None:
        self._examination = examination

    def check(self, entries: list[Entry]) -> None:
        """All names, each alone and against the others."""
        seen: set[str] = set()
        names = [entry.name for entry in entries]
        plain = are_plain(names)
        if plain and len(set(names)) == len(names) and not any(entry.attributes for entry in entries):
            return
        for count, entry in enumerate(entries):
            if not count % 4096:
                self._examination.check_time()
            name = entry.name
            if not plain or entry.attributes:
                self._check_alone(entry)
                name = name.rstrip("/")
            if name in seen:
                self._examination.find(rules.DUPLICATE, f"'{shown(name)}'")
            seen.add(name)
        for one, other in () if plain else alike(seen):
            self._examination.find(rules.ALIKE, f"'{shown(one)}' and '{shown(other)}'")

    def _check_alone(self, entry: Entry) -> None:
        name = entry.name
        kind = stat.S_IFMT(entry.attributes >> 16)
        if kind in _SPECIAL:
            self._examination.find(rules.LINK, f"'{shown(name)}' has type {kind:#o}")
        if entry.attributes & _FOLDER and not name.endswith("/"):
            # miniz, and so torch, takes it for a folder and hands out memory that nobody wrote to.
            self._examination.find(rules.CONTRADICTION, f"'{shown(name)}' is a file that is marked as a folder")
        if name.endswith("/") and (entry.size or entry.compressed_size > _NOTHING):
            what = f"'{shown(name)}' is a folder of {max(entry.size, entry.compressed_size)} bytes"
            self._examination.find(rules.CONTRADICTION, what)
        if leaves_folder(name):
            self._examination.find(rules.PATH, f"'{shown(name)}'")
        if "\0" in name:
            self._examination.find(rules.CONTRADICTION, f"'{shown(name)}': some readers end it at the zero byte")
        if is_ambiguous(name):
            self._examination.find(rules.NAME, f"'{shown(name)}'")


def open_zip(content: Content, examination: Examination, *, attached: bool = False) -> Zip:
    """A zip archive whose structure has been examined; what is cut is a finding.

    Args:
        content: All of it.
        examination: Told of everything that is wrong with it.
        attached: It stands behind something else, with places counted from the beginning of that.

    Raises:
        StopScan: It has no directory that can be read; the finding is noted.
    """
    try:
        return Zip(content, examination, attached=attached)
    except CutError as error:
        examination.find(rules.DAMAGED, str(error))
        raise StopScan from error
