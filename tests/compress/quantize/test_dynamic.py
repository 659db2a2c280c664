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


def test_shapes_of_one_fixed_batch_are_no_obstacle(core, context):
    """torch's exporter leaves such shapes behind, and the quantizer's shape inference fails on them."""
    model = onnx.load_model_from_string(core.model)
    model.graph.value_info.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, [2, 16]))
    model.graph.value_info.append(helper.make_tensor_value_info("h1", TensorProto.FLOAT, [3, 8]))
    QuantizeDynamic().apply(replace(core, model=model.SerializeToString()), context)


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
