"""Weights from a scanned file, and into a module."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest.contents import Memory, Told, tensors
from hauberk.ingest.isolated import SCANNER, TORCH, ask, decoded, printable
from hauberk.ingest.private import PrivateCopy, anonymous, closed_to_writing
from hauberk.sandbox.limits import GIBIBYTE

_SHOWN = 3


def read_safetensors(copy: PrivateCopy) -> dict[str, Tensor]:
    """The tensors of a safetensors file, where they lie in the copy.

    Raises:
        RefusedModelError: It has a data type that torch has not, or its reader was stopped.
    """
    answer = ask("read_safetensors", b"", copy, memory=GIBIBYTE, imports=SCANNER, readable=())
    return _tensors(answer, copy, None)


def read_checkpoint(copy: PrivateCopy) -> dict[str, Tensor]:
    """The state dict of a file that `torch.save` wrote, where its tensors lie in the copy.

    A dictionary that holds the state dict under `state_dict`, `model_state_dict` or `model`, as training scripts save
    it, is accepted too. Tensors that cannot be used as they lie there (those of the stream format, which torch wrote
    before version 1.6, and of compressed archives) come in a second memory of their own.

    Raises:
        RefusedModelError: Torch does not accept it, or its reader was stopped.
        InputError: There is no state dict in it.
    """
    output = anonymous(in_memory=copy.sealed)
    try:
        answer = ask(
            "read_torch",
            b"",
            copy,
            memory=GIBIBYTE + 2 * copy.size,
            output=output,
            most_output=GIBIBYTE + copy.size,
            imports=TORCH,
        )
        try:
            output = closed_to_writing(output, sealed=copy.sealed)
        except OSError as error:
            raise RefusedModelError(f"{copy.source}: refused: its reader did not leave its output to us") from error
        return _tensors(answer, copy, output)
    finally:
        os.close(output)


def _tensors(answer: bytes, copy: PrivateCopy, output: int | None) -> dict[str, Tensor]:
    memories = [Memory(copy.descriptor, copy.size)]
    if output is not None:
        memories.append(Memory(output, os.fstat(output).st_size))
    told = decoded(answer, Told, copy)
    if isinstance(told.contents, str):
        raise InputError(f"{copy.source}: {printable(told.contents)}")
    return tensors(told.contents, memories, str(copy.source))


def fit(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a module of the same names and shapes, and the module into evaluation mode.

    Shapes are compared before anything is read: a tensor in a file can claim to be larger than the file.

    Args:
        module: On the CPU, where the weights are copied into it, or on the meta device, where they become its own as
            they are: nothing is copied that need not be converted.
        state: Tensors by name; floating-point ones are converted to the module's dtype.
        where: How error messages call the file.

    Raises:
        InputError: Names or shapes differ; the message shows the first that are missing, too much and of another
            shape, and how many there are.
        RefusedModelError: A tensor is sparse, quantised, of another kind of number, or holds NaN or infinity.
    """
    expected = module.state_dict()
    state = {**_counters(module, state), **state}
    if any(differences := _differences(expected, state)):
        shown = [phrase for phrases in differences for phrase in phrases[:_SHOWN]]
        count = sum(map(len, differences))
        more = f" and {count - len(shown)} more" if count > len(shown) else ""
        raise InputError(
            f"{where}: the weights do not fit the architecture: {'; '.join(shown)}{more}"
            f" ({count} of {len(expected.keys() | state.keys())} differ){_prefixed(expected, state)}"
        )
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise RefusedModelError(f"{where}: refused: {name!r} is not a plain dense tensor")
        if tensor.is_floating_point() != expected[name].is_floating_point() or tensor.is_complex():
            raise RefusedModelError(f"{where}: refused: {name!r} is {tensor.dtype}, not {expected[name].dtype}")
        if not torch.isfinite(tensor).all():
            raise RefusedModelError(f"{where}: refused: {name!r} holds NaN or infinity")
    with torch.no_grad():
        if any(value.is_meta for value in expected.values()):
            _assign(module, expected, state)
        else:
            module.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    module.eval()


def _assign(module: nn.Module, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Give a module without memory these tensors; a parameter that it has under two names stays one."""
    own = {name: tensor.detach().to(expected[name].dtype).contiguous() for name, tensor in state.items()}
    first: dict[int, str] = {}
    names = [(name, id(parameter)) for name, parameter in module.named_parameters(remove_duplicate=False)]
    tied = {name: first[key] for name, key in names if first.setdefault(key, name) != name}
    module.load_state_dict(own, assign=True)
    for name, other in tied.items():
        owner, _, leaf = name.rpartition(".")
        module.get_submodule(owner).register_parameter(leaf, module.get_parameter(other))
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_meta:
            raise InputError(f"{name!r} of the architecture is in no state dict, so nothing says what it holds")


def _counters(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batches that batch normalisation has seen, where a file has its statistics but no count.

    Files from before torch 0.4.1 lack it, torchvision's checkpoints among them; as torch does, it starts from 0. It
    means nothing to a trained model.
    """
    normalising = (name for name, layer in module.named_modules() if hasattr(layer, "num_batches_tracked"))
    prefixes = (f"{name}." if name else "" for name in normalising)
    return {f"{prefix}num_batches_tracked": torch.tensor(0) for prefix in prefixes if f"{prefix}running_mean" in state}


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[list[str], ...]:
    """One phrase for each name that is missing, for each that is too much and for each of another shape."""
    missing = [f"{name!r} is missing" for name in expected if name not in found]
    foreign = [f"{name[:80]!r} is not part of it" for name in found if name not in expected]
    shapes = [
        f"{name!r} is {_shape(found[name])} instead of {_shape(expected[name])}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    return missing, foreign, shapes


def _prefixed(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What to do where names differ by what a wrapper puts before all of them (`module.`, `_orig_mod.`)."""
    first = next(iter(found), "")
    prefix = next((first.removesuffix(name) for name in expected if first != name and first.endswith(f".{name}")), "")
    if not prefix or {name.removeprefix(prefix) for name in found} != set(expected):
        return ""
    return f"; every name begins with {prefix[:80]!r}: save the state dict of the network inside the wrapper"


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape) or "a scalar"
