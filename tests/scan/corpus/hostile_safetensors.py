"""Safetensors files that say one thing to one reader and another to the next, and files of two formats at once."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from corpus import NEVER_SAFE, UNSAFE, Case
from corpus.hostile_zips import EVIL
from corpus.zip_files import Entry, archive

_FORMAT = "https://huggingface.co/docs/safetensors"
_AUDIT = "https://huggingface.co/blog/safetensors-security-audit"
_TOTAL = "https://cwe.mitre.org/data/definitions/436.html"
_OVERFLOW = "https://cwe.mitre.org/data/definitions/190.html"


def with_header(header: str | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of this header."""
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensors(data: bytes = bytes(8), **entries: tuple[str, list[int], list[int]]) -> bytes:
    """A file of these tensors: data type, shape, offsets."""
    named = {name: {"dtype": kind, "shape": shape, "data_offsets": at} for name, (kind, shape, at) in entries.items()}
    return with_header(json.dumps(named), data)


_ONE = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'
_A = '{"a":{' + _ONE + "}}"


def _said_of(metadata: str) -> bytes:
    return with_header('{"__metadata__":' + metadata + ',"a":{' + _ONE + "}}", bytes(8))


def _picture_and_archive() -> bytes:
    raw = zlib.compress(b"\0\0\0\0")
    chunks = [(b"IHDR", struct.pack(">LLBBBBB", 1, 1, 8, 2, 0, 0, 0)), (b"IDAT", raw), (b"IEND", b"")]
    picture = b"".join(
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data)) for kind, data in chunks
    )
    picture = b"\x89PNG\r\n\x1a\n" + picture
    return archive([Entry("evil.pkl", EVIL)], before=picture)


def _archive_in_a_tensor() -> bytes:
    """A valid file whose last tensor is a zip archive, which readers that look at the end find."""
    inner = archive([Entry("a.pkl", EVIL)])
    return tensors(inner, a=("U8", [len(inner)], [0, len(inner)]))


def _pickle_as_header() -> bytes:
    """Valid safetensors that an unpickler runs: the length of the header begins as protocol 2.

    Inside a JSON text no byte may be a control character and all must be UTF-8, so lengths of texts are at least 32,
    and instructions above 127 follow an argument that ends with the first byte of a pair.
    """
    length = 0x470280  # 80 02 is the protocol, 47 ("G") takes eight bytes: five of the length, '{', '"' and 'a'
    text = b"a" + _said("hauberk.scan.corpus.never_there_xyz") + b"q 00"  # into memo 32, then dropped
    text += _said("function_that_is_not_there_at_all_x") + b"q\xc2\x9400"  # into memo 194
    text += b"h h\xc2\x93)R."  # both, the name they make, a call without arguments, the end
    header = b'{"' + text + b'":{' + _ONE.encode() + b"}}"
    return struct.pack("<Q", length) + header.ljust(length, b" ") + bytes(8)


def _said(text: str) -> bytes:
    """A text that is kept, above one that only makes way for the instruction."""
    return b"U!" + b"y" * 32 + b"\xc2" + b"\x8c" + bytes([len(text)]) + text.encode()


