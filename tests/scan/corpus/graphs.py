"""Hostile ONNX files: messages read in two ways, weights elsewhere, operators that act, models that burst."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import AttributeProto, ModelProto, SparseTensorProto, TensorProto, TrainingInfoProto, helper, numpy_helper

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE, Case
from corpus.onnx_models import (
    BOOL,
    FLOAT,
    INT64,
    MOST,
    STRING,
    attribute,
    calling,
    external,
    field,
    function,
    graph,
    model,
    node,
    numbers,
    value,
    varint,
    with_weight,
    wrapped,
    written,
)

ENCODING = "https://protobuf.dev/programming-guides/encoding/"
SECURITY = "https://github.com/onnx/onnx/blob/main/docs/Security.md"
TRAVERSAL = "CVE-2022-25882"
MEMORY = "https://cwe.mitre.org/data/definitions/789.html"
RECURSION = "https://cwe.mitre.org/data/definitions/674.html"
ENDLESS = "https://cwe.mitre.org/data/definitions/835.html"
EXTENSIONS = "https://github.com/microsoft/onnxruntime-extensions/blob/main/docs/custom_ops.md"

PLAIN = model().SerializeToString(deterministic=True)
NODE = field(1, b"x") + field(2, b"y") + field(4, b"Relu")


def case(name: str, content: object, expected: frozenset[str] = UNSAFE, reference: str = "") -> Case:
    return Case(f"onnx-{name}", written(content), expected, reference)  # type: ignore[arg-type]


def changed(change: Callable[[ModelProto], object]) -> Callable[[], ModelProto]:
    """A plain model with a change."""

    def make() -> ModelProto:
        made = model()
        change(made)
        return made

    return make


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


def _sound_that_is_a_model() -> bytes:
    # A RIFF header is field 10 with 73 bytes to readers of protobuf, which step over fields that they do not know.
    header = b"RIFF" + (2000).to_bytes(4, "little") + b"WAVEfmt "
    return header.ljust(75, b"\0") + PLAIN


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


def _sparse(indices: list[int], dims: list[int]) -> ModelProto:
    made = model()
    made.graph.sparse_initializer.append(
        SparseTensorProto(
            values=numpy_helper.from_array(np.ones(len(indices), np.float32), "s"),
            indices=numbers("", *indices),
            dims=dims,
        )
    )
    return made


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
    case("sparse-index-outside", _sparse([3, 99], [4, 4]), reference="https://cwe.mitre.org/data/definitions/787.html"),
    case(
        "sparse-index-negative", _sparse([-1, 3], [4, 4]), reference="https://cwe.mitre.org/data/definitions/787.html"
    ),
    case("sparse-bomb", _sparse([3], [1 << 20, 1 << 20]), reference=MEMORY),
)

# Weights in other files.

DATA = bytes(4096)


def beside(tensor: Callable[[], ModelProto] | TensorProto, prepare: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A model in a folder of its own, after something was put beside it."""

    def make(folder: Path) -> Path:
        inner = folder / "model"
        inner.mkdir()
        (folder / "secret").write_bytes(DATA)
        prepare(inner)
        return written(tensor if callable(tensor) else with_weight(tensor))(inner)

    return make


def _nothing(_: Path) -> None:
    pass


def _data(folder: Path) -> None:
    (folder / "w.bin").write_bytes(DATA)


def _linked_folder(folder: Path) -> None:
    (folder / "inner").symlink_to("..")


def outside(
    name: str, location: str, expected: frozenset[str] = UNSAFE, reference: str = SECURITY, **entries: str
) -> Case:
    """A weight in a folder with `w.bin` (4096 bytes), and a file `secret` one folder up."""
    return Case(f"onnx-external-{name}", beside(external(location=location, **entries), _data), expected, reference)


def place(name: str, prepare: Callable[[Path], object], location: str = "w.bin", reference: str = SECURITY) -> Case:
    """A weight where something else than a file was put."""
    return Case(f"onnx-external-{name}", beside(external(location=location), prepare), UNSAFE, reference)


