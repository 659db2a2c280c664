"""Weights that lie in few levels while layers compute in float32: which they are, and how a graph holds them.

Linear layers, convolutions and the two weights of LSTM, GRU and RNN; all hold one scale a row of outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hauberk.compress import cluster
from hauberk.compress.core import Core
from hauberk.compress.quantize.codes import along
from hauberk.compress.quantize.layers import Constants, Layer, find_layers, prepare, require_finite
from hauberk.compress.quantize.qdq import WeightCode
from hauberk.errors import InputError

_RECURRENT = ("LSTM", "GRU", "RNN")
_OTHERS = ("ConvTranspose", "Conv", "Einsum", "Gemm", *_RECURRENT)
_RECURRENT_WEIGHTS = {1: "input", 2: "hidden"}  # places among the node's inputs, [directions, gates, …] each


def layers_with_weights(core: Core, keep_float: Collection[str] = ()) -> tuple[Layer, ...]:
    """What has constant float32 weights, a recurrent node's two weights as a layer each; prepares the core in place.

    Raises:
        InputError: Already quantized, nothing has such weights, they are not finite, or `keep_float` names no layer.
    """
    core.require_float()
    prepare(core.model)
    graph = core.model.graph
    layers = (*find_layers(graph), *_recurrent(graph))
    names = [layer.name for layer in layers]
    unknown = sorted(set(keep_float) - set(names))
    if unknown:
        raise InputError(f"{core.step}: no layer is called {unknown[0]!r}; layers are {', '.join(names)}")
    kept = tuple(layer for layer in layers if layer.name not in keep_float)
    if not kept:
        raise InputError(
            f"{core.step}: nothing to quantize, the graph has no Gemm, MatMul, Conv, LSTM, GRU or RNN with float32"
            " constant weights"
        )
    require_finite(graph, kept, core.step)
    return kept


def left_in_float(core: Core, keep_float: Collection[str]) -> tuple[str, ...]:
    """What has weights and keeps them in float, one sentence each.

    Raises:
        InputError: As `layers_with_weights`.
    """
    coded = {layer.name for layer in layers_with_weights(core, keep_float)}
    said = []
    for node in core.model.graph.node:
        for name in _names(node):
            if name in keep_float:
                said.append(f"{node.op_type} {name!r} stays in float: asked for")
            elif node.op_type in _OTHERS and name not in coded:
                said.append(f"{node.op_type} {name!r} stays in float: its weights are no float32 constants")
    return tuple(said)


def write_weights(
    model: onnx.ModelProto, layers: tuple[Layer, ...], weights: Mapping[str, WeightCode]
) -> onnx.ModelProto:
    """A copy of a graph with the weights of its layers behind DequantizeLinear and everything else in float.

    Args:
        model: Prepared.
        layers: Of it.
        weights: Their scales, by layer; codes are zeros, for the twin to fill.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    graph, by_name = written.graph, {layer.name: layer for layer in layers}
    decodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for place, layer_name in zip(_RECURRENT_WEIGHTS, _names(node), strict=False):
            layer = by_name.get(layer_name)
            if layer is None:
                continue
            name = f"{layer.name}/weight"
            graph.initializer.append(numpy_helper.from_array(np.zeros(layer.shape, np.int8), f"{name}/codes"))
            graph.initializer.append(numpy_helper.from_array(weights[layer.name].scale, f"{name}/scale"))
            operands = [f"{name}/codes", f"{name}/scale"]
            decodes.append(helper.make_node("DequantizeLinear", operands, [f"{name}/decoded"], axis=layer.axis))
            node.input[place] = f"{name}/decoded"
    cluster.put_first(graph, decodes)
    return written


def decoded_at_load(graph: onnx.GraphProto, name: str, tensors: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Replace a weight's DequantizeLinear, which ONNX Runtime would run every time, by nodes that it folds at load.

    Args:
        graph: As `write_weights` made it, with codes of few levels; changed in place.
        name: Of the weight.
        tensors: The graph's initializers.

    Returns:
        Nodes to put first.
    """
    decode = next(node for node in graph.node if node.output[0] == f"{name}/decoded")
    axis = next(helper.get_attribute_value(attribute) for attribute in decode.attribute if attribute.name == "axis")
    codes = numpy_helper.to_array(tensors[f"{name}/codes"])
    scale = along(numpy_helper.to_array(tensors[f"{name}/scale"]), codes.ndim, axis)
    levels, indices = np.unique(codes, return_inverse=True)
    book = cluster.Book(levels.astype(np.float32), indices.reshape(codes.shape).astype(np.uint8))
    graph.node.remove(decode)
    for suffix in ("codes", "scale"):
        graph.initializer.remove(tensors[f"{name}/{suffix}"])
    decoded = onnx.TensorProto(name=f"{name}/decoded")
    graph.initializer.append(decoded)
    return cluster.replace_floats(graph, decoded, book, scale)


def _recurrent(graph: onnx.GraphProto) -> list[Layer]:
    constants, found = Constants(graph), []
    for node in graph.node:
        if node.op_type not in _RECURRENT:
            continue
        for place, name in zip(_RECURRENT_WEIGHTS, _names(node), strict=True):
            if constants.floats(node.input[place]) is not None:
                shape = constants.shape(node.input[place])
                found.append(Layer(name, node.op_type, node.input[0], node.input[place], "", shape))
    return found


def _names(node: onnx.NodeProto) -> list[str]:
    """What the layers of a node are called."""
    if node.op_type in _RECURRENT:
        return [f"{_output(node)}/{kind}" for kind in _RECURRENT_WEIGHTS.values()]
    return [_output(node)]


def _output(node: onnx.NodeProto) -> str:
    """The first output that has a name; a recurrent node may have its last state alone."""
    return next(filter(None, node.output), node.name)
