"""The directory of a zip archive: the records at its end, and an entry for every member.

Readers disagree in the corners of this format: where the end is looked for, which of two sizes counts, what a name is.
So everything that is stated twice is compared, and every corner that Python's `zipfile`, miniz (which torch reads with)
and Info-ZIP are known to turn differently is a finding.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3.12 to 4.3.16, 4.5.3).
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, NoReturn

from hauberk.scan.archives import zip_rules as rules
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import Rule, shown

ENTRY = b"PK\x01\x02"
LOCAL = b"PK\x03\x04"
END = b"PK\x05\x06"

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LONGEST_COMMENT = 0xFFFF
_MOST_DIRECTORY = 64 << 20
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_NEWEST = 63  # the version of the format that Python's reader stops at
_SHOWN_COMMENT = 4096

_KNOWN_FLAGS = 1 << 11 | 1 << 3 | 1 << 2 | 1 << 1
ENCRYPTED_FLAGS = 1 << 13 | 1 << 6 | 1
UTF8 = 1 << 11
DESCRIPTOR = 1 << 3

STORED, DEFLATED, BZIP2 = 0, 8, 12
AES = 99

LARGE_FIGURES, _UNICODE_NAME, _ENCRYPTION = 0x0001, 0x7075, 0x9901
"""Extra fields, by number."""


class Entry(NamedTuple):
    """A member, as the directory has it."""

    raw: bytes
    name: str
    flags: int
    method: int
    crc: int
    compressed_size: int
    size: int
    header: int
    attributes: int


class Directory(NamedTuple):
    """Where the directory lies, and what it names."""

    start: int
    entries: list[Entry]


def read_directory(content: Content, examination: Examination) -> Directory:
    """Read the records at the end and the directory.

    Raises:
        StopScan: There is none that can be read; the finding is noted.
    """
    end, size, start, count = _end(content, examination)
    if size > min(_MOST_DIRECTORY, end) or count > examination.limits.members:
        if size > end:
            _stop(examination, rules.DAMAGED, f"a directory of {size} bytes before byte {end}", end)
        _stop(examination, rules.MANY, f"{count} members, in a directory of {size} bytes", end)
    if start + size != end:
        where = "something stands before the archive" if start + size < end else "the directory lies behind its end"
        rule = rules.SURROUNDED if start + size < end else rules.CONTRADICTION
        _stop(examination, rule, f"{where}: {size} bytes at byte {start}, their end at byte {end}", end)
    entries = _entries(content.read(start, size), start, examination)
    if len(entries) != count:
        examination.find(rules.CONTRADICTION, f"{len(entries)} members in a directory that states {count}", at=start)
    return Directory(start, entries)


def _end(content: Content, examination: Examination) -> tuple[int, int, int, int]:
    """Where the directory ends, its size and its place as stated, and how many members it states."""
    tail = content.tail(_END.size + _LONGEST_COMMENT)
    place = tail.rfind(END, 0, max(0, len(tail) - _END.size + len(END)))
    if place < 0:
        _stop(examination, rules.DAMAGED, "no end of a directory; it is cut, or something follows it", content.size)
    at = content.size - len(tail) + place
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, place)
    if at + _END.size + comment != content.size:
        over = content.size - at - _END.size - comment
        what = f"{over} bytes behind the end" if over > 0 else f"a comment that is {-over} bytes too short"
        _stop(examination, rules.SURROUNDED if over > 0 else rules.CONTRADICTION, what, at)
    _check_comment(tail[place + _END.size :], at, examination)
    end64 = _end64(content, at, examination)
    if end64 is not None:
        stated = (disk, first_disk, here, count, size, start)
        full = (_FULL16, _FULL16, _FULL16, _FULL16, _FULL32, _FULL32)
        large = end64[1:]
        if any(small not in (most, big) for small, most, big in zip(stated, full, large, strict=True)):
            examination.find(rules.CONTRADICTION, "the two records of the end state different things", at=at)
        disk, first_disk, here, count, size, start = large
    if disk or first_disk:
        _stop(examination, rules.MULTIPLE_DISKS, f"part {disk + 1}, with a directory in part {first_disk + 1}", at)
    if here != count:
        examination.find(rules.CONTRADICTION, f"{here} members of {count} in the only part", at=at)
    return (end64[0] if end64 else at), size, start, count


def _end64(content: Content, end: int, examination: Examination) -> tuple[int, int, int, int, int, int, int] | None:
    """The larger record of the end, where there is one: its place, disks, counts, size and place of the directory."""
    if end < _LOCATOR.size:
        return None
    locator, disk, place, disks = _LOCATOR.unpack(content.read(end - _LOCATOR.size, _LOCATOR.size))
    if locator != b"PK\x06\x07":
        return None
    if disk or disks != 1:
        _stop(examination, rules.MULTIPLE_DISKS, f"one of {disks} parts", end)
    expected = end - _LOCATOR.size - _END64.size
    if place != expected or expected < 0:
        # Python's reader looks right before the locator, others where it points to (CVE-2025-8291).
        _stop(examination, rules.CONTRADICTION, f"an end record at byte {place}, where {expected} is right", end)
    signature, size, _, needed, *rest = _END64.unpack(content.read(expected, _END64.size))
    if signature != b"PK\x06\x06" or size != _END64.size - 12 or needed & 0xFF > _NEWEST:
        _stop(examination, rules.CONTRADICTION, "no end record where the locator points to", expected)
    return expected, rest[0], rest[1], rest[2], rest[3], rest[4], rest[5]


def _check_comment(comment: bytes, at: int, examination: Examination) -> None:
    if not comment:
        return
    if len(comment) > _SHOWN_COMMENT or b"PK" in comment or not _is_text(comment):
        examination.find(rules.COMMENT, f"a comment of {len(comment)} bytes: '{shown(comment, 40)}'", at=at)


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)


def _entries(data: bytes, start: int, examination: Examination) -> list[Entry]:
    entries: list[Entry] = []
    at, end = 0, len(data)
    count, most = 0, examination.limits.members
    while at < end:
        if not count % 4096:
            examination.check_time()
        if count >= most:
            _stop(examination, rules.MANY, f"more than {count} members", start + at)
        count += 1
        if end - at < _ENTRY.size or not data.startswith(ENTRY, at):
            _stop(examination, rules.DAMAGED, f"no entry {count} in the directory", start + at)
        fields: tuple[Any, ...] = _ENTRY.unpack_from(data, at)
        (
            _,
            _,
            needed,
            flags,
            method,
            _,
            _,
            crc,
            compressed,
            size,
            length,
            extra,
            comment,
            disk,
            _,
            attributes,
            header,
        ) = fields
        name_end = at + _ENTRY.size + length
        extra_end = name_end + extra
        comment_end = extra_end + comment
        if comment_end > end:
            _stop(examination, rules.DAMAGED, "an entry that leaves the directory", start + at)
        raw = data[at + _ENTRY.size : name_end]
        strange = extra or disk or flags & ~_KNOWN_FLAGS or method == AES or needed > _NEWEST or not raw.isascii()
        if strange or _FULL32 in (size, compressed, header):
            entries.append(_entry(fields, raw, data[name_end:extra_end], start + at, examination))
        else:
            entries.append(Entry(raw, raw.decode("ascii"), flags, method, crc, compressed, size, header, attributes))
        if comment:
            _check_comment(data[extra_end:comment_end], start + extra_end, examination)
        at = comment_end
    return entries


def _entry(fields: tuple[int, ...], raw: bytes, extra: bytes, at: int, examination: Examination) -> Entry:
    _, _, needed, flags, method, _, _, crc, compressed, size, _, _, _, disk, _, attributes, header = fields
    name = raw.decode("ascii") if raw.isascii() else _decoded(raw, flags, at, examination)
    if disk:
        _stop(examination, rules.MULTIPLE_DISKS, f"'{shown(name)}' lies in part {disk + 1}", at)
    if needed & 0xFF > _NEWEST:
        examination.find(rules.FLAGS, f"'{shown(name)}' needs version {needed} of the format", at=at)
    if extra or _FULL32 in (size, compressed, header):
        size, compressed, header = _large(extra, (size, compressed, header), raw, at, examination)
    if flags & ENCRYPTED_FLAGS or method == AES:
        examination.find(rules.ENCRYPTED, f"'{shown(name)}'", at=at)
    elif flags & ~_KNOWN_FLAGS:
        examination.find(rules.FLAGS, f"'{shown(name)}' has flags {flags:#06x}", at=at)
    return Entry(raw, name, flags, method, crc, compressed, size, header, attributes)


def _decoded(raw: bytes, flags: int, at: int, examination: Examination) -> str:
    if not flags & UTF8:
        examination.find(rules.NAME, f"'{shown(raw)}' is of no stated encoding", at=at)
        return raw.decode("cp437")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        examination.find(rules.NAME, f"'{shown(raw)}' is no UTF-8", at=at)
        return raw.decode("utf-8", "backslashreplace")


def _large(
    extra: bytes, small: tuple[int, int, int], raw: bytes, at: int, examination: Examination
) -> tuple[int, int, int]:
    """Size, compressed size and place, the large ones from the extra field."""
    wanted = [index for index, value in enumerate(small) if value == _FULL32]
    values = list(small)
    for kind, data in extra_fields(extra, at, examination):
        if kind == LARGE_FIGURES:
            if len(data) != 8 * len(wanted):
                examination.find(
                    rules.CONTRADICTION, f"'{shown(raw)}': {len(data)} bytes for {len(wanted)} large figures", at=at
                )
            for index, place in zip(wanted, range(0, len(data) - 7, 8), strict=False):
                values[index] = int.from_bytes(data[place : place + 8], "little")
            wanted = []
        else:
            check_field(kind, data, raw, at, examination)
    if wanted:
        examination.find(rules.CONTRADICTION, f"'{shown(raw)}' is said to be large, and no figure is there", at=at)
    return values[0], values[1], values[2]


def check_field(kind: int, data: bytes, raw: bytes, at: int, examination: Examination) -> None:
    """Find an extra field that makes something else of a member for readers that know it."""
    if kind == _UNICODE_NAME and data[5:] != raw:
        examination.find(rules.NAME, f"'{shown(raw)}' is '{shown(data[5:])}' as well", at=at)
    elif kind == _ENCRYPTION:
        examination.find(rules.ENCRYPTED, f"'{shown(raw)}'", at=at)


def extra_fields(extra: bytes, at: int, examination: Examination) -> list[tuple[int, bytes]]:
    """Extra fields of a header, by number; each may stand there once."""
    found: list[tuple[int, bytes]] = []
    seen = set()
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if place + 4 + length > len(extra):
            # Python's reader refuses such a field, others ignore it.
            examination.find(rules.CONTRADICTION, f"extra field {kind:#06x} is longer than all of them", at=at)
            break
        if kind in seen and kind in {LARGE_FIGURES, _UNICODE_NAME}:
            examination.find(rules.CONTRADICTION, f"extra field {kind:#06x} occurs twice", at=at)
        seen.add(kind)
        found.append((kind, extra[place + 4 : place + 4 + length]))
        place += 4 + length
    return found


def _stop(examination: Examination, rule: Rule, what: str, at: int) -> NoReturn:
    examination.find(rule, what, at=at)
    raise StopScan
