"""The QDQ that is written: fused completely by ONNX Runtime, close to the float graph, and of the stated form."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hauberk.compress import QuantizeStatic
from hauberk.compress.core import read_core
from hauberk.compress.quantize.codes import Affine
from hauberk.compress.quantize.layers import prepare
from hauberk.compress.quantize.plan import plan
from hauberk.compress.quantize.qdq import WeightCode, write

MOVES = {"Transpose", "Reshape", "Flatten", "Split", "ReduceMax", "MaxPool", "NhwcMaxPool"}

FUSED = {
    "mlp": {"QuantizeLinear": 1, "QGemm": 3},
    "plain": {"QuantizeLinear": 1, "QLinearConv": 2, "QGemm": 2},
    "windows": {"QuantizeLinear": 1, "QLinearConv": 2, "QGemm": 1},
    "residual": {
        "QuantizeLinear": 1,
        "QLinearConv": 6,
        "QLinearAdd": 2,
        "QLinearGlobalAveragePool": 1,
        "QGemm": 1,
    },
    "depthwise": {"QuantizeLinear": 1, "QLinearConv": 3, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    "concatenating": {
        "QuantizeLinear": 1,
        "QLinearConv": 3,
        "QLinearConcat": 1,
        "QLinearAveragePool": 1,
        "QGemm": 1,
    },
    "excited": {
        "QuantizeLinear": 1,
        "QLinearConv": 4,
        "QLinearSigmoid": 2,
        "QLinearMul": 2,
        "QLinearGlobalAveragePool": 2,
        "QGemm": 1,
    },
}


@pytest.mark.parametrize("name", FUSED)
def test_what_onnx_runtime_runs(name, networks, calibrated, fused):
    """Every node computes on codes: nothing in float but the logits, and values are only moved beside."""
    core = networks[name]()
    operators = Counter(fused(QuantizeStatic().apply(core, calibrated(core))))
    assert {kind: count for kind, count in operators.items() if kind not in MOVES} == FUSED[name]


def test_what_onnx_runtime_runs_of_a_transformer(networks, calibrated, fused):
    """All seven linear layers in integers; norms, softmax and the two products of activations stay in float."""
    core = networks["transformer"]()
    operators = Counter(fused(QuantizeStatic().apply(core, calibrated(core))))
    assert operators["MatMulIntegerToFloat"] + operators["QGemm"] == 8
    assert operators["MatMul"] + operators["FusedMatMul"] == 2
    assert not {"Gemm", "DequantizeLinear", "QLinearAdd"} & set(operators)


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Gelu"])
def test_an_activation_function_between_layers_is_no_obstacle(activation, builder, calibrated, fused):
    """ONNX Runtime merges a float Gemm with what is behind it before it looks for integers."""
    b = builder()
    b.gemm(b.node(activation, b.gemm("features", 20, 16)), 16, 3, name="logits")
    core = b.artifact((20,), 3)
    operators = fused(QuantizeStatic().apply(core, calibrated(core)))
    assert operators.count("QGemm") == 2
    assert not {"Gemm", "FusedGemm"} & set(operators)


@pytest.mark.parametrize("name", ["mlp", "plain", "residual", "depthwise"])
def test_a_layer_that_stays_in_float_does_so_in_onnx_runtime(name, networks, calibrated, fused):
    """ONNX Runtime quantizes a float layer between codes by itself, unless it is kept from seeing them."""
    core = networks[name]()
    hands = read_core(core, "test")
    prepare(hands.model)
    layers = plan(hands.model).layers
    operators = fused(QuantizeStatic(keep_float=(layers[1].name,)).apply(core, calibrated(core)))
    integers = sum(kind in ("QGemm", "QLinearConv") for kind in operators)
    floats = sum(kind in ("Gemm", "FusedGemm", "Conv", "FusedConv") for kind in operators)
    assert (integers, floats) == (len(layers) - 1, 1)


@pytest.mark.parametrize("options", [{}, {"signed": True}, {"per_channel": False}, {"reduced_range": True}], ids=repr)
def test_logits_stay_close(options, network, calibrated, records, relative_error):
    result = QuantizeStatic(**options).apply(network, calibrated(network))
    limit = 0.1 if options.get("per_channel") is False or options.get("reduced_range") else 0.05
    assert relative_error(network, result, records(network, seed=2)) < limit


@pytest.mark.parametrize("name", ["mlp", "plain", "windows", "depthwise"])
def test_signed_activations_fuse_where_no_tensor_is_taken_twice(name, networks, calibrated, fused):
    """ONNX Runtime turns int8 activations into uint8 on x86, pair by pair; behind a branch it does not."""
    core = networks[name]()
    operators = Counter(fused(QuantizeStatic(signed=True).apply(core, calibrated(core))))
    assert {kind: count for kind, count in operators.items() if kind not in MOVES} == FUSED[name]


def test_one_scale_a_layer_fuses_too(networks, calibrated, fused):
    core = networks["residual"]()
    operators = Counter(fused(QuantizeStatic(per_channel=False).apply(core, calibrated(core))))
    assert {kind: count for kind, count in operators.items() if kind not in MOVES} == FUSED["residual"]


def test_activation_parameters_are_scalars(network, calibrated):
    """A scale of shape [1] passes the checker and crashes QLinearAdd."""
    graph = onnx.load_model_from_string(QuantizeStatic().apply(network, calibrated(network)).model).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {
        tuple(constants[name].dims)
        for node in graph.node
        if node.op_type == "QuantizeLinear"
        for name in node.input[1:]
    }
    assert shapes == {()}


def test_logits_are_not_coded(network, calibrated):
    graph = onnx.load_model_from_string(QuantizeStatic().apply(network, calibrated(network)).model).graph
    producer = {name: node.op_type for node in graph.node for name in node.output}
    assert producer["logits"] == "Gemm"


def test_learned_scales_are_written_as_they_are(networks):
    """What quantization-aware training hands in is what the graph holds."""
    hands = read_core(networks["mlp"](), "test")
    prepare(hands.model)
    chosen = plan(hands.model)
    codes = {name: Affine(np.float32(0.01 * k), np.uint8(k)) for k, name in enumerate(chosen.activations, start=1)}
    weights = {
        layer.name: WeightCode(np.linspace(0.1, 0.2, layer.channels, dtype=np.float32), levels=7)
        for layer in chosen.layers
    }
    graph = hands.finished(write(hands.model, chosen, codes, weights)).model
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(graph).graph.initializer}
    for name, code in codes.items():
        assert (constants[f"{name}/scale"], constants[f"{name}/zero_point"]) == code
    for layer in chosen.layers:
        np.testing.assert_array_equal(constants[f"{layer.name}/weight/scale"], weights[layer.name].scale)
        expected = np.clip(np.rint(layer_weight(hands.model, layer) / weights[layer.name].scale), -7, 7)
        np.testing.assert_array_equal(constants[f"{layer.name}/weight/codes"], expected)


def layer_weight(model: onnx.ModelProto, layer) -> np.ndarray:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == layer.weight)
    return numpy_helper.to_array(tensor)