def hidden(name: str, content: Callable[[TensorProto], ModelProto]) -> Case:
    """A tensor outside the folder, in an odd corner of the model."""
    made = beside(lambda: content(external(location="../secret")), _nothing)
    return Case(f"onnx-external-{name}", made, UNSAFE, TRAVERSAL)


def _in_branch(tensor: TensorProto) -> ModelProto:
    branch = graph([node("Identity", ["w"], "z")], outputs=[value("z", None)], weights=[tensor])
    nodes = [node("If", ["c"], then_branch=branch, else_branch=branch)]
    return model(nodes, inputs=[value("c", [], BOOL)])


def _in_sparse(part: str) -> Callable[[TensorProto], ModelProto]:
    def make(tensor: TensorProto) -> ModelProto:
        made = _sparse([3], [4, 4])
        getattr(made.graph.sparse_initializer[0], part).CopyFrom(tensor)
        return made

    return make


def _in_default(tensor: TensorProto) -> ModelProto:
    body = function("F", [node("Identity", ["x"])])
    body.attribute_proto.append(attribute("value", tensor))
    return calling(body)


def _in_training(tensor: TensorProto) -> ModelProto:
    made = model()
    made.training_info.append(TrainingInfoProto(initialization=graph([], weights=[tensor])))
    return made


def _twice(tensor: TensorProto) -> ModelProto:
    tensor.external_data.add(key="location", value="w.bin")
    return with_weight(tensor)


def _shared_range() -> ModelProto:
    weights = [external(f"w{index}", (1 << 20, 16), location="w.bin") for index in range(80)]
    return model([node("Relu", ["x"])], weights=weights)


def _large(folder: Path) -> None:
    with (folder / "w.bin").open("wb") as file:
        file.truncate(1 << 26)


def _overlapping() -> ModelProto:
    parts = [external("v", location="w.bin", offset="0"), external("w", location="w.bin", offset="32")]
    return model([node("Relu", ["x"])], weights=parts)


def _through_link(folder: Path) -> Path:
    made = beside(external(location="w.bin"), _data)(folder)
    link = folder / "link.onnx"
    link.symlink_to(made)
    return link


