"""What was found, put into words and plain data."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from hauberk.data import Splits
from hauberk.measurement import this_machine
from hauberk.requirements import show
from hauberk.search.candidate import Candidate, Subject
from hauberk.search.findings import CandidateFindings, DataFindings, Findings, Status, ThresholdFindings
from hauberk.search.last_look import LastLook
from hauberk.search.run import SearchResult


def conclude(
    subject: Subject, result: SearchResult, look: LastLook, splits: Splits, *, detector: str, seconds: float
) -> Findings:
    """Everything that a run found.

    Args:
        subject: What the search started from.
        result: What it found on validation data.
        look: What the test split showed.
        splits: The data.
        detector: Name of the detector.
        seconds: Wall-clock time of the run so far.
    """
    recommended = result.recommended
    decision = recommended.decision
    return Findings(
        detector=detector,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        data=_data(subject, splits),
        threat=subject.threat.describe(),
        threshold=ThresholdFindings(
            score=decision.score_threshold,
            margin=decision.threshold,
            target_false_positive_rate=subject.false_positive_rate,
            rule=f"the lowest that keeps false alarms at or below {subject.false_positive_rate:.4g} of benign records"
            " in the validation split",
        ),
        verdict=_verdict(result, look),
        met=look.met and result.choice.met,
        outcomes=look.outcomes,
        recommended=recommended.name,
        candidates=tuple(_candidate(candidate, result, subject) for candidate in result.candidates),
        test=dict(look.test),
        test_baseline=dict(look.baseline),
        classes=look.classes,
        attacks=dict(result.attacks),
        origin=subject.core.origin,
        history=look.deployable.history,
        seconds=seconds,
        trade_off=result.trade_off,
    )


def _data(subject: Subject, splits: Splits) -> DataFindings:
    return DataFindings(
        name=splits.name,
        digest=splits.digest,
        training=len(splits.training),
        validation=len(splits.validation),
        test=len(splits.test),
        seed=splits.seed,
        unseen=subject.unseen,
    )


def _verdict(result: SearchResult, look: LastLook) -> str:
    recommended = result.recommended
    latency = recommended.measurements["latency.p50"]
    what = f"{recommended.name} is recommended: {show(latency.value, 's')} a record"
    if latency.ratio is not None and latency.ratio.value < 1:
        what += f", {1 / latency.ratio.value:.2f} times as fast as the optimised float32 graph"
    sentences = [what, _about_requirements(result, look)]
    if look.lost:
        sentences.append(f"On the test split it loses what no requirement speaks of: {'; '.join(look.lost)}")
    return " ".join(f"{sentence}." for sentence in sentences)


def _about_requirements(result: SearchResult, look: LastLook) -> str:
    if not look.outcomes:
        return "No requirement was made"
    missed = [outcome.requirement for outcome in look.outcomes if not outcome.holds]
    if missed:
        return f"It misses {len(missed)} of {len(look.outcomes)} requirements: {'; '.join(missed)}"
    if not result.choice.met:
        return "It misses a requirement on validation data, though not on the test split"
    return "Every requirement holds on the test split"


def _candidate(candidate: Candidate, result: SearchResult, subject: Subject) -> CandidateFindings:
    status, reasons = _judged(candidate, result)
    if candidate is result.baseline:
        reasons = (*reasons, *subject.remarks)
    if candidate.name in result.masked:
        reasons = (*reasons, f"gradient masking: {result.masked[candidate.name]}")
    return CandidateFindings(
        name=candidate.name,
        summary=candidate.recipe.summary,
        recipe=msgspec.to_builtins(candidate.recipe),
        status=status,
        reasons=reasons,
        measurements=dict(candidate.measurements),
        history=candidate.core.history,
    )


def _judged(candidate: Candidate, result: SearchResult) -> tuple[Status, tuple[str, ...]]:
    against = candidate.dropped or result.choice.refused.get(candidate.name, ())
    baseline = candidate is result.baseline
    if candidate.name == result.choice.recommended:
        why = _why_recommended(candidate, result)
        return "recommended", (why, *against)
    if against:
        return ("baseline" if baseline else "refused"), tuple(against)
    return ("baseline" if baseline else "accepted"), (_why_not(result),)


def _why_recommended(candidate: Candidate, result: SearchResult) -> str:
    if not result.choice.met:
        return "no candidate meets every requirement; this one misses the fewest"
    if candidate is result.baseline:
        return "the baseline: nothing that holds is faster or smaller"
    return f"fastest at one record, or smallest of the equally fast: {_against_baseline(candidate)}"


def _why_not(result: SearchResult) -> str:
    return f"holds, but {result.choice.recommended} is faster, or as fast and smaller"


def _against_baseline(candidate: Candidate) -> str:
    parts = []
    for name, what in (("latency.p50", "the time"), ("size", "the size")):
        measurement = candidate.measurements[name]
        if measurement.ratio is not None:
            parts.append(f"{measurement.ratio.value:.2f} times {what}")
    return " and ".join(parts) + " of the baseline"
