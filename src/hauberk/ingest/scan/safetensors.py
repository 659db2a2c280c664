"""The header of a safetensors file: bounded, and every tensor within the file.

Format: eight bytes with the length of the header (little endian), the header as JSON, the bytes of all tensors.
Specification: https://huggingface.co/docs/safetensors (metadata parsing). The library checks again when it loads.
"""

from __future__ import annotations

import math

import msgspec

from hauberk.errors import RefusedModelError
from hauberk.ingest.private import PrivateCopy

_MAX_HEADER = 16 << 20
_MAX_DIMENSIONS = 64  # as torch; the product of a million sizes would take an hour

_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def scan_safetensors(copy: PrivateCopy) -> None:
    """Accept a safetensors file whose tensors fill the space behind its header, each exactly as long as its shape.

    Raises:
        RefusedModelError: The header is damaged or too large, or a tensor does not fit; the message names the tensor.
    """
    where = str(copy.source)
    length = int.from_bytes(copy.read(0, 8), "little")
    if length > min(_MAX_HEADER, copy.size - 8):
        raise RefusedModelError(f"{where}: damaged: a safetensors header of {length} bytes in a file of {copy.size}")
    try:
        header = msgspec.json.decode(copy.read(8, length), type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(raw, type=_Entry) for name, raw in header.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedModelError(f"{where}: damaged: not a safetensors header: {error}") from error
    if not entries:
        raise RefusedModelError(f"{where}: refused: it holds no tensor")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda pair: pair[1].data_offsets):
        start, stop = entry.data_offsets
        if entry.dtype not in _BITS:
            raise RefusedModelError(f"{where}: refused: tensor {name[:80]!r} has dtype {entry.dtype[:20]!r}")
        if len(entry.shape) > _MAX_DIMENSIONS:
            raise RefusedModelError(f"{where}: refused: tensor {name[:80]!r} has {len(entry.shape)} dimensions")
        size = math.prod(entry.shape) * _BITS[entry.dtype] // 8
        if start != end or stop - start != size or min(entry.shape, default=1) < 1:
            raise RefusedModelError(f"{where}: damaged: tensor {name[:80]!r} is empty, overlaps, or has a wrong size")
        end = stop
    if end != copy.size - 8 - length:
        raise RefusedModelError(f"{where}: damaged: {copy.size - 8 - length} bytes of tensors, the header has {end}")
