"""Pickles that are short to read and long to load: data copied again and again, keys without end, deep containers."""

from __future__ import annotations

import struct

from corpus import NEVER_SAFE, UNSAFE
from corpus.pickle_bytes import Raw, call, made, name, pickled, text, value
from corpus.pickle_structures import dtype

_ENDLESS = "https://cwe.mitre.org/data/definitions/400.html"
_STACK = "https://cwe.mitre.org/data/definitions/674.html"
_LEVELS = 2000


def _again(callee: bytes, argument: bytes, times: int) -> bytes:
    """A list of what calling one function with one argument gives, many times."""
    return b"\x80\x04" + callee + b"q\x000" + argument + b"q\x010](" + b"h\x00h\x01\x85R" * times + b"e."


def _deep(start: bytes, opening: bytes, closing: bytes, levels: int = _LEVELS) -> bytes:
    return b"\x80\x04" + start + opening * levels + b"N" + closing * levels + b"."


def _outside_in(levels: int) -> bytes:
    """Arrays of objects, each filled with one that has no state yet, which gets its own then."""
    made_first = b"h\x00h\x01K\x00\x85C\x01b\x87R"
    inner = b"(K\x01K\x01\x85h\x02\x89]" + made_first + b"r%sa" + b"tb0j%s"
    indices = [struct.pack("<I", 10 + each) for each in range(levels)]
    return b"\x80\x04" + _ARRAYS + made_first + b"".join(inner % (each, each) for each in indices) + b"."


_ARRAYS = (
    name("numpy._core.multiarray:_reconstruct") + b"q\x000" + name("numpy:ndarray") + b"q\x010" + dtype("O8")
    + b"q\x020"
)  # fmt: skip
_NUMBERS = value([0] * 20_000)
_LONG = value(b"A" * 100_000)
_STATE = value({f"attribute{each}": None for each in range(3000)})
_TUPLE = Raw(b"N" + b"\x85" * 50_000)
_WRAPPER = made("joblib.numpy_pickle:NumpyArrayWrapper")

HOSTILE: dict[str, tuple[bytes, frozenset[str], str]] = {
    "list-copied-again-and-again": (_again(name("collections:deque"), _NUMBERS, 4000), UNSAFE, _ENDLESS),
    "set-of-one-list-again-and-again": (_again(name("builtins:frozenset"), _NUMBERS, 4000), UNSAFE, _ENDLESS),
    "bytes-copied-again-and-again": (_again(name("builtins:bytearray"), _LONG, 4000), UNSAFE, _ENDLESS),
    "state-set-again-and-again": (
        b"\x80\x04" + name("sklearn.pipeline:Pipeline") + b"q\x000" + _STATE + b"q\x010]("
        + b"h\x00)\x81h\x01b" * 5000 + b"e.", UNSAFE, _ENDLESS,
    ),
    "large-key-looked-at-again-and-again": (
        b"\x80\x04" + b"\x8b" + struct.pack("<I", 1000) + b"\x11" * 1000
        + b"q\x000(" + b"h\x00" * 900 + b"tq\x010}(" + b"h\x01N" * 4000 + b"u.", UNSAFE, _ENDLESS,
    ),
    "keys-of-tuples-of-complex-numbers": (
        pickled(Raw(b"}(" + b"".join(
            call("builtins:complex", -1000003.0 * each, float(each)) + b"\x85N" for each in range(1, 1200)
        ) + b"u")), NEVER_SAFE, _ENDLESS,
    ),
    "keys-of-identifiers-that-all-have-the-same-hash": (
        pickled(Raw(name("uuid:UUID") + b"q\x000}(" + b"".join(
            b"h\x00)\x81" + value({"int": each * ((1 << 61) - 1)}) + b"bN" for each in range(1, 1200)
        ) + b"u")), UNSAFE, _ENDLESS,
    ),
    "decimal-of-many-digits": (pickled(call("decimal:Decimal", "9" * 2000)), UNSAFE, _ENDLESS),
    "default-dictionaries-in-one-another": (
        _deep(name("collections:defaultdict") + b"q\x000", b"h\x00)RK\x00", b"s"), UNSAFE, _STACK,
    ),
    "deques-in-one-another": (_deep(name("collections:deque") + b"q\x000", b"h\x00)R", b"a"), UNSAFE, _STACK),
    "deques-made-of-one-another": (
        b"\x80\x04" + name("collections:deque") + b"q\x000)" + b"0h\x00)R" + b"\x85q\x010h\x00h\x01\x85R" * _LEVELS
        + b".", UNSAFE, _STACK,
    ),
    "arrays-of-objects-in-one-another": (
        _deep(_ARRAYS, b"h\x00h\x01K\x00\x85C\x01b\x87R(K\x01K\x01\x85h\x02\x89]", b"atb"), UNSAFE, _STACK,
    ),
    "arrays-of-objects-filled-from-outside": (_outside_in(_LEVELS), NEVER_SAFE, _STACK),
    "tuples-in-one-another-as-an-order": (
        pickled(Raw(_WRAPPER + b"}(" + text("subclass") + name("numpy:ndarray") + text("shape") + b"K\x01\x85"
                    + text("order") + _TUPLE + text("dtype") + dtype("f8") + text("allow_mmap") + b"\x89ub")),
        UNSAFE, _STACK,
    ),
    "tuples-in-one-another-as-a-codec": (pickled(call("builtins:bytearray", "abc", _TUPLE)), UNSAFE, _STACK),
    "tuples-in-one-another-as-a-name": (
        pickled(dtype("V8", (3, "|", None, (_TUPLE,), {"a": (dtype("f8"), 0)}, 8, 1, 16))), UNSAFE, _STACK,
    ),
}  # fmt: skip
"""Pickles with the verdicts that are right, and where they are described."""
