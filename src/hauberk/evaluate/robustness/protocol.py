"""The robustness protocol: attack every candidate as it is deployed, and believe no single attack.

1. What candidate and baseline answer to the records untouched.
2. White-box: attacks on the gradients of the candidate's differentiable twin (and of a substitute, where it has one).
3. Transfer: the same attacks aimed at the baseline's twin, shown to the candidate.
4. Scores, then labels: attacks that ask the candidate's real session, and count how often.
5. The worst case per record over all of them, with its interval.
6. Where an attack without the candidate's gradients beats those with them by more than the interval, gradients mislead:
   the verdict says so, and what still stands is attacked from where the others got to.
7. On demand, how accuracy falls with the radius and with the steps.

Whatever an attack finds is judged by the real session at its own threshold. Athalye, Carlini, Wagner, "Obfuscated
Gradients Give a False Sense of Security", ICML 2018 (arXiv:1802.00420); Carlini et al., "On Evaluating Adversarial
Robustness", 2019 (arXiv:1902.06705).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hauberk.attacks import FeatureThreat
from hauberk.errors import InputError
from hauberk.evaluate.quality import rate_measurement
from hauberk.evaluate.robustness.answer import answer
from hauberk.evaluate.robustness.arena import Aimed, Arena
from hauberk.evaluate.robustness.budget import BUDGETS, Budget, Reach
from hauberk.evaluate.robustness.curves import draw_curves
from hauberk.evaluate.robustness.defender import Defender, measure_fidelity
from hauberk.evaluate.robustness.figures import Curves, Fidelity, RobustnessResult, Verdict
from hauberk.evaluate.robustness.sampling import Goal, attacked_records, stratified_sample
from hauberk.evaluate.robustness.trial import Trial, judge
from hauberk.progress import SILENT, Progress, Task
from hauberk.recipe import LabelledFeatures

__all__ = ["BUDGETS", "Budget", "Defender", "Goal", "Reach", "measure_robustness", "stratified_sample"]

_MOST_IN_POOL = 2000
"""Real records that attacks may start from and borrow from."""


def measure_robustness(
    defenders: Mapping[str, Defender],
    records: LabelledFeatures,
    *,
    baseline: str,
    threat: FeatureThreat,
    budget: Budget | None = None,
    goal: Goal = "any",
    reach: Reach = "white-box",
    curves: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, RobustnessResult]:
    """Attack every candidate on the same records.

    Args:
        defenders: The candidates by name, the baseline among them.
        records: Labelled records, features float32 [N, D]; at most `budget.records` of those that the goal is about
            are attacked.
        baseline: Whose twin transferred attacks are aimed at, and what differences refer to. Without a twin nothing is
            transferred.
        threat: How far records may be moved.
        budget: How much the adversary may spend; the defaults of `Budget` where it is `None`.
        goal: "evade" attacks attack records alone, "false-alarm" benign ones alone, "any" all.
        reach: What the adversary knows. Of "scores" and of "labels" alone no gradients are taken, of nobody.
        curves: Whether to measure how accuracy falls with the radius and with the steps, too.
        seed: Seed of the sample, of the attacks and of the bootstraps.
        progress: Who follows.

    Returns:
        By name, in the order of `defenders`.

    Raises:
        InputError: The baseline is missing, there is no record that the goal is about, a target is out of range,
            records and threat do not fit, or there is nothing to attack with: no gradients, and no queries allowed.
        ContractError: A session answers NaN to a record that nobody touched.
    """
    if baseline not in defenders:
        raise InputError(f"robustness: the baseline {baseline!r} must be among the candidates")
    arena = _arena(records, threat, budget or Budget(), goal, reach, seed)
    for defender in defenders.values():
        arena.require_means(defender, defenders[baseline])
    tested: dict[str, _Tested] = {}
    with progress.task("attacking", total=sum(_steps(arena, defender) for defender in defenders.values())) as task:
        tested[baseline] = first = _test(arena, defenders[baseline], None, task, curves=curves)
        for name, defender in defenders.items():
            if name != baseline:
                tested[name] = _test(arena, defender, first, task, curves=curves)
    return {name: _result(tested[name], None if name == baseline else tested[baseline], arena) for name in defenders}


def _arena(
    records: LabelledFeatures, threat: FeatureThreat, budget: Budget, goal: Goal, reach: Reach, seed: int
) -> Arena:
    attacked = attacked_records(records, goal, budget.records, seed)
    rows = stratified_sample(records.targets, _MOST_IN_POOL, seed)
    pool = LabelledFeatures(records.features[rows], records.targets[rows])
    return Arena(attacked.features, attacked.targets, threat, budget, reach, pool, seed)


def _steps(arena: Arena, defender: Defender) -> int:
    """How many attacks a candidate has to stand, for the progress bar."""
    modules = sum(module is not None for module in (defender.twin, defender.substitute))
    return sum(modules if attack.knowledge == "white-box" else 1 for attack in arena.attacks(defender.decision))


@dataclass(frozen=True)
class _Tested:
    """One candidate, all attacks behind it."""

    defender: Defender
    trial: Trial
    aimed: tuple[Aimed, ...]
    fidelity: tuple[Fidelity, ...]
    verdict: Verdict
    reason: str
    done: tuple[str, ...]
    curves: Curves | None
    seconds: float


def _test(arena: Arena, defender: Defender, baseline: _Tested | None, task: Task, *, curves: bool) -> _Tested:
    """The protocol for one candidate, from its answers to untouched records to the verdict; `None` for the baseline."""
    started = time.perf_counter()
    trial = arena.look(defender)
    aimed = arena.aim(defender.twin, defender.decision, task)
    trial = trial.after(arena.show(defender, trial, aimed, "white-box"))
    trial = trial.after(arena.show(defender, trial, () if baseline is None else baseline.aimed, "transfer"))
    learnt = arena.aim(defender.substitute, defender.decision, task)
    trial = trial.after(arena.show(defender, trial, learnt, "substitute"))
    trial = trial.after(arena.ask(defender, trial, task))
    fidelity = _fidelity(arena, defender, aimed, learnt)
    verdict, reason = judge(trial)
    done: tuple[str, ...] = ()
    if arena.still:
        reason = "the threat model lets nothing move, so that no attack ran: robust accuracy is clean accuracy"
    elif verdict == "gradient masking":
        trial, done = answer(arena, defender, None if baseline is None else baseline.defender, trial)
    drawn = draw_curves(arena, defender, trial) if curves else None
    seconds = time.perf_counter() - started
    return _Tested(defender, trial, aimed, fidelity, verdict, reason, done, drawn, seconds)


def _fidelity(
    arena: Arena, defender: Defender, aimed: tuple[Aimed, ...], learnt: tuple[Aimed, ...]
) -> tuple[Fidelity, ...]:
    measured = []
    for module, found in ((defender.twin, aimed), (defender.substitute, learnt)):
        if module is not None and found:
            attacked = np.concatenate([each.adversarial for each in found])
            measured.append(measure_fidelity(defender, module, arena.features, attacked, arena.targets, arena.threat))
    return tuple(measured)


def _result(tested: _Tested, baseline: _Tested | None, arena: Arena) -> RobustnessResult:
    """Flags become figures, with paired differences from the baseline."""
    trial, reference = tested.trial, None if baseline is None else baseline.trial
    both = trial.clean if reference is None else trial.clean & reference.clean
    alike = None if reference is None else trial.answers == reference.answers
    masked = tested.verdict == "gradient masking"
    worst = "worst case per record over " + ", ".join(f"{each.attack} ({each.knowledge})" for each in trial.attempts)
    return RobustnessResult(
        robust_accuracy=rate_measurement(
            "robust_accuracy",
            trial.survived,
            None if reference is None else reference.survived,
            seed=arena.seed,
            note=f"{tested.verdict}: {tested.reason}" if masked else worst if trial.attempts else tested.reason,
        ),
        clean_accuracy=rate_measurement(
            "accuracy",
            trial.clean,
            None if reference is None else reference.clean,
            seed=arena.seed,
            note="on the records that were attacked, before the attack",
        ),
        attacks=tuple(attempt.figures() for attempt in trial.attempts),
        verdict=tested.verdict,
        reason=tested.reason,
        done=tested.done,
        agreement=rate_measurement(
            "agreement", np.ones_like(trial.clean) if alike is None else alike, None, seed=arena.seed
        ),
        robust_of_both=rate_measurement(
            "robust_of_both",
            trial.survived[both],
            None if reference is None else reference.survived[both],
            seed=arena.seed,
            note="over the records that baseline and candidate both get right untouched",
        ),
        fidelity=tested.fidelity,
        curves=tested.curves,
        seconds=tested.seconds,
    )
