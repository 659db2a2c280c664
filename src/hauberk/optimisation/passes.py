"""One pass after the other over a graph: apply, verify, keep or undo."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact, Verdict
from hauberk.errors import HauberkError, InputError, MissingExtraError, one_line
from hauberk.graph.harness import GraphVerifier, refused
from hauberk.graph.model import nodes, parse, record_shape, signature_of
from hauberk.graph.passes.fix_batch import FixBatch
from hauberk.graph.samples import Samples
from hauberk.optimisation.findings import PassResult
from hauberk.progress import Progress
from hauberk.recipe import Context, Step

_LOG = logging.getLogger(__name__)

_DRAWN = 16
"""Records that are drawn for passes that time what they do."""

Applier = Callable[[Step, bytes], bytes]
"""What a pass makes of a serialised graph."""

Judge = Callable[[Step, bytes, bytes], Verdict]
"""Whether a pass kept its contract, from the graphs before and after it."""


def context_of(seed: int, records: NDArray[np.float32] | None = None) -> Context:
    """What passes are given besides a graph that comes as a file: records to time on, where there are some."""
    if records is None:
        nothing = np.zeros(0, np.float32)
        return Context(calibration=nothing, bounds=(nothing, nothing), seed=seed)
    return Context(calibration=records, bounds=(records.min(axis=0), records.max(axis=0)), seed=seed)


def _records(artifact: OnnxArtifact, samples: Samples, seed: int) -> NDArray[np.float32] | None:
    """Records of a graph with one float32 input [batch, *shape]: samples, or drawn ones; none for other graphs."""
    try:
        shape = record_shape(artifact.signature, "passes")
    except InputError:
        return None
    (spec,) = artifact.signature.inputs
    if samples.calls:
        return np.concatenate([np.asarray(call[spec.name], np.float32) for call in samples.calls])
    return np.random.default_rng(seed).normal(size=(_DRAWN, *shape)).astype(np.float32)


def apply_all(
    artifact: OnnxArtifact, passes: Sequence[Step], samples: Samples, *, seed: int, progress: Progress
) -> tuple[tuple[PassResult, ...], list[tuple[str, OnnxArtifact]]]:
    """Apply passes to a graph that holds its weights.

    Returns:
        What became of each pass, and the versions of the graph by the pass that made them, "original" first.
    """
    context = context_of(seed, _records(artifact, samples, seed))

    def of(model: bytes) -> OnnxArtifact:
        return replace(artifact, model=model, signature=signature_of(parse(model)))

    def applied(step: Step, model: bytes) -> bytes:
        after = step.apply(of(model), context)
        return after.model if isinstance(after, OnnxArtifact) else model

    def judged(step: Step, before: bytes, after: bytes) -> Verdict:
        verifier = GraphVerifier(samples, narrowed=isinstance(step, FixBatch))
        return verifier(of(before), of(after), step.contract, context)

    results, versions = run_passes(artifact.model, passes, applied, judged, progress)
    return results, [(name, of(model)) for name, model in versions]


def run_passes(
    model: bytes, passes: Sequence[Step], apply: Applier, judge: Judge, progress: Progress
) -> tuple[tuple[PassResult, ...], list[tuple[str, bytes]]]:
    """The order of events, wherever weights lie."""
    results: list[PassResult] = []
    versions = [("original", model)]
    with progress.task("passes", len(passes)) as task:
        for step in passes:
            before = versions[-1][1]
            result, after = _run_one(step, before, apply, judge)
            results.append(result)
            if after is not before:
                known = {name for name, _ in versions}
                repeated = (step.name + "'" * times for times in range(len(passes)))
                versions.append((next(name for name in repeated if name not in known), after))
            task.advance()
    return tuple(results), versions


def _run_one(step: Step, before: bytes, apply: Applier, judge: Judge) -> tuple[PassResult, bytes]:
    """Apply and verify one pass; a pass that fails on the graph is undone like one that changes its answers."""
    count = count_nodes(before)
    parameters = msgspec.to_builtins(step)
    started = time.perf_counter()
    try:
        after = apply(step, before)
    except MissingExtraError:
        raise
    except HauberkError as error:
        return PassResult(step.name, parameters, "undone", count, count, str(error)), before
    except Exception as error:  # noqa: BLE001 - libraries below raise anything on graphs that they do not know
        _LOG.debug("%s failed", step.name, exc_info=True)
        reason = f"the pass failed on this graph: {type(error).__name__}: {one_line(error)}"
        return PassResult(step.name, parameters, "undone", count, count, reason), before
    seconds = time.perf_counter() - started
    if _same(before, after):
        return PassResult(step.name, parameters, "nothing to do", count, count, seconds=seconds), before
    try:
        verdict = judge(step, before, after)
    except InputError as error:  # such as an output that no longer says what shape it has
        verdict = refused(f"cannot be verified: {error}")
    if not verdict.holds:
        found = PassResult(step.name, parameters, "undone", count, count, verdict.reason, verdict, seconds)
        return found, before
    return PassResult(step.name, parameters, "kept", count, count_nodes(after), "", verdict, seconds), after


def count_nodes(model: bytes) -> int:
    """Nodes of a graph and of those nested in it."""
    return sum(1 for _ in nodes(parse(model)))


def _same(before: bytes, after: bytes) -> bool:
    """Whether two serialised models are the same but for the order of what has none."""
    return before == after or _canonical(parse(before)) == _canonical(parse(after))


def _canonical(model: onnx.ModelProto) -> bytes:
    written: bytes = ir.serde.serialize_model(ir.serde.deserialize_model(model)).SerializeToString(deterministic=True)
    return written
