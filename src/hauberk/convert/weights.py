"""Tensors alone: any admitted file of tensors becomes safetensors, compared bit for bit with what torch read.

This is also the way out for files that nothing else here takes (checkpoints in the format of torch before 1.6,
checkpoints with an optimiser in them): what the scan calls safe is data, and data can be written again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hauberk.convert.admission import Admitted, admit_graph
from hauberk.convert.findings import Comparison, Difference, FamilyFigures
from hauberk.convert.isolated import Isolated
from hauberk.convert.messages import Setup
from hauberk.errors import InputError, RefusedModelError, one_line
from hauberk.ingest.weights import read_checkpoint, read_safetensors

_SHOWN = 5
BITS = "every tensor bit for bit, of the same dtype and shape"


def read_tensors(admitted: Admitted) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of an admitted file by name, and what was left behind; read in a process of its own.

    Of a checkpoint the state dict is taken (`state_dict`, `model_state_dict` or `model`); without one, all tensors that
    it holds at any depth, their names joined by dots.

    Raises:
        RefusedModelError: torch or safetensors refuse the file.
        InputError: It is of a kind without tensors, or holds none.
    """
    copy, where = admitted.copy, str(admitted.path)
    if copy is None or admitted.kind not in ("safetensors", "pytorch"):
        raise InputError(f"{where}: {admitted.kind} holds more than tensors; convert it to .onnx")
    if admitted.kind == "safetensors":
        return read_safetensors(copy), ()
    try:
        return read_checkpoint(copy), ()
    except RefusedModelError:
        raise
    except InputError:  # no state dict in it: every tensor that there is
        with Isolated(Setup("checkpoint", admitted.content()), where) as isolated:
            answer = isolated.convert()
        admit_graph(answer.model, where)
        return dict(load(answer.model)), answer.notes


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
