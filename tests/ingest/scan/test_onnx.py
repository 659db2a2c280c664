"""The ONNX scan: self-contained, standard operators, valid."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.errors import RefusedModelError
from hauberk.ingest.scan import scan_onnx


def linear(**changes) -> onnx.ModelProto:
    """features [batch, 3] to logits [batch, 2]."""
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "weight")
    graph = helper.make_graph(
        changes.get("nodes", [helper.make_node("MatMul", ["features", "weight"], ["logits"])]),
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, changes.get("output", ["batch", 2]))],
        [weight],
    )
    opsets = [helper.make_opsetid("", 20), *changes.get("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=changes.get("functions"))


def refusal(model: onnx.ModelProto | bytes) -> str:
    with pytest.raises(RefusedModelError) as raised:
        scan_onnx(model if isinstance(model, bytes) else model.SerializeToString(), "model.onnx")
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_plain_model_is_accepted():
    assert scan_onnx(linear().SerializeToString(), "model.onnx").graph.name == "linear"


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    tensor.ClearField("raw_data")
    return tensor


def test_external_weights_are_refused_with_what_to_do():
    model = linear()
    external(model.graph.initializer[0])
    message = refusal(model)
    assert "weights of 'weight' lie in another file" in message
    assert "save_as_external_data=False" in message


def constant() -> onnx.NodeProto:
    tensor = external(numpy_helper.from_array(np.ones((3, 2), np.float32), "hidden"))
    return helper.make_node("Constant", [], ["hidden"], value=tensor)


def test_external_data_in_an_attribute_is_refused():
    nodes = [constant(), helper.make_node("MatMul", ["features", "hidden"], ["logits"])]
    assert "weights of 'hidden'" in refusal(linear(nodes=nodes))


def test_external_data_in_a_subgraph_is_refused():
    branch = helper.make_graph([constant()], "branch", [], [helper.make_tensor_value_info("hidden", 1, [3, 2])])
    outer = helper.make_graph(
        [helper.make_node("If", ["always"], ["chosen"], then_branch=branch, else_branch=branch)], "outer", [], []
    )
    nodes = [
        helper.make_node("If", ["always"], ["w"], then_branch=outer, else_branch=outer),
        helper.make_node("MatMul", ["features", "w"], ["logits"]),
    ]
    assert "weights of 'hidden'" in refusal(linear(nodes=nodes))


def test_external_data_in_a_function_is_refused():
    body = [constant(), helper.make_node("MatMul", ["x", "hidden"], ["y"])]
    function = helper.make_function("own", "Twist", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    nodes = [helper.make_node("Twist", ["features"], ["logits"], domain="own")]
    model = linear(nodes=nodes, functions=[function], opsets=[helper.make_opsetid("own", 1)])
    assert "weights of 'hidden'" in refusal(model)


def with_default(default: onnx.AttributeProto) -> onnx.ModelProto:
    """A model whose function has a default for an attribute."""
    take = helper.make_node("Constant", [], ["c"])
    take.attribute.append(onnx.AttributeProto(name="value", type=default.type, ref_attr_name=default.name))
    body = [take, helper.make_node("MatMul", ["x", "c"], ["y"])]
    function = helper.make_function("own", "Twist", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    function.attribute_proto.append(default)
    nodes = [helper.make_node("Twist", ["features"], ["logits"], domain="own")]
    return linear(nodes=nodes, functions=[function], opsets=[helper.make_opsetid("own", 1)])


def test_external_data_in_the_defaults_of_a_function_is_refused():
    inline = numpy_helper.from_array(np.ones((3, 2), np.float32), "hidden")
    assert scan_onnx(with_default(helper.make_attribute("value", inline)).SerializeToString(), "model.onnx")
    assert "weights of 'hidden'" in refusal(with_default(helper.make_attribute("value", external(inline))))


def test_a_foreign_operator_in_the_defaults_of_a_function_is_named():
    inner = helper.make_graph([helper.make_node("Backdoor", [], ["z"], domain="com.evil")], "inner", [], [])
    assert "operator 'Backdoor'" in refusal(with_default(helper.make_attribute("value", inner)))


def test_graphs_for_training_are_refused():
    model = linear()
    model.training_info.add().initialization.initializer.append(external(numpy_helper.from_array(np.ones(3), "t")))
    assert "training" in refusal(model)


def test_a_function_of_the_model_itself_is_accepted():
    body = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    function = helper.make_function("own", "Twist", ["x", "w"], ["y"], body, [helper.make_opsetid("", 20)])
    nodes = [helper.make_node("Twist", ["features", "weight"], ["logits"], domain="own")]
    model = linear(nodes=nodes, functions=[function], opsets=[helper.make_opsetid("own", 1)])
    assert scan_onnx(model.SerializeToString(), "model.onnx")


def test_a_foreign_operator_is_named():
    nodes = [helper.make_node("Backdoor", ["features"], ["logits"], domain="com.evil")]
    message = refusal(linear(nodes=nodes, opsets=[helper.make_opsetid("com.evil", 1)]))
    assert "operator 'Backdoor' of domain 'com.evil'" in message


def test_a_model_that_contradicts_itself_is_refused():
    assert "not a valid ONNX model" in refusal(linear(output=["batch", 5]))


@pytest.mark.parametrize("content", [b"\x08", b"\xff\xff\xff", b"", b"\x08\x0a"])
def test_garbage_is_refused(content):
    assert "not an ONNX model" in refusal(content)
