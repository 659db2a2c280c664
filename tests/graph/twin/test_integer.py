"""Quantized layers against ONNX Runtime's kernels: the same codes, but for sums that fall between two of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.graph.model import run, session

RANDOM = np.random.default_rng(0)
IMAGE, RECORD = (4, 7, 9), (20,)


def codes(low, high, *shape):
    return RANDOM.integers(low, high, shape)


CONSTANTS = {
    "s": np.array(0.05, np.float32),
    "z": np.array(120, np.uint8),
    "s2": np.array(0.03, np.float32),
    "z2": np.array(100, np.uint8),
    "sy": np.array(0.3, np.float32),
    "zy": np.array(128, np.uint8),
    "wc": codes(-127, 128, 6, 4, 3, 3).astype(np.int8),
    "wc_u": codes(0, 256, 6, 4, 3, 3).astype(np.uint8),
    "wc_s": RANDOM.uniform(0.01, 0.02, 6).astype(np.float32),
    "wc_z": np.zeros(6, np.int8),
    "wc_b": codes(-9000, 9000, 6).astype(np.int32),
    "wm": codes(-127, 128, 20, 6).astype(np.int8),
    "wm_s": RANDOM.uniform(0.01, 0.02, 6).astype(np.float32),
    "wm_z": np.zeros(6, np.int8),
    "wm_bias": RANDOM.normal(size=6).astype(np.float32),
    "half": np.array(0.5, np.float32),
}
X = "q = QuantizeLinear(features, s, z) "
V = "t = Tanh(features) p = QuantizeLinear(t, s2, z2) "
D = " logits = DequantizeLinear(y, sy, zy)"
M = "com.microsoft."

CASES = {
    "QLinearConv": (f"{X} y = QLinearConv<pads=[1,1,1,1]>(q, s, z, wc, wc_s, wc_z, sy, zy) {D}", IMAGE),
    "QLinearConv with bias": (
        f"{X} y = QLinearConv<strides=[2,2]>(q, s, z, wc, wc_s, wc_z, sy, zy, wc_b) {D}",
        IMAGE,
    ),
    "ConvInteger": (f"{X} y = ConvInteger<pads=[1,1,1,1]>(q, wc_u, z, z2) logits = Cast<to=1>(y)", IMAGE),
    "QLinearMatMul": (f"{X} y = QLinearMatMul(q, s, z, wm, wm_s, wm_z, sy, zy) {D}", RECORD),
    "QGemm": (f"{X} y = {M}QGemm(q, s, z, wm, wm_s, wm_z, wc_b, sy, zy) {D}", RECORD),
    "QGemm to float": (f"{X} logits = {M}QGemm<alpha=0.5>(q, s, z, wm, wm_s, wm_z, wc_b)", RECORD),
    "QLinearAdd": (f"{X} {V} y = {M}QLinearAdd(q, s, z, p, s2, z2, sy, zy) {D}", IMAGE),
    "QLinearMul": (f"{X} {V} y = {M}QLinearMul(q, s, z, p, s2, z2, sy, zy) {D}", IMAGE),
    "QLinearConcat": (f"{X} {V} y = {M}QLinearConcat<axis=1>(sy, zy, q, s, z, p, s2, z2) {D}", IMAGE),
    "QLinearGlobalAveragePool": (f"{X} y = {M}QLinearGlobalAveragePool(q, s, z, sy, zy) {D}", IMAGE),
    "QLinearLeakyRelu": (f"{X} y = {M}QLinearLeakyRelu<alpha=0.2>(q, s, z, sy, zy) {D}", IMAGE),
    "QLinearSigmoid": (f"{X} y = {M}QLinearSigmoid(q, s, z, s2, z2) logits = DequantizeLinear(y, s2, z2)", IMAGE),
    "DynamicQuantizeMatMul": (f"logits = {M}DynamicQuantizeMatMul(features, wm, wm_s, wm_z, wm_bias)", RECORD),
    "MatMulIntegerToFloat": (
        f"""c, cs, cz = DynamicQuantizeLinear(features)
        logits = {M}MatMulIntegerToFloat(c, wm, cs, wm_s, cz, wm_z, wm_bias)""",
        RECORD,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_quantized_layer(graph, twin_of, case):
    body, shape = CASES[case]
    proto = graph(body, shape, CONSTANTS)
    runner, twin = session(proto.SerializeToString()), twin_of(proto)
    features = (np.random.default_rng(1).normal(size=(8, *shape)) * 3).astype(np.float32)
    expected = run(runner, {"features": features})[0]
    moved = torch.from_numpy(features).requires_grad_()
    found = twin(moved)
    difference = np.abs(found.detach().numpy() - expected)
    assert found.shape == expected.shape
    assert (difference < 1e-4).mean() > 0.995  # ties: the order of float operations decides
    assert difference.max() < 0.31  # one code
    found.sum().backward()
    assert (moved.grad != 0).float().mean() > 0.5, "the gradient of a quantized layer must not vanish"


@pytest.mark.parametrize("kind", ["QLinearConv", "QLinearMatMul", "QGemm"])
def test_gradients_are_those_of_the_float_layer(graph, twin_of, kind):
    """Where nothing saturates, rounding passed straight through leaves the gradient of the float layer."""
    body, shape = CASES[kind]
    twin = twin_of(graph(body, shape, CONSTANTS))
    features = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    twin(features).sum().backward()
    float_weight = (
        torch.from_numpy(CONSTANTS["wc"] * CONSTANTS["wc_s"].reshape(-1, 1, 1, 1))
        if kind == "QLinearConv"
        else torch.from_numpy(CONSTANTS["wm"] * CONSTANTS["wm_s"])
    )
    plain = features.detach().clone().requires_grad_()
    if kind == "QLinearConv":
        torch.nn.functional.conv2d(plain, float_weight, padding=1).sum().backward()
    else:
        (plain @ float_weight).sum().backward()
    alike = torch.cosine_similarity(features.grad.flatten(), plain.grad.flatten(), dim=0)
    assert alike > 0.99


def test_blockwise_scales(graph, twin_of):
    """DequantizeLinear with one scale a block of rows, the last block cut short (opset 21)."""
    constants = {
        "w": codes(-8, 8, 20, 6).astype(np.int8),
        "scales": RANDOM.uniform(0.1, 1, (3, 6)).astype(np.float32),
    }
    proto = graph(
        "d = DequantizeLinear<axis=0, block_size=8>(w, scales) logits = MatMul(features, d)", RECORD, constants
    )
    features = np.random.default_rng(2).normal(size=(5, *RECORD)).astype(np.float32)
    expected = run(session(proto.SerializeToString()), {"features": features})[0]
    with torch.no_grad():
        np.testing.assert_allclose(twin_of(proto)(torch.from_numpy(features)).numpy(), expected, rtol=1e-4, atol=1e-4)
