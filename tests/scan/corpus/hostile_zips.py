"""Zip archives that are built to be read differently, to leave their folder, or to explode."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE, Case
from corpus.zip_files import DEFLATED, DESCRIPTOR, LOCAL, UTF8, Entry, archive, deflated

EVIL = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
"""Names os.system and would call it; never loaded."""
GOOD = b"\x80\x02]q\x00(K\x01K\x02e."
"""A list of two numbers."""
TEXT = b"Nothing to see here.\n"

_TOTAL = "https://cwe.mitre.org/data/definitions/436.html"
_PATH = "https://cwe.mitre.org/data/definitions/22.html"
_MISLEADING = "https://cwe.mitre.org/data/definitions/646.html"
_FORMAT = "https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT"
_GOOD = Entry("good.pkl", GOOD)
_CRC = zlib.crc32(GOOD)


def _large(*figures: int) -> bytes:
    data = struct.pack(f"<{len(figures)}Q", *figures)
    return struct.pack("<HH", 1, len(data)) + data


def _large_figures() -> bytes:
    """Figures of 64 bits behind a member that has those of 32 in front: who reads on takes four of their bytes each."""
    packed = deflated(TEXT)
    figures = b"PK\x07\x08" + struct.pack("<LQQ", zlib.crc32(TEXT), len(packed), len(TEXT))
    none = {"crc": 0, "compressed": 0, "size": 0}
    return archive([Entry("a", TEXT, DEFLATED, DESCRIPTOR, local=none, descriptor=figures), Entry("b", TEXT)])


def _unicode_path(name: bytes) -> bytes:
    return struct.pack("<HHBL", 0x7075, 5 + len(name), 1, 0) + name


def _local(name: bytes, data: bytes) -> bytes:
    return (
        LOCAL.pack(b"PK\x03\x04", 20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), 0) + name + data
    )


def _overlapping() -> bytes:
    """The second member of the directory is the first one's bytes."""
    inner = _local(b"inner.pkl", EVIL)
    first = Entry("outer.bin", inner)
    offset = LOCAL.size + len("outer.bin")
    second = Entry("inner.pkl", EVIL, central={"offset": offset}, written=False)
    return archive([first, second])


def _nested(depth: int) -> bytes:
    data = archive([_GOOD])
    for _ in range(depth):
        data = archive([Entry("inner.zip", data, DEFLATED)])
    return data


def _second_end() -> bytes:
    """The comment of an archive is the directory and the end of another one, whose member lies in a gap."""
    whole = archive([Entry("evil.pkl", EVIL, listed=False), _GOOD])
    at = whole.index(b"PK\x01\x02")
    other = archive([Entry("evil.pkl", EVIL)])
    other_directory = other[other.index(b"PK\x01\x02") : other.index(b"PK\x05\x06")]
    start = at + len(whole[at:])
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(other_directory), start, 0)
    comment = other_directory + end
    return whole[:-2] + struct.pack("<H", len(comment)) + comment


def _many() -> bytes:
    entries = [Entry(f"{number}", b"") for number in range(66_000)]
    return archive([*entries, Entry("last.txt", EVIL)], end={"here": 0xFFFF, "count": 0xFFFF}, end64={})


def _bomb() -> bytes:
    packed = bytes(5 << 20)
    return archive([Entry("zeros", b"", DEFLATED, packed=packed, central={"size": 5 << 29 | 0x40000000, "crc": 0},
                          local={"size": 5 << 29 | 0x40000000, "crc": 0}),
                    Entry("more", b"", DEFLATED, packed=packed, central={"size": 5 << 29, "crc": 0},
                          local={"size": 5 << 29, "crc": 0})])  # fmt: skip


