"""Small networks of every kind that quantization meets, written by hand with onnx, and records for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.graph.model import run, session
from hauberk.recipe import Context
from hauberk.tensors import Signature, TensorSpec

Floats = NDArray[np.float32]


@dataclass
class Builder:
    """Grows a graph node by node; every method returns the name of the tensor that it makes."""

    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def random(self, *shape: int, fan: int = 1) -> str:
        return self.constant((self.generator.normal(size=shape) * np.sqrt(2 / fan)).astype(np.float32))

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def gemm(self, data: str, inputs: int, outputs: int, name: str = "") -> str:
        weight, bias = self.random(outputs, inputs, fan=inputs), self.random(outputs, fan=200)
        return self.node("Gemm", data, weight, bias, name=name, transB=1)

    def conv(self, data: str, inputs: int, outputs: int, size: int = 3, name: str = "", rank: int = 2, **more) -> str:
        group = more.pop("group", 1)
        kernel = (size,) * rank
        weight = self.random(outputs, inputs // group, *kernel, fan=inputs // group * size**rank)
        pads = [size // 2] * 2 * rank
        return self.node("Conv", data, weight, self.random(outputs, fan=200), name=name, group=group, pads=pads, **more)

    def recurrent(self, kind: str, data: str, inputs: int, units: int, *, chained: bool = False) -> str:
        """The last hidden state [batch, units]; `chained` weights are cut and joined in the graph, as exporters do."""
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind] * units
        shapes = {"w": (1, gates, inputs), "r": (1, gates, units), "b": (1, 2 * gates)}
        names = [self.random(*shape, fan=4 * units) for shape in shapes.values()]
        if chained:
            cut = [self.constant(np.array([k])) for k in (units, gates, 1)]
            start = self.constant(np.array([0]))
            names[:2] = [
                self.node(
                    "Concat",
                    self.node("Slice", name, cut[0], cut[1], cut[2]),
                    self.node("Slice", name, start, cut[0], cut[2]),
                    axis=1,
                )
                for name in names[:2]
            ]
        sequence = self.node("Transpose", data, perm=[1, 0, 2])
        last = f"last{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [sequence, *names], ["", last], hidden_size=units))
        return self.node("Squeeze", last, self.constant(np.array([0])))

    def linear(self, data: str, inputs: int, outputs: int) -> str:
        product = self.node("MatMul", data, self.random(inputs, outputs, fan=2 * inputs))
        return self.node("Add", product, self.random(outputs, fan=200))

    def artifact(self, shape: tuple[int, ...], outputs: int, opset: int = 20) -> OnnxArtifact:
        signature = Signature(
            inputs=(TensorSpec("features", "float32", ("batch", *shape)),),
            outputs=(TensorSpec("logits", "float32", ("batch", outputs)),),
        )
        graph = helper.make_graph(
            self.nodes,
            "core",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        return OnnxArtifact(model=model.SerializeToString(), signature=signature, origin="0" * 64)


def _mlp() -> OnnxArtifact:
    b = Builder()
    hidden = b.node("Relu", b.gemm("features", 20, 32))
    b.gemm(b.node("Relu", b.gemm(hidden, 32, 16)), 16, 3, name="logits")
    return b.artifact((20,), 3)


def _plain() -> OnnxArtifact:
    b = Builder()
    data = b.node("MaxPool", b.node("Relu", b.conv("features", 1, 8)), kernel_shape=[2, 2], strides=[2, 2])
    data = b.node("MaxPool", b.node("Relu", b.conv(data, 8, 8)), kernel_shape=[2, 2], strides=[2, 2])
    flat = b.node("Reshape", data, b.constant(np.array([0, -1])))
    b.gemm(b.node("Relu", b.gemm(flat, 72, 16)), 16, 3, name="logits")
    return b.artifact((1, 12, 12), 3)


def _windows() -> OnnxArtifact:
    b = Builder()
    data = b.node("Transpose", "features", perm=[0, 2, 1])
    data = b.node("Relu", b.conv(data, 6, 16, rank=1))
    data = b.node("Relu", b.conv(data, 16, 16, rank=1))
    b.gemm(b.node("ReduceMax", data, b.constant(np.array([2])), keepdims=0), 16, 3, name="logits")
    return b.artifact((10, 6), 3)


def _residual() -> OnnxArtifact:
    b = Builder()
    data = b.node("Relu", b.conv("features", 1, 8))
    inner = b.conv(b.node("Relu", b.conv(data, 8, 8)), 8, 8)
    data = b.node("Relu", b.node("Add", inner, data))
    inner = b.conv(b.node("Relu", b.conv(data, 8, 16, strides=[2, 2])), 16, 16)
    short = b.conv(data, 8, 16, size=1, strides=[2, 2])
    data = b.node("Relu", b.node("Add", inner, short))
    pooled = b.node("ReduceMean", data, b.constant(np.array([2, 3])), keepdims=0)
    b.gemm(pooled, 16, 3, name="logits")
    return b.artifact((1, 12, 12), 3)


def _depthwise() -> OnnxArtifact:
    b = Builder()
    low, high = b.constant(np.array(0, np.float32)), b.constant(np.array(6, np.float32))
    data = b.node("Clip", b.conv("features", 1, 8), low, high)
    data = b.node("Clip", b.conv(data, 8, 8, group=8), low, high)
    data = b.node("Clip", b.conv(data, 8, 16, size=1), low, high)
    pooled = b.node("GlobalAveragePool", data)
    b.gemm(b.node("Flatten", pooled), 16, 3, name="logits")
    return b.artifact((1, 12, 12), 3)


def _concatenating() -> OnnxArtifact:
    b = Builder()
    data = b.node("Relu", b.conv("features", 1, 8))
    both = b.node("Concat", data, b.node("Relu", b.conv(data, 8, 8)), axis=1)
    pooled = b.node("AveragePool", b.node("Relu", b.conv(both, 16, 8)), kernel_shape=[2, 2], strides=[2, 2])
    b.gemm(b.node("Flatten", pooled), 288, 3, name="logits")
    return b.artifact((1, 12, 12), 3)


def _excited() -> OnnxArtifact:
    """Squeeze and excitation behind a convolution, and a SiLU: Sigmoid and Mul on codes."""
    b = Builder()
    data = b.conv("features", 1, 8)
    data = b.node("Mul", data, b.node("Sigmoid", data))
    inner = b.conv(data, 8, 8)
    gate = b.node("Sigmoid", b.conv(b.node("GlobalAveragePool", inner), 8, 8, size=1))
    pooled = b.node("GlobalAveragePool", b.conv(b.node("Mul", inner, gate), 8, 8))
    b.gemm(b.node("Flatten", pooled), 8, 3, name="logits")
    return b.artifact((1, 12, 12), 3)


def _transformer() -> OnnxArtifact:
    b = Builder()
    width, heads = 32, 2
    data = b.linear("features", 6, width)

    def norm(x: str) -> str:
        ones, zeros = b.constant(np.ones(width, np.float32)), b.constant(np.zeros(width, np.float32))
        return b.node("LayerNormalization", x, ones, zeros, axis=-1)

    normed = norm(data)
    split = b.constant(np.array([0, 0, heads, width // heads]))
    query, key, value = (b.node("Reshape", b.linear(normed, width, width), split) for _ in range(3))
    query, value = (b.node("Transpose", x, perm=[0, 2, 1, 3]) for x in (query, value))
    product = b.node("MatMul", query, b.node("Transpose", key, perm=[0, 2, 3, 1]))
    weights = b.node("Softmax", b.node("Div", product, b.constant(np.array(4, np.float32))), axis=-1)
    mixed = b.node("Transpose", b.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    mixed = b.node("Reshape", mixed, b.constant(np.array([0, 0, width])))
    data = b.node("Add", data, b.linear(mixed, width, width))
    wide = b.node("Gelu", b.linear(norm(data), width, 2 * width))
    data = norm(b.node("Add", data, b.linear(wide, 2 * width, width)))
    b.gemm(b.node("ReduceMean", data, b.constant(np.array([1])), keepdims=0), width, 3, name="logits")
    return b.artifact((10, 6), 3)


NETWORKS: dict[str, Callable[[], OnnxArtifact]] = {
    "mlp": _mlp,
    "plain": _plain,
    "windows": _windows,
    "residual": _residual,
    "depthwise": _depthwise,
    "concatenating": _concatenating,
    "excited": _excited,
    "transformer": _transformer,
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> OnnxArtifact:
    """Each network in turn."""
    artifact: OnnxArtifact = NETWORKS[request.param]()
    return artifact


@pytest.fixture
def networks() -> dict[str, Callable[[], OnnxArtifact]]:
    """What builds each network, by name."""
    return NETWORKS


@pytest.fixture
def builder() -> type[Builder]:
    """For graphs of a test's own."""
    return Builder


