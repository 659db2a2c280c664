"""Dynamic INT8 against its own arithmetic in numpy, and the traps of the quantizer that it calls."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.compress import QuantizeDynamic
from hauberk.compress.quantize.dynamic import CONVOLUTIONS_ARE_SLOW
from hauberk.errors import InputError


def emulate(core_model: bytes, features: np.ndarray, *, per_channel: bool) -> np.ndarray:
    """Dynamic INT8 of an MLP from its float weights: max|w| / 127 a channel, uint8 over each batch's own range."""
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(core_model).graph.initializer}
    layers = len(constants) // 2
    data = features
    for layer in range(layers):
        weight = constants[f"w{layer}"].T
        largest = np.abs(weight).max(axis=0) if per_channel else np.abs(weight).max()
        weight_scale = (largest / 127).astype(np.float32)
        low, high = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
        scale = np.float32((high - low) / 255)
        zero = np.rint(-low / scale)
        codes = np.clip(np.rint(data / scale) + zero, 0, 255) - zero
        total = codes @ np.clip(np.rint(weight / weight_scale), -127, 127)
        data = (total * scale * weight_scale + constants[f"b{layer}"]).astype(np.float32)
        if layer < layers - 1:
            data = np.maximum(data, 0)
    return data


@pytest.mark.parametrize("per_channel", [True, False])
def test_arithmetic(per_channel, core, context, answers):
    result = QuantizeDynamic(per_channel=per_channel).apply(core, context)
    emulated = emulate(core.model, context.calibration, per_channel=per_channel)
    # A tie in rounding may fall either way and moves one code by one, and a logit by about 1e-3.
    difference = np.abs(answers(result, context.calibration) - emulated)
    assert np.median(difference) < 1e-5
    assert difference.max() < 5e-3


def test_every_linear_layer_is_fused(core, context, fused):
    operators = fused(QuantizeDynamic().apply(core, context))
    assert operators == ["DynamicQuantizeMatMul", "Relu", "DynamicQuantizeMatMul", "Relu", "DynamicQuantizeMatMul"]


@pytest.mark.parametrize("chained", [False, True])
def test_lstm_computes_in_integers(chained, recurrent, calibrated, fused, records, relative_error):
    core = recurrent("LSTM", chained=chained)
    result = QuantizeDynamic().apply(core, calibrated(core))
    operators = fused(result)
    assert "DynamicQuantizeLSTM" in operators
    assert "LSTM" not in operators
    assert relative_error(core, result, records(core, seed=2)) < 0.05


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_gru_and_rnn_keep_int8_weights_and_run_as_before(
    kind, chained, recurrent, calibrated, fused, records, relative_error
):
    core = recurrent(kind, chained=chained)
    step = QuantizeDynamic()
    result = step.apply(core, calibrated(core))
    assert not {"Cast", "Mul"} & set(fused(result)) - {"DynamicQuantizeMatMul"}
    assert relative_error(core, result, records(core, seed=2)) < 0.05
    assert any(f"{kind} " in note and "weights are kept in int8" in note for note in step.notes(core))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_no_float_weights_of_a_recurrent_layer_are_left(kind, recurrent, calibrated):
    core = recurrent(kind, chained=True)
    graph = onnx.load_model_from_string(QuantizeDynamic().apply(core, calibrated(core)).model).graph
    floats = [tuple(t.dims) for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 3]
    assert all(shape[2] == 1 for shape in floats)  # scales
    assert sum(t.data_type == TensorProto.INT8 and len(t.dims) == 3 for t in graph.initializer) >= 2


def test_recurrent_layers_stay_when_that_is_asked_for(recurrent, calibrated, fused):
    core, step = recurrent("LSTM"), QuantizeDynamic(recurrent=False)
    assert "LSTM" in fused(step.apply(core, calibrated(core)))
    (note,) = step.notes(core)
    assert note.endswith("stays in float: recurrent layers were not asked for")


def test_convolutions_are_left_alone_and_named(networks, calibrated, fused):
    core = networks["plain"]()
    step = QuantizeDynamic()
    operators = fused(step.apply(core, calibrated(core)))
    assert "ConvInteger" not in operators
    assert sum("Conv " in note and "stays in float" in note for note in step.notes(core)) == 2


def test_convolutions_that_are_asked_for_come_with_a_warning(networks, calibrated, fused, records, relative_error):
    core = networks["plain"]()
    step = QuantizeDynamic(convolutions=True)
    result = step.apply(core, calibrated(core))
    assert fused(result).count("ConvInteger") == 2
    assert CONVOLUTIONS_ARE_SLOW in step.notes(core)
    assert relative_error(core, result, records(core, seed=2)) < 0.1


