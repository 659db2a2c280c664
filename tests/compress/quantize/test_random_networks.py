"""Networks that nobody thought of: every layer runs in integers, and in either form answers what the graph says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from hauberk.compress import EqualiseLayers, QuantizeStatic
from hauberk.errors import InputError
from hauberk.graph.model import run, session

ONE = ("Relu", "Sigmoid", "LeakyRelu", "Tanh", "Softplus", "Abs")
ENDS = ((0, 1), (0, 6), (-1, 1), (0.25, 2))
POOLS = ("MaxPool", "AveragePool")
SIZE = 8
HEALTH = (HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much)


def grow(draw, b) -> None:
    """A few random operators over images [2, 8, 8], and a linear layer behind them."""
    pool = [("features", 2, SIZE)]
    for _ in range(draw(st.integers(2, 8))):
        pool.append(one_more(draw, b, pool))
    name, channels, size = pool[-1]
    pooled = draw(st.sampled_from(("ReduceMean", "ReduceMax", "Flatten")))
    if pooled == "Flatten":
        b.gemm(b.node("Flatten", name), channels * size * size, 3, name="logits")
    else:
        b.gemm(b.node(pooled, name, b.constant(np.array([2, 3])), keepdims=0), channels, 3, name="logits")


def one_more(draw, b, pool: list[tuple[str, int, int]]) -> tuple[str, int, int]:
    """A node on one of the last two tensors: what it makes, with channels and size."""
    name, channels, size = pool[draw(st.integers(-min(2, len(pool)), -1))]
    kind = draw(st.sampled_from(("Conv", "depthwise", "Clip", "Add", "Mul", "Concat", "Transpose", *POOLS, *ONE)))
    if kind == "Conv":
        outputs = draw(st.integers(1, 4))
        return b.conv(name, channels, outputs, size=draw(st.sampled_from((1, 3)))), outputs, size
    if kind == "depthwise":
        return b.conv(name, channels, channels, group=channels), channels, size
    if kind == "Clip":
        ends = (b.constant(np.array(end, np.float32)) for end in draw(st.sampled_from(ENDS)))
        return b.node("Clip", name, *ends), channels, size
    if kind in ("Add", "Mul", "Concat"):
        other = draw(st.sampled_from([entry for entry in pool if entry[1:] == (channels, size)]))[0]
        if kind == "Concat":
            return b.node("Concat", name, other, axis=1), 2 * channels, size
        return b.node(kind, name, other), channels, size
    if kind in POOLS:
        stride = 2 if size > 2 else 1
        return b.node(kind, name, kernel_shape=[stride] * 2, strides=[stride] * 2), channels, size // stride
    more = {"perm": [0, 1, 3, 2]} if kind == "Transpose" else {}
    return b.node(kind, name, **more), channels, size


@settings(max_examples=12, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_random_networks_are_fused_into_what_the_graph_says(data, builder, calibrated, fused):
    b = builder(seed=data.draw(st.integers(0, 2**16)))
    grow(data.draw, b)
    core = b.artifact((2, SIZE, SIZE), 3)
    context = calibrated(core)
    result, named = (QuantizeStatic(form=form).apply(core, context) for form in ("qdq", "qoperator"))
    # Counted in the result: what reaches no output is gone from it.
    layers = sum(kind in ("Conv", "Gemm") for kind in kinds(result))
    for operators in (Counter(fused(result)), Counter(kinds(named))):
        assert operators["QLinearConv"] + operators["QGemm"] == layers
    meant = unfused(result.model, context.calibration)
    for after in (result, named):
        difference = answers(after, context.calibration) - meant
        assert np.sqrt(np.mean(difference**2) / np.mean(meant**2)) < 0.02


@settings(max_examples=12, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_random_networks_answer_alike_when_equalised(data, builder, calibrated):
    b = builder(seed=data.draw(st.integers(0, 2**16)))
    grow(data.draw, b)
    core = b.artifact((2, SIZE, SIZE), 3)
    context = calibrated(core)
    try:
        result = EqualiseLayers().apply(core, context)
    except InputError:  # no pair of layers lies side by side
        reject()
    np.testing.assert_allclose(
        answers(result, context.calibration), answers(core, context.calibration), rtol=1e-4, atol=1e-5
    )


def kinds(artifact) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(artifact.model).graph.node]


def answers(artifact, features: np.ndarray) -> np.ndarray:
    return run(session(artifact.model), {"features": features})[0]


def unfused(model: bytes, features: np.ndarray) -> np.ndarray:
    """What the QDQ graph says, node by node: decoded, computed in float, coded again."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options).run(None, {"features": features})[0]
