"""A small ONNX graph that grows node by node; onnx infers the shape of every node, and what it refuses is not added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
NEUTRAL = (0.0, 1.0, -1.0, 0.5, 2.0, 0.1)
"""Constants that an optimiser may do something about."""

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name, element type and shape; a free dimension is a name."""

    name: str
    kind: int
    shape: Shape


@dataclass
class Growth:
    """A graph that grows.

    Attributes:
        random: Decides everything: a `numpy.random.Generator`, or what answers like one.
        values: What nodes may take.
    """

    random: Any
    values: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)

    def one_of(self, kind: int = FLOAT, rank: int | None = None) -> Value | None:
        """A value of that type and rank, the newer the likelier."""
        fitting = [value for value in self.values if value.kind == kind and rank in (None, len(value.shape))]
        if not fitting:
            return None
        return fitting[-1 - min(int(self.random.exponential(1.5)), len(fitting) - 1)]

    def constant(self, array: NDArray[np.generic]) -> str:
        """A new initializer, or now and then one more of what is there already."""
        if self.random.random() < 0.2:
            for tensor in self.initializers:
                held = numpy_helper.to_array(tensor)
                if held.shape == array.shape and held.dtype == array.dtype and held.dtype.kind == "f":
                    if self.random.random() < 0.5:
                        return str(tensor.name)
                    array = held
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def floats(self, *shape: int) -> str:
        """A float constant: random weights, or a neutral number."""
        if self.random.random() < 0.25:
            return self.constant(np.full(shape, self.random.choice(NEUTRAL), np.float32))
        return self.constant(self.random.normal(size=shape).astype(np.float32))

    def whole(self, *numbers: int) -> str:
        """An int64 vector."""
        return self.constant(np.array(numbers, np.int64))

    def add(self, operator: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[Value]:
        """Add a node if onnx can infer what it makes; return its outputs, or nothing."""
        start = len(self.nodes)
        names = [f"v{start}_{index}" for index in range(outputs)]
        node = helper.make_node(operator, inputs, names, name=f"n{start}", **attributes)
        made = self._inferred([*self.nodes, node], names)
        if made is None:
            return []
        self.nodes.append(node)
        self.values += made
        return made

    def _inferred(self, nodes: list[onnx.NodeProto], names: list[str]) -> list[Value] | None:
        outputs = [helper.make_empty_tensor_value_info(name) for name in names]
        try:
            graph = onnx.shape_inference.infer_shapes(
                self.model(nodes, outputs), strict_mode=True, data_prop=True
            ).graph
        except onnx.shape_inference.InferenceError:
            return None
        made = []
        for value in graph.output:
            tensor = value.type.tensor_type
            if not tensor.HasField("shape"):
                return None
            sizes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
            small = np.prod([size if isinstance(size, int) else 4 for size in sizes]) <= 4096
            if "?" in sizes or not small or len(sizes) > 5 or any(isinstance(size, int) and size < 1 for size in sizes):
                return None
            made.append(Value(value.name, tensor.elem_type, sizes))
        return made

    def model(self, nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """What has grown so far, as a model."""
        inputs = [helper.make_tensor_value_info(value.name, value.kind, value.shape) for value in self.inputs]
        graph = helper.make_graph(nodes, "random", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
