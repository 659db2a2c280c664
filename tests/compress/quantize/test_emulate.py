"""The numpy emulation against ONNX Runtime, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from hauberk.compress import Codebook, QuantizeAware, QuantizeStatic
from hauberk.compress.quantize.codes import kernels_saturate
from hauberk.compress.quantize.emulate import emulate
from hauberk.compress.tuning import answers
from hauberk.errors import InputError
from hauberk.graph.model import artifact
from hauberk.graph.twin import Twin
from hauberk.recipe import Context

pytestmark = pytest.mark.skipif(kernels_saturate(), reason="processor without VNNI saturates")
RANDOM = np.random.default_rng(0)


def images(records, scale=1.0):
    return (RANDOM.normal(size=(records, 3, 12, 12)) * scale).astype(np.float32)


def core_of(nodes, constants, shape, outputs, *, result=onnx.TensorProto.FLOAT):
    """A core by hand: features float32 [batch, *shape] to logits [batch, outputs]."""
    graph = helper.make_graph(
        nodes,
        "core",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", result, ["batch", outputs])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return artifact(model.SerializeToString())


def residual(head="pool"):
    """A residual network by hand: convolutions of every kind, Add, Relu, pools, Gemm."""
    nodes = [
        helper.make_node("Conv", ["features", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], group=2),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[2, 2, 2, 2], dilations=[2, 2]),
        helper.make_node("Add", ["c2", "r0"], ["a"]),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b1"], ["c3"], strides=[2, 2]),
        helper.make_node("Conv", ["r2", "w1", "b1"], ["c4"], strides=[2, 2], group=2),
        helper.make_node("MaxPool", ["c4"], ["p"], kernel_shape=[1, 1]),
        helper.make_node("Add", ["c3", "p"], ["s"]),
    ]
    nodes += {
        "pool": [helper.make_node("GlobalAveragePool", ["s"], ["g"]), helper.make_node("Flatten", ["g"], ["f"])],
        "max": [
            helper.make_node("MaxPool", ["s"], ["g"], kernel_shape=[2, 2], strides=[3, 3]),
            helper.make_node("Flatten", ["g"], ["f"]),
        ],
    }[head]
    nodes.append(helper.make_node("Gemm", ["f", "wg", "bg"], ["logits"], transB=1))
    sizes = {"w0": (8, 3, 3, 3), "w1": (8, 4, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 3, 3), "b0": (8,), "b1": (8,)}
    sizes |= {"wg": (5, 8 if head == "pool" else 32), "bg": (5,)}
    constants = {name: RANDOM.normal(size=size).astype(np.float32) * 0.3 for name, size in sizes.items()}
    return core_of(nodes, constants, (3, 12, 12), 5)


def image_context(records=64):
    return Context(
        calibration=images(records), bounds=(np.full((3, 12, 12), -3), np.full((3, 12, 12), 3)), trained=False
    )


@pytest.mark.parametrize("head", ["pool", "max"])
@pytest.mark.parametrize(
    "step", [QuantizeStatic(), QuantizeStatic(per_channel=False), QuantizeAware(weight_bits=3)], ids=repr
)
def test_a_residual_network(step, head):
    result = step.apply(residual(head), image_context())
    unseen = images(50, 1.5)
    np.testing.assert_array_equal(emulate(result, unseen), answers(result, unseen))


@pytest.mark.parametrize("step", [QuantizeStatic(), QuantizeAware(weight_bits=4, levels="k-means")], ids=repr)
def test_a_perceptron(step, mlp, context):
    core = mlp(20, 128, 64, 32, 3)
    result = step.apply(core, replace(context, trained=False))
    unseen = RANDOM.normal(size=(500, 20), scale=1.5).astype(np.float32)
    np.testing.assert_array_equal(emulate(result, unseen), answers(result, unseen))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_ranges_of_a_residual_sum(seed):
    """Ranges decide scales and zero points, and these decide where sums fall between two codes."""
    random = np.random.default_rng(seed)
    weight = lambda: (random.normal(size=(4, 2, 1, 1)) * random.uniform(0.01, 30)).astype(np.float32)  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["features", "w"], ["c"]),
        helper.make_node("Conv", ["features", "v"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["logits"]),
    ]
    constants = {"w": weight(), "v": weight(), "m": np.eye(36, dtype=np.float32)}
    records = (random.normal(size=(200, 2, 3, 3)) + random.uniform(-2, 2)).astype(np.float32)
    context = Context(calibration=records, bounds=(np.zeros((2, 3, 3)), np.ones((2, 3, 3))))
    result = QuantizeStatic().apply(core_of(nodes, constants, (2, 3, 3), 36), context)
    np.testing.assert_array_equal(emulate(result, records * 1.2), answers(result, records * 1.2))


def test_the_float_twin_is_near(context, mlp):
    """What docs/reference/twin.md says of it: the sums that fall between two codes, and no more."""
    result = QuantizeStatic().apply(residual(), image_context())
    unseen = images(200)
    with torch.no_grad():
        found = Twin(result)(torch.from_numpy(unseen)).numpy()
    expected = emulate(result, unseen)
    assert (np.abs(found - expected) < 1e-4).all(axis=1).mean() > 0.5
    assert np.abs(found - expected).max() < 0.05 * expected.std()


def test_what_computes_in_floats_is_named(mlp, core, context):
    with pytest.raises(InputError, match=r"emulation: Gemm \(node 'h0'\) computes in floats"):
        emulate(core, context.calibration)
    with pytest.raises(InputError, match="emulation: Mul"):
        emulate(Codebook(smallest=16).apply(core, context), context.calibration)


def test_a_graph_that_ends_in_codes_is_refused():
    nodes = [helper.make_node("QuantizeLinear", ["features", "s", "z"], ["logits"])]
    constants = {"s": np.array(1, np.float32), "z": np.array(0, np.uint8)}
    core = core_of(nodes, constants, (2,), 2, result=onnx.TensorProto.UINT8)
    with pytest.raises(InputError, match="not the float32 result"):
        emulate(core, np.zeros((1, 2), np.float32))
