"""A torch module becomes a core graph: `features` float32 [batch, *shape] in, `logits` float32 [batch, K] out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.errors import InputError, one_line
from hauberk.graph.model import BATCH, OPSET, SIZE_LIMIT, record_shape, signature_of
from hauberk.graph.normalise import as_core, normalise

__all__ = ["export", "normalise"]

_TALKATIVE = ("torch.onnx", "torch.export", "torch._dynamo", "torch.fx", "onnxscript", "onnx_ir")


def export(artifact: TorchArtifact) -> OnnxArtifact:
    """Turn a torch module into a core graph, weights inline, batch dimension free, opset and IR version pinned.

    Args:
        artifact: A module in evaluation mode with one float32 input [N, *shape] and one output [N, K] or, for a single
            logit, [N].

    Returns:
        The core graph, checked, with the origin and the history of `artifact`.

    Raises:
        InputError: The module is in training mode, does not take float32 [N, *shape], has more weights than fit
            inline, or does something that the exporter cannot express.
    """
    module = artifact.module
    what = type(module).__name__
    if any(part.training for part in module.modules()):
        raise InputError(f"{what}: the module is in training mode; call .eval() on it before it is exported")
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size >= SIZE_LIMIT:
        raise InputError(f"{what}: {size / 1e9:.1f} GB of weights; above 2 GB export is not supported yet")
    example = torch.zeros(2, *record_shape(artifact.signature, what))
    _try(module, example, what)
    proto = _exported(module, example, what)
    core = OnnxArtifact(proto.SerializeToString(), signature_of(proto), artifact.origin, artifact.history)
    try:
        return as_core(core)
    except InputError as error:
        raise InputError(f"{what}: the exported graph is no detector's core: {error}") from error


def _try(module: nn.Module, example: torch.Tensor, what: str) -> None:
    """Run the module once, so that its own mistakes are not reported as the exporter's."""
    try:
        with torch.no_grad():
            output = module(example)
    except Exception as error:  # the module is the user's and may raise anything
        raise InputError(f"{what}: fails on float32 {list(example.shape)}: {one_line(error)}") from error
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{what}: returns {type(output).__name__}; expected one tensor of logits [N, K]")


def _exported(module: nn.Module, example: torch.Tensor, what: str) -> onnx.ModelProto:
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},),
                input_names=["features"],
                output_names=["logits"],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise InputError(f"{what}: torch cannot export it: {_innermost(error)}") from error
    if program is None:  # only with a file name, says torch's documentation; its type says otherwise
        raise InputError(f"{what}: torch exported nothing")
    return program.model_proto


def _innermost(error: BaseException) -> str:
    """What really happened, without the advice that the exporter wraps around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and log lines off the user's terminal; its errors are raised, not logged."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