_FILES: tuple[tuple[str, Callable[[], bytes], frozenset[str], str], ...] = (
    ("header-of-terabytes", lambda: with_header(_A, bytes(8), length=1 << 40), UNSAFE, _AUDIT),
    ("header-beyond-the-file", lambda: with_header(_A, bytes(8), length=999), NEVER_SAFE, _AUDIT),
    ("header-cut", lambda: with_header(_A, bytes(8), length=20), NEVER_SAFE, _AUDIT),
    ("header-no-object", lambda: with_header('[{"a":1}]'), NEVER_SAFE, _FORMAT),
    ("header-after-space", lambda: with_header(" " + _A, bytes(8)), NEVER_SAFE, _FORMAT),
    ("header-no-utf8", lambda: with_header(b'{"\xff":{' + _ONE.encode() + b"}}", bytes(8)), NEVER_SAFE, _FORMAT),
    ("header-half-a-character", lambda: with_header('{"\\ud800":{' + _ONE + "}}", bytes(8)), NEVER_SAFE, _FORMAT),
    ("header-nested-deeply", lambda: with_header('{"a":' + "[" * 100_000), NEVER_SAFE, _AUDIT),
    ("header-two-objects", lambda: with_header(_A + _A, bytes(8)), NEVER_SAFE, _FORMAT),
    ("key-twice", lambda: with_header('{"a":{' + _ONE + '},"a":{' + _ONE + "}}", bytes(8)), UNSAFE, _AUDIT),
    ("key-twice-by-escape", lambda: with_header('{"a":{' + _ONE + '},"\\u0061":{' + _ONE + "}}", bytes(8)),
     UNSAFE, _AUDIT),
    ("key-twice-in-an-entry", lambda: with_header('{"a":{' + _ONE + ',"shape":[1]}}', bytes(8)), UNSAFE, _AUDIT),
    ("key-twice-in-metadata", lambda: _said_of('{"k":"1","k":"2"}'),
     UNSAFE, _AUDIT),
    ("metadata-number", lambda: _said_of('{"k":1}'), NEVER_SAFE, _FORMAT),
    ("metadata-nested", lambda: _said_of('{"k":{}}'), NEVER_SAFE, _FORMAT),
    ("metadata-nothing", lambda: _said_of("null"), NEVER_SAFE, _FORMAT),
    ("metadata-no-object", lambda: _said_of("[]"), NEVER_SAFE, _FORMAT),
    ("entry-with-more", lambda: with_header('{"a":{' + _ONE + ',"code":"x"}}', bytes(8)), NEVER_SAFE, _FORMAT),
    ("entry-with-less", lambda: with_header('{"a":{"dtype":"F32","shape":[2]}}', bytes(8)), NEVER_SAFE, _FORMAT),
    ("entry-no-object", lambda: with_header('{"a":[]}', bytes(8)), NEVER_SAFE, _FORMAT),
    ("data-type-unknown", lambda: tensors(a=("F128", [1], [0, 8])), NEVER_SAFE, _FORMAT),
    ("shape-negative", lambda: tensors(a=("F32", [-2], [0, 8])), NEVER_SAFE, _FORMAT),
    ("shape-fraction", lambda: with_header(_A.replace("[2]", "[2.0]"), bytes(8)), NEVER_SAFE, _FORMAT),
    ("shape-exponent", lambda: with_header(_A.replace("[2]", "[2e0]"), bytes(8)), NEVER_SAFE, _FORMAT),
    ("shape-minus-zero", lambda: with_header(_A.replace("[2]", "[-0]"), bytes(8)), NEVER_SAFE, _FORMAT),
    ("shape-truth", lambda: with_header(_A.replace("[2]", "[2,true]"), bytes(8)), NEVER_SAFE, _FORMAT),
    ("shape-overflows", lambda: tensors(a=("F32", [1 << 62, 4, 2], [0, 8])), UNSAFE, _OVERFLOW),
    ("shape-overflows-to-nothing", lambda: tensors(b"", a=("F32", [1 << 63, 0], [0, 0])), UNSAFE, _OVERFLOW),
    ("shape-of-many-dimensions", lambda: tensors(a=("F32", [1] * 5000 + [2], [0, 8])), UNSAFE, _OVERFLOW),
    ("offsets-beyond-the-file", lambda: tensors(a=("F32", [2], [4096, 4104])), UNSAFE, _AUDIT),
    ("offsets-backward", lambda: tensors(a=("F32", [2], [8, 0])), UNSAFE, _AUDIT),
    ("size-too-small", lambda: tensors(a=("F32", [3], [0, 8])), UNSAFE, _AUDIT),
    ("size-too-large", lambda: tensors(a=("F32", [1], [0, 8])), UNSAFE, _AUDIT),
    ("overlap", lambda: tensors(bytes(12), a=("F32", [2], [0, 8]), b=("F32", [2], [4, 12])), UNSAFE, _AUDIT),
    ("same-place", lambda: tensors(a=("F32", [2], [0, 8]), b=("F32", [2], [0, 8])), UNSAFE, _AUDIT),
    ("empty-inside-another", lambda: tensors(a=("F32", [2], [0, 8]), b=("F32", [0], [4, 4])), NEVER_SAFE, _AUDIT),
    ("gap-at-the-front", lambda: tensors(bytes(16), a=("F32", [2], [8, 16])), NEVER_SAFE, _AUDIT),
    ("gap-between", lambda: tensors(bytes(24), a=("F32", [2], [0, 8]), b=("F32", [2], [16, 24])), NEVER_SAFE, _AUDIT),
    ("gap-at-the-end", lambda: with_header(_A, bytes(8) + EVIL), NEVER_SAFE, _AUDIT),
    ("archive-at-the-end", lambda: with_header(_A, bytes(8) + archive([Entry("a.pkl", EVIL)])), UNSAFE, _TOTAL),
    ("archive-in-a-tensor", _archive_in_a_tensor, UNSAFE, _TOTAL),
    ("half-a-byte", lambda: tensors(bytes(2), a=("F4", [3], [0, 2])), NEVER_SAFE, _FORMAT),
    ("pickle-as-header", _pickle_as_header, UNSAFE, _TOTAL),
    ("picture-and-archive", _picture_and_archive, UNSAFE, _TOTAL),
)  # fmt: skip


def _maker(name: str, build: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"{name}.safetensors"
        path.write_bytes(build())
        return path

    return make


CASES = tuple(
    Case(f"safetensors-{name}", _maker(name, build), expected, about) for name, build, expected, about in _FILES
)
