"""What every converter hands over: the graph, and the source to hold it against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hauberk.convert.compare import Source
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Trial
from hauberk.models import ModelCard
from hauberk.tensors import Signature


def _nothing(given: Samples, seed: int) -> list[Trial]:  # noqa: ARG001 - most kinds call for nothing of their own
    return []


@dataclass(frozen=True)
class Converted:
    """A graph that has not been compared yet.

    Attributes:
        model: Serialised, weights inside.
        signature: Of it.
        source: The model in its own framework, open.
        of_its_kind: Inputs that this kind of model calls for, from real inputs and a seed.
        card: The model's card, where it has one.
        notes: What a reader should know.
    """

    model: bytes
    signature: Signature
    source: Source
    of_its_kind: Callable[[Samples, int], list[Trial]] = _nothing
    card: ModelCard | None = None
    notes: tuple[str, ...] = ()
