"""Several ways to write the same graph are timed, and the fastest one stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import onnx_only, run, session
from hauberk.graph.passes.gemm_to_mat_mul import GemmToMatMul
from hauberk.graph.passes.merge_transposes import MergeTransposes
from hauberk.graph.passes.pointwise_convolution_to_mat_mul import PointwiseConvolutionToMatMul
from hauberk.graph.passes.push_transposes import PushTransposes
from hauberk.recipe import Close, Context, Contract, Step

VARIANTS: dict[str, tuple[Step, ...]] = {
    "products instead of Gemm": (GemmToMatMul(),),
    "channels last where a convolution is a product": (
        PointwiseConvolutionToMatMul(),
        MergeTransposes(),
        PushTransposes(),
        MergeTransposes(),
    ),
}
"""The other ways of writing a graph that are tried."""

_ROUND = 5e-4
"""Seconds that a graph is called for before it is another one's turn."""
_FEWEST_ROUNDS = 5


class ChooseFastest(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="choose-fastest"):
    """Chooses between layouts by the clock: the graph as it is, and the `VARIANTS` that apply to it.

    ONNX has one layout for convolutions, channels first; ONNX Runtime reorders to blocks of channels inside wherever
    its processor gains by that (levels of optimisation above "extended"), and OpenVINO chooses by itself. What is left
    to choose in the file is which convolutions are products over channels (channels last), and how a product is
    written.

    The variants are timed in turns within one process, on one thread, so that what disturbs one disturbs all; the graph
    as it is takes two turns, and how far it strays from itself is the noise. A variant must be faster by more than that
    and `margin` together, or nothing changes. A measurement is no algebra: on another machine, or a busy one, another
    variant may be chosen. Every one of them keeps the contract.

    Attributes:
        batch: Records in a call.
        seconds: How long is timed, all variants together.
        margin: Smallest gain that counts, as a fraction.
    """

    batch: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] = 1
    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0
    margin: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.03

    @property
    def contract(self) -> Contract:
        """That of the variants."""
        return Close()

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the fastest variant.

        Raises:
            InputError: The artifact is no graph, or does not run on the context's records.
        """
        graph = onnx_only(artifact, self.name)
        made = (_made(graph, passes, context) for passes in VARIANTS.values())
        variants = [graph, graph, *(variant for variant in made if variant is not graph)]
        if len(variants) == 2:
            return graph
        feeds = _feeds(graph, context, self.batch)
        ratios = relative_durations([_caller(variant, feeds) for variant in variants], self.seconds)
        noise = abs(ratios[1] - 1)
        best = 2 + int(np.argmin(ratios[2:]))
        return variants[best] if ratios[best] < 1 - self.margin - noise else graph


def _made(graph: OnnxArtifact, passes: tuple[Step, ...], context: Context) -> OnnxArtifact:
    for step in passes:
        graph = onnx_only(step.apply(graph, context), step.name)
    return graph


def _feeds(graph: OnnxArtifact, context: Context, batch: int) -> dict[str, NDArray[np.generic]]:
    """The first calibration records, repeated to fill the batch; the graph must take them."""
    inputs, records = graph.signature.inputs, context.calibration
    if len(inputs) != 1 or not len(records) or records.shape[1:] != inputs[0].shape[1:]:
        raise InputError("choose-fastest: needs a graph with one input, and calibration records that fit it")
    rows = np.arange(batch) % len(records)
    return {inputs[0].name: records[rows]}


def _caller(graph: OnnxArtifact, feeds: dict[str, NDArray[np.generic]]) -> Callable[[], object]:
    runner = session(graph.model)
    return lambda: run(runner, feeds)


def relative_durations(calls: list[Callable[[], object]], seconds: float) -> NDArray[np.float64]:
    """How long each call takes, divided by how long the first one takes.

    Of every call's rounds the lower decile counts: what else the machine does makes rounds longer, never shorter.

    Args:
        calls: At least one; each is called once before the clock starts.
        seconds: How long all of them together are timed, at least five rounds.
    """
    for call in calls:
        call()
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < _FEWEST_ROUNDS:
        rounds.append([_duration(call) for call in calls])
    undisturbed = np.quantile(np.array(rounds), 0.1, axis=0)
    ratios: NDArray[np.float64] = undisturbed / undisturbed[0]
    return ratios


def _duration(call: Callable[[], object]) -> float:
    """Seconds that a call takes, over as many as fill a round."""
    started = time.perf_counter()
    count = 0
    while True:
        call()
        count += 1
        spent = time.perf_counter() - started
        if spent >= _ROUND:
            return spent / count
