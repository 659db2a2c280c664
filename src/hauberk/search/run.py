"""The search: candidates are built and measured cheap first, and dropped as soon as something speaks against them.

    build untrained  ->  time  ->  train  ->  decide on validation data  ->  attack  ->  choose
    (seconds)                     (minutes)                                 (expensive)

Latency does not depend on the weights, so a candidate that needs training is timed before it is trained. Every stage
takes candidates and returns them with more measurements, or with the reason why they were dropped. A candidate that
misses a requirement is dropped early only while another one still meets it: where none does, the least bad is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from hauberk.artifact import OnnxArtifact
from hauberk.compress import default_recipes
from hauberk.compress.quantize.sensitivity import TradeOff
from hauberk.errors import HauberkError
from hauberk.evaluate.footprint import size_measurement
from hauberk.evaluate.robustness.figures import AttackFigures
from hauberk.graph.verify import verify
from hauberk.measurement import Measurement
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Context, Recipe
from hauberk.requirements import Requirement, false_positive_rate
from hauberk.search import measuring
from hauberk.search.candidate import Candidate, Subject
from hauberk.search.choose import Choice, choose, lost_quality, missed, too_slow

BASELINE = "float32"
"""Name of the baseline candidate: the optimised float32 graph."""

_FREE_OF_WEIGHTS = ("latency.p50", "latency.p99", "throughput", "size")


@dataclass(frozen=True)
class SearchResult:
    """What a search found on validation data.

    Attributes:
        candidates: All of them, the baseline first.
        choice: Which one is recommended, and why others are not.
        noise: How far two runs of the baseline differ, as a fraction.
        attacks: What each attack achieved, by candidate.
        masked: Candidates whose gradients mislead, with the sentence that says so.
        trade_off: The curve of mixed precision; empty where 8 bits did not come into question.
    """

    candidates: tuple[Candidate, ...]
    choice: Choice
    noise: float
    attacks: Mapping[str, tuple[AttackFigures, ...]]
    masked: Mapping[str, str]
    trade_off: tuple[TradeOff, ...] = ()

    @property
    def baseline(self) -> Candidate:
        """The optimised float32 graph."""
        return self.candidates[0]

    @property
    def recommended(self) -> Candidate:
        """The chosen candidate."""
        return next(candidate for candidate in self.candidates if candidate.name == self.choice.recommended)


def search(subject: Subject, requirements: Sequence[Requirement], *, progress: Progress = SILENT) -> SearchResult:
    """Make candidates of a core, measure them, and choose.

    Args:
        subject: The core and everything around it.
        requirements: What must hold; judged here on validation data.
        progress: Who follows.
    """
    baseline = Candidate(
        Recipe(BASELINE, (), "the optimised float32 graph"),
        subject.core,
        subject.decision,
        subject.deploy(subject.core, subject.decision),
    )
    everyone = (baseline, *(_build(subject, recipe, progress) for recipe in default_recipes(subject.core)))
    everyone, noise = _time(subject, everyone, progress)
    everyone = _drop_missed(everyone, requirements, _FREE_OF_WEIGHTS)
    everyone = tuple(_train(subject, candidate, progress) for candidate in everyone)
    everyone = _decide(subject, everyone, requirements)
    everyone = _drop_missed(everyone, requirements, {name for c in everyone for name in c.measurements})
    everyone = _drop_lost(everyone, requirements)
    robust = measuring.robustness(subject, _alive(everyone), subject.validation, progress)
    everyone = tuple(
        candidate.measured(robust.accuracy[candidate.name]) if candidate.name in robust.accuracy else candidate
        for candidate in everyone
    )
    contenders = [candidate.contender() for candidate in _alive(everyone)]
    choice = choose(contenders[0], contenders[1:], requirements, noise)
    curve = measuring.mixed_precision(subject, _alive(everyone), progress)
    return SearchResult(everyone, choice, noise, robust.attacks, robust.masked, curve)


def _alive(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that nothing speaks against so far; the baseline is always among them, and first."""
    return tuple(candidate for candidate in candidates if not candidate.dropped)


def _build(subject: Subject, recipe: Recipe, progress: Progress) -> Candidate:
    """Build a candidate; where its recipe trains, with untrained weights of the final shape, for timing."""
    context = replace(subject.context, trained=not recipe.trains)
    start = Candidate(recipe, subject.core, subject.decision, subject.deploy(subject.core, subject.decision))
    with progress.task(f"building {recipe.name}"):
        return _applied(subject, start, replace(context, progress=progress))


