"""The plain form of layers computes what the graph computed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from hauberk.compress.quantize.layers import find_layers, prepare, require_finite
from hauberk.errors import InputError
from hauberk.graph.model import run, session


@pytest.mark.parametrize(
    ("attributes", "bias_shape"),
    [({}, (3,)), ({"transB": 1}, (1, 3)), ({"alpha": 0.5, "beta": 2.0}, (1,)), ({"alpha": -2.0, "transB": 1}, None)],
)
def test_gemm_becomes_plain(attributes, bias_shape, builder):
    b = builder()
    inputs = ["features", b.random(3, 20) if attributes.get("transB") else b.random(20, 3)]
    if bias_shape is not None:
        inputs.append(b.random(*bias_shape))
    b.node("Gemm", *inputs, name="logits", **attributes)
    core = b.artifact((20,), 3)
    model = onnx.load_model_from_string(core.model)
    prepare(model)
    (layer,) = find_layers(model.graph)
    assert (layer.shape, layer.axis, layer.channels) == ((20, 3), 1, 3)
    assert list(model.graph.node[0].attribute) == []
    assert {tensor.name for tensor in model.graph.initializer} == set(model.graph.node[0].input) - {"features"}
    features = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    before, after = (run(session(each), {"features": features})[0] for each in (core.model, model.SerializeToString()))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_a_mean_over_space_becomes_a_pool(keepdims, axes, builder):
    b = builder()
    data = b.conv("features", 1, 4)
    mean = b.node("ReduceMean", data, b.constant(np.array(axes)), keepdims=keepdims)
    b.gemm(b.node("Flatten", mean), 4, 2, name="logits")
    core = b.artifact((1, 8, 8), 2)
    model = onnx.load_model_from_string(core.model)
    prepare(model)
    assert "GlobalAveragePool" in [node.op_type for node in model.graph.node]
    features = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    before, after = (run(session(each), {"features": features})[0] for each in (core.model, model.SerializeToString()))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [[1], [2], [1, 2, 3]])
def test_any_other_mean_stays(axes, builder):
    b = builder()
    data = b.conv("features", 1, 4)
    b.node("ReduceMean", data, b.constant(np.array(axes)))
    model = onnx.load_model_from_string(b.artifact((1, 8, 8), 2).model)
    prepare(model)
    assert "ReduceMean" in [node.op_type for node in model.graph.node]


def test_weights_shared_in_two_forms_keep_both(builder):
    """One matrix, used as it is and transposed: an autoencoder with tied weights."""
    b = builder()
    weight = b.random(6, 4)
    code = b.node("Relu", b.node("Gemm", "features", weight))
    b.node("Gemm", code, weight, transB=1, name="logits")
    core = b.artifact((6,), 6)
    model = onnx.load_model_from_string(core.model)
    prepare(model)
    assert [layer.shape for layer in find_layers(model.graph)] == [(6, 4), (4, 6)]
    features = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    before, after = (run(session(each), {"features": features})[0] for each in (core.model, model.SerializeToString()))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_products_of_activations_are_no_layers(builder):
    b = builder()
    square = b.node("Gemm", "features", "features", transA=1)
    b.node("MatMul", b.node("MatMul", "features", square), b.random(20, 2), name="logits")
    model = onnx.load_model_from_string(b.artifact((20,), 2).model)
    prepare(model)
    assert [layer.name for layer in find_layers(model.graph)] == ["logits"]


def test_weights_that_are_no_numbers_are_refused(builder):
    b = builder()
    b.conv("features", 1, 4, name="filters")
    b.constants["c0"][0, 0, 0, 0] = np.nan
    b.node("ReduceMean", "filters", b.constant(np.array([2, 3])), name="logits", keepdims=0)
    model = onnx.load_model_from_string(b.artifact((1, 8, 8), 4).model)
    with pytest.raises(InputError, match="weights of 'filters' are not finite"):
        require_finite(model.graph, find_layers(model.graph), "test")


def test_shapes_of_one_fixed_batch_are_dropped(networks):
    model = onnx.load_model_from_string(networks["mlp"]().model)
    model.graph.value_info.append(helper.make_tensor_value_info("relu1", onnx.TensorProto.FLOAT, [2, 32]))
    prepare(model)
    assert list(model.graph.value_info) == []
