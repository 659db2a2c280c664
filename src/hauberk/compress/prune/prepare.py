"""A graph in the plain form that pruning works on: weights folded, shapes written as numbers, no states of zeros.

Exporters compute the target of a Reshape from the Shape of its input, write weights of recurrent layers as chains of
Slice and Concat, and hand them initial states that are zero. None of that is wrong, and all of it hides which axis is
which. The plain form computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.graph.model import attributes, nested_graphs
from hauberk.graph.operations import tensor_shapes
from hauberk.graph.passes.clean_up import CleanUp

PROBE = 2
"""Records in the batch at which shapes are looked at; one more record tells which sizes depend on it."""

_LARGEST_FOLD = 1 << 24
_RECURRENT = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_ZERO_IN_ZERO_OUT = frozenset(
    {"Expand", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Gather", "Identity", "Cast", "Concat", "Split"}
)


@dataclass(frozen=True)
class PlainGraph:
    """A graph in plain form.

    Attributes:
        model: The graph, one's own to change.
        shapes: Shape of every tensor for `PROBE` records.
        batched: By tensor, the axes whose size depends on the number of records.
        constants: Initializers by name, as arrays that must not be written to.
    """

    model: onnx.ModelProto
    shapes: Mapping[str, tuple[int, ...]]
    batched: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, NDArray[np.generic]]


def prepare(artifact: OnnxArtifact, step: str) -> PlainGraph:
    """Bring a core into plain form.

    Raises:
        InputError: Not a core, or its shapes cannot be told.
    """
    graph = ir.from_proto(read_core(artifact, step).model)
    CleanUp(largest_input=_LARGEST_FOLD, largest_output=_LARGEST_FOLD).clean(graph)
    model = ir.to_proto(graph)
    shapes, batched = _shapes(model)
    _drop_zero_states(model)
    _read_past_concat(model, shapes)
    _give_own_vectors(model)
    nodes = []
    for node in model.graph.node:
        if node.op_type in ("Reshape", "Expand", "ConstantOfShape"):
            nodes += _write_target(model, node, shapes, batched)
        nodes.append(node)
    drop_dead(model, nodes)
    shapes, batched = _shapes(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return PlainGraph(model, shapes, batched, constants)


def _shapes(model: onnx.ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    shapes, more = (tensor_shapes(model, batch=batch) for batch in (PROBE, PROBE + 1))
    batched = {
        name: tuple(
            axis for axis, size in enumerate(shape) if len(more[name]) != len(shape) or size != more[name][axis]
        )
        for name, shape in shapes.items()
    }
    return shapes, batched


def _drop_zero_states(model: onnx.ModelProto) -> None:
    """Leave out initial states of zeros, which is what the operators start from without them."""
    producers = {name: node for node in model.graph.node for name in node.output}
    zeros = {tensor.name for tensor in model.graph.initializer if not np.any(numpy_helper.to_array(tensor))}

    def zero(name: str) -> bool:
        if name in zeros:
            return True
        node = producers.get(name)
        if node is None:
            return False
        if node.op_type == "ConstantOfShape":
            value = attributes(node).get("value")
            return value is None or not np.any(numpy_helper.to_array(value))
        sources = node.input if node.op_type == "Concat" else node.input[:1]
        return node.op_type in _ZERO_IN_ZERO_OUT and not node.domain and all(map(zero, sources))

    for node in model.graph.node:
        for position in _RECURRENT.get(node.op_type, ()):
            if len(node.input) > position and zero(node.input[position]):
                node.input[position] = ""
        while node.op_type in _RECURRENT and not node.input[-1]:
            node.input.pop()


def _read_past_concat(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Let what takes a part of a Concat take it from that part: the last layer's state out of all layers' states."""
    producers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        source = producers.get(node.input[0]) if node.input else None
        if node.op_type != "Gather" or source is None or source.op_type != "Concat" or node.input[1] not in constants:
            continue
        rank = len(shapes[source.output[0]])
        axis, along = (attributes(each).get("axis", 0) % rank for each in (node, source))
        position = constants[node.input[1]]
        if axis != along or position.ndim or any(name not in shapes for name in source.input):
            continue
        left = int(position) % shapes[source.output[0]][axis]
        for name in source.input:
            if left < shapes[name][axis]:
                node.input[0] = name
                node.input[1] = _constant(model, f"{node.output[0]}/position", np.array(left, np.int64))
                break
            left -= shapes[name][axis]


def _give_own_vectors(model: onnx.ModelProto) -> None:
    """Give every node its own copy of a vector: biases that happen to be equal (zero, say) must not tie their layers.

    Matrices and kernels stay shared: a layer that is applied several times is one layer.
    """
    vectors = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and sum(size > 1 for size in tensor.dims) == 1
    }
    seen: set[str] = set()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in vectors and name in seen:
                copy = model.graph.initializer.add()
                copy.CopyFrom(vectors[name])
                copy.name = node.input[position] = f"{name}/{node.output[0]}/{position}"
            seen.add(name)


def _write_target(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...]],
    batched: Mapping[str, tuple[int, ...]],
) -> list[onnx.NodeProto]:
    """Write a computed target shape as numbers; where one size is the batch, as -1 or as the batch of the input.

    Returns:
        Nodes to put before this one.
    """
    position = 0 if node.op_type == "ConstantOfShape" else 1
    result, constants = node.output[0], {tensor.name for tensor in model.graph.initializer}
    free, shape = batched[result], shapes[result]
    given = node.input[position]
    if len(free) > 1 or (node.op_type != "Reshape" and given in constants) or 0 in shape:
        return []
    if node.op_type == "Reshape":
        target = np.array([-1 if axis in free else size for axis, size in enumerate(shape)], np.int64)
        node.input[position] = _constant(model, f"{result}/shape", target)
        _set_if_there(node, "allowzero", 0)
    elif not free:
        node.input[position] = _constant(model, f"{result}/shape", np.array(shape, np.int64))
    elif shape[free[0]] == PROBE:
        features = model.graph.input[0].name
        before, after = (np.array(part, np.int64) for part in (shape[: free[0]], shape[free[0] + 1 :]))
        count = helper.make_node("Shape", [features], [f"{result}/batch"], name=f"{result}/batch", start=0, end=1)
        parts = [
            _constant(model, f"{result}/before", before),
            count.output[0],
            _constant(model, f"{result}/after", after),
        ]
        target_shape = helper.make_node("Concat", parts, [f"{result}/shape"], name=f"{result}/shape", axis=0)
        node.input[position] = target_shape.output[0]
        return [count, target_shape]
    return []


def _constant(model: onnx.ModelProto, name: str, value: NDArray[np.int64]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _set_if_there(node: onnx.NodeProto, name: str, value: int) -> None:
    for item in node.attribute:
        if item.name == name:
            item.i = value


def drop_dead(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Give the graph these nodes, without those and without constants that do not reach the output."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(reads(node))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    constants = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in constants]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those in nested graphs included."""
    names = set(node.input)
    for graph in nested_graphs(node.attribute):
        for inner in graph.node:
            names |= reads(inner)
        names.update(value.name for value in graph.output)
    return names
