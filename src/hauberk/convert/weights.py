"""Tensors alone: any admitted file of tensors becomes safetensors, compared bit for bit with what torch read.

This is also the way out for files that nothing else here takes (checkpoints in the format of torch before 1.6,
checkpoints with an optimiser in them): what the scan calls safe is data, and data can be written again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hauberk.convert.admission import Admitted
from hauberk.convert.findings import Comparison, Difference, FamilyFigures
from hauberk.errors import InputError, RefusedModelError, one_line

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DEEPEST = 16
_SHOWN = 5
BITS = "every tensor bit for bit, of the same dtype and shape"


def read_tensors(admitted: Admitted) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of an admitted file by name, and what was left behind.

    Of a checkpoint the state dict is taken (`state_dict`, `model_state_dict` or `model`); without one, all tensors that
    it holds at any depth, their names joined by dots.

    Raises:
        RefusedModelError: torch or safetensors refuse the file.
        InputError: It is of a kind without tensors, or holds none.
    """
    copy = admitted.copy
    if copy is None or admitted.kind not in ("safetensors", "pytorch"):
        raise InputError(f"{admitted.path}: {admitted.kind} holds more than tensors; convert it to .onnx")
    if admitted.kind == "safetensors":
        try:
            return dict(load(admitted.content())), ()
        except SafetensorError as error:
            raise RefusedModelError(f"{admitted.path}: damaged safetensors file: {error}") from error
    try:
        content = torch.load(copy.path, weights_only=True, map_location="cpu")
    except Exception as error:  # what rebuilding a tensor from odd arguments raises has no common base
        why = one_line(error.__context__ or error)
        raise RefusedModelError(f"{admitted.path}: refused by torch.load(weights_only=True): {why}") from error
    return _chosen(content, str(admitted.path))


def _chosen(content: object, where: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    whole: dict[str, Tensor] = {}
    left: list[str] = []
    inner = [dict.get(content, name) for name in _WRAPPERS] if isinstance(content, dict) else []
    for candidate in (content, *inner):
        if isinstance(candidate, dict) and candidate and _only_tensors(candidate):
            whole = dict(dict.items(candidate))
            if candidate is not content and isinstance(content, dict):
                left = [str(name) for name, value in dict.items(content) if value is not candidate]
            break
    else:
        _collect(content, "", whole, left, 0)
    if not whole:
        raise InputError(f"{where}: holds no tensors")
    shown = ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")
    notes = (f"left behind, because safetensors holds the model's tensors alone: {shown}",) if left else ()
    return whole, notes


def _only_tensors(value: dict[Any, Any]) -> bool:
    # A pickle can give an ordered dictionary attributes that hide its methods, so those of the class are asked.
    return all(isinstance(name, str) and isinstance(each, Tensor) for name, each in dict.items(value))


def _collect(value: object, name: str, found: dict[str, Tensor], left: list[str], depth: int) -> None:
    """Every tensor at any depth; what is none is noted by its name."""
    if isinstance(value, Tensor):
        found[name or "tensor"] = value
    elif depth < _DEEPEST and isinstance(value, dict):
        for key, each in dict.items(value):
            _collect(each, f"{name}.{key}" if name else str(key), found, left, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _collect(each, f"{name}.{index}" if name else str(index), found, left, depth + 1)
    else:
        left.append(name or type(value).__name__)


def written(tensors: Mapping[str, Tensor], where: str) -> tuple[bytes, Comparison]:
    """The file, and its comparison with what it was made of after reading it back.

    Tensors that share memory are written once each, as safetensors knows no sharing.

    Raises:
        InputError: A tensor is sparse, quantised or of a dtype that safetensors lacks.
    """
    plain = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise InputError(f"{where}: {name[:80]!r} is not a plain dense tensor, which is all that safetensors holds")
        plain[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    try:
        data = save(plain)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{where}: safetensors cannot hold it: {one_line(error)}") from error
    return data, _compared(tensors, load(data))


def _compared(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Comparison:
    unlike = [name for name in before if name not in after or not _same(before[name], after[name])]
    unlike += [name for name in after if name not in before]
    figures = FamilyFigures("tensors", len(before), 0, 0.0, len(unlike), None, judged=True)
    return Comparison(
        framework=f"torch {torch.__version__.partition('+')[0]}",
        contract=BITS,
        families=(figures,),
        largest=0.0,
        labels=None,
        holds=not unlike,
        differing=tuple(Difference(name[:80], (), (), {}) for name in unlike[:_SHOWN]),
    )


def _same(before: Tensor, after: Tensor) -> bool:
    if before.dtype != after.dtype or before.shape != after.shape:
        return False
    if not before.numel():
        return True
    flat = [each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (before, after)]
    return torch.equal(*flat)
