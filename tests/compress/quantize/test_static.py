"""Static INT8 against an integer emulation in numpy, and its behaviour on odd calibration records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize.codes import kernels_saturate
from hauberk.errors import InputError
from hauberk.graph.verify import verify
from hauberk.recipe import Context, Recipe


def emulate(model: bytes, features: np.ndarray) -> np.ndarray:
    """Logits of a QDQ chain of Gemm (and Relu, implied by codes that end at zero) in exact integers.

    Reads only the arrays of the graph; `q = clip(rint(f32(acc) * f32(sx * sw / sy)) + zy)`.
    """
    graph = onnx.load_model_from_string(model).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}
    code_of = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    gemms = [node for node in graph.node if node.op_type == "Gemm"]

    first = code_of["features"]
    scale, zero = constants[first.input[1]], constants[first.input[2]]
    codes = np.clip(np.rint(features / scale) + np.float32(zero), 0, 255).astype(np.int64)
    for number, gemm in enumerate(gemms):
        weight, weight_scale, _ = (constants[name] for name in producer[gemm.input[1]].input)
        bias = constants[producer[gemm.input[2]].input[0]]
        total = ((codes - int(zero)) @ weight.astype(np.int64) + bias).astype(np.float32)
        if number == len(gemms) - 1:
            return total * (scale * weight_scale)
        following = code_of[producer[gemms[number + 1].input[0]].input[0].removesuffix("/codes")]
        next_scale, zero = constants[following.input[1]], constants[following.input[2]]
        codes = np.clip(np.rint(total * (scale * weight_scale / next_scale)) + np.float32(zero), 0, 255).astype(
            np.int64
        )
        scale = next_scale
    raise AssertionError("no Gemm")


@pytest.mark.parametrize(
    "step",
    [
        QuantizeStatic(reduced_range=True),
        pytest.param(
            QuantizeStatic(reduced_range=False),
            marks=pytest.mark.skipif(kernels_saturate(), reason="processor without VNNI saturates"),
        ),
    ],
    ids=repr,
)
def test_onnx_runtime_computes_the_integers_that_were_meant(step, mlp, answers):
    core = mlp(57, 128, 64, 32, 3)
    generator = np.random.default_rng(3)
    calibration = generator.normal(size=(500, 57)).astype(np.float32)
    unseen = generator.normal(size=(500, 57), scale=1.5).astype(np.float32)
    result = step.apply(core, _context(calibration))
    np.testing.assert_array_equal(answers(result, unseen), emulate(result.model, unseen))


def test_every_linear_layer_is_fused(core, context, fused):
    assert fused(QuantizeStatic().apply(core, context)) == ["QuantizeLinear", "QGemm", "QGemm", "QGemm"]


def test_layers_without_bias_are_fused(as_core, context, fused):
    generator = np.random.default_rng(4)
    constants = {
        "a": generator.normal(size=(20, 8)).astype(np.float32),
        "b": generator.normal(size=(8, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["features", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b"], ["logits"]),
    ]
    assert fused(QuantizeStatic().apply(as_core(nodes, constants), context)) == ["QuantizeLinear", "QGemm", "QGemm"]


def test_matmul_is_quantized(as_core, context, fused, answers):
    constants = {"w": np.random.default_rng(5).normal(size=(20, 2)).astype(np.float32)}
    core = as_core([helper.make_node("MatMul", ["features", "w"], ["logits"])], constants)
    result = QuantizeStatic().apply(core, context)
    assert "MatMulIntegerToFloat" in fused(result)
    before, after = answers(core, context.calibration), answers(result, context.calibration)
    assert np.sqrt(np.mean((after - before) ** 2) / np.mean(before**2)) < 0.02


def test_form_of_the_graph(core, context):
    """Weights int8 a channel, bias int32 with scale sx * sw, 0-d activation scales, float logits."""
    graph = onnx.load_model_from_string(QuantizeStatic(reduced_range=False).apply(core, context).model).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    decode = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    quantize = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert [constants[node.input[1]].shape for node in quantize] == [(), (), ()]
    assert {constants[node.input[2]].dtype.name for node in quantize} == {"uint8"}
    assert graph.node[-1].op_type == "Gemm"
    for gemm in (node for node in graph.node if node.op_type == "Gemm"):
        data, weight, bias = ([constants.get(name) for name in decode[name].input] for name in gemm.input)
        assert weight[0].dtype == np.int8
        assert np.abs(weight[0].astype(int)).max(axis=0).tolist() == [127] * weight[0].shape[1]
        assert bias[0].dtype == np.int32
        np.testing.assert_array_equal(bias[1], data[1] * weight[1])


def test_reduced_range_uses_seven_bits(core, context):
    graph = onnx.load_model_from_string(QuantizeStatic(reduced_range=True).apply(core, context).model).graph
    weights = [numpy_helper.to_array(tensor) for tensor in graph.initializer if len(tensor.dims) == 2]
    assert [int(np.abs(weight.astype(int)).max()) for weight in weights] == [63, 63, 63]


def test_an_opset_without_channel_scales_is_refused(mlp, context):
    with pytest.raises(InputError, match="opset 11"):
        QuantizeStatic().apply(mlp(20, 8, 2, opset=11), context)


def test_features_that_never_change_are_no_obstacle(core, answers):
    constant = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (10, 1))
    result = QuantizeStatic().apply(core, _context(constant))
    np.testing.assert_allclose(answers(result, constant), answers(core, constant), atol=0.02)


def test_records_that_are_zero_throughout_are_no_obstacle(core, answers):
    zeros = np.zeros((10, 20), np.float32)
    result = QuantizeStatic().apply(core, _context(zeros))
    np.testing.assert_allclose(answers(result, zeros), answers(core, zeros), atol=0.02)


def test_activations_that_overflow_are_refused(mlp):
    huge = np.full((10, 20), 3e38, np.float32)
    with pytest.raises(InputError, match="not finite on the calibration records"):
        QuantizeStatic().apply(mlp(20, 16, 2), _context(huge))


def test_a_channel_of_tiny_weights_keeps_its_bias(as_core, context, answers):
    """Scale max|w| / 127 alone would need a bias code beyond int32."""
    weight = np.ones((20, 2), np.float32)
    weight[:, 1] = 1e-12
    core = as_core(
        [helper.make_node("Gemm", ["features", "w", "b"], ["logits"])],
        {"w": weight, "b": np.array([0.5, -3.0], np.float32)},
    )
    logits = answers(QuantizeStatic().apply(core, context), context.calibration)
    np.testing.assert_allclose(logits[:, 1], -3.0, rtol=1e-6)


def _context(calibration: np.ndarray) -> Context:
    width = calibration.shape[1]
    return Context(calibration=calibration, bounds=(np.full(width, -1, np.float32), np.ones(width, np.float32)))


@pytest.mark.parametrize("name", ["plain", "windows", "transformer"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[..., :-1], "features, the model takes"),
        (lambda x: x.reshape(len(x), -1), "not float32"),
        (lambda x: x[:9], "9 calibration records are too few"),
        (lambda x: x.astype(np.float64), "float64"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 37, np.nan, x).astype(np.float32), "holds nan"),
    ],
    ids=["width", "rank", "few", "dtype", "nan"],
)
def test_calibration_that_does_not_fit_is_refused(name, spoil, message, networks, calibrated):
    core = networks[name]()
    context = calibrated(core)
    with pytest.raises(InputError, match=message):
        QuantizeStatic().apply(core, replace(context, calibration=spoil(context.calibration)))


@pytest.mark.parametrize("calibrator", ["min-max", "percentile", "entropy", "mse"])
def test_constant_records_are_no_obstacle_to_any_calibrator(calibrator, networks, relative_error):
    core = networks["residual"]()
    records = np.full((20, 1, 12, 12), 0.5, np.float32)
    context = Context(calibration=records, bounds=(records[0], records[0]))
    result = QuantizeStatic(calibrator=calibrator).apply(core, context)
    assert np.isfinite(relative_error(core, result, records))


@pytest.mark.parametrize("calibrator", ["percentile", "entropy", "mse"])
def test_other_calibrators_stay_close(calibrator, network, calibrated, records, relative_error):
    result = QuantizeStatic(calibrator=calibrator).apply(network, calibrated(network))
    assert relative_error(network, result, records(network, seed=2)) < 0.1


def test_what_cannot_be_quantized_is_left_and_said(builder, calibrated, fused):
    """A recurrent layer between two that can be."""
    b = builder()
    windows = b.node("Relu", b.linear("features", 6, 16))
    b.gemm(b.recurrent("GRU", windows, 16, 8), 8, 3, name="logits")
    core = b.artifact((10, 6), 3)
    step = QuantizeStatic()
    (note,) = step.notes(core)
    assert note.startswith("GRU ")
    assert note.endswith("stays in float: ONNX Runtime has no integer kernel for it")
    operators = fused(step.apply(core, calibrated(core)))
    assert {"MatMulIntegerToFloat", "QGemm", "GRU"} <= set(operators)


def test_only_what_cannot_be_quantized_is_refused_with_the_reason(builder, calibrated):
    b = builder()
    b.node("Softmax", b.recurrent("LSTM", "features", 6, 8), name="logits")
    core = b.artifact((10, 6), 8)
    with pytest.raises(InputError, match=r"nothing to quantize.*LSTM .* finds ranges at run time only"):
        QuantizeStatic().apply(core, calibrated(core))


def test_weights_that_are_computed_from_constants_are_quantized(builder, calibrated, fused):
    b = builder()
    weight = b.node("Concat", b.random(20, 2, fan=20), b.random(20, 1, fan=20), axis=1)
    b.node("MatMul", "features", b.node("Identity", weight), name="logits")
    core = b.artifact((20,), 3)
    assert "MatMulIntegerToFloat" in fused(QuantizeStatic().apply(core, calibrated(core)))


def test_what_is_left_is_in_the_record(networks, calibrated):
    core = networks["transformer"]()
    context = replace(calibrated(core), task="classification")
    (record,) = Recipe("int8", (QuantizeStatic(),)).apply(core, context, verify).history
    assert record.kept
    assert sum("product of two activations" in note for note in record.notes) == 2
