"""Pictures, sound, documents and tables: read by programs of their own, and by no loader of models."""

from __future__ import annotations

import base64

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.hdf5 import user_block
from hauberk.scan.report import Outcome, Rule, Severity

TRAILING = Rule(
    "media-trailing",
    "something behind the end of a picture",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Viewers stop where the picture ends; what lies behind it is there for another reader.",
    "https://cwe.mitre.org/data/definitions/436.html",
)
HIDDEN = Rule(
    "media-hides-hdf5",
    "an HDF5 file behind another header",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The HDF5 library finds its files behind headers of 512, 1024, … bytes, so a loader sees a model where a viewer"
    " sees a picture.",
    "https://cwe.mitre.org/data/definitions/436.html",
)
PICKLED_TYPE = Rule(
    "arrow-pickled-type",
    "a type that is a pickle",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "PyArrow before 14.0.1 unpickled the description of such a column as soon as the file was opened.",
    "https://nvd.nist.gov/vuln/detail/CVE-2023-47248",
)
RULES = (TRAILING, HIDDEN, PICKLED_TYPE)

_STARTS = {
    b"\x89PNG\r\n\x1a\n": "image",
    b"\xff\xd8\xff": "image",
    b"GIF87a": "image",
    b"GIF89a": "image",
    b"II*\0": "image",
    b"MM\0*": "image",
    b"fLaC": "audio",
    b"OggS\0": "audio",
    b"ID3": "audio",
    b"%PDF-1.": "pdf",
    b"%PDF-2.": "pdf",
    b"PAR1": "parquet",
    b"ARROW1\0\0": "arrow",
    b"\0\1\0\0\0": "font",
    b"OTTO\0": "font",
    b"wOF2\0\1\0\0": "font",
    b"\x1aE\xdf\xa3": "video",
}
_RIFF = {b"WAVE": "audio", b"WEBP": "image", b"AVI ": "video"}
_BRANDS = (
    b"isom",
    b"iso2",
    b"iso4",
    b"iso5",
    b"iso6",
    b"mp41",
    b"mp42",
    b"avc1",
    b"M4A ",
    b"M4V ",
    b"qt  ",
    b"avif",
    b"heic",
)
_PNG_END = b"IEND\xaeB`\x82"


_PICKLED = b"arrow.py_extension_type"
_BLOCK = 1 << 22


def _pickled_marks() -> tuple[bytes, ...]:
    """The name of a pickled type as it is, and what is left of it in base 64 at each of its three places."""
    coded = []
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + _PICKLED)
        coded.append(text[4 if shift else 0 : len(text) - 4])
    return (_PICKLED, *coded)


_MARKS = _pickled_marks()


def _examine_columns(content: Content, examination: Examination) -> None:
    """Look for pickled types in the descriptions of columns, wherever they stand."""
    for at in range(0, content.size, _BLOCK):
        examination.check_time()
        start = max(0, at - 64)
        block = content.read(start, min(at + _BLOCK, content.size) - start)
        for mark in _MARKS:
            if mark in block:
                examination.find(PICKLED_TYPE, "arrow.py_extension_type", at=start + block.find(mark))
                return


def kind_of(head: bytes) -> str:
    """What the first bytes stand for; empty where they stand for nothing here."""
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp" and head[:3] == b"\0\0\0" and head[8:12] in _BRANDS:
        return "video"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[14:18] in {b"(\0\0\0", b"l\0\0\0", b"|\0\0\0"}:
        return "image"
    if head[:2] in {b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"} and head[2] >> 4 not in {0, 15}:
        return "audio"
    return ""


def recognise(head: bytes, _: Content) -> bool:
    """By the first bytes alone."""
    return len(head) >= 16 and kind_of(head) != ""


def examine(content: Content, examination: Examination) -> str:
    """Whether it ends where it should, and hides nothing; returns its kind."""
    head = content.head(64)
    kind = kind_of(head)
    if kind in {"parquet", "arrow"}:
        _examine_columns(content, examination)
    if user_block(content):
        examination.find(HIDDEN, "the signature of HDF5", at=user_block(content))
    if head.startswith(b"\x89PNG") and content.tail(8) != _PNG_END:
        examination.find(TRAILING, "it does not end as a PNG picture does")
    elif head.startswith(b"\xff\xd8") and content.tail(2) != b"\xff\xd9":
        examination.find(TRAILING, "it does not end as a JPEG picture does")
    elif head.startswith(b"GIF8") and content.tail(1) != b";":
        examination.find(TRAILING, "it does not end as a GIF picture does")
    elif head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:8], "little") + 8
        if content.size > size + size % 2:
            examination.find(TRAILING, f"{content.size - size} bytes behind the end", at=size)
    elif head.startswith((b"PAR1", b"ARROW1")) and content.tail(4) not in {b"PAR1", b"ROW1"}:
        examination.find(TRAILING, "it does not end as it should")
    return kind


MEDIA = Format("media", recognise, examine, RULES)
