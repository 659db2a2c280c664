"""Candidates as the `evaluate` room wants them: sessions, margins, defenders. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact
from hauberk.backends import Session
from hauberk.compress import QuantizeMixed, QuantizeStatic
from hauberk.compress.quantize.sensitivity import TradeOff, rank, trade_off
from hauberk.errors import InputError
from hauberk.evaluate.footprint import measure_footprint
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency
from hauberk.evaluate.quality import Answers, choose_threshold, detection_rate_measurement, measure_quality
from hauberk.evaluate.robustness.figures import AttackFigures
from hauberk.evaluate.robustness.protocol import Defender, measure_robustness
from hauberk.graph.twin import Twin
from hauberk.measurement import Measurement
from hauberk.progress import Progress
from hauberk.recipe import LabelledFeatures
from hauberk.search.candidate import Candidate, Subject

BATCH = 256
"""Records that a core answers at once, for its qualities as for its throughput. Whoever asks again has to ask for as
many: dynamic INT8 scales its activations by the batch, so that an answer depends on the other records in it."""


_POINTS = 5
"""Of the curve of mixed precision, both ends among them."""


@dataclass(frozen=True)
class Robustness:
    """What attacks achieved, by candidate.

    Attributes:
        accuracy: `robust_accuracy`, worst case per record.
        attacks: Every attack on its own.
        masked: Only candidates whose gradients mislead, with the sentence that says so.
    """

    accuracy: Mapping[str, Measurement]
    attacks: Mapping[str, tuple[AttackFigures, ...]]
    masked: Mapping[str, str]


def margins(candidate: Candidate, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-odds of attack, float32 [N], that the candidate's core answers to features float32 [N, D]."""
    with Session(candidate.core.model) as session:
        chunks = [session.predict(features[first : first + BATCH]) for first in range(0, len(features), BATCH)]
    return candidate.decision.margin(np.concatenate(chunks))


def thresholds(candidate: Candidate, records: LabelledFeatures, rates: Sequence[float]) -> dict[float, float]:
    """The threshold on the margin for each false-positive rate, chosen on these records."""
    answered = margins(candidate, records.features)
    return {rate: choose_threshold(answered, records.targets, rate) for rate in rates}


def quality(
    subject: Subject, candidate: Candidate, baseline: Candidate | None, records: LabelledFeatures
) -> dict[str, Measurement]:
    """Every quality of a candidate on some records, at the thresholds that it has.

    Args:
        subject: Tells which false-positive rate is the main one.
        candidate: With thresholds.
        baseline: What differences refer to; `None` for the baseline itself.
        records: Any split.
    """
    answers = _answers(candidate, records)
    reference = None if baseline is None else _answers(baseline, records)
    main = subject.false_positive_rate
    measured = measure_quality(
        answers[main],
        records.targets,
        false_positive_rate=main,
        baseline=None if reference is None else reference[main],
        seed=subject.seed,
    )
    for rate in candidate.thresholds:
        measurement = detection_rate_measurement(
            answers[rate],
            records.targets,
            false_positive_rate=rate,
            baseline=None if reference is None else reference[rate],
            seed=subject.seed,
        )
        measured[measurement.name] = measurement
    return measured


def _answers(candidate: Candidate, records: LabelledFeatures) -> dict[float, Answers]:
    answered = margins(candidate, records.features)
    return {rate: Answers(answered, threshold) for rate, threshold in candidate.thresholds.items()}


def latency(subject: Subject, candidates: Sequence[Candidate], progress: Progress) -> LatencyResult:
    """Time the deployable graphs against the first candidate, the baseline, in one interleaved run."""
    with ExitStack() as stack:

        def runner(candidate: Candidate) -> Runner:
            session = stack.enter_context(Session(candidate.deployable.model))
            return Runner(one=_call(session, subject, 1), many=_call(session, subject, BATCH))

        baseline = candidates[0]
        return measure_latency(
            {candidate.name: runner(candidate) for candidate in candidates},
            baseline=baseline.name,
            again=runner(baseline),
            batch=BATCH,
            seconds=subject.timing * (len(candidates) + 1),
            seed=subject.seed,
            progress=progress,
        )


