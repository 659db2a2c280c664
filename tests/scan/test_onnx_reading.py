"""ONNX files as the scan reads them, without protobuf and without onnx: compared with how these read them."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from corpus import onnx_models as made
from corpus.honest_graphs import _branches, _detections, _learned, _loop, _masked, _weights
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hauberk.errors import RefusedModelError
from hauberk.scan.content import BytesContent, FileContent, OpenFile
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.graphs.model import Declared, Graph, Model, Node, Numbers, SparseWeights, Weights
from hauberk.scan.graphs.reading import read_model
from hauberk.scan.graphs.recognition import recognise_binary, recognise_text

MODELS = {
    "branches": _branches,
    "loop": _loop,
    "masked": _masked,
    "detections": _detections,
    "weights": _weights,
    "forest": lambda: onnx.ModelProto.FromString(_learned("forest")),
    "function": lambda: made.calling(made.function("F", [made.node("Relu", ["x"])])),
}


def read(data: bytes) -> tuple[Model | None, list[str]]:
    """The model, or nothing where it is refused, and the rules that were broken while reading."""
    examination = Examination()
    try:
        model = read_model(BytesContent(data), examination)
    except (RefusedModelError, StopScan):
        return None, ["refused"]
    return model, [finding.rule for finding in examination.findings]


def theirs(model: onnx.ModelProto) -> object:
    """What matters of a model, as onnx reads it."""
    functions = [
        (each.domain, each.name, list(each.input), list(each.output), [their_node(node) for node in each.node])
        for each in model.functions
    ]
    opsets = {("" if each.domain == "ai.onnx" else each.domain): each.version for each in model.opset_import}
    return model.ir_version, opsets, their_graph(model.graph), functions, [each.key for each in model.metadata_props]


def their_graph(graph: onnx.GraphProto) -> object:
    return (
        [their_node(node) for node in graph.node],
        [their_tensor(tensor) for tensor in graph.initializer],
        [their_value(value) for value in graph.input],
        [their_value(value) for value in graph.output],
    )


def their_value(value: onnx.ValueInfoProto) -> object:
    tensor = value.type.tensor_type
    dims = None
    if tensor.HasField("shape"):
        dims = tuple(each.dim_value if each.HasField("dim_value") else each.dim_param for each in tensor.shape.dim)
    return value.name, tensor.elem_type, dims


def their_tensor(tensor: onnx.TensorProto) -> object:
    outside = [(each.key, each.value) for each in tensor.external_data] if tensor.external_data else None
    return tensor.name, tensor.data_type, tuple(tensor.dims), outside


def their_node(node: onnx.NodeProto) -> object:
    attributes = {}
    for each in node.attribute:
        content = helper.get_attribute_value(each) if not each.ref_attr_name else each.ref_attr_name
        if isinstance(content, onnx.TensorProto):
            content = their_tensor(content)
        elif isinstance(content, onnx.GraphProto):
            content = their_graph(content)
        elif each.type in {onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS}:
            content = len(content), list(content)[:4096]
        attributes[each.name] = content
    domain = "" if node.domain == "ai.onnx" else node.domain
    return domain, node.op_type, node.name, list(node.input), list(node.output), attributes


def ours(model: Model) -> object:
    functions = [(f.domain, f.name, f.inputs, f.outputs, [our_node(node) for node in f.nodes]) for f in model.functions]
    return model.version, model.opsets, our_graph(model.graph or Graph()), functions, model.metadata


def our_graph(graph: Graph) -> object:
    inputs, outputs = ([our_value(value) for value in values] for values in (graph.inputs, graph.outputs))
    return [our_node(node) for node in graph.nodes], [our_tensor(each) for each in graph.weights], inputs, outputs


def our_value(value: Declared) -> object:
    dense = value.kind == "tensor"
    return value.name, value.element if dense else 0, value.dims if dense else None


def our_tensor(weights: Weights) -> object:
    return weights.name, weights.element, weights.dims, None if weights.outside is None else list(weights.outside)


def our_node(node: Node) -> object:
    attributes = {}
    for name, each in node.attributes.items():
        content = each.value if not each.refers else each.refers
        if isinstance(content, Weights):
            content = our_tensor(content)
        elif isinstance(content, Graph):
            content = our_graph(content)
        elif isinstance(content, Numbers):
            content = content.count, content.values
        attributes[name] = content
    return node.domain, node.operator, node.name, node.inputs, node.outputs, attributes


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_read_as_onnx_reads_it(name):
    proto = MODELS[name]()
    model, broken = read(proto.SerializeToString())
    assert model is not None
    assert not broken
    assert repr(ours(model)) == repr(theirs(proto))


@pytest.mark.parametrize("name", MODELS)
def test_values_of_small_tensors_are_those_that_onnx_reads(name):
    proto = MODELS[name]()
    model, _ = read(proto.SerializeToString())
    small = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for weights in model.graph.weights:
        if weights.values is not None:
            np.testing.assert_array_equal(weights.values, small[weights.name])


@pytest.mark.parametrize("element", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13])
@pytest.mark.parametrize("raw", [False, True])
def test_values_are_read_in_every_type_and_form(element, raw):
    dtype = helper.tensor_dtype_to_np_dtype(element)
    array = np.array([0, 1, 1, 0, 1, 1], dtype) if element == 9 else np.array([0, 1, 2, 3, 100, 127], dtype)
    if element in {3, 5, 6, 7}:
        array[-1] = -3
    tensor = numpy_helper.from_array(array, "w") if raw else helper.make_tensor("w", element, [6], array.tolist())
    model, broken = read(made.model(weights=[tensor]).SerializeToString())
    assert not broken
    np.testing.assert_array_equal(model.graph.weights[0].values, array)


def mutated(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.randint(1, 3)):
        place = source.randrange(len(changed))
        way = source.randrange(4)
        if way == 0:
            changed[place] = source.randrange(256)
        elif way == 1:
            changed[place] ^= 1 << source.randrange(8)
        elif way == 2:
            del changed[place]
        else:
            changed.insert(place, source.choice(b"\x00\x01\x08\x0a\x0b\x2a\x3a\x80\xff"))
    return bytes(changed)


def test_what_is_accepted_is_read_as_onnx_reads_it_whatever_was_changed():
    """A change that is read without objection says the same to protobuf; where protobuf refuses, so do we."""
    source, agreed = random.Random(5), 0
    for seed in (_branches(), _loop(), made.calling(made.function("F", [made.node("Relu", ["x"])])), _masked()):
        data = seed.SerializeToString()
        for _ in range(500):
            changed = mutated(data, source)
            model, broken = read(changed)
            if model is None or broken:
                continue
            try:
                proto = onnx.ModelProto.FromString(changed)
                expected = repr(theirs(proto))
            except (DecodeError, ValueError):
                pytest.fail(f"only we read {changed.hex()}")
            assert repr(ours(model)) == expected, changed.hex()
            agreed += 1
    assert agreed > 100


class Counting(FileContent):
    """A file, and how much was read of it."""

    taken = 0

    def _read(self, offset: int, length: int) -> bytes:
        self.taken += length
        return super()._read(offset, length)


def test_weights_of_two_gigabytes_are_stepped_over(tmp_path: Path):
    size = (1 << 31) - (1 << 20)
    tensor = (
        made.field(1, size // 4) + made.field(2, 1) + made.field(8, b"w") + made.varint(9 << 3 | 2) + made.varint(size)
    )
    body = made.field(1, made.field(1, b"x") + made.field(2, b"y") + made.field(4, b"Relu"))
    graph = body + made.varint(5 << 3 | 2) + made.varint(len(tensor) + size) + tensor
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(made.field(1, 10) + made.field(8, made.field(2, 20)))
        file.write(made.varint(7 << 3 | 2) + made.varint(len(graph) + size) + graph)
        file.seek(size, 1)
        file.truncate()
    tracemalloc.start()
    with OpenFile(path) as opened:
        content = Counting(opened.content._descriptor)
        assert recognise_binary(content.head(64), content)
        model = read_model(content, Examination())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert model.graph.weights[0].dims == (size // 4,)
    assert content.taken < 1 << 20
    assert peak < 1 << 20


def test_random_bytes_are_no_model():
    source = random.Random(1)
    for length in (1, 2, 3, 8, 20, 64, 1000):
        for _ in range(300):
            data = source.randbytes(length)
            assert not recognise_binary(data[:64], BytesContent(data)), data.hex()


@pytest.mark.parametrize(
    "text",
    [
        "ir_version is what ONNX calls the version of its files. graph { a -- b }",
        "graph { node [shape=box]; a -- b }",
        '{"graph": [1, 2], "name": "x"}',
        '{"model_type": "bert", "hidden_size": 768}',
        "# A model card\n\nThe graph: see below.\n",
        "<html>opset_import</html>",
        "",
        "8",
    ],
)
def test_texts_are_no_models(text):
    data = text.encode()
    assert not recognise_binary(data[:64], BytesContent(data))
    if "ir_version" not in text:
        assert not recognise_text(data[:64], BytesContent(data))


@pytest.mark.parametrize(
    "text",
    [
        b"#" + b" " * (5 << 20) + b"\nir_version: 10\ngraph #\n { node { op_type: 'Relu' } }",
        b'{"x": "' + b" " * (5 << 20) + b'", "irVersion": 10, "graph": {}}',
    ],
)
def test_texts_that_are_models_are_known_behind_much_else(text):
    assert recognise_text(text[:64], BytesContent(text))


def test_fields_in_any_order_are_a_model():
    proto = _branches()
    proto.producer_name = "someone"
    data = proto.SerializeToString()
    fields = [bytes(each.SerializeToString()) for each in split(proto)]
    for seed in range(5):
        order = random.Random(seed).sample(fields, len(fields))
        shuffled = b"".join(order)
        assert recognise_binary(shuffled[:64], BytesContent(shuffled))
        assert len(shuffled) == len(data)


def split(proto: onnx.ModelProto) -> list[onnx.ModelProto]:
    """One message for each field of a model."""
    found = []
    for field, content in proto.ListFields():
        part = onnx.ModelProto()
        if isinstance(content, int | str):
            setattr(part, field.name, content)
        else:
            part.MergeFrom(onnx.ModelProto(**{field.name: content}))
        found.append(part)
    return found


def test_every_tensor_of_a_model_is_found():
    """In branches of branches, as initializers and in attributes."""
    tensor = made.external(location="w.bin")
    inner = made.graph([made.node("Constant", [], value=tensor)], weights=[tensor])
    outer = made.graph([made.node("If", ["c"], then_branch=inner, else_branch=inner)])
    model, _ = read(made.model([made.node("If", ["c"], then_branch=outer, else_branch=outer)]).SerializeToString())
    assert len([each for each in model.tensors() if each.outside]) == 2 * 2 * 2
    assert not [each for each in model.tensors() if isinstance(each, SparseWeights)]


LISTS = st.one_of(
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=200),
    st.lists(st.integers(-3, 300), min_size=30, max_size=400),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=200),
    st.lists(st.binary(max_size=200), min_size=1, max_size=100),
)


@settings(max_examples=150, deadline=None)
@given(LISTS, LISTS)
def test_long_lists_are_read_as_onnx_reads_them(first, second):
    proto = made.model([made.node("Odd", ["x"], first=first, second=second)])
    model, broken = read(proto.SerializeToString())
    assert not broken
    found = model.graph.nodes[0].attributes
    for attribute in proto.graph.node[0].attribute:
        expected = list(helper.get_attribute_value(attribute))
        ours = found[attribute.name].value
        assert (ours.values if isinstance(ours, Numbers) else ours) == expected
        assert not isinstance(ours, Numbers) or ours.largest == max([0, *expected])


@pytest.mark.parametrize("entry", [b"\x40\x81\x00", b"\x40" + b"\xff" * 9 + b"\x02", b"\x40" + b"\x80" * 10 + b"\x00"])
def test_odd_numbers_in_long_lists_are_refused_as_anywhere(entry):
    many = b"".join(made.field(8, number) for number in range(500))
    attribute = made.field(1, b"a") + many + entry + many + made.field(20, 7)
    graph = made.field(1, made.field(1, b"x") + made.field(2, b"y") + made.field(4, b"Odd") + made.field(5, attribute))
    assert read(made.wrapped(graph)) == (None, ["refused"])
