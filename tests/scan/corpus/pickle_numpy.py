"""What numpy believes of a pickle: dtypes, arrays and scalars that are not what they say, and models built on them."""

from __future__ import annotations

from corpus import NEVER_SAFE, UNSAFE
from corpus.pickle_bytes import Raw, built, call, made, name, pickled, value
from corpus.pickle_structures import dtype

_NUMPY = "https://numpy.org/doc/stable/reference/security.html"
_ENDLESS = "https://cwe.mitre.org/data/definitions/400.html"
_BOUNDS = "https://cwe.mitre.org/data/definitions/125.html"

_EMPTY = call("numpy._core.multiarray:_reconstruct", name("numpy:ndarray"), (0,), b"b")
_FIELD = (3, "|", None, ("a",), {"a": (Raw(b"h\x09"), 0)}, 8, 1, 16)


def array(kind: Raw, shape: tuple[int, ...], data: object) -> Raw:
    """An array of numpy."""
    return built(_EMPTY, (1, shape, kind, False, data))


def _swapped() -> Raw:
    return dtype("O8", (3, ">", None, None, None, -1, -1, 63))


def _nested(levels: int) -> Raw:
    kind = dtype("f8")
    for _ in range(levels):
        kind = dtype("V8", (3, "|", None, ("a",), {"a": (kind, 0)}, 8, 1, 16))
    return kind


def _wide(order: str, fields: int, levels: int = 8) -> Raw:
    """Structures whose fields are all the same structure, at the same place."""
    kind = dtype("f8", (3, ">", None, None, None, -1, -1, 0))
    for _ in range(levels):
        first = Raw(kind + b"q\x33")
        names = tuple(f"a{each}" for each in range(fields))
        places = {each: (Raw(b"h\x33") if at else first, 0) for at, each in enumerate(names)}
        kind = dtype("V8", (3, order, None, names, places, 8, 1, 16))
    return kind


def _record(state: tuple[object, ...] | None) -> Raw:
    """The dtype of recarrays."""
    made_dtype = call("numpy:dtype", name("numpy:record"), False, True)
    return made_dtype if state is None else built(made_dtype, state)


_FIELDS = ("idx_start", "idx_end", "is_leaf", "radius")


def _tree(
    bounds: int = 2,
    weights: object = None,
    distance: str = "Euclidean",
    vector: int = 1,
    leaf: int = 40,
    fields: tuple[str, ...] = _FIELDS,
    nodes: int = 1,
    width: int = 2,
) -> Raw:
    """A k-d tree of two points of two numbers each, in one node."""
    floats, integers = dtype("f8"), dtype("i8")
    places = {each: (floats if each == "radius" else integers, 8 * at) for at, each in enumerate(fields)}
    record = dtype("V32", (3, "|", None, fields, places, 32, 1, 16))
    node = b"".join({"idx_end": 2, "is_leaf": 1}.get(each, 0).to_bytes(8, "little") for each in fields) * nodes
    metric = built(
        call("sklearn.metrics._dist_metrics:newObj", name(f"sklearn.metrics._dist_metrics:{distance}Distance64")),
        (2.0, array(floats, (vector,), bytes(8 * vector)), array(floats, (1, 1), bytes(8))),
    )
    return built(
        call("sklearn.neighbors._kd_tree:newObj", name("sklearn.neighbors._kd_tree:KDTree")),
        (
            array(floats, (2, width), bytes(16 * width)), array(integers, (2,), bytes(8) + b"\1" + bytes(7)),
            array(record, (nodes,), node), array(floats, (bounds, nodes, width), bytes(8 * bounds * nodes * width)),
            leaf, 1, nodes, 0, 0, 0, 0, metric, weights,
        ),
    )  # fmt: skip


def _nested_dictionaries(levels: int) -> Raw:
    """Dictionaries of the same dictionary twice."""
    inner = b"N"
    for _ in range(levels):
        inner = b"}(" + value("a") + inner + b"q\x50" + value("b") + b"h\x50u"
    return Raw(inner)


_MASKED = call("numpy.ma.core:_mareconstruct", name("numpy.ma:MaskedArray"), name("numpy:ndarray"), (0,), b"b")
_PAIR = dtype("V16", (3, "|", None, ("a", "b"), {"a": (dtype("f8"), 0), "b": (dtype("f8"), 8)}, 16, 1, 16))
_PHILOX = {"counter": 0, "key": 0}

