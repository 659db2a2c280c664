"""A torch module becomes a core graph: `features` float32 [batch, *shape] in, `logits` float32 [batch, K] out."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.errors import InputError, one_line
from hauberk.graph.model import BATCH, IR_VERSION, OPSET, SIZE_LIMIT, record_shape, signature_of
from hauberk.graph.normalise import as_core, normalise

__all__ = ["export", "normalise"]

_TALKATIVE = ("torch.onnx", "torch.export", "torch._dynamo", "torch.fx", "onnxscript", "onnx_ir")


def _unheard(remark: str) -> None:
    """Where nobody asks how a module was exported."""


def export(artifact: TorchArtifact, *, remark: Callable[[str], None] = _unheard) -> OnnxArtifact:
    """Turn a torch module into a core graph, weights inline, batch dimension free, opset and IR version pinned.

    A module with shapes that depend on its data may be more than torch's exporter can capture. It is then traced by the
    older one, which records a single run. Where that run's branches or sizes would stand in the graph for all others,
    tracing says so, and the module is refused; comparing graph and module shows the rest.

    Args:
        artifact: A module in evaluation mode with one float32 input [N, *shape] and one output [N, K] or, for a single
            logit, [N].
        remark: Takes a sentence where the older exporter was used.

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
    proto = _exported(module, example, what, remark)
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


def _exported(module: nn.Module, example: torch.Tensor, what: str, remark: Callable[[str], None]) -> onnx.ModelProto:
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
            reason = _innermost(error)
            proto = traced(module, example, f"{what}: torch cannot export it: {reason}")
            remark(f"{what}: torch's exporter does not take it ({reason}); the older one traced a single run of it")
            return proto
    if program is None:  # only with a file name, says torch's documentation; its type says otherwise
        raise InputError(f"{what}: torch exported nothing")
    return program.model_proto


def traced(module: nn.Module, example: torch.Tensor, refusal: str) -> onnx.ModelProto:
    """What torch's older exporter makes of one run of a module, batch dimension free.

    Args:
        module: In evaluation mode; a TorchScript module is exported as the program that it is.
        example: What to run it on.
        refusal: What to say where this exporter fails, too.

    Raises:
        InputError: It does.
    """
    written = io.BytesIO()
    try:
        with _quiet(), torch.no_grad(), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            torch.onnx.export(
                module,
                (example,),
                written,  # type: ignore[arg-type]  # the types speak of the newer exporter
                dynamo=False,
                opset_version=OPSET,
                input_names=["features"],
                output_names=["logits"],
                dynamic_axes={"features": {0: BATCH}, "logits": {0: BATCH}},
            )
        proto: onnx.ModelProto = onnx.load_model_from_string(written.getvalue())
        proto.ir_version = IR_VERSION
    except Exception as error:  # what this exporter raises has no common base
        raise InputError(f"{refusal}; the older exporter: {one_line(error)}") from error
    # A branch that one run took, or a size that it had, would stand in the graph for all runs.
    frozen = [each for each in told if issubclass(each.category, torch.jit.TracerWarning)]  # type: ignore[attr-defined]
    if frozen:
        raise InputError(f"{refusal}; the older exporter: {str(frozen[0].message).partition('.')[0]}")
    return proto


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
