"""Hostile ONNX files: messages that readers read in two ways, tensors that are not what they say, and all others."""

from __future__ import annotations

from onnx import TensorProto

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE, Case
from corpus.graphs_bounds import BOUNDS
from corpus.graphs_costs import COSTS
from corpus.graphs_external import EXTERNAL
from corpus.graphs_kernels import KERNELS
from corpus.graphs_operators import OPERATORS, STRUCTURE
from corpus.graphs_trees import TREES
from corpus.onnx_models import (
    FLOAT,
    INT64,
    STRING,
    case,
    field,
    model,
    sparse,
    varint,
    with_weight,
    wrapped,
    written,
)

ENCODING = "https://protobuf.dev/programming-guides/encoding/"
MEMORY = "https://cwe.mitre.org/data/definitions/789.html"
RECURSION = "https://cwe.mitre.org/data/definitions/674.html"

PLAIN = model().SerializeToString(deterministic=True)
NODE = field(1, b"x") + field(2, b"y") + field(4, b"Relu")

# Messages.


def _nested_graphs() -> bytes:
    inner = field(1, NODE)
    for _ in range(90):
        inner = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, inner) + field(20, 5)))
    return wrapped(inner)


def _nested_types() -> bytes:
    kind = field(1, field(1, 1))
    for _ in range(60):
        kind = field(4, field(1, kind))
    return wrapped(field(1, NODE) + field(11, field(1, b"x") + field(2, kind)))


def _sound_that_is_a_model(graph: bytes = b"") -> bytes:
    # A RIFF header is field 10 with 73 bytes to readers of protobuf, which step over fields that they do not know, and
    # put graphs that are given several times together.
    header = b"RIFF" + (2000).to_bytes(4, "little") + b"WAVEfmt "
    return header.ljust(75, b"\0") + graph + PLAIN


MESSAGES = (
    case("group", PLAIN + varint(99 << 3 | 3) + varint(99 << 3 | 4), reference=ENCODING),
    case("long-tag", b"\x88\x00\x0a" + PLAIN, reference=ENCODING),
    case("long-number", b"\x28\x81\x80\x00" + PLAIN, reference=ENCODING),
    case("long-length", b"\x12\x81\x00a" + PLAIN, reference=ENCODING),
    case("number-of-70-bits", b"\x28" + b"\xff" * 9 + b"\x7f" + PLAIN, reference=ENCODING),
    case("field-number-beyond-29-bits", PLAIN + b"\xca\x81\x80\x80\x10\x00", NEVER_SAFE, ENCODING),
    case("graph-twice", wrapped(field(1, NODE)) + field(7, field(5, b"")), reference=ENCODING),
    case("version-twice", PLAIN + field(1, 3), reference=ENCODING),
    case(
        "location-as-bytes", wrapped(field(1, NODE) + field(5, field(8, b"w") + field(14, b"\1"))), reference=ENCODING
    ),
    case("location-of-33-bits", wrapped(field(1, NODE) + field(5, field(8, b"w") + field(14, (1 << 32) + 1)))),
    case("type-of-33-bits", wrapped(field(1, NODE) + field(5, field(8, b"w") + field(2, (1 << 32) + 1)))),
    case("name-no-utf8", wrapped(field(1, NODE + field(3, b"\xff\xfe"))), reference=ENCODING),
    case("two-types", wrapped(field(1, NODE) + field(11, field(1, b"x") + field(2, field(1, b"") + field(4, b""))))),
    case("cut", PLAIN[:-7], NEVER_SAFE),
    case("trailing-rubbish", PLAIN + b"\x07\x07\x07", NEVER_SAFE),
    case("unknown-field", PLAIN + field(99, b"?"), UNKNOWN),
    case(
        "unknown-field-in-tensor",
        wrapped(field(1, NODE) + field(5, field(8, b"w") + field(2, 1) + field(40, 1))),
        NEVER_SAFE,
    ),
    case("sound-behind-empty-graph", lambda: _sound_that_is_a_model(field(7, b"")), NEVER_SAFE),
    case("sound-behind-unknown-graph", lambda: _sound_that_is_a_model(field(7, field(100, b"") * 70)), NEVER_SAFE),
    case("sound-behind-many-fields", lambda: _sound_that_is_a_model(field(100, b"") * 100_100), NEVER_SAFE),
    case(
        "sound-that-is-a-model", _sound_that_is_a_model, NEVER_SAFE, "https://cwe.mitre.org/data/definitions/436.html"
    ),
    case("graphs-90-deep", _nested_graphs, UNSAFE, RECURSION),
    case("types-60-deep", _nested_types, UNSAFE, RECURSION),
    case(
        "attribute-of-two-kinds",
        wrapped(field(1, NODE + field(5, field(1, b"a") + field(3, 1) + field(5, field(8, b"w")) + field(20, 2)))),
    ),
    case("attribute-twice", wrapped(field(1, NODE + 2 * field(5, field(1, b"a") + field(3, 1) + field(20, 2))))),
    case("opset-twice", PLAIN + field(8, field(2, 7))),
    case("metadata-twice", PLAIN + 2 * field(14, field(1, b"classes") + field(2, b"2"))),
    Case("onnx-as-text", written(b'ir_version: 10\ngraph {\n node { op_type: "Relu" }\n}\n', "model.txt"), UNKNOWN),
    Case(
        "onnx-as-json", written(b'{"irVersion": "10", "graph": {"node": [{"opType": "Relu"}]}}', "model.json"), UNKNOWN
    ),
    Case("onnx-as-escaped-json", written(b'{"ir\\u0056ersion": "10", "graph": {}}', "model.json"), UNKNOWN),
    Case(
        "onnx-as-syntax",
        written(
            b'<ir_version: 10, opset_import: ["" : 20]>\ng (float[N] x) => (float[N] y) { y = Relu(x) }', "m.onnxtxt"
        ),
        UNKNOWN,
    ),
    Case("onnx-as-ort", written(b"\x18\0\0\0ORTM" + bytes(64), "model.onnx"), UNKNOWN),
)

