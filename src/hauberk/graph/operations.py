"""How much a graph computes and holds: multiply-accumulate operations and parameters, by the shapes of its tensors.

This is the one place for such counts. A multiply-accumulate operation (MAC) is one product and one addition; what does
not multiply matrices (activations, normalisation, pooling) is not counted, as is usual in the literature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from hauberk.errors import InputError, one_line
from hauberk.graph.model import parse, run, session, spec_of

Shapes = Mapping[str, tuple[int, ...]]

_SHAPE_SIZED = 1024
"""A constant of at most this many elements may be a shape, whose values shape inference must see."""

_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "FusedConv": 1, "NhwcConv": 1, "QLinearConv": 3}
"""Operators that convolve, and which input holds their weights [outputs, inputs / group, *kernel]."""

_PRODUCTS = {
    "MatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "FusedMatMul": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
"""Operators that multiply two matrices, and which input is the second of them."""


@dataclass(frozen=True)
class Operations:
    """What a graph costs, whatever runs it.

    Attributes:
        macs: Multiply-accumulate operations for one record; what stands in a nested graph (a `Loop`'s body) is not
            counted, because how often it runs is not known.
        parameters: Numbers that the graph holds as weights: elements of all initializers but those of whole-number
            types of 32 and 64 bits, which are shapes, indices and quantized biases.
        by_node: `macs` of each node that has some, by the name of its first output, in graph order.
    """

    macs: int
    parameters: int
    by_node: Mapping[str, int] = field(default_factory=dict)


def operations(model: bytes | onnx.ModelProto) -> Operations:
    """Count a model's operations and parameters.

    Args:
        model: A graph whose inputs have fixed sizes but for their first, the batch.

    Raises:
        InputError: Not an ONNX model, or shapes that neither onnx nor ONNX Runtime can tell.
    """
    proto = parse(model) if isinstance(model, bytes) else model
    shapes = tensor_shapes(proto, batch=1)
    by_node = {node.output[0]: macs for node in proto.graph.node if (macs := _macs(node, shapes))}
    return Operations(sum(by_node.values()), parameters(proto), by_node)


def parameters(model: onnx.ModelProto) -> int:
    """Numbers that a model holds as weights, see `Operations`."""
    not_weights = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING)
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type not in not_weights)


def tensor_shapes(model: onnx.ModelProto, *, batch: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the graph when it is given that many records.

    Shapes are inferred by onnx; where it cannot tell one, the graph is run on zeros by ONNX Runtime.

    Args:
        model: Inputs [batch, …], every size but the batch fixed; nested graphs are not looked into.
        batch: Records, at least 1.

    Raises:
        InputError: An input has another free size, or the graph does not run.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    constants = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    for value in inputs:
        _fix_batch(value, batch)
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(_light(proto), data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise InputError(f"onnx cannot infer the shapes of the graph: {one_line(error)}") from error
    shapes = dict(constants)
    for value in (*inputs, *inferred.value_info, *inferred.output):
        if (shape := _shape(value)) is not None:
            shapes[value.name] = shape
    results = dict.fromkeys(name for node in proto.graph.node for name in node.output if name)
    unknown = [name for name in results if name not in shapes]
    if unknown:
        shapes.update(_run_for_shapes(proto, unknown))
    return shapes


def _light(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large weights declared instead of held: onnx copies what it infers shapes of."""
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph = light.graph
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    declared = {value.name for value in graph.input}
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= _SHAPE_SIZED:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def _fix_batch(value: onnx.ValueInfoProto, batch: int) -> None:
    dims = value.type.tensor_type.shape.dim
    if any(not dim.dim_value for dim in dims[1:]):
        shown = ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims)
        raise InputError(f"input {value.name!r} is [{shown}]; only its first size, the batch, may be free")
    if dims and not dims[0].dim_value:
        dims[0].dim_value = batch


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or any(not dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return tuple(int(dim.dim_value) for dim in tensor.shape.dim)


def _run_for_shapes(proto: onnx.ModelProto, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the named tensors as they come out of a run on zeros."""
    wanted = list(names)
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    constants = {tensor.name for tensor in proto.graph.initializer}
    specs = [spec_of(value) for value in proto.graph.input if value.name not in constants]
    feeds = {spec.name: np.zeros([int(size) for size in spec.shape], np.dtype(spec.dtype)) for spec in specs}
    results = run(session(proto.SerializeToString()), feeds)
    return {name: tuple(np.shape(result)) for name, result in zip(wanted, results, strict=True)}


def _macs(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Multiply-accumulate operations of one node."""
    kind, attributes = node.op_type, {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if kind in _CONVOLUTIONS:
        weight = shapes[node.input[_CONVOLUTIONS[kind]]]
        return math.prod(shapes[node.output[0]]) * math.prod(weight[1:])
    if kind == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if kind in _PRODUCTS:
        return math.prod(shapes[node.output[0]]) * _inner(node, attributes, shapes)
    if kind in _RECURRENT:
        return _recurrent(node, shapes)
    if kind == "Einsum" and len(node.input) > 1:
        return _einsum(node, attributes, shapes)
    return 0


def _inner(node: onnx.NodeProto, attributes: Mapping[str, Any], shapes: Shapes) -> int:
    """The size over which a matrix product sums."""
    first = shapes[node.input[0]]
    return first[-2] if attributes.get("transA", 0) and len(first) > 1 else first[-1]


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Each step multiplies the input by W [directions, gates · hidden, inputs] and the state by R [.., hidden].

    DynamicQuantizeLSTM has both transposed, which their number of elements does not show.
    """
    steps, records = shapes[node.input[0]][:2]
    return steps * records * sum(math.prod(shapes[name]) for name in node.input[1:3])


def _einsum(node: onnx.NodeProto, attributes: Mapping[str, Any], shapes: Shapes) -> int:
    """One product for every combination of indices, of the operands multiplied at once."""
    terms = attributes["equation"].decode().replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        if "." in term:
            raise InputError(f"{node.output[0]!r}: operations of an Einsum with an ellipsis cannot be counted")
        sizes.update(zip(term, shapes[name], strict=True))
    return math.prod(sizes.values()) * (len(terms) - 1)
