"""Half precision: weights kept as float16 or bfloat16, computed with as float32.

The file halves. Weights are widened by a Cast that ONNX Runtime folds away when it loads the graph, so the running
model is the float32 model with rounded weights: same kernels, same speed, no activation that could overflow. Computing
in float16 throughout gains nothing on processors without such kernels: ONNX Runtime then widens every operand by
itself and loses its fusions (docs/reference/quantization.md has the figures).

bfloat16 keeps float32's range in 8 significant bits. ONNX Runtime has no processor kernels that compute in it; OpenVINO
does, and rounds weights and activations to it by itself where the processor can, so that the stored form loses nothing
more there.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.errors import ContractError, InputError
from hauberk.recipe import Context, Contract, Lossy, Step

_SMALLEST_TENSOR = 64  # below this many values a Cast node takes more bytes than half precision saves


class HalfPrecision(Step, frozen=True, kw_only=True, tag="half-precision"):
    """Keep weights as float16 (IEEE 754 binary16, 11 significant bits)."""

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.995, rms=0.01)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 99.5 % of real records, logits within 1 % of their root mean square."""
        return self.CONTRACT

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - needs no records
        """Return the graph with its large float32 constants in float16.

        Raises:
            InputError: Not a core, quantized, or without float32 constants of a size that is worth it.
            ContractError: A constant exceeds the range of float16 (65504); the message names it.
        """
        return _stored(artifact, self.name, np.dtype(np.float16), "keep this model in float32")


class BrainPrecision(Step, frozen=True, kw_only=True, tag="brain-precision"):
    """Keep weights as bfloat16 (8 significant bits, float32's range).

    OpenVINO computes in bfloat16 where the processor has instructions for it (its precision hint "bf16", or none); ONNX
    Runtime widens the weights when it loads the graph and computes in float32, so there only the file gets smaller.
    """

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.99, rms=0.03)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 99 % of real records, logits within 3 % of their root mean square."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:  # noqa: ARG002 - it holds for every graph
        """Which back end computes in it."""
        return ("only OpenVINO computes in bfloat16; ONNX Runtime widens these weights and computes in float32",)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - needs no records
        """Return the graph with its large float32 constants in bfloat16.

        Raises:
            InputError: Not a core, quantized, or without float32 constants of a size that is worth it.
            ContractError: A constant rounds beyond the range of bfloat16 or is no number; the message names it.
        """
        advice = "keep this model in float32 (only OpenVINO would compute in bfloat16)"
        return _stored(artifact, self.name, np.dtype(ml_dtypes.bfloat16), advice)


def _stored(artifact: Artifact, step: str, form: np.dtype[Any], advice: str) -> OnnxArtifact:
    """The graph with its large constants stored in another form of floats, each behind a Cast to float32.

    Raises:
        InputError: Not a core, quantized, or nothing is large enough.
        ContractError: A constant does not fit the form; the message ends in the advice.
    """
    core = read_core(artifact, step)
    core.require_float()
    graph = core.model.graph
    casts = [_store(tensor, step, form, advice) for tensor in graph.initializer if _worth_halving(tensor)]
    if not casts:
        raise InputError(
            f"{step}: nothing to store in half precision, the graph has no float32 constant of"
            f" {_SMALLEST_TENSOR} values or more"
        )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return core.finished(core.model)


def _worth_halving(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= _SMALLEST_TENSOR


def _store(tensor: onnx.TensorProto, step: str, form: np.dtype[Any], advice: str) -> onnx.NodeProto:
    """Round an initializer to nearest even, under another name, in place; return the Cast that gives the name back."""
    name, values = tensor.name, numpy_helper.to_array(tensor)
    held = float(np.abs(values).max())
    end = float(ml_dtypes.finfo(form).max)  # type: ignore[no-untyped-call]
    if not held <= end:  # NaN compares False
        raise ContractError(f"{step}: {name!r} holds {held:.4g}, {form.name} ends at {end:.5g}; {advice}")
    tensor.CopyFrom(numpy_helper.from_array(values.astype(form), f"{name}/half"))
    return helper.make_node("Cast", [f"{name}/half"], [name], name=f"{name}/widen", to=onnx.TensorProto.FLOAT)