EXTERNAL = (
    outside("parent", "../secret", reference=TRAVERSAL),
    outside("parent-of-inner", "inner/../../secret", reference="CVE-2024-27318"),
    outside("parent-of-file", "w.bin/../../secret", reference="CVE-2024-5187"),
    outside("absolute", "/etc/passwd", reference="CVE-2025-51480"),
    outside("drive", "C:\\Windows\\win.ini", reference="CVE-2025-51480"),
    outside("drive-relative", "C:w.bin", reference="CVE-2025-51480"),
    outside("backslashes", "..\\secret", reference="CVE-2024-27318"),
    outside("share", "\\\\server\\share\\w.bin", reference="CVE-2025-51480"),
    outside("url", "file:///etc/passwd"),
    outside("end-of-text", "w.bin\0.txt"),
    outside("empty", ""),
    outside("here", "./w.bin"),
    outside("newline", "w.bin\n"),
    outside("device", "/dev/zero", reference=TRAVERSAL),
    outside(
        "address",
        "*/_ORT_MEM_ADDR_/*",
        reference="https://github.com/microsoft/onnxruntime/pull/28709",
        offset="4096",
        length="64",
    ),
    outside("missing", "other.bin", UNKNOWN),
    outside("beyond", "w.bin", offset="4090"),
    outside("far-beyond", "w.bin", offset="9223372036854775807"),
    outside("offset-negative", "w.bin", offset="-64"),
    outside("offset-odd-digits", "w.bin", offset="1_0"),
    outside("offset-other-digits", "w.bin", offset="１２"),
    outside("offset-beyond-64-bits", "w.bin", offset="99999999999999999999"),
    outside("length-short", "w.bin", length="60"),
    outside("length-long", "w.bin", length="4096"),
    outside("key-of-object", "w.bin", reference="CVE-2026-34445", __class__="str"),
    outside("key-unknown", "w.bin", reference="CVE-2026-34445", basepath="/etc"),
    outside("prepacked", "w.bin", NEVER_SAFE, prepacked_0="MatMul|0;64;1"),
    Case(
        "onnx-external-key-twice",
        beside(lambda: _twice(external(location="../secret")), _data),
        UNSAFE,
        "CVE-2026-34445",
    ),
    place("symlink", lambda folder: (folder / "w.bin").symlink_to("../secret"), reference="CVE-2026-27489"),
    place("symlinked-folder", _linked_folder, "inner/secret", "CVE-2026-27489"),
    place("hard-link", lambda folder: os.link(folder / "../secret", folder / "w.bin"), reference="CVE-2026-34446"),
    place("pipe", lambda folder: os.mkfifo(folder / "w.bin")),
    place("folder", lambda folder: (folder / "w.bin").mkdir()),
    place("itself", _nothing, "model.onnx"),
    hidden("in-constant", lambda each: model([node("Constant", [], value=each)], inputs=[])),
    hidden("in-branch", _in_branch),
    hidden("in-sparse-values", _in_sparse("values")),
    hidden("in-sparse-indices", _in_sparse("indices")),
    hidden("in-function", lambda each: calling(function("F", [node("Constant", [], value=each)]))),
    hidden("in-default-of-function", _in_default),
    hidden("in-training", _in_training),
    hidden("in-list", lambda each: model([node("Odd", ["x"], values=[each])])),
    Case("onnx-external-shared-range-bomb", beside(_shared_range, _large), UNSAFE, MEMORY),
    Case("onnx-external-overlap", beside(_overlapping, _data), UNKNOWN, SECURITY),
    Case("onnx-external-model-through-link", _through_link, UNSAFE, "CVE-2026-27489"),
    Case(
        "onnx-external-entries-without-mark",
        beside(
            lambda: with_weight(
                TensorProto(
                    name="w",
                    data_type=FLOAT,
                    dims=[4, 4],
                    raw_data=bytes(64),
                    external_data=external(location="../secret").external_data,
                )
            ),
            _nothing,
        ),
        UNSAFE,
        SECURITY,
    ),
    Case("onnx-external-texts", beside(external(element=STRING, location="w.bin"), _data), UNSAFE, SECURITY),
)

# Operators.


def operator(
    name: str,
    kind: str,
    domain: str,
    expected: frozenset[str] = UNSAFE,
    reference: str = EXTENSIONS,
    /,
    **given: object,
) -> Case:
    return case(
        f"operator-{name}",
        model([node(kind, ["x"], domain=domain, **given)], domains=[domain] if domain else []),
        expected,
        reference,
    )


def _in_nested_default() -> ModelProto:
    body = function("F", [node("Identity", ["x"])])
    body.attribute_proto.append(attribute("body", graph([node("PyOp", ["x"], domain="ai.onnx.contrib")])))
    return calling(body)


def _settings(made: ModelProto) -> None:
    made.metadata_props.add(key="ort_config", value='{"session_options": {"optimized_model_filepath": "/tmp/x"}}')


PROGRAMS = "https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html"

OPERATORS = (
    operator("python", "PyOp", "ai.onnx.contrib", module="m", compute="f"),
    operator("python-in-training", "PythonOp", "com.microsoft", func_name="f"),
    operator("aten", "ATen", "org.pytorch.aten", operator="aten::from_file"),
    operator("image-reader", "ImageReader", "ai.onnx.contrib"),
    operator("remote-service", "OpenAIAudioToText", "com.microsoft.extensions", model_uri="https://example.org"),
    operator(
        "program-by-path", "EPContext", "com.microsoft", UNSAFE, PROGRAMS, embed_mode=0, ep_cache_context="../../x.so"
    ),
    operator(
        "program-by-absolute-path", "EPContext", "com.microsoft", UNSAFE, PROGRAMS, embed_mode=0, ep_cache_context="/x"
    ),
    operator(
        "program-inside", "EPContext", "com.microsoft", UNKNOWN, PROGRAMS, embed_mode=1, ep_cache_context="binary"
    ),
    operator("program-of-snpe", "Snpe", "com.microsoft", UNKNOWN, PROGRAMS, DLC="binary"),
    operator("of-a-library", "Decode", "com.example", UNKNOWN),
    operator("unknown", "Shell", "", UNKNOWN),
    operator("unknown-of-the-runtime", "Shell", "com.microsoft", UNKNOWN),
    operator("plugin", "Plugin", "trt.plugins", UNKNOWN),
    case("operator-in-default-of-function", _in_nested_default, UNSAFE, EXTENSIONS),
    case("opset-999", model(opset=999), UNKNOWN),
    case("settings-for-the-runtime", changed(_settings)),
    case("training", changed(lambda made: made.training_info.add()), UNKNOWN),
)

