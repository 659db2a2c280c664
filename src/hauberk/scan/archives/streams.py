"""Compressed streams: gzip, bzip2, xz, lzma and zlib. One content in, one content out, which is then examined.

How much a stream unpacks to is known only when it has been unpacked, so it is unpacked once to count, and kept where it
is small; a large one is unpacked again as far as its format reads, in constant memory. One stream is followed: readers
differ in what they do with a second one behind it.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from functools import partial

from hauberk.scan.archives.unpacked import ERRORS, Decompressor, Deflate, Unpacked, bzip2
from hauberk.scan.content import BytesContent, Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.report import Outcome, Rule, Severity

_BLOCK = 1 << 18
_KEPT = 32 << 20
_BOMB_RATIO = 200
_BOMB_SIZE = 1 << 30
_LZMA_MEMORY = 256 << 20
_BZIP2 = (b"1AY&SY", b"\x17rE8P\x90")  # of a block, and of the end

DAMAGED = Rule(
    "stream-damaged",
    "a damaged compressed stream",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It ends early or is not what it says, so only a part of what it holds was looked at. Get the file again.",
)
TRAILING = Rule(
    "stream-trailing",
    "something behind a compressed stream",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Some readers stop at the end of the first stream, others go on. Unpack it and scan what comes out.",
    "https://www.rfc-editor.org/rfc/rfc1952",
)
BOMB = Rule(
    "stream-bomb",
    "a decompression bomb",
    Severity.HIGH,
    Outcome.UNSAFE,
    "It unpacks to hundreds of times its size, and to more than a gibibyte: whoever unpacks it runs out of memory.",
    "https://cwe.mitre.org/data/definitions/409.html",
)
EMPTY = Rule(
    "stream-empty",
    "a compressed stream of nothing",
    Severity.LOW,
    Outcome.UNKNOWN,
    "There is nothing in it that could be judged.",
)
_RULES = (DAMAGED, TRAILING, BOMB, EMPTY)


def _xz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)


def _lzma() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY)


def _examine(start: Callable[[], Decompressor], content: Content, examination: Examination) -> None:
    size, end, kept = _measured(start, content, examination)
    if end < content.size:
        examination.find(TRAILING, f"{content.size - end} bytes", at=end)
    if not size:
        examination.find(EMPTY, f"{content.size} bytes unpack to none")
        return
    inner: Content
    if kept is not None:
        inner = BytesContent(kept)
    else:
        packed = content.part(0, end)
        inner = Unpacked(packed, size, start, examination, damaged=DAMAGED, what="what it unpacks to")
    examination.examine(inner, "unpacked")


def _measured(
    start: Callable[[], Decompressor], content: Content, examination: Examination
) -> tuple[int, int, bytes | None]:
    """How many bytes a stream unpacks to, where it ends, and the bytes where they are few."""
    decompressor = start()
    kept: bytearray | None = bytearray()
    size = fed = 0
    try:
        while not decompressor.eof:
            data = b""
            if decompressor.needs_input:
                data = content.read(fed, min(_BLOCK, content.size - fed))
                fed += len(data)
            block = decompressor.decompress(data, _BLOCK)
            if not block and not data and not decompressor.eof:
                examination.find(DAMAGED, "it ends early", at=content.size)
                raise StopScan
            size += len(block)
            examination.unpack(len(block))
            examination.check_time()
            if kept is not None:
                kept += block
                if len(kept) > _KEPT:
                    kept = None
            if size > _BOMB_SIZE and size > _BOMB_RATIO * fed:
                examination.find(BOMB, f"{fed} bytes unpack to more than {size}")
                raise StopScan
    except ERRORS as error:
        examination.find(DAMAGED, str(error)[:80], at=fed)
        raise StopScan from error
    return size, fed - len(decompressor.unused_data), None if kept is None else bytes(kept)


def compressed_beginnings(head: bytes) -> list[str]:
    """The streams that a reader would take a content for by its first bytes alone, as joblib's does."""
    return [name for name, signs in _BEGINNINGS.items() if head.startswith(signs)]


def _is_gzip(head: bytes, _: Content) -> bool:
    return head.startswith(b"\x1f\x8b\x08")


def _is_bzip2(head: bytes, _: Content) -> bool:
    return head[:3] == b"BZh" and head[3:4] in b"123456789" and head[4:10] in _BZIP2


def _is_xz(head: bytes, _: Content) -> bool:
    return head.startswith(b"\xfd7zXZ\0")


def _is_zlib(head: bytes, content: Content) -> bool:
    if len(head) < 6 or head[0] & 0x8F != 8 or int.from_bytes(head[:2], "big") % 31 or head[1] & 0x20:
        return False
    return _begins(Deflate(zlib.MAX_WBITS), content)


def _is_lzma(head: bytes, content: Content) -> bool:
    if len(head) < 14 or head[:2] != b"\x5d\x00" or head[13]:
        return False
    return _begins(_lzma(), content)


def _begins(decompressor: Decompressor, content: Content) -> bool:
    """Whether the first bytes unpack: these two formats begin with too little of a sign."""
    try:
        decompressor.decompress(content.head(1 << 16), 16)
    except ERRORS:
        return False
    return True  # also where nothing comes out yet: empty blocks may stand in front of as much as one likes


_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    "zlib": (b"x\x01", b"x^", b"x\x9c", b"x\xda"),
    "gzip": (b"\x1f\x8b",),
    "bzip2": tuple(b"BZh%d%b" % (level, sign) for level in range(1, 10) for sign in _BZIP2),
    "xz": (b"\xfd7zXZ",),
    "lzma": (b"\x5d\x00",),
    "lz4": (b"\x04\x22\x4d\x18",),
    "zstandard": (b"\x28\xb5\x2f\xfd",),
}

FORMATS = (
    Format("gzip", _is_gzip, partial(_examine, partial(Deflate, zlib.MAX_WBITS | 16)), _RULES, b"\x1f"),
    Format("bzip2", _is_bzip2, partial(_examine, bzip2), _RULES, b"B"),
    Format("xz", _is_xz, partial(_examine, _xz), _RULES, b"\xfd"),
    Format("lzma", _is_lzma, partial(_examine, _lzma), _RULES, b"\x5d"),
    Format("zlib", _is_zlib, partial(_examine, partial(Deflate, zlib.MAX_WBITS)), _RULES),
)
