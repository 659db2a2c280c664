"""The story of `hauberk optimize`: admit an ONNX file, apply passes, keep those that hold, time the result, write it.

admit -> pass, verify, keep or undo -> … -> time, interleaved with the original -> write
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact, Verdict
from hauberk.backends import Session, SessionOptions
from hauberk.errors import HauberkError, InputError, MissingExtraError, RefusedModelError
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency
from hauberk.files import read_bounded, require_writable, write_atomically
from hauberk.graph import feeds
from hauberk.graph.check import check_model
from hauberk.graph.feeds import Samples
from hauberk.graph.harness import GraphVerifier, nodes
from hauberk.graph.model import parse, signature_of
from hauberk.graph.passes import PASSES
from hauberk.graph.passes.onnx_runtime_offline import OnnxRuntimeOffline
from hauberk.graph.passes.onnxsim import Onnxsim
from hauberk.graph.passes.onnxslim import Onnxslim
from hauberk.graph.trials import Feeds
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.scan import scan_onnx
from hauberk.ingest.scan.onnx import MAX_ONNX_BYTES
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Context, Step
from hauberk.tensors import Signature

OTHERS: tuple[type[Step], ...] = (Onnxslim, Onnxsim, OnnxRuntimeOffline)
"""Other libraries' passes: only where they are named, or with `all`."""

OLDEST_OPSET = 13
BATCH = 256
_LARGEST_SAMPLES = 1 << 30

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


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model file.

    Attributes:
        path: Where it is.
        sha256: Hex, of the file.
        size: Bytes.
        nodes: Number of nodes in the graph and in those nested in it.
    """

    path: str
    sha256: str
    size: int
    nodes: int


class Optimisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a run found.

    Attributes:
        source: The file that was given.
        result: The file that was written.
        passes: In the order in which they were applied.
        latency: The original, the result and, where asked, every version between them, timed in one interleaved run;
            `None` where no input could be found to time them on.
    """

    source: ModelFile
    result: ModelFile
    passes: tuple[PassResult, ...]
    latency: LatencyResult | None

    @property
    def undone(self) -> tuple[PassResult, ...]:
        """Passes that broke their contract."""
        return tuple(each for each in self.passes if each.outcome == "undone")


def choose(names: str) -> tuple[Step, ...]:
    """Passes by their names, with their default parameters.

    Args:
        names: `default`, `all`, or names separated by commas, in the order in which to apply them.

    Raises:
        InputError: No such pass.
    """
    known = {str(kind.__struct_config__.tag): kind for kind in (*PASSES, *OTHERS)}
    if names == "default":
        return tuple(kind() for kind in PASSES)
    if names == "all":
        return tuple(kind() for kind in known.values())
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in known:
            raise InputError(f"--passes: {name!r} is no pass; known: default, all, {', '.join(known)}")
    return tuple(known[name]() for name in asked)


def optimise_file(
    source: Path,
    target: Path,
    *,
    passes: Sequence[Step],
    data: Path | None = None,
    explain: bool = False,
    seed: int = 0,
    seconds: float = 1.0,
    progress: Progress = SILENT,
) -> Optimisation:
    """Apply passes to an ONNX file, each verified, and write what is left of them.

    Args:
        source: The model, with its weights inside.
        target: Where to write the result; what is there is replaced once the result is complete.
        passes: In order.
        data: An `.npz` file with one array an input; without it inputs are drawn.
        explain: Time every version, not only the first and the last.
        seed: Of the inputs that are drawn.
        seconds: Time to spend on timing a version.
        progress: Who follows.

    Raises:
        RefusedModelError: The file is not an admissible model.
        InputError: A file is missing or unfit, the opset is too old, or a package that a pass needs is missing.
    """
    require_writable(target)
    artifact, size = _admitted(source)
    samples = _samples(data, artifact)
    results, versions = _apply(artifact, passes, samples, seed=seed, progress=progress)
    *_, (_, result) = versions
    check_model(result.model)
    timed = dict(versions) if explain else dict([versions[0], versions[-1]])
    latency = _latency(timed, samples, seed=seed, seconds=seconds, progress=progress)
    write_atomically(target, result.model)
    return Optimisation(
        source=ModelFile(str(source), artifact.origin, size, count_nodes(artifact.model)),
        result=ModelFile(str(target), result.digest, len(result.model), count_nodes(result.model)),
        passes=results,
        latency=latency,
    )