def _applied(subject: Subject, candidate: Candidate, context: Context) -> Candidate:
    """The candidate with what its recipe makes of the subject's core, or dropped where that did not work out."""
    try:
        core = candidate.recipe.apply(subject.core, context, verify)
        if not isinstance(core, OnnxArtifact):
            return candidate.drop("could not be made: the recipe leaves something other than a graph")
        made = replace(candidate, core=core, deployable=subject.deploy(core, subject.decision))
    except HauberkError as error:
        return candidate.drop(f"could not be made: {error}")
    return made.drop(*made.undone) if made.undone else made


def _time(
    subject: Subject, candidates: tuple[Candidate, ...], progress: Progress
) -> tuple[tuple[Candidate, ...], float]:
    """Measure speed and size, and drop what is slower than the baseline beyond noise. Returns that noise, too."""
    alive = _alive(candidates)
    latency = measuring.latency(subject, alive, progress)
    footprints = measuring.footprints(alive, progress)
    timed = []
    for candidate in candidates:
        if candidate.dropped:
            timed.append(candidate)
            continue
        measured = candidate.measured(*latency.measurements[candidate.name].values(), *footprints[candidate.name])
        slow = too_slow(measured.measurements, latency.noise)
        timed.append(measured.drop(*slow, *_spared(candidate)) if slow else measured)
    return tuple(timed), latency.noise


def _spared(candidate: Candidate) -> tuple[str, ...]:
    return ("timed untrained and not worth training",) if candidate.recipe.trains else ()


def _drop_missed(
    candidates: tuple[Candidate, ...], requirements: Sequence[Requirement], measured: Collection[str]
) -> tuple[Candidate, ...]:
    """Drop those that miss a requirement on what has been measured, while another one meets them all."""
    judged = [requirement for requirement in requirements if requirement.metric in measured]
    reasons = {candidate.name: missed(candidate.measurements, judged) for candidate in _alive(candidates)}
    if all(reasons.values()):
        return candidates
    return _dropped(candidates, reasons)


def _drop_lost(candidates: tuple[Candidate, ...], requirements: Sequence[Requirement]) -> tuple[Candidate, ...]:
    """Drop those that lost quality where nobody allowed it; attacking them would be a waste."""
    reasons = {candidate.name: lost_quality(candidate.measurements, requirements) for candidate in _alive(candidates)}
    return _dropped(candidates, reasons)


def _dropped(candidates: tuple[Candidate, ...], reasons: Mapping[str, tuple[str, ...]]) -> tuple[Candidate, ...]:
    baseline, *others = candidates
    return (baseline, *(candidate.drop(*reasons.get(candidate.name, ())) for candidate in others))


def _train(subject: Subject, candidate: Candidate, progress: Progress) -> Candidate:
    """Build a candidate that needs training for real."""
    if candidate.dropped:
        return candidate
    if not candidate.recipe.trains:
        return candidate.measured(_training_time(0.0))
    started = time.perf_counter()
    trained = _applied(subject, candidate, replace(subject.context, progress=progress))
    return trained.measured(_training_time(time.perf_counter() - started))


def _training_time(seconds: float) -> Measurement:
    note = "training that making the candidate took, on top of the detector's own"
    return Measurement("training_time", seconds, "s", 1, note=note)


def _decide(
    subject: Subject, candidates: tuple[Candidate, ...], requirements: Sequence[Requirement]
) -> tuple[Candidate, ...]:
    """Set every candidate's threshold on validation data and measure its quality there."""
    rates = {false_positive_rate(requirement.metric) for requirement in requirements} - {None}
    wanted = sorted({subject.false_positive_rate, *(rate for rate in rates if rate is not None)})
    baseline: Candidate | None = None
    decided = []
    for candidate in candidates:
        if candidate.dropped:
            decided.append(candidate)
            continue
        try:
            decided.append(_decided(subject, candidate, wanted, baseline))
        except HauberkError as error:
            if baseline is None:
                raise
            decided.append(candidate.drop(str(error)))
        baseline = baseline or decided[0]
    return tuple(decided)


def _decided(subject: Subject, candidate: Candidate, rates: Sequence[float], baseline: Candidate | None) -> Candidate:
    thresholds = measuring.thresholds(candidate, subject.validation, rates)
    decision = structs.replace(subject.decision, threshold=thresholds[subject.false_positive_rate])
    deployable = subject.deploy(candidate.core, decision)
    decided = replace(candidate, decision=decision, thresholds=thresholds, deployable=deployable)
    figures = measuring.quality(subject, decided, baseline, subject.validation)
    # Trained weights and a threshold may take a few bytes more or less than what was timed.
    size = size_measurement(deployable.model, baseline.deployable.model if baseline else None)
    return decided.measured(*figures.values(), size)
