"""Graphs of TensorFlow that open files of their own choice by way of the operations that every SavedModel has."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE, Case
from corpus.frameworks_graphs import (
    INPUT,
    TENSORFLOW,
    constant,
    function,
    function_attribute,
    graph,
    node,
    saved_model,
    text_attribute,
)
from corpus.messages import field, varint, written

LAST = "https://protobuf.dev/programming-guides/encoding/#last-one-wins"
BOMB = "https://cwe.mitre.org/data/definitions/789.html"
SAVER = field(3, field(1, "p:0"))
"""What the loader hands the name of a checkpoint."""
PREFIX = node("p", "PlaceholderWithDefault", "d"), constant("d", "model")
SAVE = node("s", "SaveV2", "n", "n", "n")
FIRST = field(
    5,
    field(1, "__saved_model_init_op") + field(2, field(2, field(1, "x") + field(2, field(1, "s")))),
)
"""The node `s` runs while the model is loaded."""


def named(*nodes: bytes) -> Case:
    """A saver whose name `n` is made by these nodes, besides what the loader hands in."""
    return Case("", saved_model(*PREFIX, *nodes, SAVE, more=SAVER), NEVER_SAFE, TENSORFLOW)


def _called_by_the_loader(*, kind: bytes) -> bytes:
    """A function that the loader calls with an object: a constant of the graph, an asset, …"""
    bound = field(2, field(1, "start") + field(2, field(2, b"\0")))
    return field(7, field(1, kind) + bound)


def _initializer() -> bytes:
    """An object that the loader initialises by a function."""
    return field(1, field(1, field(1, 1) + field(2, "_initialize"))) + field(1, field(6, field(1, "start")))


def _object(*parts: bytes) -> bytes:
    """An object beside the graph."""
    return field(1, b"".join(parts))


def _child(name: str, number: int, part: int = 1) -> bytes:
    """An object that belongs to another, or (part 15) that it is made of."""
    return field(part, field(1, number) + field(2, name))


HEAVY = function("heavy", (), node("f", "Fill", "d", "d"))
CALLED = _object(field(6, field(1, "heavy")))


def _calls_heavy(*objects: bytes) -> Callable[[Path], Path]:
    """A model whose loader calls a function that fills memory, object 0, by way of these objects."""
    return saved_model(INPUT, functions=(HEAVY,), more=field(7, CALLED + b"".join(objects)))


def table_that_is_saved() -> Callable[[Path], Path]:
    """What TensorFlow writes of a table that changes: functions that make it, save it and restore it."""
    save = function("save", ("key",), node("j", "Add", "key", "c"), node("k", "LookupTableExportV2", "t"))
    functions = save, function("restore", ("a",), node("i", "LookupTableImportV2", "t", "a"))
    functions += (function("create", (), node("t", "MutableHashTableV2")),)
    made = (_object(field(6, field(1, name)), _child("trace_0", 3)) for name in ("save", "restore", "create"))
    by = field(11, field(1, "table") + field(2, field(2, 0) + field(3, 1)))
    concrete, table = _object(field(8, b"")), _object(by, _child("_create_resource", 2), field(10, b""))
    return saved_model(INPUT, functions=functions, more=field(7, b"".join((*made, concrete, table))))


def _behind_its_value() -> bytes:
    """The node `s` runs while the model is loaded, by an entry of a map that begins with its value."""
    return field(5, field(2, field(2, field(1, "x") + field(2, field(1, "s")))) + field(1, "__saved_model_init_op"))


def _collection(key: str, kind: int, *values: bytes | str) -> bytes:
    """A collection of a meta graph: names (kind 1) or messages (kind 2)."""
    return field(4, field(1, key) + field(2, field(kind, b"".join(field(1, value) for value in values))))


def _older_assets(name: str) -> bytes:
    """An asset in the place of older versions: a message with the name of its type, in a collection."""
    asset = field(1, "type.googleapis.com/tensorflow.AssetFileDef") + field(2, field(1, field(1, f"{name}:0")))
    return field(4, field(1, "saved_model_assets") + field(2, field(5, field(1, asset))))


def _filled_constant(*dims: int) -> bytes:
    """A constant of one number that stands for all of its elements."""
    shape = b"".join(field(2, field(1, each)) for each in dims)
    tensor = field(1, 1) + field(2, shape) + field(4, b"\0\0\0\0")
    return node("c", "Const", more=field(5, field(1, "value") + field(2, field(8, tensor))))


def _packed_text() -> bytes:
    """A constant text that stands where numbers stand."""
    return node("d", "Const", more=field(5, field(1, "value") + field(2, field(8, field(1, 7) + field(4, b"\4/srv")))))


def _constant_of(size: int) -> bytes:
    shape = field(2, field(2, field(1, size)))
    return field(1, 1) + shape + field(5, b"\0\0\0\0")


START = function("start", ("a",), node("s", "SaveV2", "a", "a", "a"))
READ = function("start", ("a",), node("i", "InitializeTableFromTextFileV2", "t", "a"))
TABLE = node("t", "HashTableV2"), node("i", "InitializeTableFromTextFileV2", "t", "n")
VOCABULARY = field(6, field(1, field(1, "n:0")) + field(2, "vocab.txt"))
ANSWER = field(5, field(1, "serve") + field(2, field(2, field(1, "y") + field(2, field(1, "y:0")))))
OPERATION = graph(INPUT, node("y", "XlaSort", "x"))
OTHER = graph(INPUT, functions=(function("XlaSort", ("a",)),))


def _index(*variables: tuple[bytes, bytes], search: int = 0) -> Callable[[Path], Path]:
    """The index of a checkpoint of one file; `search` is where looking for a key begins."""

    def block(*entries: tuple[bytes, bytes]) -> bytes:
        data = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
        return data + struct.pack("<II", search if len(entries) > 1 else 0, 1)

    def make(folder: Path) -> Path:
        header = b"", field(1, 1) + field(3, field(1, 1))
        blocks = [block(header, *variables)]
        blocks.append(block((b"z", varint(0) + varint(len(blocks[0])))))
        place = len(blocks[0]) + 5
        footer = varint(0) * 2 + varint(place) + varint(len(blocks[1]))
        data = b"".join(each + bytes(5) for each in blocks) + footer.ljust(40, b"\0")
        return written(folder / "x.index", data + bytes.fromhex("57fb808b247547db"))

    return make


def _variable(kind: int, size: int, *dims: int, shard: int = 0) -> tuple[bytes, bytes]:
    shape = b"".join(field(2, field(1, each)) for each in dims)
    return b"w", field(1, kind) + field(2, shape) + field(3, shard) + field(5, size)


def _size_twice() -> tuple[bytes, bytes]:
    """A variable of four elements, to whoever takes the first size of its dimension."""
    shape = field(2, field(1, 4) + field(1, 1 << 40))
    return b"w", field(1, 1) + field(2, shape) + field(5, 16)


def _short_file(folder: Path) -> Path:
    written(folder / "x.data-00000-of-00001", bytes(8))
    return _index(_variable(1, 16, 4))(folder)


TENSORFLOW_CASES = (
    Case("checkpoint-bomb", _index(_variable(1, 4 << 36, 1 << 36)), UNKNOWN, BOMB),
    Case("checkpoint-size-twice", _index(_size_twice()), UNSAFE, LAST),
    Case("checkpoint-many-dimensions", _index(_variable(1, 16, *[1 << 62] * (1 << 15))), UNKNOWN, BOMB),
    Case("checkpoint-many-texts", _index(_variable(7, 1 << 33, 1 << 33)), UNKNOWN, BOMB),
    Case("checkpoint-texts-without-bytes", _index(_variable(7, 4, 1 << 20)), UNSAFE),
    Case("checkpoint-short-file", _short_file, UNSAFE),
    Case("checkpoint-file-beyond", _index(_variable(1, 16, 4, shard=1)), UNSAFE),
    Case("checkpoint-object", _index(_variable(21, 16, 4)), UNKNOWN),
    Case("checkpoint-two-readings", _index(_variable(1, 16, 4), search=13), UNKNOWN),
    *(
        Case(f"tensorflow-name-{name}", case.make, case.expected, case.reference)
        for name, case in (
            ("cut-out", named(constant("c", "a/srv/flag"), node("n", "Substr", "c", "c", "c"))),
            (
                "joined-by-more",
                named(constant("c", "flag"), node("n", "StringJoin", "p", "c", more=text_attribute("separator", b"/"))),
            ),
            ("with-an-ending", named(constant("c", "x.py"), node("n", "StringJoin", "p", "c"))),
            ("in-pieces", named(constant("c", "/."), constant("e", "./x"), node("n", "StringJoin", "p", "c", "e"))),
            ("formatted", named(node("n", "StringFormat", "p", more=text_attribute("template", b"/srv/flag%s")))),
            ("very-long", named(constant("n", "/." * (1 << 19) + "/srv/flag"))),
            ("missing", named()),
        )
    ),
    Case(
        "tensorflow-name-packed",
        saved_model(_packed_text(), node("p", "PlaceholderWithDefault", "d"), SAVE.replace(b"n", b"p"), more=SAVER),
        NEVER_SAFE,
        TENSORFLOW,
    ),
    Case("tensorflow-name-of-an-input", saved_model(INPUT, node("s", "SaveV2", "x", "x", "x"), more=SAVER), UNKNOWN),
    Case(
        "tensorflow-save-while-loading",
        saved_model(*PREFIX, node("s", "SaveV2", "p", "p", "p"), more=SAVER + FIRST),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-name-the-loader-hands-over",
        saved_model(
            constant("n", "/srv/flag"), functions=(START,), more=_called_by_the_loader(kind=field(9, field(1, "n")))
        ),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-asset-handed-over-as-a-constant",
        saved_model(
            constant("n", "/etc/passwd"),
            functions=(READ,),
            more=VOCABULARY + _called_by_the_loader(kind=field(9, field(1, "n"))),
        ),
        NEVER_SAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-asset-while-restoring",
        saved_model(constant("n", "/etc/passwd"), *TABLE, more=VOCABULARY + field(3, field(1, "p:0") + field(3, "i"))),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-save-over-an-asset",
        saved_model(INPUT, functions=(START,), more=_called_by_the_loader(kind=field(5, field(1, 0)))),
        UNKNOWN,
        TENSORFLOW,
    ),
    Case("tensorflow-function-that-nothing-calls", saved_model(INPUT, functions=(START,)), UNKNOWN),
    Case(
        "tensorflow-gradient-with-a-name",
        saved_model(
            constant("n", "/srv/flag"),
            node("g", "SymbolicGradient", "n", more=function_attribute("f", "other")),
            functions=(START, function("other", ("a",))),
        ),
        UNKNOWN,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-asset-for-an-answer",
        saved_model(
            constant("n", "/etc/passwd"), *TABLE, node("y", "LookupTableFindV2", "t", "^i"), more=VOCABULARY + ANSWER
        ),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-graph-in-two-parts",
        saved_model(node("s", "SaveV2", "n", "n", "n"), more=field(2, graph(constant("n", "/srv/flag")))),
        NEVER_SAFE,
        "https://protobuf.dev/programming-guides/encoding/#last-one-wins",
    ),
    Case(
        "tensorflow-function-of-another-graph",
        lambda folder: written(
            folder / "saved_model.pb", field(1, 1) + field(2, field(2, OPERATION)) + field(2, field(2, OTHER))
        ),
        UNKNOWN,
    ),
    Case(
        "tensorflow-two-functions-of-one-name",
        saved_model(INPUT, functions=(function("f", ("a",)), function("f", ("b",)))),
        UNKNOWN,
    ),
    Case(
        "tensorflow-constants-together",
        saved_model(
            *(
                node(f"c{n}", "Const", more=field(5, field(1, "value") + field(2, field(8, _constant_of(1 << 28)))))
                for n in range(5)
            )
        ),
        UNSAFE,
        BOMB,
    ),
    Case(
        "tensorflow-constant-in-a-signature",
        saved_model(
            INPUT,
            more=field(7, field(2, field(1, "f") + field(2, field(3, field(55, _constant_of(1 << 40)))))),
        ),
        UNSAFE,
        BOMB,
    ),
    Case("tensorflow-constant-of-many-digits", saved_model(_filled_constant(*[1 << 62] * 400)), UNSAFE, BOMB),
    Case(
        "tensorflow-save-while-loading-behind-its-value",
        saved_model(*PREFIX, node("s", "SaveV2", "p", "p", "p"), more=SAVER + _behind_its_value()),
        UNSAFE,
        TENSORFLOW,
    ),
    *(
        Case(
            f"tensorflow-runs-at-once-by-{name}",
            saved_model(INPUT, node("f", "Fill", "x", "x"), more=SAVER + collection),
            UNKNOWN,
            TENSORFLOW,
        )
        for name, collection in (
            ("main-operation", _collection("saved_model_main_op", 1, "f")),
            ("table-initializer", _collection("table_initializer", 1, "f")),
            ("local-variable", _collection("local_variables", 2, field(1, "v:0") + field(2, "f"))),
        )
    ),
    Case(
        "tensorflow-asset-in-a-list-that-is-not-read",
        saved_model(
            constant("n", "/etc/passwd"),
            *TABLE,
            more=field(6, field(1, field(1, "x:0")) + field(2, "vocab.txt")) + _older_assets("n"),
        ),
        UNSAFE,
        TENSORFLOW,
    ),
    *(
        Case(f"tensorflow-loader-calls-{name}", _calls_heavy(*objects), UNKNOWN, TENSORFLOW)
        for name, objects in (
            ("initializer", (_object(_child("_initialize", 0), field(10, b"")),)),
            ("saveable", (_object(field(11, field(1, "x") + field(2, field(2, 0) + field(3, 0)))),)),
            ("restorer", (_object(_child("_restore_from_tensors", 0), field(4, b"")),)),
            ("lookup", (_object(_child("_lookup_dependency", 0), field(4, b"")),)),
            ("destroyer", (_object(_child("_destroy_resource", 0), field(10, b"")),)),
            ("dependency", (_object(_child("_create_resource", 0, part=15), field(10, b"")),)),
            ("last-object", (_object(_child("_initialize", (1 << 64) - 1), field(10, b"")), CALLED)),
            ("function-of-a-function", (_object(_child("_call", 0), field(6, field(1, "start"))),)),
            (
                "object-that-is-called",
                (_object(_child("__call__", 0), field(4, b"")), _object(_child("_initialize", 1), field(10, b""))),
            ),
        )
    ),
)
