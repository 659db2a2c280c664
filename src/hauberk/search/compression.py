"""One recipe on one model, with what it did and what it gained: what `hauberk compress` does.

Nothing is chosen here. The result is measured against the float32 graph that it came from, the two interleaved in one
process, on records that nothing was fitted to; where it gained nothing, the verdict says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact, StepRecord
from hauberk.backends import Session
from hauberk.compress import CATALOGUE, STEPS, known, named_recipe
from hauberk.compress.tuning import answers
from hauberk.errors import ContractError, InputError
from hauberk.evaluate.footprint import size_measurement
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency
from hauberk.evaluate.quality import rate_measurement
from hauberk.files import read_bounded
from hauberk.graph.operations import Operations, operations
from hauberk.graph.passes import OPTIONAL, PASSES
from hauberk.graph.verify import decisions, verify
from hauberk.measurement import Machine, Measurement, this_machine
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Recipe
from hauberk.requirements import Outcome, Requirement
from hauberk.search.choose import too_slow
from hauberk.search.material import Material

METRICS = ("latency.p50", "latency.p99", "throughput", "size", "accuracy", "agreement", "training_time")
"""What is measured here, and can be required."""

_BASELINE, _RESULT = "float32", "result"
_BATCH = 256
"""Records that are answered at once, for qualities as for throughput."""
_BATCH_VALUES = 1 << 23
"""Numbers in a timed batch: 55 images of 3×224×224."""
_MOST_BYTES = 1 << 20
"""Of a recipe file; a thousand steps stay far below."""


class Size(msgspec.Struct, frozen=True):
    """What a graph holds and computes, whatever runs it.

    Attributes:
        bytes: Of the file.
        parameters: Numbers that it holds as weights.
        macs: Multiply-accumulate operations for one record.
    """

    bytes: int
    parameters: int
    macs: int


class Compressed(msgspec.Struct, frozen=True):
    """What a recipe made of a model.

    Attributes:
        recipe: The recipe as data: with the same model, records and seed it gives the same bytes.
        seed: Seed of everything random.
        records: Test records that qualities were measured on.
        unseen: Whether the model's card shows that the model was not trained on them; where it is False, accuracy may
            be too good.
        before: The float32 graph.
        after: The result.
        steps: What each step of the recipe did, undone ones included.
        baseline: Measurements of the float32 graph, by metric.
        measurements: Of the result, with difference and ratio to the baseline.
        noise: How far two runs of the float32 graph differ, as a fraction.
        outcomes: Whether each requirement holds.
        machine: Where latencies were taken.
        verdict: What came of it, in sentences.
    """

    recipe: dict[str, object]
    seed: int
    records: int
    unseen: bool
    before: Size
    after: Size
    steps: tuple[StepRecord, ...]
    baseline: dict[str, Measurement]
    measurements: dict[str, Measurement]
    noise: float
    outcomes: tuple[Outcome, ...]
    machine: Machine
    verdict: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether every step was kept and every requirement holds."""
        return all(step.kept for step in self.steps) and all(outcome.holds for outcome in self.outcomes)


def find_recipe(name: str) -> Callable[[OnnxArtifact], Recipe]:
    """A recipe of the catalogue, or one from a JSON file of steps and passes, as a function of the core that it is for.

    Raises:
        InputError: There is neither a recipe nor a file of that name, or the file holds no recipe.
    """
    path = Path(name)
    if name in CATALOGUE or not (path.suffix == ".json" or path.is_file()):
        known(name)
        return lambda core: named_recipe(name, core)
    try:
        recipe = Recipe.from_json(read_bounded(path, _MOST_BYTES), (*STEPS, *PASSES, *OPTIONAL))
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error
    if not recipe.steps:
        raise InputError(f"{name}: recipe {recipe.name!r} has no steps")
    return lambda core: recipe  # noqa: ARG005 - it is the same for every core


def compress(
    material: Material,
    recipe: Recipe,
    requirements: Sequence[Requirement] = (),
    *,
    timing: float = 2.0,
    progress: Progress = SILENT,
) -> tuple[OnnxArtifact, Compressed]:
    """Apply a recipe to a core, every step verified, and measure what came of it.

    Args:
        material: The core, and the records.
        recipe: What to do.
        requirements: What must hold, of `METRICS`.
        timing: Seconds of timing.
        progress: Who follows.

    Returns:
        The resulting core, and the account of it.

    Raises:
        InputError: A step cannot be applied to this model or these records, or a requirement is on another metric.
        ContractError: The recipe leaves something other than a graph.
    """
    for requirement in requirements:
        if requirement.metric not in METRICS:
            raise InputError(
                f"requirement {requirement.text!r}: {requirement.metric} is not measured here; measured are"
                f" {', '.join(METRICS)}"
            )
    core = material.core
    with progress.task(f"compressing: {recipe.name}"):
        made = recipe.apply(core, material.context, verify)
    if not isinstance(made, OnnxArtifact):
        raise ContractError(f"recipe {recipe.name!r} leaves something other than a graph")
    steps = made.history[len(core.history) :]
    latency = _latency(core, made, material, timing, progress)
    (baseline, measured) = _qualities(core, made, material)
    measured["size"], baseline["size"] = size_measurement(made.model, core.model), size_measurement(core.model)
    measured["training_time"] = _training_time(recipe, steps)
    measured |= latency.measurements[_RESULT]
    baseline |= latency.measurements[_BASELINE]
    account = Compressed(
        recipe=msgspec.to_builtins(recipe),
        seed=material.context.seed,
        records=len(material.test),
        unseen=material.unseen,
        before=_size(core),
        after=_size(made),
        steps=steps,
        baseline=baseline,
        measurements=measured,
        noise=latency.noise,
        outcomes=tuple(requirement.judge(measured) for requirement in requirements),
        machine=this_machine(),
        verdict=verdict(steps, measured, latency.noise),
    )
    return made, account


