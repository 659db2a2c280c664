"""Pickles put together by hand: short writers for what no pickler would write."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

FLAG = "flag"
"""The file that a payload makes, in the folder in which it runs."""
SHELL = f"touch {FLAG}"
PYTHON = f"open({FLAG!r}, 'w').close()"
EXPRESSION = f"__import__('os').system({SHELL!r})"

Written = Callable[[Path], Path]


class Raw(bytes):
    """Instructions, to be taken as they are."""


def text(string: str) -> bytes:
    """BINUNICODE."""
    raw = string.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def short(string: str) -> bytes:
    """SHORT_BINUNICODE, of protocol 4."""
    raw = string.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def value(thing: object) -> bytes:
    """Instructions that push a value."""
    match thing:
        case Raw():
            return thing
        case str():
            return text(thing)
        case bytes():
            return b"B" + struct.pack("<I", len(thing)) + thing
        case tuple() | list():
            return b"(" + b"".join(map(value, thing)) + (b"t" if isinstance(thing, tuple) else b"l")
        case dict():
            return b"(" + b"".join(value(each) for pair in thing.items() for each in pair) + b"d"
        case float():
            return b"G" + struct.pack(">d", thing)
        case int() if not isinstance(thing, bool):
            raw = thing.to_bytes(16, "little", signed=True)
            return b"J" + raw[:4] if -(1 << 31) <= thing < 1 << 31 else b"\x8a" + bytes([len(raw)]) + raw
    return {None: b"N", True: b"\x88", False: b"\x89"}[thing]  # type: ignore[index]


def name(dotted: str) -> Raw:
    """GLOBAL for `module:name`, or STACK_GLOBAL where the name has dots."""
    module, _, rest = dotted.partition(":")
    if "." in rest or not module.isascii():
        return Raw(short(module) + short(rest) + b"\x93")
    return Raw(f"c{module}\n{rest}\n".encode())


def call(callee: str | Raw, *arguments: object) -> Raw:
    """A call, with REDUCE."""
    called = callee if isinstance(callee, Raw) else name(callee)
    return Raw(called + value(arguments) + b"R")


def made(callee: str | Raw, *arguments: object) -> Raw:
    """An object that is not initialised, with NEWOBJ."""
    called = callee if isinstance(callee, Raw) else name(callee)
    return Raw(called + value(arguments) + b"\x81")


def built(target: Raw, state: object) -> Raw:
    """An object with its state set, with BUILD."""
    return Raw(target + value(state) + b"b")


def pickled(instructions: bytes, protocol: int = 4) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + instructions + b"."


def writes(data: bytes, file: str = "model.pkl") -> Written:
    """Something that writes these bytes into a folder."""

    def write(folder: Path) -> Path:
        path = folder / file
        path.write_bytes(data)
        return path

    return write
