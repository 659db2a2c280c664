"""Pickles that are short to read and long to load: data copied again and again, keys without end, deep containers."""

from __future__ import annotations

import struct

from corpus import NEVER_SAFE, UNSAFE
from corpus.pickle_bytes import Raw, built, call, made, name, pickled, text, value
from corpus.pickle_structures import dtype, storage, tensor

_ENDLESS = "https://cwe.mitre.org/data/definitions/400.html"
_STACK = "https://cwe.mitre.org/data/definitions/674.html"
_LEVELS = 2000


def _again(callee: bytes, argument: bytes, times: int) -> bytes:
    """A list of what calling one function with one argument gives, many times."""
    return b"\x80\x04" + callee + b"q\x000" + argument + b"q\x010](" + b"h\x00h\x01\x85R" * times + b"e."


def _named_key(levels: int) -> bytes:
    """A key of named tuples, each of which holds the one before three times."""
    named = name("sklearn.impute._iterative:_ImputerTriplet") + b"q\x000"
    return b"\x80\x04}" + named + b"N" + b"q\x010h\x00h\x01h\x01h\x01\x87\x81" * levels + b"Ns."


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
_SET = b"\x8f(" + b"".join(b"M" + struct.pack("<H", each) for each in range(20_000)) + b"\x90"


def _between(opening: bytes, closing: bytes) -> bytes:
    """Arrays of objects in one another, with something between every fifty-nine of them and the next."""
    array = b"h\x00h\x01K\x00\x85C\x01b\x87R(K\x01K\x01\x85h\x02\x89]"
    return _deep(_ARRAYS, opening + array * 100, b"atb" * 100 + closing, 20)


def _many(callee: bytes, times: int) -> bytes:
    """A list of what calling a function with nothing gives, many times."""
    return b"\x80\x04" + callee + b"q\x000](" + b"h\x00)R" * times + b"e."


def _scales(scales: bytes) -> bytes:
    """A quantized tensor with a scale for each of two channels."""
    scheme = Raw(b"(" + name("torch:per_channel_affine") + scales + b"](K\x00K\x00eK\x00t")
    whole = storage(4, "torch:QInt8Storage")
    return pickled(call("torch._utils:_rebuild_qtensor", whole, 0, (2,), (1,), scheme, False, _HOOKS))


def _nested_lists(levels: int) -> bytes:
    """Lists of the same list twice."""
    lists = b"](K\x01K\x01e"
    for _ in range(levels):
        lists = b"](" + lists + b"q\x50h\x50e"
    return lists


def _cast(array: bytes, function: str) -> bytes:
    """Copies of an array's or a tensor's numbers as longer ones, again and again."""
    copied = b"h\x61(h\x60" + name("torch:complex128") + text("cpu") + b"\x89tR"
    return pickled(array + b"q\x600" + name(f"torch._utils:{function}") + b"q\x610](" + copied * 1500 + b"e")


_HOOKS = call("collections:OrderedDict")
_BYTES = built(
    call("numpy._core.multiarray:_reconstruct", name("numpy:ndarray"), (0,), b"b"),
    (1, (20_000,), dtype("i1"), False, bytes(20_000)),
)
_TENSOR = tensor(storage(20_000, "torch:CharStorage"), (20_000,), (1,))
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
    "key-of-named-tuples-in-one-another": (_named_key(40), UNSAFE, _ENDLESS),
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
    "arrays-of-objects-with-lists-between": (_between(b"](", b"e"), UNSAFE, _STACK),
    "arrays-of-objects-with-models-between": (
        _between(name("sklearn.pipeline:Pipeline") + b")\x81}" + text("a"), b"sb"), UNSAFE, _STACK,
    ),
    "queue-of-a-set-again-and-again": (_again(name("collections:deque"), _SET, 4000), UNSAFE, _ENDLESS),
    "set-of-a-set-again-and-again": (_again(name("builtins:frozenset"), _SET, 4000), UNSAFE, _ENDLESS),
    "random-generators-again-and-again": (
        _many(name("numpy.random._pickle:__bit_generator_ctor"), 20_000), UNSAFE, _ENDLESS,
    ),
    "state-of-a-generator-again-and-again": (
        b"\x80\x04" + value({"bit_generator": "PCG64", "state": {"state": 1, "inc": 1}, "has_uint32": 0, "uinteger": 0})
        + b"q\x000" + call("numpy.random._pickle:__bit_generator_ctor", name("numpy.random._pcg64:PCG64"))
        + b"h\x00b" * 30_000 + b".", UNSAFE, _ENDLESS,
    ),
    "random-states-again-and-again": (
        _many(name("numpy.random._pickle:__randomstate_ctor"), 20_000), UNSAFE, _ENDLESS,
    ),
    "scales-of-lists-in-one-another": (_scales(_nested_lists(40)), UNSAFE, _ENDLESS),
    "scales-of-ranges": (_scales(b"](" + call("builtins:range", 10**9) * 2 + b"e"), UNSAFE, _ENDLESS),
    "array-cast-again-and-again": (_cast(_BYTES, "_rebuild_device_tensor_from_numpy"), UNSAFE, _ENDLESS),
    "tensor-cast-again-and-again": (_cast(_TENSOR, "_rebuild_device_tensor_from_cpu_tensor"), UNSAFE, _ENDLESS),
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
