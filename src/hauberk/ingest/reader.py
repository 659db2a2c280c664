"""What runs in the process that parses: scan, or make a table of contents, of a sealed copy that it was handed.

Targets of `hauberk.sandbox.forkserver`. Nothing here is trusted by its caller, and nothing here needs more than the
descriptors that it gets. Torch and onnx are imported only by who needs them.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import msgspec

from hauberk.errors import LimitError, RefusedModelError
from hauberk.scan import scan_content
from hauberk.scan.content import FileContent

if TYPE_CHECKING:
    import onnx
    import torch

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHOWN = 300
_ALIGNMENT = 64
_NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "Cannot allocate memory")

# By the names of the safetensors format.
SAFETENSORS_TYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "C64": ("complex64", 8),
    "I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1), "BOOL": ("bool", 1),
    "U64": ("uint64", 8), "U32": ("uint32", 4), "U16": ("uint16", 2), "U8": ("uint8", 1),
}  # fmt: skip

# One storage or place: memory (0 the copy, 1 the output), offset, size. One tensor: name, dtype, shape, strides, place,
# offset. The caller's own types for these (`contents.py`) need torch.
_Place = tuple[int, int, int]
_Entry = tuple[str, str, tuple[int, ...], tuple[int, ...], int, int]


def prepare_onnx() -> None:
    """Import onnx and have it build, once for all children, its table of operators."""
    import onnx  # noqa: PLC0415

    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "prepare",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)


def prepare_torch() -> None:
    """Import torch and all that its loader imports when it is first used."""
    import torch  # noqa: PLC0415

    for zipped in (True, False):
        saved = io.BytesIO()
        torch.save({"w": torch.zeros(1)}, saved, _use_new_zipfile_serialization=zipped)
        saved.seek(0)
        torch.load(saved, weights_only=True, map_location="cpu")


def scan(question: bytes, descriptors: Sequence[int]) -> bytes:
    """The report on a copy; the question is what to call it, a path beside which a format's further files lie."""
    content = FileContent(descriptors[0])
    return msgspec.msgpack.encode(scan_content(content, path=Path(os.fsdecode(question))))


def read_safetensors(_question: bytes, descriptors: Sequence[int]) -> bytes:
    """The table of a safetensors file, from its header alone.

    Raises:
        RefusedModelError: The header is none, or a data type is none that torch has.
    """
    content = FileContent(descriptors[0])
    length = int.from_bytes(content.read(0, 8), "little")
    header = msgspec.json.decode(content.read(8, length))
    header.pop("__metadata__", None)
    places: list[_Place] = []
    entries: list[_Entry] = []
    for name, entry in header.items():
        if entry["dtype"] not in SAFETENSORS_TYPES:
            raise RefusedModelError(f"tensor {name[:80]!r} has the data type {entry['dtype']}, which torch has not")
        dtype, _ = SAFETENSORS_TYPES[entry["dtype"]]
        start, stop = entry["data_offsets"]
        shape = tuple(entry["shape"])
        entries.append((name, dtype, shape, _contiguous(shape), len(places), 0))
        places.append((0, 8 + length + start, stop - start))
    return _told((places, entries))


def _told(contents: tuple[list[_Place], list[_Entry]] | str) -> bytes:
    """As `contents.Told` reads it."""
    return msgspec.msgpack.encode((contents,))


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(max(size, 1) for size in shape[axis + 1 :]) for axis in range(len(shape)))


def check_onnx(_question: bytes, descriptors: Sequence[int]) -> bytes:
    """Parse a model and have ONNX check it, shapes included; weights that lie in other files are taken for inputs.

    Raises:
        RefusedModelError: It is none, or contradicts itself.
    """
    import onnx  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415

    content = FileContent(descriptors[0])
    try:
        proto = onnx.ModelProto.FromString(content.read(0, content.size))
        _make_inputs_of_external_weights(proto, onnx)
        onnx.checker.check_model(proto, full_check=True)
    except DecodeError as error:  # its text is about protocol buffers, and says no more
        raise RefusedModelError("not an ONNX model, or one that is damaged or cut short") from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        _raise_if_memory(error)
        raise RefusedModelError(f"not a valid ONNX model: {' '.join(str(error).split())[:_SHOWN]}") from error
    return b""


def _make_inputs_of_external_weights(proto: onnx.ModelProto, package: Any) -> None:
    """The check would look for their files, which are not here and not its business."""
    outside = [tensor for tensor in proto.graph.initializer if tensor.data_location == package.TensorProto.EXTERNAL]
    names = {tensor.name for tensor in outside}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in names]
    if not outside:
        return
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    declared = {value.name for value in proto.graph.input}
    proto.graph.input.extend(
        package.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in outside
        if tensor.name not in declared
    )