# Tensors.


def tensor(**fields: object) -> TensorProto:
    return TensorProto(**{"name": "w", "data_type": FLOAT, "dims": [4, 4], **fields})  # type: ignore[arg-type]


TENSORS = (
    case(
        "negative-dimension",
        with_weight(tensor(dims=[-4, 4], raw_data=bytes(64))),
        reference="https://cwe.mitre.org/data/definitions/190.html",
    ),
    case(
        "dimensions-wrap",
        with_weight(tensor(dims=[1 << 32, 1 << 32], raw_data=b"")),
        reference="https://cwe.mitre.org/data/definitions/190.html",
    ),
    case("data-short", with_weight(tensor(raw_data=bytes(60))), reference="CVE-2024-27319"),
    case("data-long", with_weight(tensor(raw_data=bytes(68)))),
    case("data-none", with_weight(tensor(dims=[1 << 20, 1 << 10]))),
    case("data-raw-and-typed", with_weight(tensor(raw_data=bytes(64), float_data=[0.0] * 16))),
    case("data-of-another-type", with_weight(tensor(int64_data=[0] * 16))),
    case("data-typed-short", with_weight(tensor(float_data=[0.0] * 15))),
    case("packed-numbers-short", with_weight(tensor(data_type=INT64, int64_data=[1 << 40] * 15))),
    case("texts-in-raw-data", with_weight(tensor(data_type=STRING, dims=[1], raw_data=b"text"))),
    case("element-type-99", with_weight(tensor(data_type=99, raw_data=bytes(64))), UNKNOWN),
    case("element-type-none", with_weight(tensor(data_type=0, raw_data=bytes(64))), UNKNOWN),
    case("sparse-index-outside", sparse([3, 99], [4, 4]), reference="https://cwe.mitre.org/data/definitions/787.html"),
    case("sparse-index-negative", sparse([-1, 3], [4, 4]), reference="https://cwe.mitre.org/data/definitions/787.html"),
    case("sparse-bomb", sparse([3], [1 << 20, 1 << 20]), reference=MEMORY),
)

CASES: tuple[Case, ...] = (*MESSAGES, *TENSORS, *EXTERNAL, *OPERATORS, *STRUCTURE, *COSTS, *BOUNDS, *KERNELS, *TREES)
