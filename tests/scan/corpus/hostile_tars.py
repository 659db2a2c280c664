"""Tar archives and compressed streams that are built to be read differently, or hide what they hold."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE, Case
from corpus.hostile_zips import EVIL, GOOD
from corpus.zip_files import Entry, archive

_FORMAT = "https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html"
_TRAVERSAL = "CVE-2007-4559"
_DESYNC = "CVE-2025-62518"
_TOTAL = "https://cwe.mitre.org/data/definitions/436.html"
_OPAQUE = "https://attack.mitre.org/techniques/T1027/"
_END = bytes(1024)


def header(
    name: str | bytes, size: int | bytes = 0, *, kind: bytes = b"0", link: str = "", checksum: int | None = None
) -> bytes:
    """A ustar header; a size in bytes is written as it is."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = struct.pack(
        "<100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x",
        name if isinstance(name, bytes) else name.encode(),
        b"0000644\0", b"0000000\0", b"0000000\0", field, b"00000000000\0", b" " * 8, kind, link.encode(),
        b"ustar\0", b"00", b"", b"", b"", b"", b"",
    )  # fmt: skip
    total = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % total + block[156:]


def member(name: str | bytes, data: bytes, **fields: object) -> bytes:
    """A header, the data, and zeros up to a full block."""
    return header(name, len(data), **fields) + data + bytes(-len(data) % 512)


def pax(**records: str) -> bytes:
    """An extended header for the next member."""
    data = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + len(str(len(body) + 2))
        data += str(length).encode() + body
    return member("pax", data, kind=b"x")


_COMMENT = b"16 comment=hell\n"


def _weights(numbers: bytes) -> bytes:
    """Safetensors of one tensor."""
    described = json.dumps({"a": {"dtype": "U8", "shape": [len(numbers)], "data_offsets": [0, len(numbers)]}}).encode()
    return struct.pack("<Q", len(described)) + described + numbers


def _zip_over_two_members() -> bytes:
    """The directory of a zip archive in one member, its end in another; what lies between is a comment in it."""
    packed = archive([Entry("config.json", b"{}")])
    at = packed.index(b"PK\x01\x02")
    entry, end = bytearray(packed[at:-22]), bytearray(packed[-22:])
    second = member("two", _weights(bytes(100) + b"E" * 22 + bytes(30)))
    start = member("one", _weights(packed[:at] + bytes(entry))).index(b"PK\x01\x02")
    place = 512 * -(-(start + len(entry)) // 512) + second.index(b"E" * 22)
    entry[32:34] = struct.pack("<H", place - start - len(entry))
    end[12:20] = struct.pack("<LL", place - start, at)
    return member("one", _weights(packed[:at] + bytes(entry))) + second.replace(b"E" * 22, bytes(end)) + _END


def _hdf5_in_a_member() -> bytes:
    """At a byte where the library for HDF5 looks for its files."""
    plain = _weights(b"E" * 2048)
    start = 1024 - 512 - plain.index(b"E")
    return member("a", _weights((bytes(start) + b"\x89HDF\r\n\x1a\n").ljust(2048, b"\0"))) + _END


def _hidden_by_size() -> bytes:
    """One reader steps over a member by the size of the header, the other by that of the header before it."""
    inner = member("evil.pkl", EVIL)
    return pax(size=str(len(inner))) + header("notes.txt", 0) + inner + _END


def _legacy(model: bytes) -> bytes:
    """Torch's oldest format, empty but for the pickle of the model."""
    return (
        member("sys_info", pickle.dumps({"protocol_version": 1000, "little_endian": True}, 2)) + member("pickle", model)
        + member("storages", pickle.dumps(0, 2) + pickle.dumps([], 2)) + member("tensors", pickle.dumps(0, 2)) + _END
    )  # fmt: skip


def _legacy_with_storage() -> bytes:
    """The pickle behind the numbers of a storage is hostile."""
    storage = b"\x80\x02X\x01\x00\x00\x00aX\x03\x00\x00\x00cpuctorch\nFloatStorage\n\x87."
    storages = pickle.dumps(1, 2) + storage + struct.pack("<q", 2) + bytes(8) + EVIL
    parts = {"pickle": GOOD, "storages": storages, "tensors": pickle.dumps(0, 2)}
    return b"".join(member(name, data) for name, data in parts.items()) + _END


def _sparse() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("a")
        entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99"}
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    return buffer.getvalue()


def _pickle_as_name() -> bytes:
    """A tar archive whose first name is a pickle: torch tries tar first, an unpickler runs the name."""
    block = bytearray(member("x", GOOD) + _END)
    block[: len(EVIL)] = EVIL
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def _greedy_xz() -> bytes:
    """A dictionary of a gibibyte for a few bytes."""
    return lzma.compress(GOOD, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "mode": lzma.MODE_FAST,
                                         "mf": lzma.MF_HC3, "nice_len": 4, "depth": 1}])  # fmt: skip


