"""Random cores of the kinds that pruning must understand, built node by node with onnx, and the truth about removal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.compress.prune.dependencies import Dependencies, analyse
from hauberk.compress.prune.prepare import prepare
from hauberk.compress.prune.remove import remove
from hauberk.compress.tuning import answers
from hauberk.graph.model import BATCH, assemble
from hauberk.tensors import Signature, TensorSpec

Floats = NDArray[np.float32]


@dataclass
class Network:
    """A graph under construction. `tensor` is the last result, `shape` its shape without the batch."""

    shape: tuple[int, ...]
    seed: int = 0
    tensor: str = "features"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)
        self.record = self.shape

    def name(self, stem: str) -> str:
        return f"{stem}_{len(self.nodes)}_{len(self.constants)}"

    def constant(self, value: Any, stem: str = "c") -> str:
        name = self.name(stem)
        self.constants[name] = np.asarray(value)
        return name

    def random(self, *shape: int, stem: str = "w") -> str:
        return self.constant(self.generator.normal(size=shape, scale=0.4).astype(np.float32), stem)

    def add(
        self, operator: str, *inputs: str, shape: tuple[int, ...] | None = None, outputs: int = 1, **options
    ) -> str:
        names = [self.name(operator.lower()) + "abc"[index] for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **options))
        self.tensor, self.shape = names[0], shape or self.shape
        return self.tensor

    # Layers over images [C, H, W].
    def conv(
        self, outputs: int, kernel: int = 3, group: int = 1, source: str | None = None, *, bias: bool = True
    ) -> str:
        channels = self.shape[0]
        inputs = [self.tensor, self.random(outputs, channels // group, kernel, kernel)]
        pads = [kernel // 2] * 4
        inputs += [self.random(outputs, stem="b")] if bias else []
        return self.add("Conv", *inputs, shape=(outputs, *self.shape[1:]), group=group, pads=pads)

    def upsample(self, outputs: int, group: int = 1) -> str:
        weight = self.random(self.shape[0], outputs // group, 2, 2)
        shape = (outputs, 2 * self.shape[1], 2 * self.shape[2])
        return self.add("ConvTranspose", self.tensor, weight, shape=shape, strides=[2, 2], group=group)

    def batch_norm(self) -> str:
        width = self.shape[0]
        scale, bias, mean = (self.random(width, stem=stem) for stem in ("scale", "bias", "mean"))
        variance = self.constant(self.generator.uniform(0.5, 2, width).astype(np.float32))
        return self.add("BatchNormalization", self.tensor, scale, bias, mean, variance)

    def instance_norm(self) -> str:
        return self.add("InstanceNormalization", self.tensor, self.random(self.shape[0]), self.random(self.shape[0]))

    def relu(self) -> str:
        return self.add("Relu", self.tensor)

    def residual(self) -> str:
        entry, shape = self.tensor, self.shape
        self.conv(int(self.generator.integers(2, 6)))
        self.relu()
        self.conv(shape[0])
        return self.add("Add", self.tensor, entry)

    def concatenation(self) -> str:
        entry, shape = self.tensor, self.shape
        left = self.conv(int(self.generator.integers(2, 5)))
        widths = [self.shape[0]]
        self.tensor, self.shape = entry, shape
        right = self.conv(int(self.generator.integers(2, 5)), 1)
        widths.append(self.shape[0])
        return self.add("Concat", left, right, entry, axis=1, shape=(sum(widths) + shape[0], *shape[1:]))

    def shuffle(self, groups: int) -> str:
        channels, height, width = self.shape
        parts = self.constant(np.array([-1, groups, channels // groups, height, width]))
        self.add("Reshape", self.tensor, parts)
        self.add("Transpose", self.tensor, perm=[0, 2, 1, 3, 4])
        return self.add("Reshape", self.tensor, self.constant(np.array([0, channels, height, width])))

    def gate(self) -> str:
        """Squeeze and excitation."""
        entry, shape = self.tensor, self.shape
        self.add("GlobalAveragePool", self.tensor, shape=(shape[0], 1, 1))
        self.conv(3, 1)
        self.relu()
        self.conv(shape[0], 1)
        self.add("Sigmoid", self.tensor)
        return self.add("Mul", entry, self.tensor, shape=shape)

    def halves(self) -> str:
        """Split the channels, work on one half, put them together again."""
        channels, *space = self.shape
        first = channels // 2
        left = self.add("Split", self.tensor, self.constant(np.array([first, channels - first])), axis=1, outputs=2)
        right = self.nodes[-1].output[1]
        self.shape = (first, *space)
        left = self.conv(first)
        return self.add("Concat", left, right, axis=1, shape=(channels, *space))

    def slices(self) -> str:
        channels, *space = self.shape
        numbers = [self.constant(np.array([value])) for value in (1, channels, 1)]
        return self.add("Slice", self.tensor, *numbers, shape=(channels - 1, *space))

    # Layers over windows [T, D].
    def linear(self, outputs: int, source: str | None = None) -> str:
        inputs = self.shape[-1]
        self.add("MatMul", source or self.tensor, self.random(inputs, outputs), shape=(*self.shape[:-1], outputs))
        return self.add("Add", self.tensor, self.random(outputs, stem="b"))

    def layer_norm(self) -> str:
        return self.add("LayerNormalization", self.tensor, self.random(self.shape[-1]), self.random(self.shape[-1]))

    def attention(self, heads: int, width: int) -> str:
        entry, (steps, features) = self.tensor, self.shape
        parts = []
        for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            self.tensor, self.shape = entry, (steps, features)
            self.linear(heads * width)
            self.add("Reshape", self.tensor, self.constant(np.array([0, steps, heads, width])))
            parts.append(self.add("Transpose", self.tensor, perm=order))
        self.add("MatMul", parts[0], parts[1])
        self.add("Mul", self.tensor, self.constant(np.float32(width**-0.5)))
        self.add("Softmax", self.tensor, axis=-1)
        self.add("MatMul", self.tensor, parts[2])
        self.add("Transpose", self.tensor, perm=[0, 2, 1, 3])
        self.add(
            "Reshape", self.tensor, self.constant(np.array([0, steps, heads * width])), shape=(steps, heads * width)
        )
        self.linear(features)
        return self.add("Add", self.tensor, entry)

    def recurrent(self, kind: str, hidden: int, directions: int = 1, *, state: bool = False) -> str:
        gates, (steps, features) = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], self.shape
        data = self.add("Transpose", self.tensor, perm=[1, 0, 2])
        weights = [
            self.random(directions, gates * hidden, features),
            self.random(directions, gates * hidden, hidden),
            self.random(directions, 2 * gates * hidden, stem="b"),
        ]
        states = []
        if state:
            target = self.add("Concat", self.constant([directions]), self._batch(), self.constant([hidden]), axis=0)
            ones = self.add("Expand", self.constant(np.float32(0.5)), target)
            states = ["", ones, *([ones] if kind == "LSTM" else [])]
        options = {"linear_before_reset": 1} if kind == "GRU" else {}
        direction = "bidirectional" if directions == 2 else "forward"
        self.add(kind, data, *weights, *states, hidden_size=hidden, direction=direction, **options)
        self.add("Transpose", self.tensor, perm=[2, 0, 1, 3])
        shape = (steps, directions * hidden)
        return self.add("Reshape", self.tensor, self.constant(np.array([0, *shape])), shape=shape)

    def _batch(self) -> str:
        return self.add("Shape", "features", start=0, end=1)

    # The end.
    def head(self, outputs: int = 3, *, flatten: bool = True) -> OnnxArtifact:
        if len(self.shape) == 3 and not flatten:
            self.add("GlobalAveragePool", self.tensor)
            self.shape = (self.shape[0], 1, 1)
        width = int(np.prod(self.shape))
        self.add("Flatten", self.tensor)
        self.add("Gemm", self.tensor, self.random(outputs, width), self.random(outputs, stem="b"), transB=1)
        self.nodes[-1].output[0] = "logits"
        signature = Signature(
            inputs=(TensorSpec("features", "float32", (BATCH, *self.record)),),
            outputs=(TensorSpec("logits", "float32", (BATCH, outputs)),),
        )
        return OnnxArtifact(assemble("core", self.nodes, self.constants, signature), signature, origin="0" * 64)


@dataclass(frozen=True)
class Truth:
    """Removing units, and the same weights set to zero in the graph that still has them."""

    dependencies: Dependencies
    zeroed: OnnxArtifact
    removed: OnnxArtifact
    units: int


def removal(core: OnnxArtifact, *, attention: str = "heads", seed: int = 0, share: float = 0.5) -> Truth:
    """Remove a random share of each group."""
    graph = prepare(core, "test")
    dependencies = analyse(graph, attention=attention)
    generator = np.random.default_rng(seed)
    units: list[int] = []
    for group in dependencies.groups:
        count = min(len(group.units) - 1, max(1, round(share * len(group.units))))
        units += generator.choice(group.units, count, replace=False).tolist()
    zeroed = onnx.ModelProto()
    zeroed.CopyFrom(graph.model)
    for tensor in zeroed.graph.initializer:
        if tensor.name in dependencies.contracted:
            array = numpy_helper.to_array(tensor).copy()
            for place, labels in dependencies.axes.items():
                if place.constant == tensor.name:
                    np.moveaxis(array, place.axis, 0)[np.isin(labels, units)] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    removed = remove(read_core(core, "test"), dependencies, units)
    return Truth(dependencies, replace(core, model=zeroed.SerializeToString()), removed, len(units))


@pytest.fixture(scope="session")
def difference() -> Callable[[OnnxArtifact, OnnxArtifact], float]:
    """Largest difference of two cores' logits on random records, relative to the largest logit."""

    def measure(first: OnnxArtifact, second: OnnxArtifact) -> float:
        shape = first.signature.inputs[0].shape[1:]
        records = np.random.default_rng(9).normal(size=(4, *shape)).astype(np.float32)
        one, other = (answers(core, records) for core in (first, second))
        return float(np.abs(one - other).max() / max(1.0, np.abs(one).max()))

    return measure
