"""Graphs of TensorFlow that do what they should not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from corpus import UNKNOWN, UNSAFE, Case
from corpus.messages import FIXTURES, field, written

OUT = "https://cwe.mitre.org/data/definitions/787.html"
NVD = "https://nvd.nist.gov/vuln/detail/"
TENSORFLOW = "https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md"


def text_attribute(key: str, value: bytes) -> bytes:
    """An attribute that is a text."""
    return field(5, field(1, key) + field(2, field(2, value)))


def filled_in(key: str, name: str) -> bytes:
    """An attribute that whoever calls the function fills in."""
    return field(5, field(1, key) + field(2, field(9, name)))


def function_attribute(key: str, name: str) -> bytes:
    """An attribute that names a function."""
    return field(5, field(1, key) + field(2, field(10, field(1, name))))


def node(name: str, op: str, *inputs: str, more: bytes = b"") -> bytes:
    """A `NodeDef`."""
    return field(1, name) + field(2, op) + b"".join(field(3, each) for each in inputs) + more


def constant(name: str, text: str) -> bytes:
    """A constant text."""
    return node(name, "Const", more=field(5, field(1, "value") + field(2, field(8, field(1, 7) + field(8, text)))))


def graph(*nodes: bytes, functions: tuple[bytes, ...] = ()) -> bytes:
    """A `GraphDef` with its library."""
    library = field(2, b"".join(field(1, each) for each in functions)) if functions else b""
    return b"".join(field(1, each) for each in nodes) + library


def function(name: str, arguments: tuple[str, ...], *nodes: bytes) -> bytes:
    """A `FunctionDef`."""
    signature = field(1, name) + b"".join(field(2, field(1, each)) for each in arguments)
    return field(1, signature) + b"".join(field(3, each) for each in nodes)


def saved_model(*nodes: bytes, functions: tuple[bytes, ...] = (), more: bytes = b"") -> Callable[[Path], Path]:
    """Writes a `saved_model.pb`."""
    meta = field(1, field(4, "serve")) + field(2, graph(*nodes, functions=functions)) + more
    return lambda folder: written(folder / "saved_model.pb", field(1, 1) + field(2, meta))


def keras_layer(metadata: str) -> bytes:
    """A layer of Keras in the tree of objects."""
    return field(7, field(1, field(4, field(1, "_tf_keras_layer") + field(3, metadata))))


LAMBDA = '{"class_name": "Lambda", "config": {"function": ["4wEAAAA", null, null], "function_type": "lambda"}}'
INPUT = node("x", "Placeholder")


def _nested(folder: Path) -> Path:
    """A dangerous operation in a function that a function calls."""
    inner = function("inner", ("a",), node("w", "WriteFile", "a", "a"))
    outer = function("outer", ("a",), node("c", "PartitionedCall", "a", more=function_attribute("f", "inner")))
    call = node("y", "StatefulPartitionedCall", "x", more=function_attribute("f", "outer"))
    return saved_model(INPUT, call, functions=(inner, outer))(folder)


def _filled_in(folder: Path) -> Path:
    """A file that an operation reads, named by the call of the function that it stands in."""
    sampler = node("s", "FixedUnigramCandidateSampler", "a", more=filled_in("vocab_file", "which"))
    call = node("y", "sample", "x", more=text_attribute("which", b"/etc/passwd"))
    return saved_model(INPUT, call, functions=(function("sample", ("a",), sampler),))(folder)


def _saver_by_call(folder: Path) -> Path:
    """A saver in a function, as every SavedModel has one, called with a name that the graph makes up."""
    saver = function("save", ("prefix",), node("s", "SaveV2", "prefix", "prefix", "prefix"))
    call = node("y", "StatefulPartitionedCall", "n", more=function_attribute("f", "save"))
    return saved_model(INPUT, constant("n", "/srv/flag"), call, functions=(saver,))(folder)


def _bomb() -> bytes:
    shape = field(2, field(2, field(1, 1 << 40)))
    return node(
        "b", "Const", more=field(5, field(1, "value") + field(2, field(8, field(1, 1) + shape + field(5, b"\0\0\0\0"))))
    )


def _asset() -> bytes:
    return field(6, field(1, field(1, "x:0")) + field(2, "../../../../etc/passwd"))


def _checkpoint(before: bytes, after: bytes) -> Callable[[Path], Path]:
    """The index of a checkpoint, changed."""

    def make(folder: Path) -> Path:
        data = (FIXTURES / "saved_model" / "variables.index").read_bytes()
        assert before in data
        return written(folder / "variables.index", data.replace(before, after, 1))

    return make


GRAPH_CASES = (
    Case("checkpoint-size", _checkpoint(bytes.fromhex("2020280835"), bytes.fromhex("2020287f35")), UNSAFE),
    Case(
        "checkpoint-offset",
        _checkpoint(bytes.fromhex("2028083529"), bytes.fromhex("a028083529")),
        frozenset({"unsafe", "unknown"}),
    ),
    Case(
        "checkpoint-compressed",
        _checkpoint(bytes.fromhex("01000000008e53fb42"), bytes.fromhex("01000000018e53fb42")),
        UNKNOWN,
    ),
    *(
        Case(f"tensorflow-{op.lower()}", saved_model(INPUT, node("y", op, "x", "x")), UNSAFE, TENSORFLOW)
        for op in ("ReadFile", "WriteFile", "PyFunc", "MatchingFiles", "TFRecordReaderV2", "ImmutableConst", "Abort")
    ),
    Case(
        "tensorflow-descriptor-file",
        saved_model(INPUT, node("d", "DecodeProtoV2", "x", more=text_attribute("descriptor_source", b"/etc/passwd"))),
        UNSAFE,
        TENSORFLOW,
    ),
    Case("tensorflow-graph-in-a-text", saved_model(constant("n", "graph"), node("d", "DatasetFromGraph", "n")), UNSAFE),
    Case(
        "tensorflow-debug-address",
        saved_model(
            INPUT, node("d", "CopyHost", "x", more=text_attribute("debug_ops_spec", b"DebugIdentity;grpc://x;0"))
        ),
        UNSAFE,
    ),
    Case("tensorflow-nested-function", _nested, UNSAFE, TENSORFLOW),
    Case("tensorflow-real-write", lambda folder: FIXTURES / "saved_model_writes_file.pb", UNSAFE, TENSORFLOW),
    Case(
        "tensorflow-save-elsewhere",
        saved_model(constant("n", "/srv/flag"), node("s", "SaveV2", "n", "n", "n")),
        UNSAFE,
        TENSORFLOW,
    ),
    Case("tensorflow-save-elsewhere-by-call", _saver_by_call, UNSAFE, TENSORFLOW),
    Case(
        "tensorflow-print-to-file",
        saved_model(INPUT, node("p", "PrintV2", "x", more=text_attribute("output_stream", b"file:///srv/flag"))),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-table-from-file",
        saved_model(
            node("t", "HashTableV2"), constant("n", "/etc/passwd"), node("i", "InitializeTableFromTextFileV2", "t", "n")
        ),
        UNSAFE,
        TENSORFLOW,
    ),
    Case(
        "tensorflow-asset-outside",
        saved_model(INPUT, more=_asset()),
        UNSAFE,
        "https://cwe.mitre.org/data/definitions/22.html",
    ),
    Case("tensorflow-constant-bomb", saved_model(_bomb()), UNSAFE, "https://cwe.mitre.org/data/definitions/789.html"),
    Case("tensorflow-custom-operation", saved_model(INPUT, node("y", "MyOwnOp", "x")), UNKNOWN, TENSORFLOW),
    Case("tensorflow-two-nodes", saved_model(INPUT, INPUT), UNKNOWN),
    Case(
        "tensorflow-operation-twice", saved_model(INPUT, node("y", "Identity", "x", more=field(2, "ReadFile"))), UNSAFE
    ),
    Case(
        "tensorflow-frozen",
        lambda folder: written(folder / "g.pb", graph(INPUT, node("y", "ReadFile", "x"))),
        UNSAFE,
        TENSORFLOW,
    ),
    Case("tensorflow-keras-lambda", saved_model(INPUT, more=keras_layer(LAMBDA)), UNSAFE, NVD + "CVE-2024-3660"),
    Case(
        "tensorflow-metadata-lambda",
        lambda folder: written(
            folder / "keras_metadata.pb",
            field(1, field(2, 1) + field(3, "root") + field(4, "_tf_keras_layer") + field(5, LAMBDA)),
        ),
        UNSAFE,
        NVD + "CVE-2024-3660",
    ),
    Case(
        "tensorflow-as-text",
        lambda folder: written(
            folder / "m.pbtxt",
            'saved_model_schema_version: 1\nmeta_graphs {\n  graph_def { node { name: "x" op: "ReadFile" } }\n}\n',
        ),
        UNKNOWN,
    ),
    Case("tensorflow-file-filled-in", _filled_in, UNKNOWN),
)