def verdict(steps: Sequence[StepRecord], measured: dict[str, Measurement], noise: float) -> tuple[str, ...]:
    """What came of it, in sentences: what was undone, whether it is faster, whether it still decides the same.

    Args:
        steps: What each step did.
        measured: Of the result, with ratios to the float32 graph.
        noise: How far two runs of the float32 graph differ, as a fraction.
    """
    sentences = [
        f"step {step.step} was undone: {step.verdict.reason}" for step in steps if step.verdict and not step.kept
    ]
    slow, gains = too_slow(measured, noise), _gains(measured, noise)
    sentences += slow
    sentences += [f"faster than optimised float32: {gain}" for gain in gains]
    if not slow and not gains:
        sentences.append(f"no faster than optimised float32, beyond the noise of {100 * noise:.1f} %")
    elif not gains:
        sentences.append("it gains no time anywhere; the float32 graph is the better one to deploy")
    size = measured["size"].ratio
    if size is not None:
        sentences.append(f"the file has {100 * size.value:.1f} % of its size")
    return tuple(sentences)


def _gains(measured: dict[str, Measurement], noise: float) -> list[str]:
    """Where the result takes less time beyond noise."""
    gains = []
    one, many = measured["latency.p50"].ratio, measured["throughput"].ratio
    if one is not None and one.high < 1 - noise:
        gains.append(f"{1 / one.value:.2f} times as fast at one record")
    if many is not None and many.low > 1 + noise:
        gains.append(f"{many.value:.2f} times as fast at {measured['throughput'].note.split()[0]} records")
    return gains


def _latency(
    core: OnnxArtifact, made: OnnxArtifact, material: Material, seconds: float, progress: Progress
) -> LatencyResult:
    """Both graphs in one interleaved run, on test records."""
    features = material.test.features
    batch = max(1, min(_BATCH, _BATCH_VALUES // features[0].size))
    rows = np.resize(np.arange(len(features)), batch)
    one, many = np.ascontiguousarray(features[:1]), np.ascontiguousarray(features[rows])
    with ExitStack() as stack:

        def runner(artifact: OnnxArtifact) -> Runner:
            session = stack.enter_context(Session(artifact.model))
            return Runner(one=_call(session, one), many=_call(session, many))

        return measure_latency(
            {_BASELINE: runner(core), _RESULT: runner(made)},
            baseline=_BASELINE,
            again=runner(core),
            batch=batch,
            seconds=seconds,
            seed=material.context.seed,
            progress=progress,
        )


def _call(session: Session, features: NDArray[np.float32]) -> Callable[[], object]:
    feeds: dict[str, NDArray[np.generic]] = {session.signature.inputs[0].name: features}
    return lambda: session.run(feeds)


def _qualities(
    core: OnnxArtifact, made: OnnxArtifact, material: Material
) -> tuple[dict[str, Measurement], dict[str, Measurement]]:
    """Accuracy of both and agreement of the result, on the test records, at the context's threshold."""
    context, test = material.context, material.test
    before, after = (decisions(answers(each, test.features, most=_BATCH), context) for each in (core, made))
    right, still_right = before == test.targets, after == test.targets
    accuracy = rate_measurement("accuracy", right, None, seed=context.seed)
    return {"accuracy": accuracy}, {
        "accuracy": rate_measurement("accuracy", still_right, right, seed=context.seed),
        "agreement": rate_measurement("agreement", before == after, None, seed=context.seed),
    }


def _training_time(recipe: Recipe, steps: Sequence[StepRecord]) -> Measurement:
    seconds = sum(record.seconds for step, record in zip(recipe.steps, steps, strict=True) if step.trains)
    return Measurement("training_time", seconds, "s", 1, note="the steps of the recipe that train")


def _size(artifact: OnnxArtifact) -> Size:
    counted: Operations = operations(artifact.model)
    return Size(bytes=len(artifact.model), parameters=counted.parameters, macs=counted.macs)
