"""A model at one point of its way: what it computes, where it came from and what was done to it.

Artifacts are immutable. A step takes one and returns another; nothing is changed in place, so a step can always be
undone by keeping its input.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.tensors import Signature

if TYPE_CHECKING:
    import torch


class Predictor(Protocol):
    """Anything that answers a batch: a torch module, a session, an open bundle, a remote server."""

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map features float32 [N, D] to logits float32 [N, K]."""


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What comparing a step's input with its output showed.

    Attributes:
        holds: Whether the contract was kept.
        compared: Number of records compared.
        agreement: Fraction of records with the same decision, in [0, 1]; of a graph whose outputs decide nothing, 1
            where the contract holds and 0 where it does not.
        max_difference: Largest absolute difference of an output.
        worst_input: Which family of inputs showed it ("real", "boundary", "random"), and the record's index there.
        reason: Empty where the contract holds, else one sentence: what broke, on which input, by how much.
        skipped: Number of calls that were not compared because the model before the step fails on them itself.
    """

    holds: bool
    compared: int
    agreement: float
    max_difference: float
    worst_input: str
    reason: str = ""
    skipped: int = 0


class StepRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of an artifact's provenance: what was done, with which parameters, and what verification found.

    Attributes:
        step: Name of the step.
        parameters: The step as JSON-serialisable data, enough to repeat it.
        contract: The contract as data ("exact", {"rtol": …}, …).
        before: SHA-256 of the input artifact, hex.
        after: SHA-256 of the output artifact, hex; equal to `before` where the step was undone.
        kept: False where the step broke its contract and was undone.
        verdict: What verification found; `None` for steps that had nothing to compare with (admission).
        seconds: Wall-clock time that the step took, without its verification.
        notes: What a reader should know besides, one sentence each: what the step left as it was, warnings.
    """

    step: str
    parameters: dict[str, object]
    contract: object
    before: str
    after: str
    kept: bool
    verdict: Verdict | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TorchArtifact:
    """A trainable module.

    Attributes:
        module: In evaluation mode; takes the tensors of `signature.inputs` and returns logits [N, K].
        signature: Inputs and outputs.
        origin: SHA-256 (hex) of the file that the weights came from.
        history: Provenance so far.
    """

    module: torch.nn.Module
    signature: Signature
    origin: str
    history: tuple[StepRecord, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over names, dtypes, shapes and bytes of the state dict, in sorted order."""
        state = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            array = tensor.detach().cpu().contiguous().numpy()
            state.update(f"{name}:{array.dtype}:{array.shape}\n".encode())
            state.update(array.tobytes())
        return state.hexdigest()

    def with_record(self, record: StepRecord) -> TorchArtifact:
        """The same artifact with one more entry of provenance."""
        return replace(self, history=(*self.history, record))


@dataclass(frozen=True)
class OnnxArtifact:
    """A graph.

    Attributes:
        model: The serialised `onnx.ModelProto`, weights inline.
        signature: Inputs and outputs of the graph.
        origin: SHA-256 (hex) of the file that the model came from.
        history: Provenance so far.
    """

    model: bytes
    signature: Signature
    origin: str
    history: tuple[StepRecord, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the serialised graph."""
        return hashlib.sha256(self.model).hexdigest()

    def with_record(self, record: StepRecord) -> OnnxArtifact:
        """The same artifact with one more entry of provenance."""
        return replace(self, history=(*self.history, record))


Artifact = TorchArtifact | OnnxArtifact
