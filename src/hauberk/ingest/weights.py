"""Weights from a scanned file, and into a module."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest.private import PrivateCopy

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHOWN = 3
_SHOWN_CHARACTERS = 300


def read_safetensors(copy: PrivateCopy) -> dict[str, Tensor]:
    """The tensors of a safetensors file that `scan_safetensors` accepted.

    Raises:
        RefusedModelError: The library does not accept it.
    """
    try:
        with safe_open(copy.path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise RefusedModelError(f"{copy.source}: damaged safetensors file: {error}") from error


def read_checkpoint(copy: PrivateCopy) -> dict[str, Tensor]:
    """The state dict of a PyTorch archive that `scan_archive` accepted.

    A dictionary that holds the state dict under `state_dict`, `model_state_dict` or `model`, as training scripts save
    it, is accepted too.

    Raises:
        RefusedModelError: Torch does not accept it.
        InputError: There is no state dict in it.
    """
    try:
        content = torch.load(copy.path, weights_only=True, mmap=True, map_location="cpu")
    except Exception as error:  # what rebuilding a tensor from odd arguments raises has no common base
        # Torch wraps its reason into the advice to load without the restriction.
        reason = str(error.__context__ if isinstance(error, pickle.UnpicklingError) and error.__context__ else error)
        first_line = reason.partition("\n")[0][:_SHOWN_CHARACTERS]
        raise RefusedModelError(f"{copy.source}: refused by torch.load(weights_only=True): {first_line}") from error
    inner = [dict.get(content, name) for name in _WRAPPERS] if isinstance(content, dict) else []
    for candidate in (content, *inner):
        if _is_state_dict(candidate):
            return dict(dict.items(candidate))
    raise InputError(f"{copy.source}: holds no state dict; save it with torch.save(model.state_dict(), PATH)")


def _is_state_dict(content: object) -> TypeGuard[dict[str, Tensor]]:
    # A pickle can give an ordered dictionary attributes that hide its methods, so those of the class are asked.
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in dict.items(content))
    )


def fit(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy weights into a module of the same names and shapes and put it into evaluation mode.

    Shapes are compared before anything is copied: a tensor in a file can claim to be larger than the file.

    Args:
        module: On the CPU or on the meta device.
        state: Tensors by name; floating-point ones are converted to the module's dtype.
        where: How error messages call the file.

    Raises:
        InputError: Names or shapes differ; the message shows the first of them and how many there are.
        RefusedModelError: A tensor is sparse, quantised, of another kind of number, or holds NaN or infinity.
    """
    expected = module.state_dict()
    state = {**_counters(module, state), **state}
    if differences := _differences(expected, state):
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise InputError(
            f"{where}: the weights do not fit the architecture: {'; '.join(differences[:_SHOWN])}{more}"
            f" ({len(differences)} of {len(expected.keys() | state.keys())} differ)"
        )
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise RefusedModelError(f"{where}: refused: {name!r} is not a plain dense tensor")
        if tensor.is_floating_point() != expected[name].is_floating_point() or tensor.is_complex():
            raise RefusedModelError(f"{where}: refused: {name!r} is {tensor.dtype}, not {expected[name].dtype}")
        if not torch.isfinite(tensor).all():
            raise RefusedModelError(f"{where}: refused: {name!r} holds NaN or infinity")
    if any(value.is_meta for value in expected.values()):
        module.to_empty(device="cpu")
    with torch.no_grad():
        module.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    module.eval()


def _counters(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batches that batch normalisation has seen, where a file has its statistics but no count.

    Files from before torch 0.4.1 lack it, torchvision's checkpoints among them; as torch does, it starts from 0. It
    means nothing to a trained model.
    """
    normalising = (name for name, layer in module.named_modules() if hasattr(layer, "num_batches_tracked"))
    prefixes = (f"{name}." if name else "" for name in normalising)
    return {f"{prefix}num_batches_tracked": torch.tensor(0) for prefix in prefixes if f"{prefix}running_mean" in state}


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """One phrase for each name that is missing, too much or of another shape, in that order."""
    missing = [f"{name!r} is missing" for name in expected if name not in found]
    foreign = [f"{name[:80]!r} is not part of it" for name in found if name not in expected]
    shapes = [
        f"{name!r} is {_shape(found[name])} instead of {_shape(expected[name])}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    return missing + foreign + shapes


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape) or "a scalar"
