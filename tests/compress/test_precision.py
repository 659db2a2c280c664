"""Half precision against rounding in numpy, and what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from hauberk.compress import BrainPrecision, HalfPrecision
from hauberk.errors import ContractError, InputError


def test_outputs_are_those_of_rounded_weights(mlp, context, answers):
    core = mlp(20, 64, 64, 2)
    model = onnx.load_model_from_string(core.model)
    data = context.calibration
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for layer in range(3):
        weight, bias = (constants[f"{kind}{layer}"] for kind in "wb")
        bias = bias.astype(np.float16).astype(np.float32) if bias.size >= 64 else bias
        data = data @ weight.astype(np.float16).astype(np.float32).T + bias
        data = np.maximum(data, 0) if layer < 2 else data
    result = HalfPrecision().apply(core, context)
    np.testing.assert_allclose(answers(result, context.calibration), data, atol=1e-5)


def test_the_running_graph_is_the_float_graph(mlp, context, fused):
    core = mlp(20, 64, 64, 2)
    assert fused(HalfPrecision().apply(core, context)) == fused(core)


def test_the_file_halves(mlp, context):
    core = mlp(20, 256, 128, 2)
    assert len(HalfPrecision().apply(core, context).model) < 0.52 * len(core.model)


def test_a_weight_beyond_the_range_is_named(as_core, context):
    weight = np.ones((20, 4), np.float32)
    weight[3, 1] = -70_000.0
    nodes = [
        helper.make_node("MatMul", ["features", "first.weight"], ["h"]),
        helper.make_node("MatMul", ["h", "head"], ["logits"]),
    ]
    core = as_core(nodes, {"first.weight": weight, "head": np.ones((4, 2), np.float32)})
    with pytest.raises(ContractError, match=r"'first.weight' holds 7e\+04, float16 ends at 65504"):
        HalfPrecision().apply(core, context)


def test_a_weight_that_is_no_number_is_named(as_core, context):
    weight = np.ones((20, 2), np.float32)
    weight = np.tile(weight, (1, 2))
    weight[0, 0] = np.nan
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "head"], ["logits"]),
    ]
    with pytest.raises(ContractError, match="'w' holds nan"):
        HalfPrecision().apply(as_core(nodes, {"w": weight, "head": np.ones((4, 2), np.float32)}), context)


def test_largest_half_precision_number_passes(as_core, context, answers):
    weight = np.zeros((20, 4), np.float32)
    weight[0] = 65504.0
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "head"], ["logits"]),
    ]
    core = as_core(nodes, {"w": weight, "head": np.ones((4, 2), np.float32)})
    result = HalfPrecision().apply(core, context)
    np.testing.assert_array_equal(answers(result, context.calibration), answers(core, context.calibration))


def test_a_graph_of_few_weights_is_refused(mlp, context):
    with pytest.raises(InputError, match="no float32 constant of 64 values or more"):
        HalfPrecision().apply(mlp(20, 2), context)


def test_half_precision_twice_is_refused(mlp, context):
    step = HalfPrecision()
    with pytest.raises(InputError, match="nothing to store"):
        step.apply(step.apply(mlp(20, 64, 2), context), context)


def test_bfloat16_weights_are_those_of_torch(mlp, context):
    core = mlp(20, 64, 64, 2)
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(core.model).graph.initializer}
    after = onnx.load_model_from_string(BrainPrecision().apply(core, context).model).graph.initializer
    stored = [tensor for tensor in after if tensor.data_type == onnx.TensorProto.BFLOAT16]
    assert len(stored) == 5  # the last bias is too small to gain
    for tensor in stored:
        bits = np.frombuffer(tensor.raw_data, np.uint16).astype(np.uint32) << 16
        values = bits.view(np.float32).reshape(tuple(tensor.dims))
        expected = torch.from_numpy(before[tensor.name.removesuffix("/half")].copy()).bfloat16().float().numpy()
        np.testing.assert_array_equal(values, expected)


def test_bfloat16_runs_as_the_float_graph(mlp, context, fused, answers):
    core = mlp(20, 64, 64, 2)
    result = BrainPrecision().apply(core, context)
    assert fused(result) == fused(core)
    before, after = answers(core, context.calibration), answers(result, context.calibration)
    assert 0 < np.sqrt(np.mean((after - before) ** 2) / np.mean(before**2)) < 0.01


def test_bfloat16_halves_the_file(mlp, context):
    core = mlp(20, 256, 128, 2)
    assert len(BrainPrecision().apply(core, context).model) < 0.52 * len(core.model)


@pytest.mark.parametrize("value", [3.4e38, np.nan])
def test_a_weight_beyond_bfloat16_is_named_with_the_back_end_that_computes_in_it(value, as_core, context):
    weight = np.ones((20, 4), np.float32)
    weight[3, 1] = value
    core = as_core([helper.make_node("MatMul", ["features", "head"], ["logits"])], {"head": weight}, outputs=4)
    with pytest.raises(ContractError, match=r"'head' holds .*bfloat16 ends at 3.3895e\+38.*OpenVINO"):
        BrainPrecision().apply(core, context)


def test_bfloat16_says_which_back_end_computes_in_it(core):
    (note,) = BrainPrecision().notes(core)
    assert "only OpenVINO computes in bfloat16" in note
