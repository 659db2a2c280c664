"""Where attacks are run: the records under attack, the rules, and what each attack left of a candidate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import Attack, Classes, FeatureThreat, WhiteBox
from hauberk.attacks.judge import Judge, check_targets
from hauberk.errors import InputError
from hauberk.evaluate.robustness.budget import Budget, Reach
from hauberk.evaluate.robustness.defender import Defender, labels
from hauberk.evaluate.robustness.figures import Knowledge
from hauberk.evaluate.robustness.trial import Attempt, Trial
from hauberk.progress import Task
from hauberk.recipe import LabelledFeatures

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Aimed:
    """What one white-box attack on a module found, before a session has seen it.

    Attributes:
        attack: Its name.
        adversarial: Float32 [N, D].
        survived: Bool [N], records that the module itself still gets right.
        seconds: Wall-clock time.
    """

    attack: str
    adversarial: Features
    survived: NDArray[np.bool_]
    seconds: float


@dataclass(frozen=True)
class Arena:
    """The records under attack, and the rules.

    Attributes:
        features: Float32 [N, D], finite.
        targets: Int64 [N].
        threat: How far records may be moved.
        budget: How much the adversary may spend.
        reach: What the adversary knows.
        pool: Real records [M, D] to start from and to borrow from.
        seed: Of every attack.
    """

    features: Features
    targets: NDArray[np.int64]
    threat: FeatureThreat
    budget: Budget
    reach: Reach
    pool: LabelledFeatures
    seed: int

    @property
    def still(self) -> bool:
        """Whether the threat model leaves every record where it is."""
        lowest, highest = self.threat.limits(self.features)
        return bool((lowest == highest).all())

    def attacks(self, judge: Judge) -> tuple[Attack[Any], ...]:
        """The attacks of the budget that the adversary knows enough for, and has queries for."""
        if self.still:
            return ()
        many = isinstance(judge, Classes) and judge.outputs > 2
        return self.budget.build(self.pool, reach=self.reach, many=many)

    def require_means(self, defender: Defender, baseline: Defender) -> None:
        """Refuse an evaluation in which no attack could run: it would call every model robust.

        Raises:
            InputError: There are neither gradients, the candidate's or the baseline's, nor queries.
        """
        gradients = self.reach == "white-box" and any(
            module is not None for module in (defender.twin, defender.substitute, baseline.twin)
        )
        if not gradients and not self.budget.queries:
            why = "the model has no gradient" if self.reach == "white-box" else f"the adversary knows {self.reach} only"
            raise InputError(
                f"robustness: {why} and the budget is 0 queries, so that no attack can run; allow queries"
                + (", or give a float baseline or a substitute" if self.reach == "white-box" else "")
            )

    def look(self, defender: Defender) -> Trial:
        """What the candidate answers to the records untouched.

        Raises:
            InputError: A target is none that the judge knows.
            ContractError: The session answers NaN.
        """
        check_targets(defender.decision, self.targets)
        answers = labels(defender.decision, defender.logits(self.features))
        return Trial(clean=defender.session.right(self.features, self.targets), answers=answers)

    def aim(self, module: torch.nn.Module | None, judge: Judge, task: Task) -> tuple[Aimed, ...]:
        """Adversarial records from the gradients of a module; none without one."""
        if module is None:
            return ()
        model = WhiteBox(module, judge)
        return tuple(
            self._aimed(attack, model, task) for attack in self.attacks(judge) if attack.knowledge == "white-box"
        )

    def _aimed(self, attack: Attack[Any], model: WhiteBox, task: Task) -> Aimed:
        started = time.perf_counter()
        found = attack.run(model, self.features, self.targets, threat=self.threat, seed=self.seed)
        task.advance()
        return Aimed(attack.name, found.adversarial, found.survived, time.perf_counter() - started)

    def show(self, defender: Defender, trial: Trial, aimed: Sequence[Aimed], knowledge: Knowledge) -> list[Attempt]:
        """What the candidate's real session makes of records that were found on a module."""
        attempts = []
        for found in aimed:
            started = time.perf_counter()
            right = defender.session.right(found.adversarial, self.targets)
            shown = time.perf_counter() - started
            attempts.append(
                Attempt(
                    attack=found.attack,
                    knowledge=knowledge,
                    adversarial=found.adversarial,
                    survived=trial.clean & right,
                    queries=np.zeros(len(self.targets), dtype=np.int64),
                    seconds=shown + (0.0 if knowledge == "transfer" else found.seconds),
                    on_model=found.survived,
                )
            )
        return attempts

    def ask(self, defender: Defender, trial: Trial, task: Task) -> list[Attempt]:
        """Attacks on the candidate's real session, by its scores or its labels.

        Records that it gets wrong to begin with are not attacked: nothing is left to find there.
        """
        attempts = []
        for attack in self.attacks(defender.decision):
            if attack.knowledge != "white-box":
                attempts.append(self.asked(attack, defender, trial.clean))
                task.advance()
        return attempts

    def asked(self, attack: Attack[Any], defender: Defender, standing: NDArray[np.bool_]) -> Attempt:
        """One attack on the real session, on the records bool [N] that are standing."""
        started = time.perf_counter()
        rows = np.flatnonzero(standing)
        found = attack.run(
            defender.session, self.features[rows], self.targets[rows], threat=self.threat, seed=self.seed
        )
        adversarial, survived = self.features.copy(), standing.copy()
        queries = np.zeros(len(standing), dtype=np.int64)
        adversarial[rows], survived[rows], queries[rows] = found.adversarial, found.survived, found.queries
        knowledge: Knowledge = "scores" if attack.knowledge == "scores" else "labels"
        seconds = time.perf_counter() - started
        return Attempt(attack.name, knowledge, adversarial, survived, queries, seconds)
