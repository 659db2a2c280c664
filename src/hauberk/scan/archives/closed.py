"""Archives and streams that the scan recognises and does not open: no reader of theirs is part of Python."""

from __future__ import annotations

from functools import partial

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.report import Outcome, Rule, Severity

CLOSED = Rule(
    "archive-not-opened",
    "an archive that the scan does not open",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Nothing is known of what is inside. Unpack it, and scan what comes out.",
)

_SIGNS: dict[str, tuple[bytes, ...]] = {
    "7z": (b"7z\xbc\xaf\x27\x1c",),
    "rar": (b"Rar!\x1a\x07",),
    "cab": (b"MSCF\0\0\0\0",),
    "zstandard": (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))),
    "lz4": (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"),
    "snappy": (b"\xff\x06\0\0sNaPpY",),
    "lzip": (b"LZIP\x01",),
    "lzop": (b"\x89LZO\0\r\n\x1a\n",),
    "compress": (b"\x1f\x9d", b"\x1f\xa0"),
    "cpio": (b"070701", b"070702", b"070707", b"\xc7\x71", b"\x71\xc7"),
    "ar": (b"!<arch>\n", b"!<thin>\n"),
    "rpm": (b"\xed\xab\xee\xdb",),
    "squashfs": (b"hsqs", b"sqsh"),
    "xar": (b"xar!\0",),
    "arj": (b"\x60\xea",),
    "joblib-zfile": (b"ZF0x",),  # joblib before 0.10, which it still reads: a pickle in a zlib stream behind a length
    "compound-file": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",),
}


def _recognise(signs: tuple[bytes, ...], head: bytes, _: Content) -> bool:
    return head.startswith(signs)


def _examine(name: str, content: Content, examination: Examination) -> None:
    examination.find(CLOSED, f"{name}, {content.size} bytes")


FORMATS = tuple(
    Format(name, partial(_recognise, signs), partial(_examine, name), (CLOSED,), bytes(sign[0] for sign in signs))
    for name, signs in _SIGNS.items()
)
