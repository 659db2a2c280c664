"""The layers with weights of a graph, brought to one plain form and found again by their tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants_ir

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import attributes, nested_graphs, parse

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})
_LARGEST_FOLD = 1 << 28  # elements; weights that are computed from weights are not larger than these
_SPATIAL = 2  # batch and channels come first; the rest is space


@dataclass(frozen=True)
class Layer:
    """A Gemm, MatMul or Conv with constant float32 weights, in plain form (see `prepare`).

    Where weights alone are quantized, also one of the two weights of an LSTM, GRU or RNN (see `weights_alone.py`): both
    directions share the scale of a row.

    Attributes:
        name: The tensor that it computes, unique in the graph; a recurrent one's with "/input" or "/hidden" behind.
        kind: "Gemm", "MatMul" or "Conv"; "LSTM", "GRU" or "RNN".
        data: The tensor that enters it.
        weight: The initializer that holds its weights: [inputs, outputs], or [outputs, inputs / group, *kernel], or
            [directions, gates * units, inputs].
        bias: The initializer that holds its bias, [outputs]; empty where there is none, and for a recurrent one.
        shape: Shape of the weights.
    """

    name: str
    kind: str
    data: str
    weight: str
    bias: str
    shape: tuple[int, ...]

    @property
    def axis(self) -> int:
        """The axis of the output channels in the weights."""
        return 0 if self.kind == "Conv" else 1

    @property
    def channels(self) -> int:
        """How many output channels it has."""
        return self.shape[self.axis]


class Constants:
    """The initializers of a graph by name, read as arrays when asked for."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def array(self, name: str) -> NDArray[np.generic]:
        """The values of a constant."""
        values: NDArray[np.generic] = numpy_helper.to_array(self._tensors[name])
        return values

    def floats(self, name: str) -> NDArray[np.float32] | None:
        """The values of a float32 constant; `None` for anything else."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            return None
        values: NDArray[np.float32] = numpy_helper.to_array(tensor)
        return values

    def kind(self, name: str) -> str:
        """The data type and shape of a constant, for messages."""
        return f"{onnx.TensorProto.DataType.Name(self._tensors[name].data_type).lower()} {list(self.shape(name))}"

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a constant."""
        return tuple(self._tensors[name].dims)


def find_layers(graph: onnx.GraphProto) -> tuple[Layer, ...]:
    """The layers of a prepared graph, in its order."""
    constants = Constants(graph)
    layers = (_layer(node, constants) for node in graph.node if node.op_type in ("Gemm", "MatMul", "Conv"))
    return tuple(layer for layer in layers if layer is not None)


def require_finite(graph: onnx.GraphProto, layers: tuple[Layer, ...], step: str) -> None:
    """Refuse weights that are no numbers.

    Raises:
        InputError: A weight or bias is NaN or infinite.
    """
    constants = Constants(graph)
    for layer in layers:
        for name in filter(None, (layer.weight, layer.bias)):
            values = constants.floats(name)
            if values is not None and not np.isfinite(values).all():
                raise InputError(f"{step}: weights of {layer.name!r} are not finite ({name!r})")


def _layer(node: onnx.NodeProto, constants: Constants) -> Layer | None:
    data, weight = node.input[0], node.input[1]
    bias = node.input[2] if len(node.input) > 2 else ""
    values = constants.floats(weight)
    if values is None or data in constants or not values.size:
        return None
    if node.op_type != "Conv" and values.ndim != 2:
        return None
    if node.op_type == "Gemm" and not _plain(node):
        return None
    layer = Layer(node.output[0], node.op_type, data, weight, bias, values.shape)
    if bias and (bias not in constants or constants.shape(bias) != (layer.channels,)):
        return None
    return layer


def why_no_layer(node: onnx.NodeProto, constants: Constants) -> str:
    """Why a Gemm, MatMul or Conv is no layer with weights; nothing for any other node."""
    if node.op_type in ("Conv", "Gemm"):
        transposed = attributes(node).get("transA", 0)
        return "it transposes its input" if transposed else "its weights or bias are not float32 constants"
    if node.op_type != "MatMul":
        return ""
    if node.input[1] in constants:
        return f"its weights are {constants.kind(node.input[1])}, not a float32 matrix"
    return "its weights are on the left" if node.input[0] in constants else "a product of two activations"


def _plain(gemm: onnx.NodeProto) -> bool:
    return not any(attribute.name in ("alpha", "beta", "transA", "transB") for attribute in gemm.attribute)


def prepare(model: onnx.ModelProto) -> None:
    """Bring the layers of a graph to the one form that quantization works on, in place.

    1. A Gemm has no attributes: `alpha`, `beta` and `transB` are worked into its constant weights, which become
       [inputs, outputs], and a constant bias becomes [outputs]. One with `transA` or without constants stays.
    2. A mean over all spatial axes becomes GlobalAveragePool (and a Flatten where the axes go): the one mean that ONNX
       Runtime computes on codes. Sums are taken in another order, so the last bits may differ.

    Shared weights are copied where one of their uses needs another form. Shapes recorded inside the graph are dropped,
    because exporters leave those of one fixed batch there.
    """
    del model.graph.value_info[:]
    plain_gemms(model.graph)
    _pool_means(model)