def _call(session: Session, subject: Subject, records: int) -> Callable[[], object]:
    """A run on fixed records; few examples are repeated to fill the batch."""
    rows = np.resize(np.arange(len(subject.examples.numeric)), records)
    feeds: dict[str, NDArray[np.generic]] = {
        "numeric": np.ascontiguousarray(subject.examples.numeric[rows]),
        "codes": np.ascontiguousarray(subject.examples.codes[rows]),
    }
    wanted = {spec.name: feeds[spec.name] for spec in session.signature.inputs}
    return lambda: session.run(wanted)


def footprints(candidates: Sequence[Candidate], progress: Progress) -> dict[str, tuple[Measurement, ...]]:
    """Size, peak memory and load time of the deployable graphs; the first candidate is the baseline."""
    models = {candidate.name: candidate.deployable.model for candidate in candidates}
    measured = measure_footprint(models, baseline=candidates[0].name, progress=progress)
    return {name: tuple(measurements.values()) for name, measurements in measured.items()}


def mixed_precision(subject: Subject, candidates: Sequence[Candidate], progress: Progress) -> tuple[TradeOff, ...]:
    """What each layer costs in 8 bits, as a curve from all of them to none, timed on the core alone.

    Measured only where a candidate in static INT8 is still in the running: where 8 bits are slower, nobody asks which
    layers bear them.
    """
    quantizing = (QuantizeStatic, QuantizeMixed)
    if not any(isinstance(step, quantizing) for candidate in candidates for step in candidate.recipe.steps):
        return ()
    with progress.task("mixed precision"):
        ranking = rank(subject.core, subject.context)
        one = np.ascontiguousarray(subject.validation.features[:1])

        def timer(graphs: Sequence[OnnxArtifact]) -> list[float]:
            return _seconds_a_record(graphs, one, subject)

        return trade_off(subject.core, subject.context, ranking, points=_POINTS, timer=timer)


def _seconds_a_record(graphs: Sequence[OnnxArtifact], record: NDArray[np.float32], subject: Subject) -> list[float]:
    """The median time of one record for each graph, in one interleaved run."""
    with ExitStack() as stack:
        runners = {}
        for number, graph in enumerate(graphs):
            session = stack.enter_context(Session(graph.model))
            call = partial(session.run, {session.signature.inputs[0].name: record})
            runners[str(number)] = Runner(one=call, many=call)
        timed = measure_latency(
            runners, baseline="0", batch=1, seconds=subject.timing * len(graphs) / 2, seed=subject.seed
        )
    return [timed.measurements[name]["latency.p50"].value for name in runners]


def robustness(
    subject: Subject, candidates: Sequence[Candidate], records: LabelledFeatures, progress: Progress
) -> Robustness:
    """Attack the candidates as they are deployed; the first one is the baseline."""
    with ExitStack() as stack:
        defenders = {candidate.name: _defender(subject, candidate, records, stack) for candidate in candidates}
        results = measure_robustness(
            defenders,
            records,
            baseline=candidates[0].name,
            threat=subject.threat,
            budget=subject.budget,
            seed=subject.seed,
            progress=progress,
        )
    return Robustness(
        accuracy={name: result.robust_accuracy for name, result in results.items()},
        attacks={name: result.attacks for name, result in results.items()},
        masked={name: result.reason for name, result in results.items() if result.verdict == "gradient masking"},
    )


def _defender(subject: Subject, candidate: Candidate, records: LabelledFeatures, stack: ExitStack) -> Defender:
    """A candidate with its twin; what computes as the subject does and has no twin has the subject's substitute."""
    module = _twin_where_possible(candidate, records.features[:1])
    return Defender(
        predictor=stack.enter_context(Session(candidate.core.model)),
        decision=candidate.decision,
        twin=module,
        substitute=subject.substitute if module is None else None,
    )


def twin(core: OnnxArtifact, example: NDArray[np.float32]) -> torch.nn.Module:
    """The differentiable twin of a core, tried out on features float32 [N, D].

    Raises:
        InputError: The graph has an operator, or uses one in a way, that the twin lacks.
    """
    made = Twin(core).eval()
    with torch.no_grad():
        made(torch.from_numpy(example))
    return made


def _twin_where_possible(candidate: Candidate, example: NDArray[np.float32]) -> torch.nn.Module | None:
    try:
        return twin(candidate.core, example)
    except InputError:
        return None
