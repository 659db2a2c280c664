"""Bias correction against the mean that it restores, layer by layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hauberk.compress import QuantizeStatic
from hauberk.compress.core import read_core
from hauberk.compress.quantize.bias import correct_biases, mean_inputs, mean_result
from hauberk.compress.quantize.codes import along, encode_weight
from hauberk.compress.quantize.layers import Constants
from hauberk.compress.quantize.plan import plan
from hauberk.compress.quantize.qdq import weight_codes
from hauberk.compress.quantize.static import activation_ranges, codes_of, prepared_plan
from hauberk.graph.model import run, session

LEVELS = 3  # three bits, where rounding shifts means visibly


@pytest.mark.parametrize("name", ["mlp", "plain", "residual", "depthwise", "transformer"])
def test_the_mean_of_every_layer_is_restored(name, networks, calibrated, records):
    """The first layer of each network: the mean of its results with rounded weights and the corrected bias."""
    core = networks[name]()
    hands, features = read_core(core, "test"), calibrated(core).calibration
    chosen = prepared_plan(hands)
    codes = codes_of(chosen, activation_ranges(hands, calibrated(core), chosen.sources))
    weights = weight_codes(hands.model, chosen, codes, levels=LEVELS)
    first = chosen.layers[0]
    taker = first.name if first.bias else next(n.output[0] for n in hands.model.graph.node if first.name in n.input)
    before = mean_of(hands.model, taker, features)
    correct_biases(hands.model, chosen, weights, mean_inputs(hands.model, chosen, features))
    round_weights(hands.model, first, weights[first.name])
    after = mean_of(hands.model, taker, features)
    np.testing.assert_allclose(after, before, atol=1e-4)


def mean_of(model: onnx.ModelProto, tensor: str, features: np.ndarray) -> np.ndarray:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    values = run(session(probe.SerializeToString()), {"features": features})[0]
    channels = 1 if values.ndim == 4 else values.ndim - 1
    return values.mean(axis=tuple(axis for axis in range(values.ndim) if axis != channels))


def round_weights(model: onnx.ModelProto, layer, code) -> None:
    weight = Constants(model.graph).floats(layer.weight)
    coded = encode_weight(weight, code.scale, axis=layer.axis, levels=code.levels)
    rounded = (coded * along(code.scale, weight.ndim, layer.axis)).astype(np.float32)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == layer.weight)
    tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, layer.weight))


def test_mean_result_of_a_convolution_counts_padding(networks):
    hands = read_core(networks["plain"](), "test")
    layer = plan(hands.model).layers[0]
    node = next(node for node in hands.model.graph.node if node.output[0] == layer.name)
    ones = np.ones((8, 1, 3, 3), np.float32)
    answer = mean_result(node, layer, ones, np.ones((1, 12, 12), np.float32))
    # 100 inner places see 9 values, 40 at the edges 6, 4 corners 4.
    np.testing.assert_allclose(answer, np.full(8, (100 * 9 + 40 * 6 + 4 * 4) / 144), rtol=1e-6)


def test_correction_brings_logits_closer_where_few_levels_are_left(networks, calibrated, records, relative_error):
    core = networks["plain"]()
    features = records(core, seed=2)
    errors = []
    for corrected in (False, True):
        hands = read_core(core, "test")
        chosen = prepared_plan(hands)
        codes = codes_of(chosen, activation_ranges(hands, calibrated(core), chosen.sources))
        weights = weight_codes(hands.model, chosen, codes, levels=LEVELS)
        if corrected:
            means = mean_inputs(hands.model, chosen, calibrated(core).calibration)
            correct_biases(hands.model, chosen, weights, means)
        for layer in chosen.layers:
            round_weights(hands.model, layer, weights[layer.name])
        errors.append(relative_error(core, hands.finished(hands.model), features))
    assert errors[1] < errors[0]


def test_the_step_corrects_when_asked(networks, calibrated):
    core = networks["plain"]()
    plain, corrected = (QuantizeStatic(bias_correction=on).apply(core, calibrated(core)).model for on in (False, True))
    assert plain != corrected
