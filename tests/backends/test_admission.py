"""What a model asks for, found without `onnx`, and compared with what `onnx` finds."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hauberk.backends import admission
from hauberk.backends.admission import admit
from hauberk.errors import RefusedModelError

FLOAT = TensorProto.FLOAT


def model_with(change) -> bytes:
    """Identity on four numbers, with whatever `change(model)` does to it."""
    x, y = (helper.make_tensor_value_info(name, FLOAT, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    change(model)
    return model.SerializeToString()


def constant(attribute: onnx.AttributeProto) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(attribute)
    return node


def nested(graph: onnx.GraphProto, depth: int) -> onnx.NodeProto:
    """A node that holds the graph, `depth` levels down."""
    node = helper.make_node("If", ["x"], ["c"], then_branch=graph)
    for _ in range(depth - 1):
        node = helper.make_node("If", ["x"], ["c"], then_branch=helper.make_graph([node], "inner", [], []))
    return node


class TestExternalData:
    """Wherever a tensor can stand, one that lies in another file is found."""

    def places(self, tensor):
        sparse = onnx.SparseTensorProto(values=tensor, dims=[4])
        holding = helper.make_graph([], "holding", [], [], [tensor])
        function = helper.make_function(
            "f", "F", [], ["c"], [constant(helper.make_attribute("value", tensor))], [helper.make_opsetid("", 18)]
        )
        default = helper.make_function("f", "F", [], [], [], [helper.make_opsetid("", 18)])
        default.attribute_proto.append(helper.make_attribute("value", tensor))
        return {
            "initializer": lambda model: model.graph.initializer.append(tensor),
            "sparse initializer": lambda model: model.graph.sparse_initializer.append(sparse),
            "attribute": lambda model: model.graph.node.append(constant(helper.make_attribute("value", tensor))),
            "attribute list": lambda model: model.graph.node.append(
                constant(onnx.AttributeProto(name="values", type=onnx.AttributeProto.TENSORS, tensors=[tensor]))
            ),
            "sparse attribute": lambda model: model.graph.node.append(
                constant(helper.make_attribute("sparse_value", sparse))
            ),
            "subgraph": lambda model: model.graph.node.append(nested(holding, 3)),
            "function": lambda model: model.functions.append(function),
            "default of a function": lambda model: model.functions.append(default),
        }

    @pytest.mark.parametrize(
        "place",
        [
            "initializer",
            "sparse initializer",
            "attribute",
            "attribute list",
            "sparse attribute",
            "subgraph",
            "function",
            "default of a function",
        ],
    )
    def test_is_refused(self, graphs, place):
        change = self.places(graphs.external_tensor(name="secret"))[place]
        with pytest.raises(RefusedModelError, match="'secret' lies in another file"):
            admit(model_with(change))

    @pytest.mark.parametrize(
        "place",
        [
            "initializer",
            "sparse initializer",
            "attribute",
            "attribute list",
            "sparse attribute",
            "subgraph",
            "function",
            "default of a function",
        ],
    )
    def test_the_same_tensor_with_its_data_is_admitted(self, place):
        tensor = helper.make_tensor("open", FLOAT, [4], np.ones(4, np.float32))
        admit(model_with(self.places(tensor)[place]))

    def test_a_long_way_of_writing_the_location(self):
        # 2**32 + 1 as data_location: protobuf reads the lower 32 bits, which say EXTERNAL.
        tensor = TensorProto(name="w", data_type=FLOAT, dims=[4]).SerializeToString() + b"\x70\x81\x80\x80\x80\x10"
        assert TensorProto.FromString(tensor).data_location == TensorProto.EXTERNAL
        initializer = b"\x2a" + bytes([len(tensor)]) + tensor
        assert len(initializer) < 128
        with pytest.raises(RefusedModelError, match="'w' lies in another file"):
            admit(b"\x3a" + bytes([len(initializer)]) + initializer)

    def test_a_field_number_with_too_many_bits_does_not_hide_it(self):
        # Tags with 2**32 added: ONNX Runtime's reader drops those bits and sees external_data and data_location.
        hidden = b"\xea\x80\x80\x80\x10\x00" + b"\xf0\x80\x80\x80\x10\x01"
        tensor = TensorProto(name="w", data_type=FLOAT, dims=[4]).SerializeToString() + hidden
        initializer = b"\x2a" + bytes([len(tensor)]) + tensor
        with pytest.raises(RefusedModelError, match="field number"):
            admit(b"\x3a" + bytes([len(initializer)]) + initializer)

    def test_a_tensor_that_says_so_often_is_read_once(self, monkeypatch):
        reads = []
        fields = admission.fields
        monkeypatch.setattr(admission, "fields", lambda message: reads.append(1) or fields(message))
        monkeypatch.setattr(admission, "text", lambda *_: reads.append(1) or "")
        tensor = TensorProto(name="w")
        for _ in range(50):
            tensor.external_data.add()
        found = admission._Findings()
        admission._read_tensor(memoryview(tensor.SerializeToString()), found)
        assert (found.external, len(reads)) == (["w"], 1)

    def test_a_second_graph_does_not_hide_it(self, graphs):
        # Protobuf merges a message that occurs twice.
        clean = model_with(lambda _: None)
        hidden = onnx.ModelProto()
        hidden.graph.initializer.append(graphs.external_tensor())
        with pytest.raises(RefusedModelError, match="another file"):
            admit(hidden.SerializeToString() + clean)


class TestOperators:
    @pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
    def test_known_domains_are_admitted(self, domain):
        admit(model_with(lambda model: model.graph.node.append(helper.make_node("F", ["x"], ["z"], domain=domain))))

    @pytest.mark.parametrize("depth", [0, 1, 3])
    def test_others_are_refused_by_name(self, depth):
        node = helper.make_node("Evil", ["x"], ["z"], domain="elsewhere")
        if depth:
            node = nested(helper.make_graph([node], "inner", [], []), depth)
        with pytest.raises(RefusedModelError, match="'Evil' of domain 'elsewhere'"):
            admit(model_with(lambda model: model.graph.node.append(node)))

    def test_a_function_of_the_model_is_its_own(self):
        def change(model):
            body = [helper.make_node("Relu", ["a"], ["b"])]
            model.functions.append(helper.make_function("mine", "F", ["a"], ["b"], body, [helper.make_opsetid("", 18)]))
            model.graph.node.append(helper.make_node("F", ["x"], ["z"], domain="mine"))

        admit(model_with(change))

    def test_those_in_the_defaults_of_a_function_are_refused_too(self):
        def change(model):
            model.functions.append(helper.make_function("mine", "F", [], [], [], [helper.make_opsetid("", 18)]))
            inner = helper.make_graph([helper.make_node("Evil", ["x"], ["z"], domain="elsewhere")], "inner", [], [])
            model.functions[0].attribute_proto.append(helper.make_attribute("body", inner))

        with pytest.raises(RefusedModelError, match="'Evil' of domain 'elsewhere'"):
            admit(model_with(change))

    def test_a_long_name_is_shown_in_part(self):
        node = helper.make_node("E" * 100_000, ["x"], ["z"], domain="d" * 100_000)
        with pytest.raises(RefusedModelError) as refusal:
            admit(model_with(lambda model: model.graph.node.append(node)))
        assert len(str(refusal.value)) < 300

    def test_graphs_for_training_are_refused(self):
        with pytest.raises(RefusedModelError, match="training"):
            admit(model_with(lambda model: model.training_info.add()))

    def test_settings_for_the_runtime_are_refused(self, graphs):
        with pytest.raises(RefusedModelError, match="ort_config"):
            admit(graphs.with_runtime_settings())


class TestFunctions:
    def towers(self, height: int, width: int):
        """Each function calls the one below `width` times: width ** height nodes in some hundred bytes."""

        def change(model):
            opset = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]
            for level in range(height):
                below = {"op_type": f"F{level - 1}", "domain": "f"} if level else {"op_type": "Relu", "domain": ""}
                names = ["a", *(f"t{i}" for i in range(1, width)), "c"]
                body = [
                    helper.make_node(below["op_type"], [names[i]], [names[i + 1]], domain=below["domain"])
                    for i in range(width)
                ]
                model.functions.append(helper.make_function("f", f"F{level}", ["a"], ["c"], body, opset))
            model.graph.node.append(helper.make_node(f"F{height - 1}", ["x"], ["z"], domain="f"))

        return model_with(change)

    def test_small_ones_are_admitted(self):
        admit(self.towers(4, 10))

    def test_those_that_blow_up_are_refused(self):
        with pytest.raises(RefusedModelError, match="more than 100000 nodes"):
            admit(self.towers(12, 4))

    def test_one_that_uses_itself_is_refused(self):
        def change(model):
            body = [helper.make_node("F", ["a"], ["b"], domain="f")]
            model.functions.append(helper.make_function("f", "F", ["a"], ["b"], body, [helper.make_opsetid("f", 1)]))
            model.graph.node.append(helper.make_node("F", ["x"], ["z"], domain="f"))

        with pytest.raises(RefusedModelError, match="uses itself"):
            admit(model_with(change))

    def test_graphs_nested_too_deeply_are_refused(self):
        with pytest.raises(RefusedModelError, match="nested"):
            admit(model_with(lambda model: model.graph.node.append(nested(helper.make_graph([], "g", [], []), 20))))


class TestForm:
    def test_a_model_without_a_graph_is_refused(self):
        with pytest.raises(RefusedModelError, match="no graph"):
            admit(b"")

    def test_a_model_cut_short_is_refused(self, graphs):
        model = graphs.linear()
        with pytest.raises(RefusedModelError, match="cut short"):
            admit(model[:-1])

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_bytes_are_admitted_or_refused(self, data):
        with contextlib.suppress(RefusedModelError):
            admit(data)

    @settings(max_examples=300, deadline=None)
    @given(data=st.data())
    def test_what_is_admitted_holds_no_external_tensor(self, data, graphs):
        """A byte of a model is changed; whatever protobuf then makes of it, `onnx` must agree with what we admit."""
        original = bytearray(
            model_with(lambda model: model.graph.initializer.append(graphs.external_tensor(name="secret")))
        )
        at = data.draw(st.integers(0, len(original) - 1))
        original[at] = data.draw(st.integers(0, 255))
        try:
            admit(bytes(original))
        except RefusedModelError:
            return
        try:
            parsed = onnx.ModelProto.FromString(bytes(original))
        except Exception:  # noqa: BLE001 - protobuf refuses it, and so will ONNX Runtime
            return
        assert not any(tensor.data_location == TensorProto.EXTERNAL for tensor in parsed.graph.initializer)