_TARS: tuple[tuple[str, Callable[[], bytes], frozenset[str], str], ...] = (
    ("tar-hostile-pickle", lambda: member("notes.txt", EVIL) + _END, UNSAFE, ""),
    ("tar-path-up", lambda: member("../../evil", b"text") + _END, UNSAFE, _TRAVERSAL),
    ("tar-path-absolute", lambda: member("/etc/profile", b"text") + _END, UNSAFE, _TRAVERSAL),
    ("tar-path-up-by-pax", lambda: pax(path="../../evil") + member("a", b"text") + _END, UNSAFE, _TRAVERSAL),
    ("tar-path-up-by-long-name", lambda: member("././@LongLink", b"../../evil\0", kind=b"L") + member("a", b"text")
     + _END, UNSAFE, _TRAVERSAL),
    ("tar-link-outside", lambda: header("a", kind=b"2", link="../../etc") + _END, UNSAFE, "CVE-2025-4517"),
    ("tar-link-absolute", lambda: header("a", kind=b"2", link="/etc/passwd") + _END, UNSAFE, "CVE-2025-4517"),
    ("tar-hard-link-outside", lambda: header("b/a", kind=b"1", link="../etc") + _END, UNSAFE, "CVE-2025-4517"),
    ("tar-link-inside", lambda: member("b", GOOD) + header("a", kind=b"2", link="b") + _END, UNKNOWN, _TOTAL),
    ("tar-device", lambda: header("a", kind=b"4") + _END, UNSAFE, _FORMAT),
    ("tar-pipe", lambda: header("a", kind=b"6") + _END, UNSAFE, _FORMAT),
    ("tar-duplicate", lambda: member("a", GOOD) + member("a", b"text") + _END, UNSAFE, _TOTAL),
    ("tar-alike", lambda: member("a", GOOD) + member("A", GOOD) + _END, UNKNOWN, _TOTAL),
    ("tar-size-twice", _hidden_by_size, UNSAFE, _DESYNC),
    ("tar-size-no-number", lambda: pax(size="0x10") + member("a", GOOD) + _END, UNSAFE, _DESYNC),
    ("tar-size-negative", lambda: header("a", b"\xff" * 12) + _END, UNSAFE, "CVE-2019-9674"),
    ("tar-size-underscore", lambda: header("a", b"0000_0001000") + _END, UNSAFE, _TOTAL),
    ("tar-size-for-all", lambda: member("pax", b"11 size=512\n"[:12], kind=b"g") + member("a", GOOD) + _END,
     UNSAFE, _DESYNC),
    ("tar-link-with-size", lambda: header("a", 512, kind=b"2", link="b") + member("evil", EVIL) + _END, UNSAFE, _TOTAL),
    ("tar-header-is-a-zlib-stream", lambda: member(zlib.compress(EVIL[:70]), _COMMENT, kind=b"x") + member("a", GOOD)
     + _END, UNSAFE, _TOTAL),
    ("tar-name-is-a-zlib-stream", lambda: member(b"x^ordinary", GOOD) + _END, UNSAFE, _TOTAL),
    ("tar-extended-header-with-a-strange-name", lambda: member(b"a\x01", _COMMENT, kind=b"x") + member("a", GOOD)
     + _END, NEVER_SAFE, _TOTAL),
    ("tar-behind-a-name", lambda: member(b"a\0something", GOOD) + _END, NEVER_SAFE, _TOTAL),
    ("tar-program-behind-a-name", lambda: member(b"h!\0\0PTMF", GOOD) + _END, UNSAFE, _TOTAL),
    ("tar-zip-over-two-members", _zip_over_two_members, UNSAFE, _TOTAL),
    ("tar-hdf5-in-a-member", _hdf5_in_a_member, UNSAFE, _TOTAL),
    ("tar-file-or-folder", lambda: pax(path="y") + member("x/", member("evil", EVIL), kind=b"\0") + _END, UNSAFE,
     "CVE-2025-13462"),
    ("tar-long-name-longer-than-its-size", lambda: header("@LongLink", 2, kind=b"L") + b"long name".ljust(512, b"\0")
     + member("a", GOOD) + _END, UNSAFE, _TOTAL),
    ("tar-extended-header-of-nothing", lambda: member("a", GOOD) + pax(comment="x") + _END, NEVER_SAFE, _FORMAT),
    ("tar-cut", lambda: member("a", bytes(5000))[:2048], NEVER_SAFE, _FORMAT),
    ("tar-no-end", lambda: member("a", GOOD), NEVER_SAFE, _FORMAT),
    ("tar-one-zero-block", lambda: member("a", GOOD) + bytes(512), NEVER_SAFE, _TOTAL),
    ("tar-second-header-broken", lambda: member("a", GOOD) + header("b", 0, checksum=1) + member("c", EVIL) + _END,
     NEVER_SAFE, _TOTAL),
    ("tar-behind-the-end", lambda: member("a", GOOD) + _END + member("b", EVIL) + _END, NEVER_SAFE, _TOTAL),
    ("tar-sparse", _sparse, UNKNOWN, _FORMAT),
    ("tar-unknown-kind", lambda: member("a", GOOD, kind=b"Z") + _END, UNKNOWN, _FORMAT),
    ("tar-name-no-utf8", lambda: pax(path="a\\b") + member("b", GOOD) + _END, UNKNOWN, _FORMAT),
    ("tar-pickle-as-name", _pickle_as_name, UNSAFE, _TOTAL),
    ("tar-empty", lambda: header("a", kind=b"5") + _END, UNKNOWN, ""),
    ("torch-tar", lambda: _legacy(GOOD), UNKNOWN, "https://docs.pytorch.org/docs/stable/generated/torch.load.html"),
    ("torch-tar-hostile", lambda: _legacy(EVIL), UNSAFE, "CVE-2025-32434"),
    ("torch-tar-hostile-behind-storage", _legacy_with_storage, UNSAFE, "CVE-2025-32434"),
    ("gzip-hostile", lambda: gzip.compress(EVIL, mtime=0), UNSAFE, _OPAQUE),
    ("gzip-hostile-second-stream", lambda: gzip.compress(GOOD, mtime=0) + gzip.compress(EVIL, mtime=0), NEVER_SAFE,
     "https://www.rfc-editor.org/rfc/rfc1952"),
    ("gzip-cut", lambda: gzip.compress(GOOD * 99, mtime=0)[:-6], NEVER_SAFE, ""),
    ("gzip-wrong-checksum", lambda: gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), NEVER_SAFE, ""),
    ("gzip-of-nothing", lambda: gzip.compress(b"", mtime=0), UNKNOWN, ""),
    ("bzip2-hostile", lambda: bz2.compress(EVIL), UNSAFE, _OPAQUE),
    ("xz-hostile", lambda: lzma.compress(EVIL), UNSAFE, _OPAQUE),
    ("lzma-hostile", lambda: lzma.compress(EVIL, lzma.FORMAT_ALONE), UNSAFE, _OPAQUE),
    ("zlib-hostile", lambda: zlib.compress(EVIL), UNSAFE, _OPAQUE),
    ("tar-in-gzip-hostile", lambda: gzip.compress(member("a", archive([Entry("b", EVIL)])) + _END, mtime=0),
     UNSAFE, _OPAQUE),
    ("xz-needs-a-gigabyte", _greedy_xz, NEVER_SAFE, "https://cwe.mitre.org/data/definitions/789.html"),
    ("7z", lambda: b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24), UNKNOWN, "CVE-2025-1889"),
    ("rar", lambda: b"Rar!\x1a\x07\x01\x00" + bytes(24), UNKNOWN, ""),
    ("cab", lambda: b"MSCF\0\0\0\0" + bytes(24), UNKNOWN, ""),
    ("zstandard", lambda: b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00", UNKNOWN, ""),
    ("lz4", lambda: b"\x04\x22\x4d\x18\x64\x40\xa7" + bytes(9), UNKNOWN, ""),
)  # fmt: skip


def _maker(name: str, build: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(build())
        return path

    return make


CASES = tuple(Case(name, _maker(name, build), expected, about) for name, build, expected, about in _TARS)
