"""The robustness protocol: attack every candidate as it is deployed, and believe no single attack.

1. White-box: FGSM and PGD on the gradients of the candidate's differentiable twin.
2. Transfer: the same attacks aimed at the baseline's twin, shown to the candidate.
3. Scores: a gradient-free search on the candidate's real session.

Whatever an attack finds is judged by the real session. The figure is the worst case per record over all attacks. Where
transfer or scores beat the white-box attacks by more than the interval, gradients mislead, and the verdict says so:
Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018 (arXiv:1802.00420).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.artifact import Predictor
from hauberk.attacks import FGSM, PGD, Attack, FeatureThreat, ScoredModel, ScoreSearch, WhiteBox
from hauberk.errors import InputError
from hauberk.evaluate.quality import check_margins, rate_measurement
from hauberk.evaluate.robustness.figures import AttackFigures, Knowledge, RobustnessResult, Verdict
from hauberk.measurement import wilson
from hauberk.progress import SILENT, Progress, Task
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

Features = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Defender:
    """A candidate that has to stand the attacks.

    Attributes:
        predictor: The real session of the core: features to logits.
        decision: From logits to a label, with the candidate's own threshold.
        twin: A differentiable module in evaluation mode that computes what the session does; `None` where there is
            none, and then nobody can say whether its gradients mislead.
    """

    predictor: Predictor
    decision: Decision
    twin: torch.nn.Module | None = None

    @property
    def session(self) -> ScoredModel:
        """The real session as attacks see it."""
        return ScoredModel(self.predictor.predict, self.decision)


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much the adversary may spend.

    Attributes:
        records: Most records to attack; a stratified sample of those handed in.
        steps: Steps of PGD a restart.
        restarts: Restarts of PGD: the first from the record itself, the others from random points around it.
        queries: Queries a record of the gradient-free search.

    Raises:
        InputError: One of them is below 1.
    """

    records: int = 1000
    steps: int = 40
    restarts: int = 2
    queries: int = 1000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 1:
                raise InputError(f"robustness budget: {name} must be at least 1, not {getattr(self, name)}")

    def gradient_attacks(self) -> tuple[Attack[WhiteBox], ...]:
        """The white-box attacks. They never stop early: a record that barely fools the twin may not fool a session."""
        return (FGSM(), PGD(steps=self.steps, restarts=self.restarts, early_stopping=False))


def measure_robustness(
    defenders: Mapping[str, Defender],
    records: LabelledFeatures,
    *,
    baseline: str,
    threat: FeatureThreat,
    budget: Budget | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, RobustnessResult]:
    """Attack every candidate on the same records.

    Args:
        defenders: The candidates by name, the baseline among them.
        records: Labelled records to attack; at most `budget.records` of them are.
        baseline: Whose twin transferred attacks are aimed at, and what differences refer to; it must have a twin.
        threat: How far records may be moved.
        budget: How much the adversary may spend; the defaults of `Budget` where it is `None`.
        seed: Seed of the sample, of the attacks and of the bootstraps.
        progress: Who follows.

    Raises:
        InputError: The baseline is missing or has no twin, or records and threat do not fit.
        ContractError: A session answers NaN to a record that nobody touched.
    """
    if baseline not in defenders or defenders[baseline].twin is None:
        raise InputError(f"robustness: the baseline {baseline!r} must be among the candidates and have a twin")
    budget = budget or Budget()
    chosen = stratified_sample(records.targets, budget.records, seed)
    arena = _Arena(records.features[chosen], records.targets[chosen], threat, budget, seed)
    attacks = len(budget.gradient_attacks())
    own_twins = sum(defender.twin is not None for defender in defenders.values())
    with progress.task("attacking", total=own_twins * attacks + len(defenders)) as task:
        aimed = arena.white_box(defenders[baseline], task)
        trials = {}
        for name, defender in defenders.items():
            own = aimed if name == baseline else arena.white_box(defender, task)
            transferred = {} if name == baseline else aimed
            trials[name] = arena.try_out(defender, own, transferred, task)
    return {
        name: _result(trial, None if name == baseline else trials[baseline], seed) for name, trial in trials.items()
    }


