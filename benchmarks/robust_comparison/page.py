"""What the attacks left, as tables and as targets that were met or missed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import mean, stdev
from typing import NamedTuple

from hauberk.evaluate.robustness.figures import RobustnessResult
from hauberk.measurement import Measurement
from robust_comparison.cases import BASELINE, Outcome

_STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""The 97.5 % quantiles of Student's t, by the number of seeds."""

_ROBUST, _CLEAN, _LOST, _SECONDS = 0.73, 0.78, 0.01, 60.0


class Target(NamedTuple):
    """What was asked for and what was measured; `met` is `None` where nothing was there to judge."""

    asked: str
    measured: str
    met: bool | None


def conclude(outcomes: Sequence[Outcome]) -> list[Target]:
    """Judge every target on what was measured."""
    adversarial = [
        outcome
        for outcome in outcomes
        if (outcome.case.data, outcome.case.training, outcome.case.adversary)
        == ("nsl-kdd", "adversarial", "every column")
    ]
    return [_robust(adversarial), *_compressed(adversarial), _masking(outcomes), _speed(adversarial)]


def _robust(outcomes: Sequence[Outcome]) -> Target:
    asked = (
        "Adversarially trained MLP on NSL-KDD, L-infinity 0.05 over all columns: mean over five seeds of at least 73 %"
        " worst-case robust accuracy over the whole protocol on Test+, at a mean of at least 78 % clean"
    )
    if len(outcomes) < 2:
        return Target(asked, "not measured on two seeds or more", None)
    robust, clean = (
        [getattr(outcome.results[BASELINE], field).value for outcome in outcomes]
        for field in ("robust_accuracy", "clean_accuracy")
    )
    said = f"{over_seeds(robust)} robust, {over_seeds(clean)} clean ({len(outcomes)} seeds)"
    return Target(asked, said, mean(robust) >= _ROBUST and mean(clean) >= _CLEAN)


def _compressed(outcomes: Sequence[Outcome]) -> Iterator[Target]:
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.case.recipes)
    for name in names:
        asked = f"At most 1 point of that robustness lost by compression: `{name}`"
        lost = [
            outcome.results[BASELINE].robust_accuracy.value - outcome.results[name].robust_accuracy.value
            for outcome in outcomes
            if name in outcome.results
        ]
        gone = [str(outcome.case.seed) for outcome in outcomes if name not in outcome.results]
        if len(lost) < 2:
            yield Target(asked, "not measured on two seeds or more", None)
            continue
        said = f"{over_seeds(lost)} lost ({len(lost)} seeds)"
        said += f"; undone on seed {', '.join(gone)}" if gone else ""
        yield Target(asked, said, mean(lost) <= _LOST)


def _masking(outcomes: Sequence[Outcome]) -> Target:
    named = [
        f"{name} on {outcome.case.name}"
        for outcome in outcomes
        for name, result in outcome.results.items()
        if result.verdict == "gradient masking"
    ]
    said = f"named: {', '.join(named)}" if named else "none named"
    return Target("At least one honest case of gradient masking found and named", said, bool(named))


def _speed(outcomes: Sequence[Outcome]) -> Target:
    asked = "The standard budget on 1,000 records of NSL-KDD under 60 s on 2 cores (here: on one)"
    if not outcomes:
        return Target(asked, "not measured", None)
    slowest = max(outcome.results[BASELINE].seconds for outcome in outcomes)
    return Target(asked, f"{slowest:.0f} s at most for one model", slowest < _SECONDS)


def show(outcomes: Sequence[Outcome], machine: str) -> str:
    """Targets, then one table a case, as Markdown."""
    lines = [machine, "", "| target | measured | |", "| --- | --- | --- |"]
    said = {True: "**met**", False: "**missed**", None: "–"}
    lines += [f"| {target.asked} | {target.measured} | {said[target.met]} |" for target in conclude(outcomes)]
    for outcome in outcomes:
        lines += ["", *_table(outcome)]
    return "\n".join(lines)


def _table(outcome: Outcome) -> Iterator[str]:
    case = outcome.case
    yield f"## {case.data}, {case.training} training, seed {case.seed}, {case.adversary}"
    yield ""
    yield "| model | clean | robust, worst case | white-box | transfer | scores | labels | twin agrees | verdict |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for name, result in outcome.results.items():
        cells = [_share(result.clean_accuracy), _interval(result.robust_accuracy)]
        cells += [_least(result, knowledge) for knowledge in ("white-box", "transfer", "scores", "labels")]
        cells.append(_share(result.fidelity[0].agreement_attacked) if result.fidelity else "–")
        yield f"| {name} | {' | '.join(cells)} | {result.verdict} |"
    yield ""
    said = (
        f"{outcome.records} records; training {outcome.training_seconds:.0f} s, attacks {outcome.attack_seconds:.0f} s."
    )
    said += "".join(f" `{name}` undone: {reason}." for name, reason in outcome.missing.items())
    said += "".join(
        f" {name}: {result.reason}; {'; '.join(result.done)}."
        for name, result in outcome.results.items()
        if result.verdict == "gradient masking"
    )
    yield said


def _least(result: RobustnessResult, knowledge: str) -> str:
    """What the strongest attack with that knowledge left on its own."""
    left = [attack.survived for attack in result.attacks if attack.knowledge == knowledge and not attack.answer]
    return _share(min(left, key=lambda share: share.value)) if left else "–"


def _share(measured: Measurement) -> str:
    return f"{100 * measured.value:.1f} %"


def _interval(measured: Measurement) -> str:
    if measured.low is None or measured.high is None:
        return _share(measured)
    return f"{_share(measured)} ({100 * measured.low:.1f} … {100 * measured.high:.1f})"


def over_seeds(shares: Iterable[float]) -> str:
    """The mean in per cent with its 95 % interval over seeds (Student's t), and the extremes."""
    values = [100 * share for share in shares]
    half = _STUDENT_95[len(values)] * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):.1f} % ± {half:.1f} (least {min(values):.1f}, most {max(values):.1f})"
