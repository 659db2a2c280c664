"""Joblib streams made of choices: arrays that lie between the instructions, with bytes that are instructions to others.

joblib writes an array as a wrapper whose state is set, and the array's bytes right behind that instruction. A reader
that takes the wrapper for anything else, or its size for another, goes on inside the array, or behind it too early.
"""

from __future__ import annotations

import struct

HOSTILE = (
    b"cos\nsystem\n(S'true'\ntR",
    b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R",
    b"(S'true'\nios\nsystem\n",
    b"cbuiltins\neval\n\x8c\x011\x85R",
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
_ATTRIBUTES = (b"read", b"read_array", b"read_mmap", b"safe_get_numpy_array_alignment_bytes", b"dtype", b"shape", b"x")
_WRAPPER = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"


def joblib_program(choices: bytes) -> bytes:
    """A stream; the same for the same choices."""
    place = 0

    def below(count: int) -> int:
        nonlocal place
        value = choices[place] if place < len(choices) else 0
        place += 1
        return value * count >> 8

    parts = [(b"\x80\x04", b"\x80\x02", b"\x80\x03", b"")[below(4)], b"("]
    while place < len(choices) and len(parts) < 30:
        parts.append(_array(below) if below(4) else _plain(below))
    return b"".join([*parts, b"t."])


def _plain(below) -> bytes:
    number = below(24)
    if number == 23:
        return HOSTILE[below(len(HOSTILE))]
    return (b"N", b"K\x07", b"]", b"}", b"C\x02ab", b"\x8c\x01a", b"\x8c\x01aK\x010")[number % 7]


def _array(below) -> bytes:
    """A wrapper, mostly as joblib writes it, and the bytes behind it."""
    body = bytes(below(4)) if below(3) == 0 else HOSTILE[below(len(HOSTILE))] + (b"", b"0", b".", b"0t.")[below(4)]
    if below(2):
        body = b"".join([body, b"N"]) + _array(below) if below(4) == 0 else b"(" + body + b"t"
    code, itemsize = ((b"u1", 1), (b"u1", 1), (b"f4", 4), (b"O8", 8), (b"V8", 8))[below(5)]
    aligned = below(3)
    count = -(-len(body) // itemsize) + ((0,) * 13 + (1, -1, 1000))[below(16)]
    state = [
        (_text(b"subclass"), _NAMES[0] if below(6) else _NAMES[below(len(_NAMES))]),
        (_text(b"shape"), b"J" + struct.pack("<i", count) + b"\x85" if below(8) else b")"),
        (_text(b"order"), _text((b"C", b"F")[below(2)])),
        (_text(b"dtype"), _dtype(code)),
        (_text(b"allow_mmap"), (b"\x89", b"\x88")[below(2)]),
    ]
    if aligned:
        state.append((_text(b"numpy_array_alignment_bytes"), b"K" + bytes([(16, 16, 0, 64, 255)[below(5)]])))
    if below(8) == 7:
        state.append((_text(_ATTRIBUTES[below(len(_ATTRIBUTES))]), _NAMES[below(len(_NAMES))]))
    if below(24) == 23:
        del state[below(len(state))]
    pairs = b"".join(key + value for key, value in state)
    made = b")R" if below(32) == 31 else b")\x81"
    padding = (
        ((b"\x01\xff", b"\x02\xff\xff", b"\x00") * 5 + (b"\x08" + b"\xff" * 8, b"\xff" * 256))[below(17)]
        if aligned
        else b""
    )
    return _WRAPPER + made + b"}(" + pairs + b"ub" + padding + body + bytes(-len(body) % itemsize)


def _dtype(code: bytes) -> bytes:
    tail = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + (b"\x3f" if code == b"O8" else b"\x00") + b"t"
    return b"cnumpy\ndtype\n" + _text(code) + b"\x89\x88\x87R(K\x03" + _text(b"|") + tail + b"b"


def _text(word: bytes) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word