# Functions and names.


def _doubling(levels: int) -> ModelProto:
    bodies = [
        function(
            f"F{level}", [node(f"F{level + 1}", ["x"], "h", domain="own"), node(f"F{level + 1}", ["h"], domain="own")]
        )
        for level in range(levels)
    ]
    return calling(*bodies, function(f"F{levels}", [node("Relu", ["x"])]))


def _recursion_in_branch() -> ModelProto:
    branch = graph([node("F", ["x"], "z", domain="own")], outputs=[value("z", None)])
    nodes = [node("ReduceMax", ["x"], "m", keepdims=0), node("Cast", ["m"], "c", to=BOOL)]
    return calling(function("F", [*nodes, node("If", ["c"], then_branch=branch, else_branch=branch)]))


def _hiding_function() -> ModelProto:
    made = model()
    made.functions.append(
        helper.make_function("", "Relu", ["x"], ["y"], [node("Neg", ["x"])], [helper.make_opsetid("", 20)])
    )
    return made


STRUCTURE = (
    case("function-itself", calling(function("F", [node("F", ["x"], domain="own")])), UNSAFE, RECURSION),
    case(
        "functions-each-other",
        calling(function("F", [node("G", ["x"], domain="own")]), function("G", [node("F", ["x"], domain="own")])),
        UNSAFE,
        RECURSION,
    ),
    case("function-itself-in-branch", _recursion_in_branch, UNSAFE, RECURSION),
    case("function-bomb", _doubling(40), UNSAFE, "https://cwe.mitre.org/data/definitions/776.html"),
    case("function-twice", calling(function("F", [node("Relu", ["x"])]), function("F", [node("Neg", ["x"])]))),
    case("function-hides-operator", _hiding_function),
    case("name-twice", model([node("Relu", ["x"]), node("Neg", ["x"])])),
    case("name-of-input-twice", model([node("Relu", ["x"], "x"), node("Neg", ["x"])])),
    case("weight-twice", model(weights=[numbers("w", 1), numbers("w", 2)])),
    case("input-missing", model([node("Relu", ["nowhere"])]), UNKNOWN),
    case("output-missing", model(outputs=[value("nowhere", None)]), UNKNOWN),
    case("cycle", model([node("Add", ["x", "b"], "a"), node("Relu", ["a"], "b"), node("Neg", ["b"])]), UNSAFE, ENDLESS),
    case("cycle-of-one", model([node("Add", ["x", "a"], "a"), node("Neg", ["a"])]), UNSAFE, ENDLESS),
)

# What a run takes.


def _chain(operator: str, start: TensorProto, times: int, **given: object) -> ModelProto:
    """A value that is put together with itself again and again."""
    names = ["v0", *(f"v{index}" for index in range(1, times + 1))]
    nodes = [node(operator, [one, one], other, **given) for one, other in itertools.pairwise(names)]
    start.name = "v0"
    return model([*nodes, node("Identity", [names[-1]])], inputs=[], weights=[start])


def _loop(
    body: list[object], condition: str, count: list[str], weights: list[TensorProto], carried: tuple[str, ...] = ()
) -> ModelProto:
    states = [value(f"{name}_in", None) for name in carried]
    inner = graph(
        body,  # type: ignore[arg-type]
        [value("i", [], INT64), value("c", [], BOOL), *states],
        [value(condition, [], BOOL), *(value(f"{name}_out", None) for name in carried or ["i"])],
    )
    if not carried:
        inner.node.append(node("Identity", ["i"], "i_out"))
    outputs = [f"{name}_end" for name in carried] or ["unused"]
    loop = node("Loop", [*count, *carried], *outputs, body=inner)
    last = node("Relu", ["x"]) if not carried else node("Identity", [outputs[0]])
    return model([loop, last], weights=weights)


