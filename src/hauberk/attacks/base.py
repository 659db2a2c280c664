"""What every attack is: its contract, its result, and the pre- and postconditions that the base class enforces.

A subclass writes `_search` and nothing else. The base class checks what comes in, checks that what goes out satisfies
the threat model exactly, and judges survival by the model's own answers to the records that it returns.

Records are rows float32 [N, D]. Windows and images are attacked as rows, too: the model's wrapper reshapes them, and an
attack that wants to know of neighbours asks the threat for its `shape`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import judge as judging
from hauberk.attacks.judge import Judge, Targets, check_targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import ContractError, InputError

Features = NDArray[np.float32]
Knowledge = Literal["white-box", "scores", "labels"]
Aim = Literal["deepest", "nearest"]

_PART = 512
"""Records compared with the threat model at once: what stays in a processor's cache takes a fifth of the time."""


class Labelled(Protocol):
    """A model of which only answers are known: what a decision-based attack needs, and no more."""

    @property
    def judge(self) -> Judge:
        """What makes an answer of its logits."""

    def right(self, features: Features, targets: Targets) -> NDArray[np.bool_]:
        """Whether each answer is right, bool [N], for features float32 [N, D] and targets int64 [N]."""


class Scored(Labelled, Protocol):
    """A model whose scores are known, too: what a score-based attack needs."""

    def headroom(self, features: Features, targets: Targets) -> NDArray[np.float32]:
        """How far each answer is on the right side, float32 [N]; see `hauberk.attacks.judge.headroom`."""


@dataclass(frozen=True)
class ScoredModel:
    """A model by its logits: any function from features to them, a session for example.

    Attributes:
        function: Maps features float32 [N, D] to logits float32 [N, K].
        judge: What makes an answer of them.
        batch_size: Most records that the function is given at once, at least 1.
    """

    function: Callable[[Features], NDArray[np.float32]]
    judge: Judge
    batch_size: int = 512

    def headroom(self, features: Features, targets: Targets) -> NDArray[np.float32]:
        """How far each answer is on the right side, float32 [N]."""
        found: NDArray[np.float32] = judging.headroom(self.judge, self._logits(features), as_tensor(targets)).numpy()
        return found

    def right(self, features: Features, targets: Targets) -> NDArray[np.bool_]:
        """Whether each answer is right, bool [N]."""
        answers: NDArray[np.bool_] = judging.right(self.judge, self._logits(features), as_tensor(targets)).numpy()
        return answers

    def _logits(self, features: Features) -> torch.Tensor:
        size = self.batch_size
        parts = [self.function(features[start : start + size]) for start in range(0, max(len(features), 1), size)]
        return as_tensor(np.concatenate(parts))


AttackedModel_contra = TypeVar("AttackedModel_contra", bound=Labelled, contravariant=True)


@dataclass(frozen=True)
class AttackResult:
    """What an attack found.

    Attributes:
        adversarial: Float32 [N, D], the worst record found for each record; the record itself where none is worse.
        survived: Bool [N], whether the attacked model still answers `adversarial` right. A record that is answered
            wrong to begin with never counts as survived.
        queries: Int64 [N], how many times the attack had the model evaluate a point for this record; the closing
            look, which judges what was found, is not among them.
    """

    adversarial: Features
    survived: NDArray[np.bool_]
    queries: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Attack(ABC, Generic[AttackedModel_contra]):
    """One attack with its parameters; frozen, so that a report can name it and anyone can repeat it."""

    name: ClassVar[str]
    """Name in reports and in the registry."""
    knowledge: ClassVar[Knowledge]
    """What it must know of the model: its gradients ("white-box"), its logits ("scores") or its answers ("labels")."""
    aim: ClassVar[Aim] = "deepest"
    """What it looks for: the point of the threat model with the least headroom ("deepest"), or the smallest change that
    makes the answer wrong ("nearest"). A nearest attack returns the record itself where it found no such change within
    the threat model, and where the answer is wrong to begin with."""

    def run(
        self, model: AttackedModel_contra, features: Features, targets: Targets, *, threat: FeatureThreat, seed: int = 0
    ) -> AttackResult:
        """Attack every record, so that the model's answer to it is no longer right.

        Args:
            model: The model, as much of it as the attack knows.
            features: Float32 [N, D], finite.
            targets: Int64 [N], the answers that are right, and stay right: 0 benign and 1 attack, or the class.
            threat: How far records may be moved.
            seed: Seed of everything random; the same seed finds the same records.

        Raises:
            InputError: Shapes, dtypes or values are not as above.
            ContractError: The attack returned a record outside the threat model, which is a bug in the attack.
        """
        _check(features, threat)
        check_targets(model.judge, targets)
        if len(targets) != len(features):
            raise InputError(f"attack: there are {len(targets)} targets for {len(features)} records")
        adversarial, queries = self._search(model, features, targets, threat, np.random.default_rng(seed))
        for start in range(0, len(features), _PART):
            part = slice(start, start + _PART)
            outside = np.argwhere(threat.violations(adversarial[part], features[part]))
            if outside.size:
                record, column = outside[0]
                raise ContractError(
                    f"attack {self.name}: record {start + record} left the threat model in column {column}"
                )
        return AttackResult(adversarial, model.right(adversarial, targets), queries)

    @abstractmethod
    def _search(
        self,
        model: AttackedModel_contra,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.int64]]:
        """Return the worst records, and the evaluations spent on each."""


def _check(features: Features, threat: FeatureThreat) -> None:
    if features.ndim != 2 or features.dtype != np.float32 or features.shape[1] != threat.width:
        raise InputError(
            f"attack: features must be float32 [N, {threat.width}] as in the threat model,"
            f" not {features.dtype} {list(features.shape)}"
        )
    if not np.isfinite(features).all():
        raise InputError("attack: features hold a NaN or an infinity; attack finite records")


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """The same numbers as a tensor; without a copy, unless they are read-only or scattered, which torch dislikes."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
