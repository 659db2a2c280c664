"""Reading a core: its linear layers in one form, and records that do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from hauberk.artifact import OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.errors import InputError
from hauberk.tensors import Signature, TensorSpec


@pytest.mark.parametrize(
    ("attributes", "bias_shape"),
    [({}, (2,)), ({"transB": 1}, (1, 2)), ({"alpha": 0.5, "beta": 2.0}, (1,)), ({"alpha": -2.0, "transB": 1}, None)],
)
def test_linear_layers_compute_what_their_gemm_computes(attributes, bias_shape, as_core, answers):
    generator = np.random.default_rng(2)
    shape = (2, 20) if attributes.get("transB") else (20, 2)
    constants = {"w": generator.normal(size=shape).astype(np.float32)}
    if bias_shape:
        constants["b"] = generator.normal(size=bias_shape).astype(np.float32)
    artifact = as_core([helper.make_node("Gemm", ["features", *constants], ["logits"], **attributes)], constants)
    features = generator.normal(size=(5, 20)).astype(np.float32)

    (layer,) = read_core(artifact, "test").linear_layers()

    bias = 0 if layer.bias is None else layer.bias
    np.testing.assert_allclose(features @ layer.weight + bias, answers(artifact, features), rtol=1e-5, atol=1e-6)


def test_constant_nodes_count_as_weights(as_core):
    weight = onnx.numpy_helper.from_array(np.ones((20, 2), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("MatMul", ["features", "w"], ["logits"]),
    ]
    assert len(read_core(as_core(nodes, {}), "test").linear_layers()) == 1


def test_a_product_of_two_activations_is_no_linear_layer(as_core):
    nodes = [
        helper.make_node("Gemm", ["features", "features"], ["square"], transA=1),
        helper.make_node("MatMul", ["features", "square"], ["wide"]),
        helper.make_node("MatMul", ["wide", "w"], ["logits"]),
    ]
    layers = read_core(as_core(nodes, {"w": np.ones((20, 2), np.float32)}), "test").linear_layers()
    assert [layer.data for layer in layers] == ["wide"]


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        ("float64", ("batch", 20), "float64"),
        ("float32", ("batch",), r"\[batch\]"),
        ("float32", ("batch", "columns"), r"\[batch, columns\]"),
    ],
)
def test_an_input_that_is_no_feature_matrix_is_refused(core, dtype, shape, message):
    signature = Signature((TensorSpec("features", dtype, shape),), core.signature.outputs)
    with pytest.raises(InputError, match=message):
        read_core(replace(core, signature=signature), "test")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (np.zeros((50, 19), np.float32), "19 features, the model takes 20"),
        (np.zeros((9, 20), np.float32), "9 calibration records are too few, at least 10"),
        (np.zeros((0, 20), np.float32), "0 calibration records are too few"),
        (np.zeros((50, 20), np.float64), "float64"),
        (np.zeros(20, np.float32), "not float32"),
    ],
)
def test_calibration_records_that_do_not_fit_are_refused(core, context, records, message):
    with pytest.raises(InputError, match=message):
        read_core(core, "test").calibration(replace(context, calibration=records))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_calibration_records_that_are_not_finite_are_refused(core, context, value):
    records = context.calibration.copy()
    records[17, 3] = value
    with pytest.raises(InputError, match=f"record 17 holds {value} in feature 3"):
        read_core(core, "test").calibration(replace(context, calibration=records))


def test_result_keeps_no_dead_parts(core):
    hands = read_core(core, "test")
    hands.model.graph.node.append(helper.make_node("Relu", ["features"], ["unused"]))
    hands.model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), "left_over"))
    result: OnnxArtifact = hands.finished(hands.model)
    assert b"unused" not in result.model
    assert b"left_over" not in result.model


def test_a_broken_result_is_refused(core):
    hands = read_core(core, "test")
    hands.model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(InputError, match="NoSuchOperator"):
        hands.finished(hands.model)