def stratified_sample(targets: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Indices int64 [at most `most`], ascending, with the share of attacks that `targets` has."""
    if len(targets) <= most:
        return np.arange(len(targets))
    generator = np.random.default_rng(seed)
    attacks, benign = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    wanted = round(most * len(attacks) / len(targets))
    parts = (generator.choice(attacks, wanted, replace=False), generator.choice(benign, most - wanted, replace=False))
    return np.sort(np.concatenate(parts))


@dataclass(frozen=True)
class _Attempt:
    """One attack on one candidate: which records the real session still gets right, bool [N]."""

    attack: str
    knowledge: Knowledge
    survived: Flags
    queries: int


@dataclass(frozen=True)
class _Trial:
    """All attacks on one candidate."""

    clean: Flags
    attempts: tuple[_Attempt, ...]

    @property
    def survived(self) -> Flags:
        """Bool [N]: the records that nothing made the candidate get wrong."""
        return self.worst_case(None)

    def worst_case(self, knowledge: Knowledge | None) -> Flags:
        """The same over the attacks with some knowledge only."""
        survived = self.clean.copy()
        for attempt in self.attempts:
            if knowledge in (None, attempt.knowledge):
                survived &= attempt.survived
        return survived


@dataclass(frozen=True)
class _Arena:
    """The records under attack, and the rules."""

    features: Features
    targets: NDArray[np.int64]
    threat: FeatureThreat
    budget: Budget
    seed: int

    def white_box(self, defender: Defender, task: Task) -> dict[str, Features]:
        """Adversarial records from the gradients of a candidate's twin, by attack; none without a twin."""
        found: dict[str, Features] = {}
        if defender.twin is None:
            return found
        model = WhiteBox(defender.twin, defender.decision)
        for attack in self.budget.gradient_attacks():
            result = attack.run(model, self.features, self.targets, threat=self.threat, seed=self.seed)
            found[attack.name] = result.adversarial
            task.advance()
        return found

    def try_out(
        self, defender: Defender, own: Mapping[str, Features], transferred: Mapping[str, Features], task: Task
    ) -> _Trial:
        """Show a candidate's real session what was found, and search on it."""
        session = defender.session
        check_margins(defender.decision.margin(defender.predictor.predict(self.features)))
        clean = session.right(self.features, self.targets)
        aims: tuple[tuple[Knowledge, Mapping[str, Features]], ...] = (("white-box", own), ("transfer", transferred))
        attempts = [
            _Attempt(name, knowledge, clean & session.right(adversarial, self.targets), queries=0)
            for knowledge, found in aims
            for name, adversarial in found.items()
        ]
        search = ScoreSearch(queries=self.budget.queries)
        result = search.run(session, self.features, self.targets, threat=self.threat, seed=self.seed)
        task.advance()
        queries = int(result.queries.max(initial=0))
        attempts.append(_Attempt(search.name, "scores", clean & result.survived, queries))
        return _Trial(clean, tuple(attempts))


def _result(trial: _Trial, baseline: _Trial | None, seed: int) -> RobustnessResult:
    verdict, reason = _judge(trial)
    worst = "worst case per record over " + ", ".join(f"{a.attack} ({a.knowledge})" for a in trial.attempts)
    return RobustnessResult(
        robust_accuracy=rate_measurement(
            "robust_accuracy",
            trial.survived,
            None if baseline is None else baseline.survived,
            seed=seed,
            note=f"{verdict}: {reason}" if verdict == "gradient masking" else worst,
        ),
        clean_accuracy=rate_measurement(
            "accuracy",
            trial.clean,
            None if baseline is None else baseline.clean,
            seed=seed,
            note="on the records that were attacked, before the attack",
        ),
        attacks=tuple(
            AttackFigures(
                attack=attempt.attack,
                knowledge=attempt.knowledge,
                survived=rate_measurement("survived", attempt.survived, None, seed=seed),
                queries=attempt.queries,
            )
            for attempt in trial.attempts
        ),
        verdict=verdict,
        reason=reason,
    )


def _judge(trial: _Trial) -> tuple[Verdict, str]:
    """Whether attacks that do not use the candidate's gradients do better than those that do."""
    if all(attempt.knowledge != "white-box" for attempt in trial.attempts):
        return "not decided", "there is no twin to take gradients from, so no white-box attack to compare with"
    records = len(trial.clean)
    with_gradients = wilson(int(trial.worst_case("white-box").sum()), records)
    others: tuple[tuple[Knowledge, str], ...] = (("scores", "the score search"), ("transfer", "transfer"))
    without = min((float(trial.worst_case(knowledge).mean()), what) for knowledge, what in others)
    figures = (
        f"{without[1]} leaves {100 * without[0]:.1f} % right, the white-box attacks leave"
        f" {100 * with_gradients.value:.1f} % (95 % interval from {100 * with_gradients.low:.1f} %)"
    )
    if without[0] < with_gradients.low:
        return "gradient masking", figures
    return "no gradient masking found", figures