_UNIX = 16
_ZIPS: tuple[tuple[str, Callable[[], bytes], frozenset[str], str], ...] = (
    ("local-name-differs", lambda: archive([Entry("a.txt", EVIL, local={"name": b"b.pkl"})]), UNSAFE, "CVE-2025-1944"),
    ("local-name-differs-only", lambda: archive([Entry("a", GOOD, local={"name": b"b"})]), UNSAFE, "CVE-2025-1944"),
    ("local-flags-differ", lambda: archive([Entry("a.pkl", GOOD, local={"flags": 1})]), UNSAFE, "CVE-2025-1945"),
    ("local-method-differs", lambda: archive([Entry("a", GOOD, local={"method": 8})]), UNSAFE, _TOTAL),
    ("local-size-differs", lambda: archive([Entry("a", GOOD, local={"size": 1})]), UNSAFE, _TOTAL),
    ("local-compressed-size-differs", lambda: archive([Entry("a", GOOD, local={"compressed": 1})]), UNSAFE, _TOTAL),
    ("local-checksum-differs", lambda: archive([Entry("a", GOOD, local={"crc": 1})]), UNSAFE, _TOTAL),
    ("local-header-missing", lambda: archive([_GOOD, Entry("a", GOOD, local={"signature": b"PK\x03\x03"})]),
     UNSAFE, _FORMAT),
    ("figures-behind-differ", lambda: archive([Entry("a", GOOD, flags=DESCRIPTOR, local={"crc": 0, "size": 0,
     "compressed": 0}, descriptor=struct.pack("<4sLLL", b"PK\x07\x08", _CRC, len(GOOD), 1))]), UNSAFE, _TOTAL),
    ("figures-behind-missing", lambda: archive([Entry("a", GOOD, flags=DESCRIPTOR, local={"crc": 0, "size": 0,
     "compressed": 0})]), UNSAFE, _TOTAL),
    ("checksum-zero", lambda: archive([Entry("a.pkl", EVIL, local={"crc": 0}, central={"crc": 0})]),
     UNSAFE, "CVE-2025-10156"),
    ("checksum-wrong", lambda: archive([Entry("a.pkl", GOOD, local={"crc": 7}, central={"crc": 7})]),
     UNSAFE, "CVE-2025-10156"),
    ("checksum-wrong-deflated", lambda: archive([Entry("a.pkl", GOOD, DEFLATED, local={"crc": 7},
     central={"crc": 7})]), UNSAFE, "CVE-2025-10156"),
    ("flag-patched", lambda: archive([Entry("a.pkl", EVIL, flags=1 << 5)]), UNSAFE, "CVE-2025-1945"),
    ("flag-reserved", lambda: archive([Entry("a.pkl", GOOD, flags=1 << 15)]), UNSAFE, "CVE-2025-1945"),
    ("version-of-the-future", lambda: archive([Entry("a.pkl", GOOD, local={"needed": 99}, central={"needed": 99})]),
     UNSAFE, _FORMAT),
    ("encrypted", lambda: archive([Entry("a.pkl", EVIL, flags=1)]), UNKNOWN, _FORMAT),
    ("encrypted-strongly", lambda: archive([Entry("a.pkl", EVIL, flags=1 << 6 | 1)]), UNKNOWN, _FORMAT),
    ("encrypted-aes", lambda: archive([Entry("a.pkl", EVIL, 99)]), UNKNOWN, _FORMAT),
    ("method-deflate64", lambda: archive([Entry("a.pkl", EVIL, 9)]), UNKNOWN, _FORMAT),
    ("method-lzma", lambda: archive([Entry("a.pkl", EVIL, 14)]), UNKNOWN, _FORMAT),
    ("method-zstandard", lambda: archive([Entry("a.pkl", EVIL, 93)]), UNKNOWN, _FORMAT),
    ("duplicate-hostile-last", lambda: archive([Entry("a", GOOD), Entry("a", EVIL)]), UNSAFE, _TOTAL),
    ("duplicate-hostile-first", lambda: archive([Entry("a", EVIL), Entry("a", GOOD)]), UNSAFE, _TOTAL),
    ("duplicate-of-same-bytes", lambda: archive([Entry("a", GOOD), Entry("a", GOOD)]), UNSAFE, _TOTAL),
    ("alike-by-case", lambda: archive([Entry("a/Data.pkl", GOOD), Entry("a/data.pkl", GOOD)]), NEVER_SAFE, _TOTAL),
    ("alike-by-composition", lambda: archive([Entry("\u00e9.pkl", GOOD, flags=UTF8),
     Entry("e\u0301.pkl", GOOD, flags=UTF8)]), NEVER_SAFE, "https://unicode.org/reports/tr15/"),
    ("alike-by-empty-parts", lambda: archive([Entry("a/b.pkl", GOOD), Entry("a//b.pkl", GOOD)]), NEVER_SAFE, _TOTAL),
    ("alike-by-space", lambda: archive([Entry("a.pkl ", GOOD), Entry("a.pkl", GOOD)]), NEVER_SAFE, _TOTAL),
    ("folder-with-hidden-bytes", lambda: archive([_GOOD, Entry("a/", b"", packed=EVIL)]), UNSAFE, _TOTAL),
    ("alike-by-dot", lambda: archive([Entry("./a.pkl", GOOD), Entry("a.pkl", GOOD)]), NEVER_SAFE, _TOTAL),
    ("hidden-between", lambda: archive([_GOOD, Entry("h.pkl", EVIL, listed=False), Entry("b", GOOD)]), UNSAFE, _TOTAL),
    ("hidden-before-the-directory", lambda: archive([_GOOD], gap=_local(b"h.pkl", EVIL)), UNSAFE, _TOTAL),
    ("hidden-at-the-front", lambda: archive([Entry("h.pkl", EVIL, listed=False), _GOOD]), UNSAFE, _TOTAL),
    ("gap", lambda: archive([_GOOD], gap=b"something else"), NEVER_SAFE, _TOTAL),
    ("overlap-inside", _overlapping, UNSAFE, "https://www.usenix.org/conference/woot19/presentation/fifield"),
    ("overlap-same-header", lambda: archive([_GOOD, Entry("good.pkl", GOOD, central={"offset": 0}, written=False)]),
     UNSAFE, "https://www.usenix.org/conference/woot19/presentation/fifield"),
    ("overlap-directory", lambda: archive([Entry("a", GOOD, local={"size": 4000, "compressed": 4000},
     central={"size": 4000, "compressed": 4000})]), UNSAFE, _TOTAL),
    ("picture-before", lambda: archive([_GOOD], before=b"\x89PNG\r\n\x1a\n"), NEVER_SAFE, _TOTAL),
    ("junk-before", lambda: b"PK\x03\x04junk" + archive([_GOOD]), NEVER_SAFE, _TOTAL),
    ("junk-behind", lambda: archive([_GOOD], behind=b"junk"), UNSAFE, _TOTAL),
    ("archive-behind-archive", lambda: archive([_GOOD]) + archive([Entry("a.pkl", EVIL)]), UNSAFE, _TOTAL),
    ("archive-behind-archive-counted", lambda: archive([Entry("a.pkl", EVIL)], before=archive([_GOOD])),
     UNSAFE, _TOTAL),
    ("second-end-in-comment", _second_end, NEVER_SAFE, _TOTAL),
    ("comment-with-signature", lambda: archive([_GOOD], comment=b"xPK\x05\x06x"), NEVER_SAFE, _TOTAL),
    ("comment-of-bytes", lambda: archive([_GOOD], comment=bytes(range(200))), NEVER_SAFE, _FORMAT),
    ("comment-too-short", lambda: archive([_GOOD], end={"comment": 5}), UNSAFE, _FORMAT),
    ("large-end-elsewhere", lambda: archive([_GOOD], end64={"place": 0}), UNSAFE, "CVE-2025-8291"),
    ("large-end-differs", lambda: archive([_GOOD, Entry("b", GOOD)], end={"count": 1, "here": 1}, end64={}),
     UNSAFE, "CVE-2025-8291"),
    ("large-end-of-another-length", lambda: archive([_GOOD], end64={"length": 99}), UNSAFE, _FORMAT),
    ("large-size-missing", lambda: archive([Entry("a", GOOD, central={"size": 0xFFFFFFFF})]), UNSAFE, _FORMAT),
    ("large-figures-of-another-count", lambda: archive([Entry("a", GOOD, extra=_large(len(GOOD)))]), UNSAFE, _FORMAT),
    ("large-figures-twice", lambda: archive([Entry("a", GOOD, central={"size": 0xFFFFFFFF},
     extra=_large(len(GOOD)) + _large(1))]), UNSAFE, _FORMAT),
    ("extra-field-cut", lambda: archive([Entry("a", GOOD, extra=b"\x09\x00\xff\x00ab")]), UNSAFE, _FORMAT),
    ("large-end-of-no-disk", lambda: archive([_GOOD], end64={"disks": 0}), NEVER_SAFE, _FORMAT),
    ("several-disks", lambda: archive([_GOOD], end={"disk": 1, "first": 1}), UNKNOWN, _FORMAT),
    ("member-on-another-disk", lambda: archive([Entry("a", GOOD, central={"disk": 2})]), UNKNOWN, _FORMAT),
    ("path-up", lambda: archive([Entry("../../evil.so", TEXT)]), UNSAFE, _PATH),
    ("path-up-inside", lambda: archive([Entry("a/../../b", TEXT)]), UNSAFE, _PATH),
    ("path-absolute", lambda: archive([Entry("/etc/profile", TEXT)]), UNSAFE, _PATH),
    ("path-drive", lambda: archive([Entry("C:evil", TEXT)]), UNSAFE, _PATH),
    ("path-backslashes", lambda: archive([Entry("..\\..\\evil", TEXT)]), UNSAFE, _PATH),
    ("name-backslash", lambda: archive([Entry("a\\b", TEXT)]), NEVER_SAFE, _FORMAT),
    ("name-zero-byte", lambda: archive([Entry("a.txt\0.pkl", TEXT)]), UNSAFE, _FORMAT),
    ("name-control-characters", lambda: archive([Entry("a\x1b[2Jb", TEXT)]), NEVER_SAFE, _FORMAT),
    ("name-right-to-left", lambda: archive([Entry("a\u202egnp.pkl", TEXT, flags=UTF8)]), NEVER_SAFE, "CVE-2021-42574"),
    ("name-empty", lambda: archive([Entry("", TEXT)]), NEVER_SAFE, _FORMAT),
    ("name-of-no-encoding", lambda: archive([Entry(b"\x81\x82", TEXT)]), NEVER_SAFE, _FORMAT),
    ("name-no-utf8", lambda: archive([Entry(b"\xff\xfe", TEXT, flags=UTF8)]), NEVER_SAFE, _FORMAT),
    ("name-in-two-forms", lambda: archive([Entry("a.txt", TEXT, extra=_unicode_path(b"b.pkl"))]), NEVER_SAFE, _FORMAT),
    ("name-in-two-forms-in-front", lambda: archive([Entry("a.txt", TEXT, local={"extra": _unicode_path(b"b.pkl")})]),
     NEVER_SAFE, _FORMAT),
    ("encrypted-in-front", lambda: archive([Entry("a.txt", TEXT, local={"extra": b"\x01\x99\x07\0\x02\0AE\x03\0\0"})]),
     NEVER_SAFE, _FORMAT),
    ("extra-field-cut-in-front", lambda: archive([Entry("a.txt", TEXT, local={"extra": b"\x01\0\xff\xff\0"})]),
     NEVER_SAFE, _FORMAT),
    ("large-figures-in-front-differ", lambda: archive([Entry("a.txt", TEXT, local={"extra": struct.pack("<HHQQ", 1, 16,
     99, 99)})]), UNSAFE, _TOTAL),
    ("large-figures-behind-a-small-member", _large_figures, NEVER_SAFE, _TOTAL),
    ("link", lambda: archive([Entry("a", b"/etc/passwd", attributes=(stat.S_IFLNK | 0o777) << _UNIX)]),
     UNSAFE, "https://cwe.mitre.org/data/definitions/59.html"),
    ("device", lambda: archive([Entry("a", attributes=(stat.S_IFBLK | 0o666) << _UNIX)]), UNSAFE, _FORMAT),
    ("file-marked-as-folder", lambda: archive([Entry("a", GOOD, attributes=1 << 4)]), UNSAFE, _TOTAL),
    ("folder-with-bytes", lambda: archive([Entry("a/", EVIL)]), UNSAFE, _FORMAT),
    ("bomb", _bomb, UNSAFE, "https://cwe.mitre.org/data/definitions/409.html"),
    ("size-impossible", lambda: archive([Entry("a", b"", DEFLATED, packed=deflated(GOOD), central={"size": 1 << 30},
     local={"size": 1 << 30})]), UNSAFE, _FORMAT),
    ("size-too-small", lambda: archive([Entry("a.pkl", GOOD + EVIL, DEFLATED, central={"size": len(GOOD),
     "crc": _CRC}, local={"size": len(GOOD), "crc": _CRC})]), UNSAFE, _TOTAL),
    ("size-too-large", lambda: archive([Entry("a.pkl", GOOD, DEFLATED, central={"size": 99}, local={"size": 99})]),
     UNSAFE, _TOTAL),
    ("stored-in-two-sizes", lambda: archive([Entry("a.pkl", GOOD, central={"size": 3}, local={"size": 3})]),
     UNSAFE, _TOTAL),
    ("bytes-behind-deflated", lambda: archive([Entry("a.pkl", GOOD, DEFLATED, packed=deflated(GOOD) + EVIL)]),
     UNSAFE, _TOTAL),
    ("deflated-cut", lambda: archive([Entry("a.pkl", GOOD, DEFLATED, packed=deflated(GOOD)[:-3])]),
     NEVER_SAFE, _FORMAT),
    ("deflated-damaged", lambda: archive([Entry("a.pkl", GOOD, DEFLATED, packed=b"\xff" * 9)]), NEVER_SAFE, _FORMAT),
    ("hostile-pickle", lambda: archive([Entry("a.pkl", EVIL)]), UNSAFE, ""),
    ("hostile-pickle-deflated", lambda: archive([Entry("a.pkl", EVIL, DEFLATED)]), UNSAFE, ""),
    ("hostile-pickle-as-text", lambda: archive([Entry("README.txt", EVIL)]), UNSAFE, _MISLEADING),
    ("hostile-pickle-double-extension", lambda: archive([Entry("w.pkl.png", EVIL)]), UNSAFE, _MISLEADING),
    ("hostile-pickle-in-archive-in-archive", lambda: archive([Entry("a", archive([Entry("b", archive([Entry("c",
     EVIL)]), DEFLATED)]))]), UNSAFE, ""),
    ("nested-too-deep", lambda: _nested(12), UNKNOWN, "https://cwe.mitre.org/data/definitions/674.html"),
    ("count-too-small", lambda: archive([_GOOD, Entry("b", EVIL)], end={"here": 1, "count": 1}), UNSAFE, _TOTAL),
    ("count-too-large", lambda: archive([_GOOD], end={"here": 9, "count": 9}), UNSAFE, _TOTAL),
    ("directory-elsewhere", lambda: archive([_GOOD], end={"offset": 0}), UNSAFE, _TOTAL),
    ("directory-too-long", lambda: archive([_GOOD], end={"size": 1 << 31}), NEVER_SAFE, _TOTAL),
    ("directory-cut", lambda: archive([_GOOD])[:-30], NEVER_SAFE, _FORMAT),
    ("directory-missing", lambda: _local(b"a.pkl", EVIL), NEVER_SAFE, _FORMAT),
    ("empty", lambda: archive([]), UNKNOWN, ""),
    ("hostile-member-behind-66000", _many, UNSAFE, "https://cwe.mitre.org/data/definitions/770.html"),
)  # fmt: skip


def _maker(name: str, build: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"{name}.zip"
        path.write_bytes(build())
        return path

    return make


CASES = tuple(Case(f"zip-{name}", _maker(name, build), expected, about) for name, build, expected, about in _ZIPS)