HOSTILE: dict[str, tuple[bytes, frozenset[str], str]] = {
    "objects-in-another-byte-order": (pickled(array(_swapped(), (1,), [None])), UNSAFE, _NUMPY),
    "field-of-objects-in-another-byte-order": (
        pickled(array(
            dtype("V16", (3, ">", None, ("a", "b"), {"a": (dtype("f8"), 0), "b": (_swapped(), 8)}, 16, 1, 27)),
            (1,), [(1.5, "x")],
        )), UNSAFE, _NUMPY,
    ),
    **{
        f"alignment-of-{alignment}-for-{kind}": (
            pickled(array(dtype(kind, (3, "|", None, None, None, 8, alignment, 0)), (2,), bytes(16))), UNSAFE, _NUMPY,
        )
        for kind in ("S8", "V8", "U2") for alignment in (0, -1, 3, 1 << 30)
    },
    "dtype-that-holds-itself": (
        pickled(Raw(call("numpy:dtype", "V8", False, True) + b"q\x09" + value(_FIELD) + b"b")), UNSAFE, _NUMPY,
    ),
    "record-without-fields": (pickled(array(_record(None), (1,), b"")), UNSAFE, _NUMPY),
    "record-that-is-shorter-than-its-fields": (
        pickled(array(_record((3, "|", None, ("a",), {"a": (dtype("f8"), 0)}, 4, 1, 16)), (1,), bytes(4))),
        UNSAFE, _NUMPY,
    ),
    "record-without-flags-for-its-objects": (
        pickled(array(_record((3, "|", None, ("a",), {"a": (dtype("O8"), 0)}, 8, 1, 16)), (1,), bytes(8))),
        UNSAFE, _NUMPY,
    ),
    "structures-of-one-structure-turned": (pickled(array(_wide(">", 9, 4), (1,), bytes(8))), UNSAFE, _ENDLESS),
    "structures-of-one-structure": (pickled(array(_wide("|", 40), (1,), bytes(8))), UNSAFE, _ENDLESS),
    "dtypes-in-one-another": (pickled(_nested(40)), UNSAFE, _NUMPY),
    "flags-that-numpy-does-not-have": (
        pickled(dtype("V8", (3, "|", None, ("a",), {"a": (dtype("f8"), 0)}, 8, 1, 4))), UNSAFE, _NUMPY,
    ),
    "structure-that-is-sorted-without-the-lock": (
        pickled(array(
            dtype("V8", (3, "|", None, ("a",), {"a": (dtype("i8"), 0)}, 8, 1, 0)), (2,), bytes(range(16))
        )), UNSAFE, _NUMPY,
    ),
    "unit-of-time-of-too-many-parts": (
        pickled(dtype("m8", (4, "<", None, None, None, -1, -1, 0, (None, (b"W", 1 << 30, 2, 1))))), UNSAFE, _NUMPY,
    ),
    "unit-of-time-that-is-none": (
        pickled(dtype("M8", (4, "<", None, None, None, -1, -1, 0, (None, (b"s", None, 1, 1))))), UNSAFE, _NUMPY,
    ),
    "time-without-its-unit": (pickled(array(dtype("m8"), (2,), bytes(16))), UNSAFE, _NUMPY),
    "date-without-its-unit": (pickled(array(dtype("M8"), (2,), bytes(16))), UNSAFE, _NUMPY),
    "matrix-of-one-dimension": (
        pickled(built(
            call("numpy.core.multiarray:_reconstruct", name("numpy:matrix"), (0,), b"b"),
            (1, (3,), dtype("f8"), False, bytes(24)),
        )), UNSAFE, _BOUNDS,
    ),
    "array-of-little-arrays": (
        pickled(array(dtype("V16", (3, "|", (dtype("f8"), (2,)), None, None, 16, 8, 0)), (1,), bytes(16))),
        UNSAFE, _NUMPY,
    ),
    "array-of-a-trillion-empty-texts": (
        pickled(array(dtype("S0", (3, "|", None, None, None, 0, 1, 0)), (1 << 40,), b"")), UNSAFE, _ENDLESS,
    ),
    "fill-value-of-a-billion-numbers": (
        pickled(built(_MASKED, (1, (1,), dtype("f8"), False, bytes(8), b"\0", call("builtins:range", 0, 10**9)))),
        UNSAFE, _ENDLESS,
    ),
    "fill-value-that-becomes-a-text": (
        pickled(built(_MASKED, (1, (0,), dtype("U5", (3, "<", None, None, None, 20, 4, 8)), False, b"", b"",
                                array(dtype("O8"), (), [_nested_dictionaries(60)])))), UNSAFE, _ENDLESS,
    ),
    "fill-value-of-a-gigabyte": (
        pickled(built(_MASKED, (1, (0,), dtype("S1073741824", (3, "|", None, None, None, 1 << 30, 1, 0)), False, b"",
                                b"", b"x"))), UNSAFE, _ENDLESS,
    ),
    "masked-structures-with-fewer-truth-values": (
        pickled(built(_MASKED, (1, (1,), _PAIR, False, bytes(16), b"\0", None))), UNSAFE, _BOUNDS,
    ),
    "array-whose-axes-are-no-permutation": (
        pickled(call("numpy._core.numeric:_frombuffer", bytes(32), dtype("f8"), (2, 2), "K", (0, 0))), UNSAFE, _BOUNDS,
    ),
    "seeds-with-a-pool-of-another-size": (
        pickled(call("numpy.random.bit_generator:__pyx_unpickle_SeedSequence",
                     name("numpy.random.bit_generator:SeedSequence"), 65708578,
                     (5, 0, array(dtype("u4"), (4,), bytes(16)), 1 << 31, ()))), UNSAFE, _ENDLESS,
    ),
    "bunch-with-an-address": (
        pickled(Raw(made("sklearn.utils._bunch:Bunch") + value("__array_interface__") + value({
            "data": (0x4141, False), "shape": (1000,), "typestr": "<f8", "version": 3,
        }) + b"s")), UNSAFE, _NUMPY,
    ),
    "random-generator-beyond-its-buffer": (
        pickled(built(
            call("numpy.random._pickle:__bit_generator_ctor", name("numpy.random._philox:Philox")),
            ({"bit_generator": "Philox", "state": _PHILOX, "buffer": 0, "buffer_pos": 1 << 20}, None),
        )), UNSAFE, _BOUNDS,
    ),
    "neighbours-with-bounds-of-one-side": (pickled(_tree(bounds=1)), UNSAFE, _BOUNDS),
    "neighbours-read-by-name": (
        pickled(_tree(fields=("is_leaf", "idx_start", "idx_end", "radius"))), UNSAFE, _BOUNDS,
    ),
    "neighbours-without-nodes": (pickled(_tree(nodes=0)), UNSAFE, _BOUNDS),
    "neighbours-on-a-globe-of-one-number": (pickled(_tree(distance="Haversine", width=1)), UNSAFE, _BOUNDS),
    "neighbours-with-leaves-of-no-points": (pickled(_tree(leaf=0)), UNSAFE, _BOUNDS),
    "neighbours-without-bounds": (pickled(_tree(bounds=0)), UNSAFE, _BOUNDS),
    "neighbours-with-fewer-weights-than-points": (
        pickled(_tree(weights=array(dtype("f8"), (1,), bytes(8)))), UNSAFE, _BOUNDS,
    ),
    "neighbours-with-fewer-weights-than-features": (pickled(_tree(distance="Minkowski")), UNSAFE, _BOUNDS),
    # Lists and dictionaries whose parts stand where a tuple's would: numpy takes parts of some tuples without a look.
    "field-that-is-a-list": (
        pickled(array(
            dtype("V8", (3, "|", None, ("a",), {"a": [dtype("f8"), 0]}, 8, 1, 16)), (2,), bytes(16)
        )), UNSAFE, _NUMPY,
    ),
    "part-that-is-a-list": (
        pickled(dtype("V16", (3, "|", [dtype("f8"), 2], None, None, 16, 8, 0))), UNSAFE, _NUMPY,
    ),
    "unit-of-time-that-is-a-list": (
        pickled(dtype("m8", (4, "<", None, None, None, -1, -1, 0, [None, (b"s", 1, 1, 1)]))), UNSAFE, _NUMPY,
    ),
    "state-that-is-a-dictionary": (
        pickled(built(
            call("numpy:dtype", "f8", False, True),
            Raw(b"}(" + b"".join(map(value, (3, "<", None, None, None, -1, -1, 0))) + b"u"),
        )), UNSAFE, _NUMPY,
    ),
    "keys-of-long-numbers-beyond-all-others": (
        pickled(Raw(b"}(" + b"".join(
            call("numpy._core.multiarray:scalar", dtype("f16"),
                 bytes((each & 255, each >> 8, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x7E)) + bytes(6)) + b"N"
            for each in range(1, 1200)
        ) + b"u")), NEVER_SAFE, _ENDLESS,
    ),
}  # fmt: skip
"""Pickles with the verdicts that are right, and where they are described."""

HONEST = {
    "k-d-tree": pickled(_tree()),
    "k-d-tree-on-a-globe": pickled(_tree(distance="Haversine")),
    "k-d-tree-with-weights": pickled(_tree(distance="Minkowski", vector=2)),
}
"""Pickles of the same parts that are what they say."""
