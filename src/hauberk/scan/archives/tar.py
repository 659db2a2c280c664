"""Tar archives: ustar, pax and GNU, read strictly from front to end.

A tar archive has no directory: a reader that mistakes the length of one member takes that member's bytes for headers,
and finds members that others do not see. So numbers, checksums and the two places in which a pax archive may state a
size must be what writers write, and nothing but zeros may follow the end.

Formats: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html,
https://www.gnu.org/software/tar/manual/html_node/Standard.html.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hauberk.scan.archives import tar_rules as rules
from hauberk.scan.archives.names import alike, is_ambiguous, leaves_folder
from hauberk.scan.archives.streams import compressed_beginnings
from hauberk.scan.archives.tar_rules import TAR_RULES
from hauberk.scan.archives.torch_tar import examine_torch_tar, is_torch_tar
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.hdf5 import user_block
from hauberk.scan.overlays import HDF5_INSIDE, POLYGLOT, ZIP_BEGINNINGS, archive_end
from hauberk.scan.pickles import RULES as PICKLE_RULES
from hauberk.scan.report import shown

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_SEARCHED = 1 << 20
_LONGEST_EXTENSION = 1 << 20  # bytes of a long name, or of the records of a pax header
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_CHECKSUM = slice(148, 156)
_NUMBERS = ((100, 108), (108, 116), (116, 124), (136, 148), (329, 337), (337, 345))  # mode, owner, group, time, devices
_LARGEST_OCTAL = 0o77777777777

_REGULAR, _CONTIGUOUS = frozenset({b"0", b"\0"}), b"7"
_FOLDER, _HARD_LINK, _SYMBOLIC_LINK = b"5", b"1", b"2"
_SPECIAL = frozenset({b"3", b"4", b"6"})
_PAX, _GLOBAL, _SUN = b"x", b"g", b"X"
_LONG_NAME, _LONG_LINK = b"L", b"K"


class _Header(NamedTuple):
    """A member as its header has it, with what extended headers say."""

    at: int
    kind: bytes
    name: str
    link: str
    size: int
    offset: int


class Tar:
    """A tar archive whose structure has been examined.

    Args:
        content: All of it.
        examination: Told of everything that is wrong with it.

    Attributes:
        members: Contents of regular files by name, in order.
    """

    def __init__(self, content: Content, examination: Examination) -> None:
        self._content = content
        self._examination = examination
        self._overrides: dict[str, str] = {}
        self._defaults: dict[str, str] = {}
        self._extended = False  # the header before was one that says something of the next member
        self._names: set[str] = set()
        self._places: list[tuple[int, int]] = []
        self.members: dict[str, Content] = {}
        at: int | None = 0
        count = 0
        while at is not None:
            count += 1
            if not count % 1024:
                examination.check_time()
            if count > examination.limits.members:
                examination.find(rules.MANY, f"more than {count - 1}", at=at)
                return
            at = self._step(at)
        for one, other in alike(self._names):
            examination.find(rules.ALIKE, f"'{shown(one)}' and '{shown(other)}'")

    def _step(self, at: int) -> int | None:
        """Read the header at a place; returns where the next one is, `None` at the end."""
        left = self._content.size - at
        if left < _BLOCK:
            self._examination.find(rules.DAMAGED, f"{left} bytes where a header or the end should be", at=at)
            return None
        block = self._content.read(at, _BLOCK)
        if block == _ZEROS:
            if self._extended:
                self._examination.find(rules.DAMAGED, "an extended header of nothing", at=at)
            self._check_end(at)
            return None
        if not has_checksum(block):
            self._examination.find(rules.DAMAGED, "no header", at=at)
            return None
        for start, end in _NUMBERS:
            self._number(block[start:end], at)
        stated = self._number(block[124:136], at)
        kind = block[156:157]
        if kind in {_PAX, _GLOBAL, _SUN, _LONG_NAME, _LONG_LINK}:
            if is_ambiguous(name := self._text(block[:100], at)):
                self._examination.find(rules.NAME, f"'{shown(name)}' of an extended header", at=at)
            self._extend(kind, at, stated)
            self._extended = kind != _GLOBAL
            return at + _BLOCK + _padded(stated)
        header = self._header(block, at, kind, stated)
        self._overrides, self._extended = {}, False
        has_data = kind in _REGULAR or kind == _CONTIGUOUS or kind not in b"123456"
        size = header.size if has_data else 0
        if (not has_data and stated) or (kind == b"\0" and size and block[:100].rstrip(b"\0").endswith(b"/")):
            # Python's reader takes a file of the oldest type for a folder where the header's own name ends so.
            what = f"'{shown(header.name)}' is no file and states {stated} bytes"
            self._examination.find(rules.CONTRADICTION, what, at=at)
        if header.offset + size > self._content.size:
            self._examination.find(rules.DAMAGED, f"'{shown(header.name)}' of {size} bytes is cut", at=at)
            return None
        self._take(header, size)
        return header.offset + _padded(size)

    def _header(self, block: bytes, at: int, kind: bytes, stated: int) -> _Header:
        said = {**self._defaults, **self._overrides}
        name = self._text(block[:100], at)
        if prefix := self._text(block[345:500], at):
            if block[257:263] != b"ustar\0":
                # Not a part of the name by the format that the header claims; Python's reader takes it for one.
                self._examination.find(rules.UNFOLLOWED, f"'{shown(name)}' has something in front of its name", at=at)
            name = f"{prefix}/{name}"
        name = said.get("path", name)
        if not (self._text(block[265:297], at) + self._text(block[297:329], at)).isprintable():
            self._examination.find(rules.NAME, f"owner or group of '{shown(name)}'", at=at)
        link = said.get("linkpath", self._text(block[157:257], at))
        size = stated
        if "size" in said:
            size = int(said["size"])
            if size != stated and not (size > _LARGEST_OCTAL and stated == 0):
                what = f"'{shown(name)}' has {stated} bytes by its header and {size} by the one before it"
                self._examination.find(rules.CONTRADICTION, what, at=at)
        if any(key.startswith("GNU.sparse") for key in said):
            self._examination.find(rules.UNFOLLOWED, f"'{shown(name)}' is sparse", at=at)
        return _Header(at, kind, name, link, size, at + _BLOCK)

    def _take(self, header: _Header, size: int) -> None:
        """Check a member and keep its content."""
        name = header.name
        bare = name.rstrip("/")
        if leaves_folder(name):
            self._examination.find(rules.PATH, f"'{shown(name)}'", at=header.at)
        if is_ambiguous(name) and name != "./":
            self._examination.find(rules.NAME, f"'{shown(name)}'", at=header.at)
        if bare in self._names and header.kind != _FOLDER:
            self._examination.find(rules.DUPLICATE, f"'{shown(name)}'", at=header.at)
        self._names.add(bare)
        if header.kind in _REGULAR or header.kind == _CONTIGUOUS:
            if name.endswith("/"):
                if size:
                    self._examination.find(rules.CONTRADICTION, f"'{shown(name)}' is a folder of {size} bytes")
                return
            self.members[name] = self._content.part(header.offset, size)
            self._places.append((header.offset, header.offset + size))
        elif header.kind in {_HARD_LINK, _SYMBOLIC_LINK}:
            self._check_link(header)
        elif header.kind in _SPECIAL:
            self._examination.find(rules.SPECIAL, f"'{shown(name)}' has type {shown(header.kind)}", at=header.at)
        elif header.kind != _FOLDER:
            self._examination.find(rules.UNFOLLOWED, f"'{shown(name)}' has type '{shown(header.kind)}'", at=header.at)

    def _check_link(self, header: _Header) -> None:
        target = header.link
        if header.kind == _SYMBOLIC_LINK and not target.startswith("/"):
            folder = header.name.rstrip("/").rpartition("/")[0]
            target = f"{folder}/{target}" if folder else target
        depth = 0
        outside = leaves_folder(header.link) and ".." not in header.link
        for part in target.replace("\\", "/").split("/"):
            depth += (part not in {"", "."}) - 2 * (part == "..")
            outside = outside or depth < 0
        rule = rules.LINK_OUTSIDE if outside else rules.LINK
        self._examination.find(rule, f"'{shown(header.name)}' to '{shown(header.link)}'", at=header.at)

    def _extend(self, kind: bytes, at: int, size: int) -> None:
        """Keep what an extended header says of the next member, or of all that follow."""
        if size > min(_LONGEST_EXTENSION, self._content.size - at - _BLOCK):
            self._examination.find(rules.DAMAGED, f"an extended header of {size} bytes", at=at)
            raise StopScan
        data = self._content.read(at + _BLOCK, size)
        padding = min(_padded(size), self._content.size - at - _BLOCK) - size
        if any(self._content.read(at + _BLOCK + size, padding)):
            # GNU's reader takes a long name to the next zero byte, whatever its size.
            self._examination.find(rules.CONTRADICTION, "something behind the end of an extended header", at=at)
        if kind in {_LONG_NAME, _LONG_LINK}:
            key = "path" if kind == _LONG_NAME else "linkpath"
            if key in self._overrides:
                self._examination.find(rules.CONTRADICTION, f"a {key} is stated twice", at=at)
            self._overrides[key] = self._text(data, at)
            return
        said = self._defaults if kind == _GLOBAL else self._overrides
        for key, value in self._records(data, at):
            if key in said and kind != _GLOBAL:
                self._examination.find(rules.CONTRADICTION, f"'{shown(key, 30)}' is stated twice", at=at)
            if key == "size" and not (value.isascii() and value.isdecimal() and len(value) <= 18):
                self._examination.find(rules.CONTRADICTION, f"a size of '{shown(value, 30)}'", at=at)
                raise StopScan
            if kind == _GLOBAL and key in {"path", "linkpath", "size"}:
                self._examination.find(rules.CONTRADICTION, f"one {key} for all members", at=at)
            said[key] = value

    def _records(self, data: bytes, at: int) -> list[tuple[str, str]]:
        """Length, a space, key, an equals sign, value, a line end; one record behind the other."""
        found = []
        place = 0
        while place < len(data):
            match = re.match(rb"([1-9][0-9]{0,6}) ([^=\n]+)=", data[place : place + 300])
            length = int(match[1]) if match else 0
            record = data[place : place + length]
            if match is None or len(record) < max(length, match.end() + 1) or not record.endswith(b"\n"):
                self._examination.find(rules.CONTRADICTION, "a record of an extended header is none", at=at)
                raise StopScan
            found.append((self._text(match[2], at), self._text(record[match.end() : -1], at, whole=True)))
            place += length
        return found

    def _text(self, field: bytes, at: int, *, whole: bool = False) -> str:
        if not whole:
            field, _, rest = field.partition(b"\0")
            if rest.strip(b"\0"):
                self._examination.find(rules.NAME, f"'{shown(rest, 30)}' behind '{shown(field)}'", at=at)
        try:
            return field.decode("utf-8")
        except UnicodeDecodeError:
            self._examination.find(rules.NAME, f"'{shown(field)}' is no UTF-8", at=at)
            return field.decode("utf-8", "backslashreplace")

    def _number(self, field: bytes, at: int) -> int:
        """Octal digits, or GNU's bytes for large ones; Python's reader ends at a header where anything else stands."""
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        if match := _OCTAL.fullmatch(field):
            return int(match[1], 8)
        if not field.strip(b" \0"):
            return 0
        self._examination.find(rules.CONTRADICTION, f"the number '{shown(field)}'", at=at)
        raise StopScan

    def check_overlays(self) -> None:
        """See that what other readers find in the archive as a whole is a member, which is examined for what it is."""
        for sign in compressed_beginnings(self._content.head(16)):
            self._examination.find(POLYGLOT, f"begins as {sign}, too")
        place = archive_end(self._content)
        if place is not None and not self._is_in_archive(place):
            self._examination.find(POLYGLOT, "ends as a zip archive", at=place)
        place = user_block(self._content)
        if place and all(start != place for start, _ in self._places):
            self._examination.find(POLYGLOT, HDF5_INSIDE, at=place)

    def _is_in_archive(self, place: int) -> bool:
        """Whether a byte lies in a member that is an archive itself, and is looked at as such."""
        start = next((start for start, end in self._places if start <= place < end), None)
        if start is None:
            return False
        head = self._content.read(start, min(_BLOCK, self._content.size - start))
        return head.startswith(ZIP_BEGINNINGS) or (len(head) == _BLOCK and has_checksum(head))

    def _check_end(self, at: int) -> None:
        """Nothing but zeros from here on."""
        start = at
        while at < self._content.size:
            piece = self._content.read(at, min(_SEARCHED, self._content.size - at))
            if piece.count(0) != len(piece):
                self._examination.find(rules.TRAILING, f"{self._content.size - start} bytes are no padding", at=start)
                return
            self._examination.check_time()
            at += len(piece)
        if self._content.size - start < 2 * _BLOCK:
            self._examination.find(rules.DAMAGED, "one block of zeros at the end instead of two", at=start)


def has_checksum(block: bytes) -> bool:
    """Whether a block is the header of a member for any reader (some take bytes as signed)."""
    match = _OCTAL.fullmatch(block[_CHECKSUM])
    if match is None:
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    return int(match[1], 8) in {unsigned, unsigned - 256 * sum(byte > 127 for byte in rest)}


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _recognise(head: bytes, content: Content) -> bool:
    # The checksum decides, as for Python's reader, which does not look at the magic bytes.
    return content.size >= _BLOCK and not head.startswith(b"\0") and has_checksum(content.read(0, _BLOCK))


def _examine(content: Content, examination: Examination) -> str:
    archive = Tar(content, examination)
    archive.check_overlays()
    examination.facts["members"] = len(archive.members)
    if is_torch_tar(archive.members):
        examine_torch_tar(archive.members, examination)
        return "torch-legacy-tar"
    if not archive.members:
        examination.find(rules.EMPTY, "no files")
    for name, member in archive.members.items():
        examination.check_time()
        if member.size:
            examination.examine(member, shown(name))
    return "tar"


FORMATS = (Format("tar", _recognise, _examine, (*TAR_RULES, *PICKLE_RULES)),)
