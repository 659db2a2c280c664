"""What happened to the records of one candidate, attack by attack, and what that says about its gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks import Ensemble
from hauberk.evaluate.quality import rate_measurement
from hauberk.evaluate.robustness.figures import AttackFigures, Knowledge, Verdict
from hauberk.measurement import wilson

Features = NDArray[np.float32]
Flags = NDArray[np.bool_]

_MIXED = frozenset({Ensemble.name})

_RIVALS: dict[Knowledge, str] = {
    "transfer": "transfer",
    "substitute": "the substitute",
    "scores": "the score-based attacks",
    "labels": "the decision-based attacks",
}
"""What does not use the candidate's own gradients, and what it is called in a sentence."""


@dataclass(frozen=True)
class Attempt:
    """One attack on one candidate.

    Attributes:
        attack: Its name.
        knowledge: How it was aimed.
        adversarial: Float32 [N, D], what it made of each record.
        survived: Bool [N], records that the real session gets right, before and after.
        queries: Int64 [N], evaluations of the real session.
        seconds: Wall-clock time.
        on_model: Bool [N], records that the module under attack gets right; `None` where that was the session.
        answer: Whether it was run because masking was suspected.
    """

    attack: str
    knowledge: Knowledge
    adversarial: Features = field(repr=False)
    survived: Flags
    queries: NDArray[np.int64]
    seconds: float
    on_model: Flags | None = None
    answer: bool = False

    def figures(self) -> AttackFigures:
        """The attempt as plain data."""
        asked = self.queries[self.queries > 0]
        on_model = None if self.on_model is None else rate_measurement("survived", self.on_model, None, seed=0)
        return AttackFigures(
            attack=self.attack,
            knowledge=self.knowledge,
            survived=rate_measurement("survived", self.survived, None, seed=0),
            queries=int(self.queries.max(initial=0)),
            mean_queries=float(asked.mean()) if asked.size else 0.0,
            seconds=self.seconds,
            on_model=on_model,
            answer=self.answer,
        )


@dataclass(frozen=True)
class Trial:
    """All attacks on one candidate.

    Attributes:
        clean: Bool [N], records that the session gets right untouched.
        answers: Int64 [N], its labels of them.
        attempts: In the order in which they were made.
    """

    clean: Flags
    answers: NDArray[np.int64]
    attempts: tuple[Attempt, ...] = ()

    def after(self, attempts: Iterable[Attempt]) -> Trial:
        """The same with more attempts."""
        return replace(self, attempts=(*self.attempts, *attempts))

    @property
    def survived(self) -> Flags:
        """Bool [N]: the records that nothing made the candidate get wrong."""
        return self.worst_case()

    def worst_case(self, *knowledge: Knowledge) -> Flags:
        """The same over the attacks with some knowledge only; over all where none is named."""
        return self._left(attempt for attempt in self.attempts if not knowledge or attempt.knowledge in knowledge)

    def at_first(self, knowledge: Knowledge) -> Flags:
        """What a plain evaluation by such attacks would have reported.

        Without those that were run because masking was suspected, and without those that search by scores on the twin,
        too: they get through where gradients do not.
        """
        return self._left(
            attempt
            for attempt in self.attempts
            if attempt.knowledge == knowledge and not attempt.answer and attempt.attack not in _MIXED
        )

    def _left(self, attempts: Iterable[Attempt]) -> Flags:
        survived = self.clean.copy()
        for attempt in attempts:
            survived &= attempt.survived
        return survived


def judge(trial: Trial) -> tuple[Verdict, str]:
    """Whether attacks that do not use the candidate's gradients do better than those that do, by more than chance.

    Attacks that were run because of a first suspicion do not count: the verdict is about what a plain evaluation with
    gradients would have reported.
    """
    aimed = {attempt.knowledge for attempt in trial.attempts if attempt.attack not in _MIXED}
    if "white-box" not in aimed:
        return "not decided", "no attack took gradients of the candidate itself, so there is nothing to compare with"
    records = len(trial.clean)
    with_gradients = wilson(int(trial.at_first("white-box").sum()), records)
    rivals = [
        (float(trial.at_first(knowledge).mean()), name) for knowledge, name in _RIVALS.items() if knowledge in aimed
    ]
    white_box = (
        f"the white-box attacks leave {100 * with_gradients.value:.1f} % (95 % interval from"
        f" {100 * with_gradients.low:.1f} %)"
    )
    if not rivals:
        return "not decided", f"{white_box}, and there is no other attack to compare with"
    without, name = min(rivals)
    figures = f"{name} {_verb(name)} {100 * without:.1f} % right, {white_box}"
    if without < with_gradients.low:
        return "gradient masking", figures
    return "no gradient masking found", figures


def _verb(name: str) -> str:
    return "leave" if name.endswith("attacks") else "leaves"
