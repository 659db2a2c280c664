"""Graphs whose weights stay in files: passes read them through a mapping and write new ones to a file.

Inside this file a model is its serialised graph, a few kilobytes; initializers say in which file, at which offset,
their bytes are. Locations are absolute. ONNX Runtime maps such files too, and without prepacking makes no copy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx_ir.passes import common

from hauberk.errors import InputError
from hauberk.graph.harness import Subject, is_recurrent
from hauberk.graph.model import parse, signature_of
from hauberk.graph.passes.clean_up import CleanUp
from hauberk.graph.passes.rewriting import Array, Editor, GraphPass, forget_shapes, redeclare
from hauberk.graph.passes.strip_metadata import StripMetadata, strip
from hauberk.graph.trials import Level, Runner, runner_with
from hauberk.recipe import Context, Step

INLINE = 1024
"""Tensors below this many bytes stay in the graph: shapes and axes, which have to be looked at often."""

_BLOCK = 1 << 23
_ALIGNMENT = 4096
"""Offsets are whole pages, which mappings want."""


@dataclass
class Spill:
    """A file that takes the weights that passes make.

    Attributes:
        path: Where it is; absolute.
    """

    path: Path

    def keep(self, array: Array, name: str) -> ir.ExternalTensor:
        """Append an array and return the tensor that stands for it."""
        with self.path.open("ab") as file:
            offset = _aligned(file.tell())
            file.write(bytes(offset - file.tell()))
            file.write(np.ascontiguousarray(array).data.cast("B"))
        return ir.ExternalTensor(
            str(self.path),
            offset,
            array.nbytes,
            ir.DataType.from_numpy(array.dtype),
            shape=ir.Shape(array.shape),
            name=name,
        )


class _SpillingEditor(Editor):
    """An editor whose new constants go to a file at once."""

    spill: Spill

    def constant(self, value: Array, base: str) -> ir.Value:
        """A new initializer, in the file unless it is small."""
        made = super().constant(value, base)
        array = np.asarray(value)
        if array.nbytes >= INLINE and made.name is not None:
            made.const_value = self.spill.keep(array, made.name)
        return made


def takes(step: Step) -> bool:
    """Whether a pass can work on weights that stay in files."""
    return isinstance(step, GraphPass | CleanUp | StripMetadata)


def apply(step: Step, model: bytes, context: Context, spill: Spill) -> bytes:
    """Apply a pass to a graph with its weights in files.

    Args:
        step: One that `takes` accepts.
        model: The serialised graph.
        context: For the pass.
        spill: Where new weights go.

    Returns:
        The serialised result; `model` itself where there was nothing to do.

    Raises:
        InputError: The pass does not work on such a graph.
    """
    if isinstance(step, StripMetadata):
        return strip(model)
    proto = parse(model)
    forget_shapes(proto.graph)
    graph = ir.serde.deserialize_model(proto)
    outside = [
        value.const_value
        for value in graph.graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    ]
    try:
        if not _change(step, graph, context, spill):
            return model
        written = ir.serde.serialize_model(graph)
        redeclare(written.graph, proto.graph)
        serialised: bytes = written.SerializeToString(deterministic=True)
        return serialised
    finally:
        for tensor in outside:  # a session is about to map the same file; two mappings would count twice
            tensor.release()


def _change(step: Step, graph: ir.Model, context: Context, spill: Spill) -> bool:
    """Change a graph in place; say whether there was anything to do."""
    if isinstance(step, CleanUp):
        step.clean(graph)
        return True
    if not isinstance(step, GraphPass):
        raise InputError(f"{step.name}: cannot take a model whose weights lie in another file")
    editor = _SpillingEditor(graph, graph.opset_imports.get("", 0), context)
    editor.spill = spill
    changed = step.change(editor)
    common.RemoveUnusedNodesPass()(graph)
    return changed


def subject(model: bytes) -> Subject:
    """Such a graph under examination; it is run as written, whatever the level, so that no weight is copied."""

    def opened(level: Level) -> Runner:  # noqa: ARG001 - there is one way
        return runner(model)

    proto = parse(model)
    return Subject(opened, signature_of(proto).outputs, recurrent=is_recurrent(proto), levels=("as written",))


def runner(model: bytes) -> Runner:
    """A session that maps the files of weights and copies nothing.

    Raises:
        InputError: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    # It follows relative locations only, and from one folder only; all files lie somewhere below the root.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/")
    proto = parse(model)
    for _, entries in _outside(proto):
        entries["location"].value = entries["location"].value.lstrip("/")
    return runner_with(options, proto.SerializeToString())


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        model: The serialised graph; locations are the plain name of the file of weights.
        sha256: Hex, of the file of weights.
        size: Its bytes.
    """

    model: bytes
    sha256: str
    size: int


def write_weights(model: bytes, target: Path, name: str) -> Written:
    """Copy all weights of a graph that lie in files into one new file, piece by piece, each tensor once.

    Args:
        model: The serialised graph.
        target: The file to write; it must not exist.
        name: What the graph will call it.
    """
    proto = parse(model)
    places: dict[tuple[str, str, str], int] = {}
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for _, entries in _outside(proto):
            source = (entries["location"].value, entries["offset"].value, entries["length"].value)
            if source not in places:
                padding = bytes(_aligned(file.tell()) - file.tell())
                file.write(padding)
                digest.update(padding)
                places[source] = file.tell()
                for piece in _pieces(Path(source[0]), int(source[1]), int(source[2])):
                    file.write(piece)
                    digest.update(piece)
            entries["location"].value, entries["offset"].value = name, str(places[source])
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return Written(proto.SerializeToString(deterministic=True), digest.hexdigest(), size)


def relocated(model: bytes, location: str) -> bytes:
    """The same graph with all its outside weights in one file of another name."""
    proto = parse(model)
    for _, entries in _outside(proto):
        entries["location"].value = location
    serialised: bytes = proto.SerializeToString(deterministic=True)
    return serialised


def digest_of(model: bytes) -> str:
    """SHA-256 (hex) of a serialised graph."""
    return hashlib.sha256(model).hexdigest()


def _pieces(path: Path, offset: int, length: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while length:
            piece = file.read(min(_BLOCK, length))
            if not piece:
                raise InputError(f"{path}: ends before the weights that it should hold; it was changed meanwhile")
            length -= len(piece)
            yield piece


def _outside(proto: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, dict[str, onnx.StringStringEntryProto]]]:
    """Initializers whose bytes are in a file, with their entries by key."""
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor, {entry.key: entry for entry in tensor.external_data}


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT
