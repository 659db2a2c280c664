"""An ONNX file whose weights lie in files beside it: the rules for one that holds them, and rules for the files.

Only initializers of the main graph may lie outside. A file that holds them must be in the model's own folder, named by
a plain name, a regular file with one name (no symbolic link, and no hard link to something else), and long enough.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper

from hauberk.errors import RefusedModelError
from hauberk.ingest.scan.onnx import scan_onnx

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


def scan_external(proto: onnx.ModelProto, path: Path) -> ExternalModel:
    """Accept a model whose weights lie beside it.

    Args:
        proto: As it was read from `path`; it is changed.
        path: Where it lies.

    Raises:
        RefusedModelError: The graph is not admissible (see `scan_onnx`), or a weight lies where none may lie.
    """
    where = str(path)
    outside = [tensor for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    scan_onnx(_without(proto, outside).SerializeToString(), where)
    folder = Path(os.path.realpath(path)).parent
    sizes: dict[Path, int] = {}
    for tensor in outside:
        _place(tensor, folder, sizes, where)
    return ExternalModel(proto, {file: _digest(file, size, where) for file, size in sizes.items()}, sum(sizes.values()))


def _without(proto: onnx.ModelProto, outside: list[onnx.TensorProto]) -> onnx.ModelProto:
    """The model with inputs in the place of weights that are not here, for the scan of all that is."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    names = {tensor.name for tensor in outside}
    kept = [tensor for tensor in bare.graph.initializer if tensor.name not in names]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    declared = {value.name for value in bare.graph.input}
    bare.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in outside
        if tensor.name not in declared
    )
    return bare


def _place(tensor: onnx.TensorProto, folder: Path, sizes: dict[Path, int], where: str) -> None:
    """See that a weight lies where it may, and note its file; its location becomes absolute."""
    name = tensor.name[:80]
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location or location in {".", ".."} or "/" in location or "\\" in location or "\0" in location:
        raise RefusedModelError(
            f"{where}: refused: weights of {name!r} lie at {location[:80]!r}; only a plain file name in the model's"
            " own folder is followed"
        )
    file = folder / location
    if file not in sizes:
        sizes[file] = _size(file, name, where)
    itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    needed = math.prod(tensor.dims) * itemsize
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(needed)))
    except ValueError as error:
        raise RefusedModelError(f"{where}: refused: weights of {name!r} have an offset that is no number") from error
    if min(offset, length, *tensor.dims, 0) < 0 or length != needed or offset + length > sizes[file]:
        raise RefusedModelError(
            f"{where}: refused: weights of {name!r} should be {needed} bytes; the model names {length} bytes at"
            f" {offset} of {file.name}, which has {sizes[file]}"
        )
    del tensor.external_data[:]
    for key, value in (("location", str(file)), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _size(file: Path, name: str, where: str) -> int:
    try:
        status = file.lstat()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RefusedModelError(f"{where}: weights of {name!r} lie in {file.name}: {reason}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise RefusedModelError(
            f"{where}: refused: {file.name}, where weights of {name!r} lie, is a link; copy the file itself there"
        )
    return status.st_size


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