def test_recorded_shapes_of_weights_are_no_obstacle(builder, calibrated, answers):
    """torch's exporter records them; the quantizer transposes a Gemm's matrix and trips over its old shape."""
    b = builder()
    weight, shortcut = b.random(16, 20, fan=20), b.node("MatMul", "features", b.random(20, 16, fan=20))
    hidden = b.node("Gemm", "features", weight, shortcut, transB=1)  # a bias that is computed: no layer of ours
    b.gemm(b.node("Relu", hidden), 16, 2, name="logits")
    core = b.artifact((20,), 2)
    model = onnx.load_model_from_string(core.model)
    model.graph.value_info.append(helper.make_tensor_value_info(weight, TensorProto.FLOAT, [16, 20]))
    context = calibrated(core)
    result = QuantizeDynamic().apply(replace(core, model=model.SerializeToString()), context)
    expected = answers(QuantizeDynamic().apply(core, context), context.calibration)
    np.testing.assert_array_equal(answers(result, context.calibration), expected)


def test_no_temporary_file_is_left(core, context, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    QuantizeDynamic().apply(core, context)
    assert list(tmp_path.iterdir()) == []


def test_no_temporary_file_is_left_by_a_failure(core, context, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = onnx.load_model_from_string(core.model)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(InputError):
        QuantizeDynamic().apply(replace(core, model=model.SerializeToString()), context)
    assert list(tmp_path.iterdir()) == []


def test_the_root_logger_is_left_alone_and_hears_nothing(core, context, caplog):
    root = logging.getLogger()
    before = list(root.handlers), list(root.filters)
    with caplog.at_level(logging.DEBUG):
        QuantizeDynamic().apply(core, context)
    assert (list(root.handlers), list(root.filters)) == before
    assert [record for record in caplog.records if "onnxruntime" in record.pathname] == []


def test_a_matrix_that_is_read_both_ways_is_quantized_both_ways(builder, calibrated, relative_error, records):
    """Tied weights, as in an autoencoder: once as they are, once transposed; the quantizer transposes in place."""
    b = builder()
    matrix = b.random(16, 16, fan=16)
    hidden = b.node("Relu", b.node("Gemm", "features", matrix))
    b.gemm(b.node("Relu", b.node("Gemm", hidden, matrix, transB=1)), 16, 2, name="logits")
    core = b.artifact((16,), 2)
    result = QuantizeDynamic().apply(core, calibrated(core))
    assert relative_error(core, result, records(core, seed=2)) < 0.05


def test_a_factor_does_not_keep_a_gemm_in_float(builder, calibrated):
    b = builder()
    hidden = b.node("Gemm", "features", b.random(16, 16, fan=16), b.random(16), alpha=0.5, beta=2.0)
    b.gemm(b.node("Relu", hidden), 16, 2, name="logits")
    core = b.artifact((16,), 2)
    kinds = [
        node.op_type
        for node in onnx.load_model_from_string(QuantizeDynamic().apply(core, calibrated(core)).model).graph.node
    ]
    assert kinds.count("MatMulInteger") == 2
    assert "Gemm" not in kinds


@pytest.mark.parametrize(
    ("factors", "integers"), [({}, 3), ({"transB": 1}, 3), ({"beta": 0.5}, 2), ({"alpha": 2.0}, 2)]
)
def test_a_gemm_whose_bias_is_computed_is_named_where_it_stays(factors, integers, builder, calibrated):
    b = builder()
    weight = b.random(*((16, 20) if "transB" in factors else (20, 16)), fan=20)
    hidden = b.node("Gemm", "features", weight, b.node("MatMul", "features", b.random(20, 16, fan=20)), **factors)
    b.gemm(b.node("Relu", hidden), 16, 2, name="logits")
    core, step = b.artifact((20,), 2), QuantizeDynamic()
    kinds = [node.op_type for node in onnx.load_model_from_string(step.apply(core, calibrated(core)).model).graph.node]
    assert kinds.count("MatMulInteger") == integers
    assert [hidden in note for note in step.notes(core)] == [True] * kinds.count("Gemm")


def test_stacked_matrices_stay_in_float_and_are_named(builder, calibrated, relative_error, records):
    """One matrix a channel: the quantizer's scales for them do not run on ONNX Runtime."""
    b = builder()
    product = b.node("MatMul", "features", b.random(3, 8, 16, fan=8))
    b.gemm(b.node("Flatten", b.node("Relu", product)), 240, 2, name="logits")
    core = b.artifact((3, 5, 8), 2)
    result = QuantizeDynamic().apply(core, calibrated(core))
    assert relative_error(core, result, records(core, seed=2)) < 0.05
    assert QuantizeDynamic().notes(core) == (
        f"MatMul {product!r} stays in float: its weights are float [3, 8, 16], not a float32 matrix",
    )