GOING = node("Identity", ["c"], "d")
TRUE = numpy_helper.from_array(np.array(True), "true")
ONES = numpy_helper.from_array(np.ones((4, 4), np.float32), "a")


def _growing(times: int) -> ModelProto:
    body = [GOING, node("Concat", ["a_in", "a_in"], "a_out", axis=0)]
    return _loop(body, "d", ["n", ""], [numbers("n", times, shape=()), ONES], ("a",))


def _nested_loops(levels: int, times: int) -> ModelProto:
    body = [node("Identity", ["c"], "d")]
    for level in range(levels):
        prefix = f"l{level}"
        inner = graph(
            body,
            [value(f"i{prefix}", [], INT64), value("c" if level == 0 else f"c{prefix}", [], BOOL)],
            [value("d" if level == 0 else f"d{prefix}", [], BOOL), value(f"o{prefix}", None)],
        )
        inner.node.append(node("Identity", [f"i{prefix}"], f"o{prefix}"))
        outer = f"l{level + 1}"
        body = [node("Loop", ["n", ""], f"u{outer}", body=inner), node("Identity", [f"c{outer}"], f"d{outer}")]
    return model([body[0], node("Relu", ["x"])], weights=[numbers("n", times, shape=())])


def _branch_bomb(condition: list[object], weights: list[TensorProto]) -> ModelProto:
    bomb = graph([node("ConstantOfShape", ["huge"], "z")], outputs=[value("z", None)])
    calm = graph([node("Relu", ["x"], "z2")], outputs=[value("z2", None)])
    nodes = [*condition, node("If", ["c"], then_branch=calm, else_branch=bomb)]
    return model(nodes, weights=[numbers("huge", 1 << 20, 1 << 20), *weights])  # type: ignore[arg-type]


def _for_another_size() -> ModelProto:
    """Small for 256, 512 and 64 columns, which the scan assumes; huge for any other number."""
    nodes = [
        node("Shape", ["x"], "s", start=1, end=2),
        node("Sub", ["s", "sizes"], "differences"),
        node("ReduceProd", ["differences"], "p", keepdims=1),
        node("Abs", ["p"], "n"),
        node("Mul", ["n", "much"], "m"),
        node("ConstantOfShape", ["m"]),
    ]
    weights = [numbers("sizes", 256, 512, 64), numbers("much", 1 << 20)]
    return model(nodes, inputs=[value("x", ["batch", "columns"])], weights=weights)


def made_of(operator: str, inputs: list[str], *weights: TensorProto, opset: int = 20, **given: object) -> ModelProto:
    return model([node(operator, inputs, **given)], weights=weights, opset=opset)


def floats(name: str, *numbers: float) -> TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.float32), name)


def _image(operator: str, inputs: list[str], *weights: TensorProto, opset: int = 20, **given: object) -> ModelProto:
    return model([node(operator, inputs, **given)], inputs=[value("x", ["n", 3, 32, 32])], weights=weights, opset=opset)


def _of_input(operator: str, shape: list[int], element: int = INT64, opset: int = 20) -> ModelProto:
    inputs = [value("n", shape, element)]
    given = {"ConstantOfShape": ["n"], "Expand": ["one", "n"], "Tile": ["one", "n"], "Range": ["zero", "n", "step"]}[
        operator
    ]
    weights = [floats("one", 1.0), numbers("zero", 0, shape=()), numbers("step", 1, shape=())]
    return model([node(operator, given)], inputs=inputs, weights=weights, opset=opset)


def _sequence_growth() -> ModelProto:
    body = [
        GOING,
        node("ConcatFromSequence", ["a_in"], "j", axis=0),
        node("SequenceInsert", ["a_in", "j"], "a_out"),
    ]
    made = _loop(body, "d", ["n", ""], [numbers("n", 60, shape=())], ("a",))
    made.graph.node.insert(0, node("SequenceConstruct", ["x"], "a"))
    return made


