"""What `hauberk optimize` found, as plain data."""

from __future__ import annotations

from typing import Literal

import msgspec

from hauberk.artifact import Verdict
from hauberk.evaluate.latency import LatencyResult

Outcome = Literal["kept", "undone", "nothing to do"]


class PassResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of one pass.

    Attributes:
        name: Name of the pass.
        parameters: The pass as data, enough to repeat it.
        outcome: What became of it.
        nodes_before: Number of nodes that it was given.
        nodes_after: Number of nodes after it; the same where it was undone.
        reason: Why it was undone: on which input, which output, by how much.
        verdict: What verification found; `None` where there was nothing to verify.
        seconds: How long it took, without verification.
    """

    name: str
    parameters: dict[str, object]
    outcome: Outcome
    nodes_before: int
    nodes_after: int
    reason: str = ""
    verdict: Verdict | None = None
    seconds: float = 0.0


class WeightFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of weights beside a model.

    Attributes:
        path: Where it is.
        sha256: Hex.
        size: Bytes.
    """

    path: str
    sha256: str
    size: int


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model file.

    Attributes:
        path: Where it is.
        sha256: Hex, of the file.
        size: Bytes.
        nodes: Number of nodes in the graph and in those nested in it.
        weights: Files that hold its weights, where these lie beside it.
    """

    path: str
    sha256: str
    size: int
    nodes: int
    weights: tuple[WeightFile, ...] = ()


class Optimisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a run found.

    Attributes:
        source: The file that was given.
        result: The file that was written.
        passes: In the order in which they were applied.
        latency: The original, the result and, where asked, every version between them, timed in one interleaved run;
            `None` where no input could be found to time them on, or where the weights lie beside the graph: two
            versions of a very large model would not fit into memory.
    """

    source: ModelFile
    result: ModelFile
    passes: tuple[PassResult, ...]
    latency: LatencyResult | None

    @property
    def undone(self) -> tuple[PassResult, ...]:
        """Passes that broke their contract."""
        return tuple(each for each in self.passes if each.outcome == "undone")
