"""Weights behind DequantizeLinear: trainable, exact while untouched, written back as codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from hauberk.graph.model import parse, run, session
from hauberk.graph.twin import Twin

RANDOM = np.random.default_rng(0)
CONSTANTS = {
    "w": RANDOM.integers(-127, 128, (6, 4)).astype(np.int8),
    "w_s": RANDOM.uniform(0.005, 0.02, 4).astype(np.float32),
    "w_z": np.zeros(4, np.int8),
    "b": RANDOM.integers(-(2**13), 2**13, 4).astype(np.int32),
    "s": np.array(0.02, np.float32),
    "z": np.array(128, np.uint8),
    "blocks": RANDOM.uniform(0.05, 0.2, (3, 4)).astype(np.float32),
}
CONSTANTS["b_s"] = CONSTANTS["s"] * CONSTANTS["w_s"]  # the only scale that a fused layer knows
LAYER = """q = QuantizeLinear(features, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear<axis=1>(w, w_s, w_z)
    c = DequantizeLinear<axis=0>(b, b_s) logits = Gemm(d, v, c)"""
FEATURES = (RANDOM.normal(size=(50, 6))).astype(np.float32)


@pytest.fixture
def layer(graph, artifact_of):
    return artifact_of(graph(LAYER, (6,), CONSTANTS))


def answers(model):
    return run(session(model.model), {"features": FEATURES})[0]


def initializers(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in parse(model.model).graph.initializer}


def test_codes_are_parameters_in_the_unit_of_the_weights(layer):
    twin = Twin(layer)
    assert {name for name, _ in twin.named_parameters()} == {"w", "b"}
    np.testing.assert_array_equal(twin.tensor("w").detach().numpy(), CONSTANTS["w"] * CONSTANTS["w_s"])


def test_an_untouched_quantized_graph_is_written_with_the_same_codes(layer):
    written = Twin(layer).to_artifact()
    for name, value in initializers(layer).items():
        np.testing.assert_array_equal(initializers(written)[name], value)
    np.testing.assert_array_equal(answers(written), answers(layer))


def test_a_changed_weight_is_written_as_its_nearest_codes(layer):
    twin = Twin(layer)
    with torch.no_grad():
        twin.tensor("w").add_(0.013)
        twin.tensor("b").mul_(0.5)
    written = twin.to_artifact()
    values = CONSTANTS["w"] * CONSTANTS["w_s"] + np.float32(0.013)
    expected = np.clip(np.rint(values / CONSTANTS["w_s"]), -128, 127)
    np.testing.assert_array_equal(initializers(written)["w"], expected)
    assert initializers(written)["w"].dtype == np.int8
    assert initializers(written)["b"].dtype == np.int32
    found = twin(torch.from_numpy(FEATURES)).detach().numpy()
    assert (np.abs(found - answers(written)) < 1e-3).all()


def test_a_changed_scale_changes_the_codes(layer):
    twin = Twin(layer)
    with torch.no_grad():
        twin.tensor("w_s").mul_(2)
    written = initializers(twin.to_artifact())
    np.testing.assert_array_equal(written["w"], np.rint(CONSTANTS["w"] / 2))


def test_gradients_are_straight_through_and_zero_where_codes_saturate(graph, twin_of):
    constants = {
        "w": np.array([[5, -128]], np.int8),
        "s": np.array(0.5, np.float32),
    }
    twin = twin_of(graph("d = DequantizeLinear(w, s) logits = Mul(features, d)", (2,), constants))
    with torch.no_grad():
        twin.tensor("w").add_(torch.tensor([[0.1, -10.0]]))
    features = torch.tensor([[3.0, 4.0]])
    logits = twin(features)
    assert logits.tolist() == [[7.5, -256.0]]
    logits.sum().backward()
    assert twin.tensor("w").grad.tolist() == [[3.0, 0.0]]


def test_a_scale_set_from_outside_gets_the_gradient_of_learned_step_sizes(graph, twin_of):
    """`round(w / s) - w / s` within the range, the last code beyond it (Esser et al. 2020, equation 3)."""
    constants = {"w": np.array([[5, 127]], np.int8), "s": np.array(0.5, np.float32)}
    twin = twin_of(graph("d = DequantizeLinear(w, s) logits = Mul(features, d)", (2,), constants))
    with torch.no_grad():
        twin.tensor("w").add_(torch.tensor([[0.1, 10.0]]))  # 2.6 / 0.5 = 5.2; 73.5 / 0.5 = 147
    scale = torch.tensor(0.5, requires_grad=True)
    twin.on_tensor["s"] = lambda held: scale
    twin(torch.tensor([[1.0, 0.0]])).sum().backward()
    torch.testing.assert_close(scale.grad, torch.tensor(5 - 5.2))
    scale.grad = None
    twin(torch.tensor([[0.0, 1.0]])).sum().backward()
    torch.testing.assert_close(scale.grad, torch.tensor(127.0))


def test_a_function_on_codes_is_given_codes(layer):
    twin = Twin(layer)
    seen = []
    twin.on_tensor["w"] = lambda codes: seen.append(codes) or codes
    twin(torch.from_numpy(FEATURES))
    np.testing.assert_array_equal(seen[0].detach().numpy(), CONSTANTS["w"])


def test_settling_codes_and_their_scale_writes_what_ran(layer):
    twin = Twin(layer)
    twin.on_tensor["w"] = lambda codes: torch.clamp(codes, -20, 20)
    twin.on_tensor["w_s"] = lambda scale: scale * 3
    twin.on_tensor["b_s"] = lambda scale: scale * 3
    expected = twin(torch.from_numpy(FEATURES)).detach().numpy()
    twin.settle(["w", "w_s", "b", "b_s"])
    written = twin.to_artifact()
    np.testing.assert_array_equal(initializers(written)["w"], np.clip(np.rint(CONSTANTS["w"] / np.float32(3)), -20, 20))
    np.testing.assert_allclose(answers(written), expected, atol=1e-3)


def test_training_a_quantized_graph_improves_it_and_it_stays_quantized(layer):
    twin, features = Twin(layer), torch.from_numpy(FEATURES)
    targets = torch.from_numpy(FEATURES @ RANDOM.normal(size=(6, 4), scale=0.2).astype(np.float32))
    optimiser = torch.optim.Adam(twin.parameters(), lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.mse_loss(twin(features), targets).backward()
        optimiser.step()
    before, after = (np.square(answers(model) - targets.numpy()).mean() for model in (layer, twin.to_artifact()))
    assert after < 0.05 * before


def test_blockwise_codes_are_trainable_too(graph, artifact_of):
    body = "d = DequantizeLinear<axis=0, block_size=2>(w, blocks) logits = MatMul(features, d)"
    model = artifact_of(graph(body, (6,), CONSTANTS))
    twin = Twin(model)
    assert [name for name, _ in twin.named_parameters()] == ["w"]
    np.testing.assert_array_equal(answers(twin.to_artifact()), answers(model))


@pytest.mark.parametrize(
    "body",
    [
        "d = DequantizeLinear(w, s) c = Cast<to=1>(w) m = MatMul(features, d) logits = Add(m, c)",
        "d = DequantizeLinear(w, s) e = DequantizeLinear<axis=1>(w, w_s) m = Add(d, e) logits = MatMul(features, m)",
    ],
    ids=["used as integers too", "decoded in two ways"],
)
def test_codes_with_other_uses_stay_buffers(graph, twin_of, body):
    constants = {**CONSTANTS, "w": CONSTANTS["w"][:, :4]}
    assert list(twin_of(graph(body, (6,), constants)).parameters()) == []


def test_codes_that_would_not_come_back_stay_buffers(graph, twin_of):
    """A scale so large that all but code zero stand for infinity."""
    constants = {"w": CONSTANTS["w"], "s": np.array(3e38, np.float32)}
    twin = twin_of(graph("d = DequantizeLinear(w, s) logits = MatMul(features, d)", (6,), constants))
    assert twin.tensor("w").dtype == torch.int8