def _texts() -> TensorProto:
    return helper.make_tensor("v0", STRING, [1], [b"ha"])


def _wide_outer() -> ModelProto:
    nodes = [node("Range", ["zero", "n", "one"], "r"), node("Unsqueeze", ["r", "axis"], "t"), node("Mul", ["r", "t"])]
    weights = [
        numbers("zero", 0, shape=()),
        numbers("n", 1 << 20, shape=()),
        numbers("one", 1, shape=()),
        numbers("axis", 1),
    ]
    return model(nodes, weights=weights)


def _large_product() -> ModelProto:
    nodes = [node("ConstantOfShape", ["s"], "a")]
    nodes += [node("MatMul", ["a" if index == 0 else f"m{index - 1}", "a"], f"m{index}") for index in range(12)]
    return model([*nodes, node("ReduceSum", ["m11"])], weights=[numbers("s", 10_000, 10_000)])


def _wrapping() -> ModelProto:
    """2**33 by 2**33 is 2**66: in 64 bits it is 0, in bytes of memory it is not."""
    nodes = [node("Mul", ["a", "a"], "n"), node("Add", ["n", "b"], "s"), node("ConstantOfShape", ["s"])]
    return model(nodes, weights=[numbers("a", 1 << 33), numbers("b", 1 << 40)])


def _for_two_records() -> ModelProto:
    nodes = [
        node("Shape", ["x"], "s", start=0, end=1),
        node("Sub", ["s", "one"], "d"),
        node("Mul", ["d", "much"], "n"),
        node("ConstantOfShape", ["n"]),
    ]
    return model(nodes, weights=[numbers("one", 1), numbers("much", 1 << 40)])


def _in_function() -> ModelProto:
    nodes = [node("Constant", [], "s", value=numbers("", 1 << 40)), node("ConstantOfShape", ["s"])]
    return calling(function("F", nodes))


def _attribute_of_function() -> ModelProto:
    shaped = node("RandomNormal", [])
    shaped.attribute.append(AttributeProto(name="shape", type=AttributeProto.INTS, ref_attr_name="size"))
    body = function("F", [shaped])
    body.attribute.append("size")
    return model([node("F", ["x"], domain="own", size=[1 << 20, 1 << 20])], functions=[body], domains=["own"])


def _scan() -> ModelProto:
    body = graph(
        [node("Concat", ["a_in", "a_in"], "a_out", axis=0), node("Identity", ["p"], "q")],
        [value("a_in", None), value("p", None)],
        [value("a_out", None), value("q", None)],
    )
    nodes = [node("Scan", ["a", "steps"], "e", "o", body=body, num_scan_inputs=1), node("Identity", ["e"])]
    return model(nodes, weights=[ONES, numpy_helper.from_array(np.ones((60, 1), np.float32), "steps")])


def _known_rounds() -> ModelProto:
    return _loop([GOING], "d", ["n", ""], [numbers("n", 10**12, shape=())])


def _counting() -> ModelProto:
    """Ends after 2**40 rounds, by its own condition."""
    body = [node("Less", ["i", "limit"], "d")]
    return _loop(body, "d", [], [numbers("limit", 1 << 40, shape=())])


def _endless() -> ModelProto:
    made = _loop([GOING], "d", ["", "true"], [TRUE])
    made.graph.node[0].input[:] = ["", "true"]
    return made


def _data_loop() -> ModelProto:
    made = _loop([GOING], "d", ["n", ""], [])
    made.graph.input.append(value("n", [], INT64))
    return made


def _while_data() -> ModelProto:
    body = [
        node("Add", ["a_in", "a_in"], "a_out"),
        node("ReduceSum", ["a_out"], "t", keepdims=0),
        node("Less", ["t", "limit"], "d"),
    ]
    made = _loop(body, "d", ["", "true"], [TRUE, numpy_helper.from_array(np.float32(9), "limit")], ("a",))
    made.graph.node.insert(0, node("Relu", ["x"], "a"))
    return made


