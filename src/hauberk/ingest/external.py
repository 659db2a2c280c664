"""An ONNX file whose weights lie in files beside it: which files these are, and what is in them now.

Where they may lie is the scan's business (plain names below the model's own folder, no link of any kind on the way, a
file with one name, long enough). Only weights of the main graph are followed here.

A file beside a model can change at any time, so small tensors of whole numbers, which may be shapes and counts, are
taken into the graph before anything runs, and the graph is scanned with them in it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from hauberk.errors import RefusedModelError, one_line
from hauberk.files import open_below
from hauberk.graph.model import nested_graphs
from hauberk.ingest.admission import admit
from hauberk.ingest.private import PrivateCopy
from hauberk.scan.graphs.elements import data_bytes, integral
from hauberk.scan.graphs.model import MOST_VALUES

_BLOCK = 1 << 23
_MOST_TAKEN_IN = 1 << 26
"""Bytes of all tensors that are taken in."""

State = tuple[int, int, int, int]
"""Device, inode, size and time of change (`ctime`, which nobody can set back): another one where somebody wrote to a
file or put another in its place."""


@dataclass(frozen=True)
class ExternalModel:
    """A model that was admitted, its weights still where they were.

    Attributes:
        proto: The graph. Locations of weights are absolute.
        files: SHA-256 (hex) of every file that holds weights, by path.
        states: What each of them was when it was hashed (see `state_of`).
        size: Bytes of all these files.
    """

    proto: onnx.ModelProto
    files: dict[Path, str]
    states: dict[Path, State]
    size: int


def resolve(proto: onnx.ModelProto, path: Path) -> ExternalModel:
    """Find the weights of a model that the scan called safe.

    Args:
        proto: As it was read from `path`; locations in it become absolute, small tensors of whole numbers its own.
        path: Where it lies.

    Raises:
        RefusedModelError: Weights of something else than the main graph lie outside, or a file changed meanwhile: it is
            longer, or a link, or not there any more, or holds shapes with which the graph is not safe.
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
    if _take_in_small(proto, folder, where):
        with PrivateCopy.of(proto.SerializeToString(), path) as copy:
            admit(copy)
    files: dict[Path, tuple[str, State]] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = _spelled_out(tensor)
            file = folder / location.value
            if file not in files:
                files[file] = _hashed(folder, location.value, where)
            location.value = str(file)
    digests = {file: digest for file, (digest, _) in files.items()}
    states = {file: state for file, (_, state) in files.items()}
    return ExternalModel(proto, digests, states, sum(size for _, _, size, _ in states.values()))


def _take_in_small(proto: onnx.ModelProto, folder: Path, where: str) -> bool:
    """Put small tensors of whole numbers into the graph; returns whether there was one."""
    left = _MOST_TAKEN_IN
    for tensor in proto.graph.initializer:
        count = math.prod(tensor.dims)
        if tensor.data_location != onnx.TensorProto.EXTERNAL or not integral(tensor.data_type) or count > MOST_VALUES:
            continue
        length = data_bytes(tensor.data_type, count)
        left -= length
        if left < 0:
            raise RefusedModelError(f"{where}: refused: more than {_MOST_TAKEN_IN} bytes of shapes lie in other files")
        entries = {entry.key: entry.value for entry in tensor.external_data}
        tensor.raw_data = _part(folder, entries["location"], int(entries.get("offset", 0)), length, where)
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    return left < _MOST_TAKEN_IN


def _part(folder: Path, location: str, offset: int, length: int, where: str) -> bytes:
    """Some bytes of a file with weights."""
    with _opened(folder, location, where) as (descriptor, _):
        data = os.pread(descriptor, length, offset)
    if len(data) != length:
        raise _exchanged(location, where)
    return data


def _spelled_out(tensor: onnx.TensorProto) -> onnx.StringStringEntryProto:
    """Write down offset and length where the file leaves them out, as it may; returns the entry of the location."""
    entries = {entry.key: entry for entry in tensor.external_data}
    for key, value in (("offset", 0), ("length", data_bytes(tensor.data_type, math.prod(tensor.dims)))):
        if key not in entries:
            tensor.external_data.add(key=key, value=str(value))
    location: onnx.StringStringEntryProto = entries["location"]
    return location


def state_of(file: Path) -> State:
    """What a file is now; a link is a link.

    Raises:
        OSError: It is not there.
    """
    return _state(file.lstat())


def _state(status: os.stat_result) -> State:
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def _hashed(folder: Path, location: str, where: str) -> tuple[str, State]:
    """SHA-256 (hex) and state of a file below a folder."""
    with _opened(folder, location, where) as (descriptor, status):
        return _digest(descriptor, status.st_size, location, where), _state(status)


@contextmanager
def _opened(folder: Path, location: str, where: str) -> Iterator[tuple[int, os.stat_result]]:
    """A file below a folder, no link followed on the way: the scan may be a while ago."""
    try:
        descriptor, status = open_below(folder, location)
    except (OSError, ValueError) as error:
        raise _exchanged(location, where, f": {one_line(error)}") from error
    try:
        if status.st_nlink != 1:
            raise _exchanged(location, where)
        yield descriptor, status
    except OSError as error:
        raise _exchanged(location, where, f": {one_line(error)}") from error
    finally:
        os.close(descriptor)


def _exchanged(location: str, where: str, why: str = "") -> RefusedModelError:
    return RefusedModelError(f"{where}: refused: {location[:80]!r} is not the file any more that was scanned{why}")


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


def _digest(descriptor: int, size: int, location: str, where: str) -> str:
    """SHA-256 (hex) of an open file, read in pieces."""
    digest, length = hashlib.sha256(), 0
    while piece := os.read(descriptor, _BLOCK):
        digest.update(piece)
        length += len(piece)
    if length != size:
        raise RefusedModelError(f"{where}: refused: {location[:80]!r} changed while it was read")
    return digest.hexdigest()
