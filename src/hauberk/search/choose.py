"""The choice: which candidates are refused, and which of the others is recommended.

The rules, in order; a candidate is refused at the first group that speaks against it:

1. a step of its recipe broke its contract and was undone;
2. it is slower than the baseline beyond noise, at one record or at 256 (whatever the requirements say);
3. it misses a requirement;
4. it is worse than the baseline on a quality that no requirement speaks of, beyond the 95 % bound.

Of those that remain, the baseline included, the fastest at one record is recommended; where several are equally fast
within noise, the smallest of them. Where none remains, the one that violates least is still chosen, so that there is
always an artefact to look at; then `Choice.met` is False.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hauberk.measurement import Measurement
from hauberk.requirements import Requirement, show

QUALITIES = ("accuracy", "auroc", "robust_accuracy")
"""Metrics that no candidate may lose beyond the 95 % bound; detection rates come on top, at any rate."""

_SPEED = ("latency.p50", "throughput")


@dataclass(frozen=True)
class Contender:
    """What the choice is made from.

    Attributes:
        name: Name of the candidate.
        measurements: By metric name, with difference and ratio to the baseline.
        undone: One sentence for every step that was undone.
    """

    name: str
    measurements: Mapping[str, Measurement]
    undone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The result.

    Attributes:
        recommended: Name of the chosen candidate.
        met: Whether it meets every requirement.
        refused: For every refused candidate the sentences that say why.
    """

    recommended: str
    met: bool
    refused: Mapping[str, tuple[str, ...]]


def too_slow(measurements: Mapping[str, Measurement], noise: float) -> tuple[str, ...]:
    """Say where a candidate is slower than the baseline beyond `noise` (a fraction), one sentence each.

    A measurement without a ratio (the baseline itself) is never slower.
    """
    reasons = []
    for name in _SPEED:
        measurement = measurements.get(name)
        if measurement is None or measurement.ratio is None:
            continue
        slowdown = measurement.ratio
        if name == "throughput":
            slower = slowdown.high < 1 - noise
            factor = 1 / slowdown.value
        else:
            slower = slowdown.low > 1 + noise
            factor = slowdown.value
        if slower:
            figure = show(measurement.value, measurement.unit)
            reasons.append(f"slower than optimised float32: {name} {figure}, {factor:.2f} times the time")
    return tuple(reasons)


def missed(measurements: Mapping[str, Measurement], requirements: Sequence[Requirement]) -> tuple[str, ...]:
    """Sentences that name the requirements which do not hold."""
    outcomes = [requirement.judge(measurements) for requirement in requirements]
    return tuple(f"misses {outcome.requirement!r}: {outcome.reason}" for outcome in outcomes if not outcome.holds)


def lost_quality(measurements: Mapping[str, Measurement], requirements: Sequence[Requirement]) -> tuple[str, ...]:
    """Sentences that name qualities lost beyond the 95 % bound, where no requirement speaks of them."""
    spoken_of = {requirement.metric for requirement in requirements}
    reasons = []
    for name, measurement in measurements.items():
        quality = name in QUALITIES or name.startswith("detection_rate@")
        if not quality or name in spoken_of or measurement.difference is None:
            continue
        difference = measurement.difference
        if difference.high < 0:
            reasons.append(
                f"{name} is {_points(difference.value)} against the baseline"
                f" (95 % interval {_points(difference.low)} to {_points(difference.high)})"
            )
    return tuple(reasons)


def choose(
    baseline: Contender, candidates: Sequence[Contender], requirements: Sequence[Requirement], noise: float
) -> Choice:
    """Apply the rules above.

    Args:
        baseline: The optimised float32 graph.
        candidates: All others that were measured to the end.
        requirements: What must hold.
        noise: How far the ratio of two runs of the same graph strays from 1, as a fraction.
    """
    refused = {}
    for contender in (baseline, *candidates):
        reasons = _against(contender, requirements, noise)
        if reasons:
            refused[contender.name] = reasons
    admissible = [contender for contender in (baseline, *candidates) if contender.name not in refused]
    if admissible:
        return Choice(_fastest(admissible, noise).name, met=True, refused=refused)
    least = _least_bad(baseline, candidates, requirements, noise)
    return Choice(least.name, met=False, refused=refused)


def _against(contender: Contender, requirements: Sequence[Requirement], noise: float) -> tuple[str, ...]:
    measurements = contender.measurements
    return (
        contender.undone
        or too_slow(measurements, noise)
        or missed(measurements, requirements)
        or lost_quality(measurements, requirements)
    )


def _fastest(contenders: Sequence[Contender], noise: float) -> Contender:
    best = min(_latency(contender) for contender in contenders)
    equally_fast = [contender for contender in contenders if _latency(contender) <= best * (1 + noise)]
    return min(equally_fast, key=lambda contender: (_size(contender), _latency(contender)))


def _least_bad(
    baseline: Contender, candidates: Sequence[Contender], requirements: Sequence[Requirement], noise: float
) -> Contender:
    """The one with the fewest missed requirements among those that are sound, not slower and not worse unasked."""
    sound = [baseline]
    for contender in candidates:
        slow = too_slow(contender.measurements, noise)
        if not contender.undone and not slow and not lost_quality(contender.measurements, requirements):
            sound.append(contender)
    fewest = min(len(missed(contender.measurements, requirements)) for contender in sound)
    return _fastest([c for c in sound if len(missed(c.measurements, requirements)) == fewest], noise)


def _latency(contender: Contender) -> float:
    return contender.measurements["latency.p50"].value


def _size(contender: Contender) -> float:
    return contender.measurements["size"].value


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f} points"