def _admitted(source: Path) -> tuple[OnnxArtifact, int]:
    """The file's graph, scanned before anything reads it in earnest, and the file's size."""
    with PrivateCopy(source) as copy:
        if copy.size > MAX_ONNX_BYTES:
            raise RefusedModelError(f"{source}: refused: {copy.size} bytes; an ONNX file ends at 2 GiB")
        model, sha256 = copy.read(0, copy.size), copy.sha256
    proto = scan_onnx(model, str(source))
    opset = max((entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    if opset < OLDEST_OPSET:
        raise InputError(
            f"{source}: opset {opset} is older than {OLDEST_OPSET}, which passes understand;"
            " convert it with onnx.version_converter.convert_version first"
        )
    try:
        artifact = OnnxArtifact(model, signature_of(proto), sha256)
        check_model(model)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    return artifact, len(model)


def _samples(data: Path | None, artifact: OnnxArtifact) -> Samples:
    """Sample inputs from a file, or none."""
    if data is None:
        return Samples()
    import io  # noqa: PLC0415 - only here

    try:
        with np.load(io.BytesIO(read_bounded(data, _LARGEST_SAMPLES)), allow_pickle=False) as archive:
            arrays: dict[str, NDArray[np.generic]] = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError) as error:
        raise InputError(f"{data}: not an .npz file of plain arrays, as numpy.savez writes it") from error
    try:
        return Samples.of(arrays, artifact.signature)
    except InputError as error:
        raise InputError(f"{data}: {error}") from error


def _apply(
    artifact: OnnxArtifact, passes: Sequence[Step], samples: Samples, *, seed: int, progress: Progress
) -> tuple[tuple[PassResult, ...], list[tuple[str, OnnxArtifact]]]:
    """Every pass in order: what became of it, and the versions of the graph by the pass that made them."""
    nothing = np.zeros(0, np.float32)
    context = Context(calibration=nothing, bounds=(nothing, nothing), seed=seed)
    verifier = GraphVerifier(samples)
    results: list[PassResult] = []
    versions = [("original", artifact)]
    with progress.task("passes", len(passes)) as task:
        for step in passes:
            before = versions[-1][1]
            result, after = _apply_one(step, before, context, verifier)
            results.append(result)
            if after is not before:
                name = step.name
                while name in dict(versions):
                    name += "'"
                versions.append((name, after))
            task.advance()
    return tuple(results), versions


def _apply_one(
    step: Step, before: OnnxArtifact, context: Context, verifier: GraphVerifier
) -> tuple[PassResult, OnnxArtifact]:
    """Apply and verify one pass; a pass that fails on the graph is undone like one that changes its answers."""
    count = count_nodes(before.model)
    parameters = msgspec.to_builtins(step)
    started = time.perf_counter()
    try:
        after = step.apply(before, context)
    except MissingExtraError:
        raise
    except HauberkError as error:
        return PassResult(step.name, parameters, "undone", count, count, str(error)), before
    seconds = time.perf_counter() - started
    if not isinstance(after, OnnxArtifact) or _same(before.model, after.model):
        return PassResult(step.name, parameters, "nothing to do", count, count, seconds=seconds), before
    verdict = verifier(before, after, step.contract, context)
    if not verdict.holds:
        found = PassResult(step.name, parameters, "undone", count, count, verdict.reason, verdict, seconds)
        return found, before
    kept = PassResult(step.name, parameters, "kept", count, count_nodes(after.model), "", verdict, seconds)
    return kept, replace(after, history=())


def count_nodes(model: bytes) -> int:
    """Nodes of a graph and of those nested in it."""
    return sum(1 for _ in nodes(parse(model)))


def _same(before: bytes, after: bytes) -> bool:
    """Whether two serialised models are the same but for the order of what has none."""
    if before == after:
        return True
    return _canonical(parse(before)) == _canonical(parse(after))


def _canonical(model: onnx.ModelProto) -> bytes:
    written: bytes = ir.serde.serialize_model(ir.serde.deserialize_model(model)).SerializeToString(deterministic=True)
    return written


def _latency(
    versions: Mapping[str, OnnxArtifact], samples: Samples, *, seed: int, seconds: float, progress: Progress
) -> LatencyResult | None:
    """Time versions against the first one, at one record and at 256, as far as the graph takes them."""
    options = SessionOptions(time_limit=None)
    sessions = {name: Session(version.model, options) for name, version in versions.items()}
    first = next(iter(sessions))
    original = sessions[first]

    def fits(values: Feeds) -> bool:
        try:
            original.run(values)
        except HauberkError:
            return False
        return True

    signature = versions[first].signature
    one = feeds.call(signature, fits, samples, records=1, seed=seed) or _any_call(signature, fits, samples, seed)
    if one is None:
        return None
    many = feeds.call(signature, fits, samples, records=BATCH, seed=seed)
    runners = {name: _runner(session, one, many) for name, session in sessions.items()}
    return measure_latency(
        runners,
        baseline=first,
        again=_runner(Session(versions[first].model, options), one, many),
        batch=1 if many is None else BATCH,
        seconds=seconds * len(versions),
        seed=seed,
        progress=progress,
    )


def _any_call(signature: Signature, fits: Callable[[Feeds], bool], samples: Samples, seed: int) -> Feeds | None:
    """Some inputs that the graph runs on, where its first dimensions are not free."""
    tried = feeds.trials(signature, fits, samples, extremes=False, seed=seed)
    return next((trial.feeds for trial in tried if fits(trial.feeds)), None)


def _runner(session: Session, one: Feeds, many: Feeds | None) -> Runner:
    batch = one if many is None else many
    return Runner(one=lambda: session.run(one), many=lambda: session.run(batch))
