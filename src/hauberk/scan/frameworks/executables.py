"""Programs: native ones, compiled Python, and WebAssembly. None of them is a model, and each is made to be run."""

from __future__ import annotations

import struct

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.report import Outcome, Rule, Severity

NATIVE = Rule(
    "native-code",
    "a program or a library",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Native code beside weights is loaded as a custom operator, an extension or a plug-in. Build it from its source.",
    "https://attack.mitre.org/techniques/T1195/",
)
BYTECODE = Rule(
    "source-bytecode",
    "compiled Python",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Python imports it like a module, and nobody can read what it does. Ask for the source.",
    "https://docs.python.org/3/library/py_compile.html",
)
_ELF, _WASM = b"\x7fELF", b"\0asm"
_MACH = {
    b"\xfe\xed\xfa\xce": "Mach-O, 32 bits",
    b"\xfe\xed\xfa\xcf": "Mach-O, 64 bits",
    b"\xce\xfa\xed\xfe": "Mach-O, 32 bits",
    b"\xcf\xfa\xed\xfe": "Mach-O, 64 bits",
    b"\xca\xfe\xba\xbe": "Mach-O for several processors, or a Java class",
    b"\xca\xfe\xba\xbf": "Mach-O for several processors",
    b"dex\n": "Dalvik",
    b"BC\xc0\xde": "LLVM bitcode",
    b"!<ar": "a library of object files",
}
_MARSHALLED_CODE = (0xE3, 0x63)


def recognise_native(head: bytes, content: Content) -> bool:
    """By the first bytes; for Windows programs the second header must be where the first one says."""
    return _native_kind(head, content) != ""


def _native_kind(head: bytes, content: Content) -> str:
    if head.startswith(_ELF):
        return "ELF"
    if head.startswith(_WASM) and head[4:8] in {b"\1\0\0\0", b"\x0d\0\1\0"}:
        return "WebAssembly"
    if head[:4] in _MACH:
        return _MACH[head[:4]]
    if head.startswith(b"MZ") and content.size >= 64:
        place = struct.unpack_from("<I", content.read(60, 4))[0]
        if place + 4 <= content.size and content.read(place, 4)[:2] in {b"PE", b"NE", b"LE"}:
            return "Windows"
    return ""


def examine_native(content: Content, examination: Examination) -> None:
    """Native code is unsafe whatever it does."""
    examination.find(NATIVE, _native_kind(content.head(64), content), at=0)


def recognise_bytecode(head: bytes, _: Content) -> bool:
    """A `.pyc` file: a magic number, CR LF, flags, two figures, and a marshalled code object."""
    if len(head) < 17 or head[2:4] != b"\r\n" or head[1] not in range(0x0B, 0x10):
        return False
    new = head[4] in {0, 1, 3} and head[5:8] == b"\0\0\0"
    return (new and head[16] in _MARSHALLED_CODE) or head[12] in _MARSHALLED_CODE or head[8] in _MARSHALLED_CODE


def examine_bytecode(_: Content, examination: Examination) -> None:
    """Compiled Python is unsafe whatever it does."""
    examination.find(BYTECODE, "a compiled module", at=0)


FORMATS = (
    Format("native-code", recognise_native, examine_native, (NATIVE,)),
    Format("python-bytecode", recognise_bytecode, examine_bytecode, (BYTECODE,)),
)
