"""An ONNX file whose weights lie in files beside it: which files these are, and what is in them now.

Where they may lie is the scan's business (plain names below the model's own folder, no link of any kind on the way, a
file with one name, long enough). Only weights of the main graph are followed here.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from hauberk.errors import RefusedModelError
from hauberk.graph.model import nested_graphs

_BLOCK = 1 << 23


@dataclass(frozen=True)
class ExternalModel:
    """A model that was admitted, its weights still where they were.

    Attributes:
        proto: The graph. Locations of weights are absolute.
        files: SHA-256 (hex) of every file that holds weights, by path.
        size: Bytes of all these files.
    """

    proto: onnx.ModelProto
    files: dict[Path, str]
    size: int


def resolve(proto: onnx.ModelProto, path: Path) -> ExternalModel:
    """Find the weights of a model that the scan called safe.

    Args:
        proto: As it was read from `path`; locations in it become absolute.
        path: Where it lies.

    Raises:
        RefusedModelError: Weights of something else than the main graph lie outside, or a file changed meanwhile.
    """
    where = str(path)
    for tensor in _inner_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise RefusedModelError(
                f"{where}: refused: {tensor.name[:80]!r}, which is no weight of the main graph, lies in another file;"
                " put it into this one with onnx.save(onnx.load(PATH), NEW_PATH, size_threshold=0,"
                " save_as_external_data=True)"
            )
    folder = path.absolute().parent
    sizes: dict[Path, int] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = next(entry for entry in tensor.external_data if entry.key == "location")
            file = folder / location.value
            location.value = str(file)
            sizes[file] = file.stat().st_size
    return ExternalModel(proto, {file: _digest(file, size, where) for file, size in sizes.items()}, sum(sizes.values()))


def _inner_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that is no initializer of the main graph."""
    defaults = [attribute for function in proto.functions for attribute in function.attribute_proto]
    roots = itertools.chain(proto.graph.node, *(function.node for function in proto.functions))
    attributes = [*_attributes(roots), *defaults]
    graphs = list(_graphs(attributes))
    attributes += _attributes(node for graph in graphs for node in graph.node)
    for sparse in itertools.chain(
        *(graph.sparse_initializer for graph in (proto.graph, *graphs)),
        *((attribute.sparse_tensor, *attribute.sparse_tensors) for attribute in attributes),
    ):
        yield from (sparse.values, sparse.indices)
    yield from itertools.chain(*(graph.initializer for graph in graphs))
    yield from itertools.chain(*((attribute.t, *attribute.tensors) for attribute in attributes))


def _attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.AttributeProto]:
    return (attribute for node in nodes for attribute in node.attribute)


def _graphs(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs inside attributes (of If, Loop, Scan), at any depth."""
    for graph in nested_graphs(attributes):
        yield graph
        yield from _graphs(_attributes(graph.node))


def _digest(file: Path, size: int, where: str) -> str:
    """SHA-256 (hex) of a file, read in pieces."""
    digest, length = hashlib.sha256(), 0
    with file.open("rb", buffering=0) as stream:
        while piece := stream.read(_BLOCK):
            digest.update(piece)
            length += len(piece)
    if length != size:
        raise RefusedModelError(f"{where}: refused: {file.name} changed while it was read")
    return digest.hexdigest()