def _small_bomb() -> bytes:
    """A model of about a hundred bytes that asks for 2**33 bytes."""
    shape = field(1, 1) + field(2, 7) + field(9, (1 << 31).to_bytes(8, "little"))
    constant = field(2, b"s") + field(4, b"Constant") + field(5, field(1, b"value") + field(5, shape) + field(20, 4))
    filled = field(1, b"s") + field(2, b"y") + field(4, b"ConstantOfShape")
    return wrapped(field(1, constant) + field(1, filled) + field(12, field(1, b"y")))


TWICE = numbers("n", 1 << 20, 1 << 20)

COSTS = (
    case("bomb-of-a-hundred-bytes", _small_bomb, UNSAFE, MEMORY),
    case("bomb-constant-of-shape", made_of("ConstantOfShape", ["n"], TWICE), UNSAFE, MEMORY),
    case("bomb-constant-of-shape-by-input", _of_input("ConstantOfShape", [2]), UNKNOWN, MEMORY),
    case(
        "bomb-expand",
        model([node("Expand", ["x", "n"])], inputs=[value("x", ["n", 1])], weights=[TWICE]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-expand-by-input", _of_input("Expand", [3]), UNKNOWN, MEMORY),
    case("bomb-tile", made_of("Tile", ["x", "n"], TWICE), UNSAFE, MEMORY),
    case("bomb-tile-by-input", _of_input("Tile", [1]), UNKNOWN, MEMORY),
    case(
        "bomb-range",
        made_of(
            "Range",
            ["a", "b", "c"],
            numbers("a", 0, shape=()),
            numbers("b", 1 << 40, shape=()),
            numbers("c", 1, shape=()),
        ),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-range-tiny-steps",
        made_of(
            "Range",
            ["a", "b", "c"],
            *(numpy_helper.from_array(np.float32(each), name) for name, each in (("a", 0), ("b", 1), ("c", 1e-12))),
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-range-by-input", _of_input("Range", []), UNKNOWN, MEMORY),
    case("bomb-resize-scales", _image("Resize", ["x", "", "s"], floats("s", 1, 1, 1e4, 1e4)), UNSAFE, MEMORY),
    case(
        "bomb-resize-sizes", _image("Resize", ["x", "", "", "s"], numbers("s", 1, 3, 1 << 20, 1 << 20)), UNSAFE, MEMORY
    ),
    case("bomb-upsample", _image("Upsample", ["x", "s"], floats("s", 1, 1, 1e5, 1e5), opset=9), UNSAFE, MEMORY),
    case(
        "bomb-one-hot",
        model(
            [node("OneHot", ["i", "d", "v"])],
            inputs=[value("i", ["n", 4], INT64)],
            weights=[numbers("d", 1 << 40, shape=()), floats("v", 0, 1)],
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-pad", made_of("Pad", ["x", "p"], numbers("p", 0, 0, 1 << 20, 1 << 20)), UNSAFE, MEMORY),
    case("bomb-pad-attribute", made_of("Pad", ["x"], opset=10, pads=[0, 0, 1 << 20, 1 << 20]), UNSAFE, MEMORY),
    case("bomb-random", made_of("RandomNormal", [], shape=[1 << 20, 1 << 20]), UNSAFE, MEMORY),
    case(
        "bomb-eye",
        model([node("ConstantOfShape", ["n"], "c"), node("EyeLike", ["c"])], weights=[numbers("n", 1 << 17, 1 << 17)]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-samples", made_of("Multinomial", ["x"], sample_size=1 << 40), UNSAFE, MEMORY),
    case("bomb-window", made_of("HannWindow", ["n"], numbers("n", 1 << 40, shape=())), UNSAFE, MEMORY),
    case(
        "bomb-mel",
        made_of(
            "MelWeightMatrix",
            ["a", "b", "c", "d", "e"],
            *(numbers(each, 1 << 20, shape=()) for each in "abc"),
            floats("d", 1.0),
            floats("e", 2.0),
        ),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-product",
        model([node("Transpose", ["v"], "t"), node("MatMul", ["t", "v"])], inputs=[value("v", [1, 1 << 20])]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-outer", _wide_outer, UNSAFE, MEMORY),
    case("bomb-concat-chain", _chain("Concat", floats("v0", *range(8)), 40, axis=0), UNSAFE, MEMORY),
    case("bomb-texts-chain", _chain("StringConcat", _texts(), 40), UNSAFE, MEMORY),
    case(
        "bomb-einsum",
        model([node("Einsum", ["v", "v", "v"], equation="i,j,k->ijk")], inputs=[value("v", [1 << 12])]),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-convolution-pads",
        _image("Conv", ["x", "w"], numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w"), pads=[1 << 20] * 4),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-transposed-convolution",
        _image(
            "ConvTranspose",
            ["x", "w"],
            numpy_helper.from_array(np.ones((3, 1, 1, 1), np.float32), "w"),
            strides=[1 << 16, 1 << 16],
        ),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-gather",
        model(
            [node("Gather", ["w", "i"])],
            inputs=[value("i", [1 << 20], INT64)],
            weights=[numpy_helper.from_array(np.ones((2, 1 << 16), np.float32), "w")],
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-input", model(inputs=[value("x", [1 << 20, 1 << 20])]), UNSAFE, MEMORY),
    case(
        "bomb-spectrum",
        model([node("DFT", ["v", "n"])], inputs=[value("v", [1, 16, 1])], weights=[numbers("n", 1 << 40, shape=())]),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-n-grams",
        model(
            [
                node(
                    "TfIdfVectorizer",
                    ["v"],
                    mode="TF",
                    min_gram_length=1,
                    max_gram_length=1,
                    max_skip_count=0,
                    ngram_counts=[0],
                    ngram_indexes=[1 << 40],
                    pool_int64s=[1],
                )
            ],
            inputs=[value("v", [4], INT64)],
        ),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-that-wraps", _wrapping, UNSAFE, "https://cwe.mitre.org/data/definitions/190.html"),
    case(
        "bomb-in-branch",
        _branch_bomb([node("ReduceMax", ["x"], "m", keepdims=0), node("Cast", ["m"], "c", to=BOOL)], []),
        UNSAFE,
        MEMORY,
    ),
    case(
        "bomb-in-branch-of-other-sizes",
        _branch_bomb([node("Size", ["x"], "m"), node("Equal", ["m", "four"], "c")], [numbers("four", 4, shape=())]),
        UNSAFE,
        MEMORY,
    ),
    case("bomb-for-other-sizes", _for_another_size, UNSAFE, MEMORY),
    case("bomb-for-two-records", _for_two_records, UNSAFE, MEMORY),
    case("bomb-in-function", _in_function, UNSAFE, MEMORY),
    case("bomb-in-attribute-of-function", _attribute_of_function, UNSAFE, MEMORY),
    case(
        "bomb-image-in-data",
        model([node("ImageDecoder", ["x"])], inputs=[value("x", ["n"], 2)]),
        UNKNOWN,
        "https://cwe.mitre.org/data/definitions/409.html",
    ),
    case("work-products", _large_product, UNSAFE, "https://cwe.mitre.org/data/definitions/400.html"),
    case("work-known-rounds", _known_rounds, UNSAFE, ENDLESS),
    case("work-nested-loops", _nested_loops(4, 100_000), UNSAFE, ENDLESS),
    case("loop-endless", _endless, UNSAFE, ENDLESS),
    case("loop-endless-count", _loop([GOING], "d", ["n", ""], [numbers("n", MOST, shape=())]), UNSAFE, ENDLESS),
    case("loop-counts-to-2-40", _counting, NEVER_SAFE, ENDLESS),
    case("loop-by-input", _data_loop, UNKNOWN, ENDLESS),
    case("loop-while-data", _while_data, UNKNOWN, ENDLESS),
    case("loop-that-doubles", _growing(60), UNSAFE, MEMORY),
    case("loop-sequence-that-doubles", _sequence_growth, NEVER_SAFE, MEMORY),
    case("scan-that-doubles", _scan, UNSAFE, MEMORY),
)

CASES: tuple[Case, ...] = (*MESSAGES, *TENSORS, *EXTERNAL, *OPERATORS, *STRUCTURE, *COSTS)
