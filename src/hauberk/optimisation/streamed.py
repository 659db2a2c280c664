"""The same story for a model whose weights lie beside the graph: they are mapped, never loaded, and written in pieces.

What is in memory at any time: the graph, one mapping of the weights, and what one pass computes for one layer.
Verification runs the version before a pass and, once that is closed, the version after it, straight from the files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hauberk.artifact import OnnxArtifact, Verdict
from hauberk.errors import ContractError, InputError, RefusedModelError
from hauberk.files import write_atomically
from hauberk.graph import feeds, streamed
from hauberk.graph.compare import Tally
from hauberk.graph.harness import examine, is_recurrent, judged, survived
from hauberk.graph.integers import unbounded
from hauberk.graph.model import parse, signature_of
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Trial, ask, compare, runs_on
from hauberk.ingest.external import ExternalModel, State, state_of
from hauberk.optimisation.findings import ModelFile, Optimisation, WeightFile
from hauberk.optimisation.passes import context_of, count_nodes, run_passes
from hauberk.progress import Progress
from hauberk.recipe import Exact, Step
from hauberk.tensors import Signature

_SMALL = 1 << 26
"""Bytes of weights up to which every trial is run."""
_TRIALS = 18
"""Trials of a larger model; each reads every weight once."""


def optimise(
    external: ExternalModel,
    source: ModelFile,
    target: Path,
    *,
    passes: Sequence[Step],
    samples: Samples,
    seed: int,
    progress: Progress,
) -> Optimisation:
    """Apply passes and write a graph and one file of weights beside it.

    The file of weights is written first, under a name that holds a part of its digest, and the graph last: until that
    moment, and if anything fails, whatever `target` was is still whole.

    Raises:
        InputError: A pass cannot work on such a model, or a file cannot be written.
    """
    unable = [step.name for step in passes if not streamed.takes(step)]
    if unable:
        raise InputError(f"--passes: {', '.join(unable)} cannot take a model whose weights lie in another file")
    model = external.proto.SerializeToString()
    trials = _trials(model, samples, external.size, seed)
    with tempfile.TemporaryDirectory(dir=target.resolve().parent, prefix=".hauberk-") as folder:
        spill = streamed.Spill(Path(folder, "weights"))
        context = context_of(seed)
        results, versions = run_passes(
            model,
            passes,
            lambda step, before: streamed.apply(step, before, context, spill),
            lambda step, before, after: _judge(step, before, after, trials),
            progress,
        )
        if any(_changed(file, state) for file, state in external.states.items()):
            raise RefusedModelError(f"{source.path}: its weights were changed by somebody else meanwhile; run it again")
        written, weights = _write(versions[-1][1], target, Path(folder), trials)
    return Optimisation(
        source=_with_weights(source, external),
        result=ModelFile(str(target), written, target.stat().st_size, count_nodes(versions[-1][1]), (weights,)),
        passes=results,
        latency=None,
    )


def _trials(model: bytes, samples: Samples, size: int, seed: int) -> list[Trial]:
    """What versions are compared on; of a large model some of every family."""
    proto = parse(model)
    signature = signature_of(proto)
    run = streamed.runner(model)
    drawn = feeds.trials(signature, runs_on(run), samples, extremes=True, seed=seed, unbounded=unbounded(proto))
    if size <= _SMALL:
        return drawn
    families = {trial.family.partition("-")[0]: trial for trial in reversed(drawn)}
    firsts = [families[family] for family in reversed(families) if family not in {"sizes", "extreme"}]  # real first
    sizes = [trial for trial in drawn if trial.family.startswith("sizes")]
    # The first twenty are of floats, and every second one mixes an extreme with plain numbers; of these every other:
    # -0, a denormal, the largest, inf, NaN. The ends of integer types come after them and are left out.
    extreme = [trial for trial in drawn if trial.family.startswith("extreme")][3:20:4]
    return [*firsts, *sizes][: _TRIALS - len(extreme)] + extreme


def _judge(step: Step, before: bytes, after: bytes, trials: Sequence[Trial]) -> Verdict:
    """Compare two versions, one after the other."""
    old, new = (OnnxArtifact(model, signature_of(parse(model)), origin="") for model in (before, after))
    chosen = [trial for trial in trials if isinstance(step.contract, Exact) or not trial.family.startswith("extreme")]
    subjects = streamed.subject(before), streamed.subject(after)
    return judged(old, new, lambda: examine(*subjects, step.contract, chosen))


def _names(signature: Signature) -> tuple[str, ...]:
    return tuple(spec.name for spec in signature.outputs)


def _write(model: bytes, target: Path, folder: Path, trials: Sequence[Trial]) -> tuple[str, WeightFile]:
    """Write weights and graph, having seen that the copy answers bit for bit like the original.

    Raises:
        ContractError: It does not.
    """
    draft = folder / "draft"
    written = streamed.write_weights(model, draft, "draft")
    name = f"{target.stem}.{written.sha256[:16]}.weights"
    place = target.resolve().parent / name
    tally = Tally(Exact())
    names = _names(signature_of(parse(model)))
    if is_recurrent(parse(model)):
        trials = survived(trials)
    answers = ask(streamed.runner(model), trials)
    copied = streamed.relocated(written.model, str(draft))
    compare(streamed.runner(copied), trials, answers, names, tally)
    if tally.fault is not None:
        raise ContractError(f"{target}: the written file answers otherwise: {tally.fault}")
    graph = streamed.relocated(written.model, name)
    made = not place.exists()
    draft.replace(place)
    try:
        write_atomically(target, graph)
    except InputError:
        if made:
            place.unlink()  # nothing refers to it
        raise
    return streamed.digest_of(graph), WeightFile(str(place), written.sha256, written.size)


def _with_weights(source: ModelFile, external: ExternalModel) -> ModelFile:
    files = tuple(WeightFile(str(file), digest, external.states[file][2]) for file, digest in external.files.items())
    return ModelFile(source.path, source.sha256, source.size, source.nodes, files)


def _changed(file: Path, state: State) -> bool:
    """Whether somebody has written to a file since it was hashed, or put another, or a link, in its place."""
    try:
        return state_of(file) != state
    except OSError:
        return True
