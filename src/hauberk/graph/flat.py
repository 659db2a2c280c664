"""A graph as those read it who follow it node by node: the differentiable twin, and certification."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError, one_line
from hauberk.graph.model import parse

OLDEST_OPSET = 13
"""Softmax and the axes of several operators meant something else before."""

_STANDARD = ("", "ai.onnx")


def flattened(artifact: OnnxArtifact, purpose: str) -> onnx.ModelProto:
    """The graph without functions, with all its constants as initializers, in topological order.

    Args:
        artifact: Holds it.
        purpose: What it is read for; errors begin with it.

    Raises:
        InputError: Its opset is too old, or it has not one input and one output.
    """
    proto = parse(artifact.model)
    opset = next((entry.version for entry in proto.opset_import if entry.domain in _STANDARD), 0)
    if opset < OLDEST_OPSET:
        raise InputError(f"{purpose}: opset {opset} is too old; {OLDEST_OPSET} or newer is needed")
    model = ir.serde.deserialize_model(proto)
    ir.passes.Sequential(
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),  # onnxruntime's converter to half precision appends its casts at the end
    )(model)
    flat = ir.serde.serialize_model(model)
    if len(flat.graph.input) != 1 or len(flat.graph.output) != 1:
        count = f"{len(flat.graph.input)} inputs and {len(flat.graph.output)} outputs"
        raise InputError(f"{purpose}: the graph has {count}; a core, which is what it takes, has one of each")
    return flat


def element_types(proto: onnx.ModelProto, purpose: str) -> dict[str, int]:
    """The element type (`TensorProto.DataType`) of every tensor of a flat graph, as far as onnx can tell.

    Raises:
        InputError: onnx cannot infer them.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"{purpose}: onnx cannot infer the graph's types: {one_line(error)}") from error
    values = (*graph.value_info, *graph.input, *graph.output)
    declared = {value.name: value.type.tensor_type.elem_type for value in values}
    return declared | {tensor.name: tensor.data_type for tensor in graph.initializer}