@pytest.fixture
def records() -> Callable[..., Floats]:
    """Standard normal records for a core, float32 [count, *shape]."""

    def draw(artifact: OnnxArtifact, count: int = 200, seed: int = 1) -> Floats:
        shape = artifact.signature.inputs[0].shape[1:]
        return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)

    return draw


@pytest.fixture
def calibrated(records: Callable[..., Floats]) -> Callable[[OnnxArtifact], Context]:
    """A context with 200 calibration records for a core."""

    def context(artifact: OnnxArtifact) -> Context:
        features = records(artifact)
        return Context(calibration=features, bounds=(features.min(axis=0), features.max(axis=0)))

    return context


@pytest.fixture
def relative_error() -> Callable[[OnnxArtifact, OnnxArtifact, Floats], float]:
    """Root mean square difference of the logits of two artifacts, as a fraction of the first one's."""

    def error(before: OnnxArtifact, after: OnnxArtifact, features: Floats) -> float:
        old, new = (run(session(artifact.model), {"features": features})[0] for artifact in (before, after))
        return float(np.sqrt(np.mean((new - old) ** 2) / np.mean(old**2)))

    return error


@pytest.fixture
def recurrent(builder):
    """A recurrent layer of 32 units over windows [7, 12], and a linear head."""

    def build(kind: str, *, chained: bool = False):
        b = builder()
        b.gemm(b.recurrent(kind, "features", 12, 32, chained=chained), 32, 3, name="logits")
        return b.artifact((7, 12), 3)

    return build
