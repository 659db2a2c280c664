"""An ONNX file: one self-contained graph of operators that ONNX defines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from hauberk.errors import RefusedModelError
from hauberk.graph.model import nested_graphs

MAX_ONNX_BYTES = (2 << 30) - 1
"""Protocol buffers end at 2 GiB."""

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def parse_onnx(model: bytes, where: str) -> onnx.ModelProto:
    """The message that a file holds, not yet admitted.

    Raises:
        RefusedModelError: It holds none.
    """
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(model)
    except DecodeError as error:  # its text is about protocol buffers, and says no more
        raise RefusedModelError(f"{where}: not an ONNX model, or one that is damaged or cut short") from error
    return proto


def scan_onnx(model: bytes, where: str) -> onnx.ModelProto:
    """Accept a model without external data or foreign operators that passes ONNX's full check.

    Args:
        model: The serialised model.
        where: How error messages call it.

    Returns:
        The parsed model.

    Raises:
        RefusedModelError: It is not such a model.
    """
    proto = parse_onnx(model, where)
    if not proto.graph.node:
        raise RefusedModelError(f"{where}: not an ONNX model, or one without operators")
    if proto.training_info:
        raise RefusedModelError(f"{where}: refused: it brings graphs for its training; save it without training_info")
    # The defaults of a function's attributes lie beside its nodes.
    defaults = [attribute for function in proto.functions for attribute in function.attribute_proto]
    roots = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    graphs = [proto.graph, *_subgraphs([*_attributes(roots), *defaults])]
    nodes = [*roots, *(node for graph in graphs[1:] for node in graph.node)]
    _refuse_external_data(graphs, [*_attributes(nodes), *defaults], where)
    _refuse_foreign_operators(proto, nodes, where)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise RefusedModelError(f"{where}: not a valid ONNX model: {' '.join(str(error).split())[:300]}") from error
    return proto


def _attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.AttributeProto]:
    return (attribute for node in nodes for attribute in node.attribute)


def _subgraphs(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs inside attributes (of If, Loop, Scan), at any depth."""
    for graph in nested_graphs(attributes):
        yield graph
        yield from _subgraphs(_attributes(graph.node))


def _refuse_external_data(graphs: list[onnx.GraphProto], attributes: Iterable[onnx.AttributeProto], where: str) -> None:
    tensors: list[onnx.TensorProto] = []
    for graph in graphs:
        tensors.extend(graph.initializer)
        for sparse in graph.sparse_initializer:
            tensors += [sparse.values, sparse.indices]
    for attribute in attributes:
        sparses = [attribute.sparse_tensor, *attribute.sparse_tensors]
        tensors += [attribute.t, *attribute.tensors]
        tensors += [tensor for sparse in sparses for tensor in (sparse.values, sparse.indices)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise RefusedModelError(
                f"{where}: refused: weights of {tensor.name[:80]!r} lie in another file; put them into this one with"
                " onnx.save(onnx.load(PATH), NEW_PATH, save_as_external_data=False)"
            )


def _refuse_foreign_operators(proto: onnx.ModelProto, nodes: list[onnx.NodeProto], where: str) -> None:
    own = {(function.domain, function.name) for function in proto.functions}
    for node in nodes:
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise RefusedModelError(
                f"{where}: refused: operator {node.op_type[:80]!r} of domain {node.domain[:80]!r} is not part of ONNX;"
                " export the model with standard operators only"
            )
