"""Bias correction: rounding weights shifts the mean of a layer's results, and the bias can take the shift back.

With `W` the weights, `W'` what their codes stand for, and x the layer's input,

    E[W' x] - E[W x] = (W' - W) E[x]

a vector over output channels that is subtracted from the bias (Nagel et al. 2019, "Data-free quantization through
weight equalization and bias correction", arXiv:1906.04721, section 4.2). E[x] is taken from calibration records, place
by place, so that padding counts as what it is; a layer is linear, so its answer to E[x] is the mean of its answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hauberk.compress.quantize.calibrate import observe_means
from hauberk.compress.quantize.codes import along, encode_weight
from hauberk.compress.quantize.layers import Constants, Layer
from hauberk.compress.quantize.plan import Plan
from hauberk.compress.quantize.qdq import WeightCode
from hauberk.graph.model import run, session


def mean_inputs(model: onnx.ModelProto, plan: Plan, records: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """E[x] of every layer of a plan that has a bias, by the name of the tensor.

    Args:
        model: The prepared graph, in float.
        plan: Its layers.
        records: Calibration records, float32 [N, *shape].
    """
    return observe_means(model, {layer.data for layer in plan.layers if _bias_of(model.graph, layer)}, records)


def correct_biases(
    model: onnx.ModelProto, plan: Plan, weights: Mapping[str, WeightCode], means: Mapping[str, NDArray[np.float32]]
) -> None:
    """Change the float biases of a prepared graph, in place; where a layer has none, nothing is corrected.

    Args:
        model: The prepared graph, still in float.
        plan: Its layers.
        weights: How their weights are going to be coded.
        means: Of the tensors that enter the layers (`mean_inputs`).
    """
    layers = [layer for layer in plan.layers if _bias_of(model.graph, layer)]
    nodes = {node.output[0]: node for node in model.graph.node}
    constants = Constants(model.graph)
    for number, layer in enumerate(layers):
        taker, place = _bias_of(model.graph, layer) or ("", 0)
        node = nodes[taker]
        weight, bias = constants.floats(layer.weight), constants.floats(node.input[place])
        if weight is None or bias is None:
            continue
        code = weights[layer.name]
        scale = np.broadcast_to(code.scale, (layer.channels,))
        coded = encode_weight(weight, scale, axis=layer.axis, levels=code.levels)
        rounded = coded * along(scale, weight.ndim, layer.axis)
        shift = mean_result(nodes[layer.name], layer, rounded - weight, means[layer.data])
        name = f"{layer.name}/corrected{number}"
        model.graph.initializer.append(numpy_helper.from_array((bias - shift).astype(np.float32), name))
        node.input[place] = name


def _bias_of(graph: onnx.GraphProto, layer: Layer) -> tuple[str, int] | None:
    """The node (by its output) that adds a layer's bias and the place of the bias among its inputs."""
    if layer.bias:
        return layer.name, 2
    takers = [node for node in graph.node if layer.name in node.input]
    if layer.kind != "MatMul" or len(takers) != 1 or takers[0].op_type != "Add":
        return None
    place = 1 - list(takers[0].input).index(layer.name)
    constants = Constants(graph)
    name = takers[0].input[place]
    if name not in constants or constants.shape(name) != (layer.channels,):
        return None
    return takers[0].output[0], place


def mean_result(
    node: onnx.NodeProto, layer: Layer, weight: NDArray[np.float32], mean: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What a layer with these weights and no bias answers to one record, averaged over all but its channels."""
    attributes = [attribute for attribute in node.attribute if layer.kind == "Conv"]
    alone = onnx.NodeProto(op_type="Conv" if layer.kind == "Conv" else "MatMul", input=["x", "w"], output=["y"])
    alone.attribute.extend(attributes)
    declared = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *mean.shape])]
    result = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph([alone], "layer", declared, [result], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    answer = run(session(model.SerializeToString()), {"x": mean[np.newaxis]})[0]
    channels = 1 if layer.kind == "Conv" else answer.ndim - 1
    averaged: NDArray[np.float32] = answer.mean(axis=tuple(k for k in range(answer.ndim) if k != channels))
    return averaged
