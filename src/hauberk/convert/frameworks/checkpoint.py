"""Any file that `torch.save` wrote: every tensor that it holds, at any depth, by its path."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from hauberk.convert.inside import Feeds
from hauberk.convert.messages import Setup
from hauberk.errors import InputError
from hauberk.ingest.contents import most_written_out, repeats

_DEEPEST = 16
_SHOWN = 5


class Checkpoint:
    """The tensors of a file, and the names of what is none."""

    notes: tuple[str, ...] = ()

    def __init__(self, model: bytes) -> None:
        self.version = f"torch {torch.__version__.partition('+')[0]}"
        self._found: dict[str, Tensor] = {}
        self._left: list[str] = []
        self._collect(torch.load(io.BytesIO(model), weights_only=True, map_location="cpu"), "", 0)
        if not self._found:
            raise InputError("holds no tensors")
        size = sum(tensor.numel() * tensor.element_size() for tensor in self._found.values())
        if fault := repeats(size, most_written_out(len(model))):
            raise InputError(fault)

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """The tensors as safetensors; what shares memory is written once each."""
        plain = {}
        for name, tensor in self._found.items():
            if tensor.layout != torch.strided or tensor.is_quantized:
                raise InputError(f"{name[:80]!r} is not a plain dense tensor, which is all that safetensors holds")
            plain[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        more = len(self._left) - _SHOWN
        shown = ", ".join(self._left[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        notes = (f"left behind, because safetensors holds tensors alone: {shown}",) if self._left else ()
        return save(plain), notes

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:  # noqa: ARG002 - a file of tensors answers nothing
        """Nothing: tensors take no inputs."""
        raise InputError("a file of tensors answers nothing")

    def _collect(self, value: object, name: str, depth: int) -> None:
        # A pickle can give a dictionary attributes that hide its methods, so those of the class are asked.
        if isinstance(value, Tensor):
            self._found[name or "tensor"] = value
        elif depth < _DEEPEST and isinstance(value, dict):
            for key, each in dict.items(value):
                self._collect(each, f"{name}.{key}" if name else str(key), depth + 1)
        elif depth < _DEEPEST and isinstance(value, list | tuple):
            for index, each in enumerate(value):
                self._collect(each, f"{name}.{index}" if name else str(index), depth + 1)
        else:
            self._left.append(name or type(value).__name__)


def load(setup: Setup) -> Checkpoint:
    """Read an admitted file."""
    return Checkpoint(setup.model)