def read_torch(_question: bytes, descriptors: Sequence[int]) -> bytes:
    """The table of a state dict that `torch.save` wrote, in the zip format or the older stream.

    Descriptors: the copy, and an empty file for what cannot be used where it lies (tensors of the stream format,
    members of a zip archive that are compressed).

    Returns:
        The table, or one text where the file is in order and holds no state dict.

    Raises:
        RefusedModelError: Torch does not accept it.
    """
    import torch  # noqa: PLC0415

    copy, output = descriptors
    path = f"/proc/self/fd/{copy}"
    try:
        content = torch.load(path, weights_only=True, mmap=_can_be_mapped(path), map_location="cpu")
    except Exception as error:  # what rebuilding a tensor from odd arguments raises has no common base
        _raise_if_memory(error)
        # Torch wraps its reason into the advice to load without the restriction.
        reason = str(error.__context__ if isinstance(error, pickle.UnpicklingError) and error.__context__ else error)
        first_line = reason.partition("\n")[0][:_SHOWN]
        raise RefusedModelError(f"refused by torch.load(weights_only=True): {first_line}") from error
    state = _state_dict(content)
    if state is None:
        missing = f"holds no state dict{_held(content)}; save it with torch.save(model.state_dict(), PATH)"
        return _told(missing)
    return _told(_table(state, _mappings(copy), output, torch))


def _raise_if_memory(error: Exception) -> None:
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        raise LimitError("out of memory") from error


def _can_be_mapped(path: str) -> bool:
    """Whether all members of a zip archive lie in it as they are; torch would map compressed ones as if they did."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _state_dict(content: object) -> dict[str, torch.Tensor] | None:
    inner = [dict.get(content, name) for name in _WRAPPERS] if isinstance(content, dict) else []
    for candidate in (content, *inner):
        if _is_state_dict(candidate):
            return dict(dict.items(candidate))
    return None


def _is_state_dict(content: object) -> TypeGuard[dict[str, torch.Tensor]]:
    import torch  # noqa: PLC0415

    # A pickle can give an ordered dictionary attributes that hide its methods, so those of the class are asked.
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in dict.items(content))
    )


def _held(content: object) -> str:
    """What is there instead, so that somebody who nested it knows where it went."""
    if not isinstance(content, dict):
        return f" but a {type(content).__name__}"
    names = [repr(name[:40]) for name in dict.keys(content) if isinstance(name, str)][:5]
    looked = ", ".join(repr(name) for name in _WRAPPERS)
    return f" itself or under {looked}, but {', '.join(names)}" if names else ""


def _table(
    state: dict[str, torch.Tensor], mappings: Sequence[tuple[int, int, int]], output: int, torch: Any
) -> tuple[list[_Place], list[_Entry]]:
    places: list[_Place] = []
    known: dict[tuple[int, int], int] = {}
    entries: list[_Entry] = []
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise RefusedModelError(f"{name[:80]!r} is not a plain dense tensor")
        storage = tensor.untyped_storage()
        key = (storage.data_ptr(), storage.nbytes())
        if key not in known:
            known[key] = len(places)
            places.append(_place(storage, mappings, output, torch))
        dtype = str(tensor.dtype).removeprefix("torch.")
        entries.append((name, dtype, tuple(tensor.shape), tensor.stride(), known[key], int(tensor.storage_offset())))
    return places, entries


def _place(storage: Any, mappings: Sequence[tuple[int, int, int]], output: int, torch: Any) -> _Place:
    """Where a storage lies in the copy; what lies elsewhere is written to the output."""
    address, size = storage.data_ptr(), storage.nbytes()
    if not size:
        return 0, 0, 0
    for start, end, offset in mappings:
        if start <= address and address + size <= end:
            return 0, address - start + offset, size
    at = -(-os.fstat(output).st_size // _ALIGNMENT) * _ALIGNMENT
    os.ftruncate(output, at + size)  # said before it is written: the limit on its size has the last word
    view = memoryview(torch.empty(0, dtype=torch.uint8).set_(storage, 0, (size,), (1,)).numpy())
    written = 0
    while written < size:
        written += os.pwrite(output, view[written:], at + written)
    return 1, at, size


def _mappings(descriptor: int) -> list[tuple[int, int, int]]:
    """Where this process has mapped a file: start, end, and offset in the file. Source: proc_pid_maps(5)."""
    status = os.fstat(descriptor)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", str(status.st_ino)
    found = []
    try:
        lines = Path("/proc/self/maps").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # then everything is written to the output
        return []
    for line in lines:
        addresses, _, offset, device, inode, *_ = line.split(maxsplit=5)
        if (device, inode) == wanted:
            start, _, end = addresses.partition("-")
            found.append((int(start, 16), int(end, 16), int(offset, 16)))
    return found
