"""Who learns: a named architecture, a smaller network of the graph's own kind, a pruned copy, or the graph itself."""

from __future__ import annotations

from typing import Any

import msgspec
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.compress.core import Core, read_core
from hauberk.compress.distill.ladder import network_of, scaled
from hauberk.compress.prune import PruneStructured
from hauberk.compress.prune.importance import Importance
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.passes.clean_up import CleanUp
from hauberk.graph.twin import Twin
from hauberk.models import fresh
from hauberk.recipe import Context


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="network"):
    """A reference architecture with fresh weights.

    Attributes:
        architecture: A name in `hauberk.models.ARCHITECTURES`.
        parameters: Its parameters besides the sizes of records and logits, which are the graph's.
    """

    architecture: str
    parameters: dict[str, Any] = {}


class Scaled(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="scaled"):
    """The architecture that the graph shows (see `hauberk.compress.distill.ladder`), smaller and with fresh weights.

    Attributes:
        width: Units and channels of each layer as a fraction of the graph's, in (0, 1].
        depth: Layers as a fraction of the graph's, in (0, 1].
    """

    width: float = 0.5
    depth: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"scaled student: {name} is {getattr(self, name)}; above 0 and at most 1 is needed")


class Pruned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pruned"):
    """A copy of the graph without some of its units, the weights of the others kept.

    Attributes:
        amount: Share of channels, heads and hidden units that go, in (0, 1); see `prune-structured`.
        importance: By what they are ranked.
    """

    amount: float = 0.5
    importance: Importance = "l1"

    def __post_init__(self) -> None:
        self.step()

    def step(self) -> PruneStructured:
        """The prune, without any training of its own.

        Raises:
            InputError: The amount is out of its range.
        """
        return PruneStructured(amount=self.amount, importance=self.importance, tuning=None)


class Itself(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="itself"):
    """The graph that the step is given, with its weights: what a prune left, say, taught by `Context.teacher`."""


Student = Network | Scaled | Pruned | Itself

_SIZES = {
    "tabular-mlp": ("inputs", "outputs"),
    "autoencoder": ("inputs",),
    "window-cnn": ("window", "inputs", "outputs"),
    "window-lstm": ("window", "inputs", "outputs"),
    "window-gru": ("window", "inputs", "outputs"),
    "window-transformer": ("window", "inputs", "outputs"),
    "residual-cnn": ("channels", "size", "outputs"),
    "resnet18": ("outputs",),
    "resnet50": ("outputs",),
}
"""Parameters of each architecture that records and logits decide."""


def make(student: Student, core: Core, context: Context) -> nn.Module:
    """The module that learns, in evaluation mode: a torch module, or the twin of the graph itself.

    Args:
        student: Which.
        core: The graph, for the sizes of records and logits.
        context: Its seed decides fresh weights; its records rank units. Torch's random state is as before afterwards.

    Raises:
        InputError: The architecture is unknown, does not take the core's records, or cannot be read from the graph.
    """
    if isinstance(student, Itself):
        return Twin(core.artifact).eval()
    if isinstance(student, Pruned):
        return Twin(student.step().apply(core.artifact, context)).eval()
    if isinstance(student, Scaled):
        name, found = network_of(core)
        student = Network(name, scaled(name, found, student.width, student.depth))
    parameters = student.parameters | _sizes(student.architecture, core)
    try:
        module = fresh(student.architecture, parameters, context.seed).eval()
    except InputError as error:
        raise InputError(f"{core.step}: {error}") from error
    takes = getattr(module, "record_shape", core.shape)
    if tuple(takes) != core.shape:
        raise InputError(
            f"{core.step}: the model takes {list(core.shape)} a record; {student.architecture} takes {list(takes)}"
        )
    return module


def graph_of(student: nn.Module, core: Core, context: Context) -> OnnxArtifact:
    """The student in the core's place: its graph under the core's signature, folded, checked.

    Raises:
        InputError: torch cannot export it.
    """
    if isinstance(student, Twin):
        return core.finished(read_core(student.to_artifact(), core.step).model)
    source = core.artifact
    exported = export(TorchArtifact(student, source.signature, source.origin, source.history))
    return core.finished(read_core(CleanUp().apply(exported, context), core.step).model)


def _sizes(architecture: str, core: Core) -> dict[str, object]:
    shape = core.shape
    known: dict[str, object] = {"outputs": core.outputs, "inputs": shape[-1]}
    if len(shape) == 2:
        known["window"] = shape[0]
    if len(shape) == 3:
        known |= {"channels": shape[0], "size": shape[1]}
    return {name: known[name] for name in _SIZES.get(architecture, ()) if name in known}