def plain_gemms(graph: onnx.GraphProto) -> None:
    """Work the attributes of every Gemm into its constants, in place (the first point of `prepare`).

    Constants that nothing takes any more go, so that large weights are not held twice.
    """
    constants, before = Constants(graph), _taken(graph)
    for node in graph.node:
        if node.op_type != "Gemm":
            continue
        stated = attributes(node)
        bias_name = node.input[2] if len(node.input) > 2 else ""
        weight, bias = constants.floats(node.input[1]), constants.floats(bias_name)
        if weight is None or stated.get("transA", 0) or (bias_name and bias is None):
            continue
        alpha, beta = (np.float32(stated.get(name, 1.0)) for name in ("alpha", "beta"))
        if stated.get("transB", 0) or alpha != 1:
            weight = (weight.T if stated.get("transB", 0) else weight) * alpha
            node.input[1] = _add(graph, f"{node.output[0]}/weight", np.ascontiguousarray(weight))
        if bias is not None and (beta != 1 or bias.shape != (weight.shape[1],)):
            row = np.broadcast_to(bias * beta, (1, weight.shape[1]))[0]
            node.input[2] = _add(graph, f"{node.output[0]}/bias", np.ascontiguousarray(row))
        del node.attribute[:]
    unused = before - _taken(graph)
    for place in reversed([place for place, tensor in enumerate(graph.initializer) if tensor.name in unused]):
        del graph.initializer[place]


def _taken(graph: onnx.GraphProto) -> set[str]:
    """Names that the nodes of a graph take, those within If, Loop and Scan included."""
    names = {value.name for value in graph.output}
    for node in graph.node:
        names.update(node.input)
        for nested in nested_graphs(node.attribute):
            names |= _taken(nested)
    return names


def _pool_means(model: onnx.ModelProto) -> None:
    graph = model.graph
    if not any(node.op_type == "ReduceMean" for node in graph.node):
        return
    inferred = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input)
        if value.type.tensor_type.HasField("shape")
    }
    constants = Constants(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        keep = _mean_of_space(node, ranks.get(node.input[0] if node.input else "", 0), constants)
        if keep is None:
            nodes.append(node)
        elif keep:
            nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], list(node.output), name=node.name))
        else:
            pooled = f"{node.output[0]}/pooled"
            nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name))
            nodes.append(helper.make_node("Flatten", [pooled], list(node.output), axis=1))
    del graph.node[:]
    graph.node.extend(nodes)


def _mean_of_space(node: onnx.NodeProto, rank: int, constants: Constants) -> bool | None:
    """Whether a node that is a mean over exactly the spatial axes keeps them; `None` for every other node."""
    if node.op_type != "ReduceMean" or rank <= _SPATIAL:
        return None
    stated = attributes(node)
    axes = stated.get("axes")
    if axes is None and len(node.input) > 1 and node.input[1] in constants:
        axes = constants.array(node.input[1]).tolist()
    if axes is None or sorted(int(axis) % rank for axis in axes) != list(range(_SPATIAL, rank)):
        return None
    return bool(stated.get("keepdims", 1))


def _add(graph: onnx.GraphProto, name: str, values: NDArray[np.float32]) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def with_constant_weights(artifact: Artifact) -> Artifact:
    """The artifact with weights that are only computed from constants computed once.

    Exporters write the weights of recurrent layers as chains of Slice and Concat, which quantizers skip without a word.
    An artifact whose weights lie there as they are (or that is no graph) comes back as it is.
    """
    if not isinstance(artifact, OnnxArtifact):
        return artifact
    graph = parse(artifact.model).graph
    constants = {tensor.name for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}

    def computed(name: str) -> bool:
        """Whether a tensor is made by nodes from constants alone, other than by decoding or by a Constant node."""
        node = maker.get(name)
        if node is None or node.op_type in ("Constant", "DequantizeLinear"):
            return False
        sources = [source for source in node.input if source]
        return all(source in constants or _is_constant(source, maker) or computed(source) for source in sources)

    if not any(computed(name) for node in graph.node if node.op_type in _WEIGHTED for name in node.input[1:3] if name):
        return artifact
    model = ir.serde.deserialize_model(parse(artifact.model))
    fold_constants_ir(model, input_size_limit=_LARGEST_FOLD, output_size_limit=_LARGEST_FOLD)
    RemoveUnusedNodesPass()(model)
    return replace(artifact, model=ir.serde.serialize_model(model).SerializeToString(deterministic=True))


def _is_constant(name: str, maker: dict[str, onnx.NodeProto]) -> bool:
    return name in maker and maker[name].op_type == "Constant"
