"""Half precision against rounding in numpy, and what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hauberk.compress import HalfPrecision
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
