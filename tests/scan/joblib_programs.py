"""Joblib streams made of choices: arrays that lie between the instructions, with bytes that are instructions to others.

joblib writes an array as a wrapper whose state is set, and the array's bytes right behind that instruction. A reader
that takes the wrapper for anything else, or its size for another, goes on inside the array, or behind it too early.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

HOSTILE = (
    b"cos\nsystem\n(S'true'\ntR",
    b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R",
    b"(S'true'\nios\nsystem\n",
    b"cbuiltins\neval\n\x8c\x011\x85R",
)
HARMLESS = (
    b"",
    b"N",
    b"K\x07",
    b"\x8c\x01a",
    b"(K\x01t",
    b"C\x02ab",
    b"ccollections\nOrderedDict\n)R",
    b"\x8c\x0bcollections\x8c\x0bOrderedDict\x93)R",
)
_NAMES = (
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"ccollections\nOrderedDict\n",
    b"csklearn.preprocessing._data\nStandardScaler\n",
    b"ctorch\nFloatTensor\n",
    b"N",
    b"K\x01",
)
_ENDS = (b"", b"0", b".", b"0t.")
_ATTRIBUTES = (b"read", b"read_array", b"read_mmap", b"safe_get_numpy_array_alignment_bytes", b"dtype", b"shape", b"x")
_WRAPPER = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"


def joblib_program(choices: bytes) -> bytes:
    """A stream; the same for the same choices. Three in four ask for nothing harmful, nearly as joblib writes it."""
    return _Program(choices).write()


class _Program:
    def __init__(self, choices: bytes) -> None:
        self._choices = choices
        self._place = 0
        self._wild = self._below(4) == 3
        self._fragments = HOSTILE if self._wild else HARMLESS

    def write(self) -> bytes:
        parts = [b"" if self._odd(4) else self._of((b"\x80\x04", b"\x80\x02", b"\x80\x03")), b"("]
        while self._place < len(self._choices) and len(parts) < 30:
            parts.append(self._array() if self._below(4) else self._plain())
        return b"".join([*parts, b"t."])

    def _below(self, count: int) -> int:
        """A number below `count`, at most 256; 0 when choices have run out."""
        value = self._choices[self._place] if self._place < len(self._choices) else 0
        self._place += 1
        return value * count >> 8

    def _of(self, items: Sequence[Item]) -> Item:
        return items[self._below(len(items))]

    def _odd(self, often: int) -> bool:
        """Whether to write what joblib does not: one time in `often`, and much less often in a tame program."""
        return self._below(often) == often - 1 and (self._wild or self._below(16) == 15)

    def _plain(self) -> bytes:
        if self._odd(24):
            return self._of(HOSTILE)
        return self._of((b"N", b"K\x07", b"]", b"}", b"C\x02ab", b"\x8c\x01a", b"\x8c\x01aK\x010"))

    def _array(self) -> bytes:
        """A wrapper, mostly as joblib writes it, and the bytes behind it."""
        body = self._body()
        code, itemsize = self._of(((b"u1", 1), (b"u1", 1), (b"f4", 4), (b"O8", 8) if self._odd(2) else (b"f8", 8)))
        count = -(-len(body) // itemsize) + (self._of((1, -1, 1000)) if self._odd(5) else 0)
        aligned = self._below(3)
        state = [
            (_text(b"subclass"), self._of(_NAMES) if self._odd(6) else _NAMES[0]),
            (_text(b"shape"), b")" if self._odd(8) else b"J" + struct.pack("<i", count) + b"\x85"),
            (_text(b"order"), _text(self._of((b"C", b"F")))),
            (_text(b"dtype"), _dtype(code)),
            (_text(b"allow_mmap"), b"\x89" if code == b"O8" else self._of((b"\x89", b"\x88"))),
        ]
        if aligned:
            alignment = self._of((0, 64, 255)) if self._odd(3) else 16
            state.append((_text(b"numpy_array_alignment_bytes"), b"K" + bytes([alignment])))
        if self._odd(8):
            state.append((_text(self._of(_ATTRIBUTES)), self._of(_NAMES)))
        if self._odd(24):
            del state[self._below(len(state))]
        pairs = b"".join(key + value for key, value in state)
        made = b")R" if self._odd(32) else b")\x81"
        padding = self._padding() if aligned else b""
        return _WRAPPER + made + b"}(" + pairs + b"ub" + padding + body + bytes(-len(body) % itemsize)

    def _body(self) -> bytes:
        body = bytes(self._below(4)) if not self._below(3) else self._of(self._fragments) + self._of(_ENDS)
        if not self._below(2):
            return body
        return body + b"N" + self._array() if not self._below(4) else b"(" + body + b"t"

    def _padding(self) -> bytes:
        if self._odd(8):
            return self._of((b"\x08" + b"\xff" * 8, b"\xff" * 256))
        return self._of((b"\x01\xff", b"\x02\xff\xff", b"\x00"))


def _dtype(code: bytes) -> bytes:
    tail = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + (b"\x3f" if code == b"O8" else b"\x00") + b"t"
    return b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R(K\x03" + _text(b"|") + tail + b"b"


def _text(word: bytes) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word
