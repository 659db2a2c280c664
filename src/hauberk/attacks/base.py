"""What every attack is: its contract, its result, and the pre- and postconditions that the base class enforces.

A subclass writes `_search` and nothing else. The base class checks what comes in, checks that what goes out satisfies
the threat model exactly, and judges survival from the model's own answers to the records that it returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import ContractError, InputError

Features = NDArray[np.float32]
Targets = NDArray[np.int64]
Knowledge = Literal["white-box", "scores"]


class Model(Protocol):
    """What an attack needs of a model: its margins and where its threshold lies."""

    @property
    def threshold(self) -> float:
        """A record is labelled an attack where its margin reaches this."""

    def margin(self, features: Features) -> NDArray[np.float32]:
        """Log-odds of attack, float32 [N], of features float32 [N, D]."""


@dataclass(frozen=True)
class ScoredModel:
    """A model of which only scores are known: any function from features to margins, a session for example.

    Attributes:
        function: Maps features float32 [N, D] to margins float32 [N].
        threshold: A record is labelled an attack where its margin reaches this.
    """

    function: Callable[[Features], NDArray[np.float32]]
    threshold: float = 0.0

    def margin(self, features: Features) -> NDArray[np.float32]:
        """Log-odds of attack, float32 [N], of features float32 [N, D]."""
        return self.function(features)


AttackedModel_contra = TypeVar("AttackedModel_contra", bound=Model, contravariant=True)


@dataclass(frozen=True)
class AttackResult:
    """What an attack found.

    Attributes:
        adversarial: Float32 [N, D], the worst record found for each record; the record itself where none is worse.
        margins: Float32 [N], the attacked model's margins of `adversarial`.
        survived: Bool [N], whether the attacked model still gives the right label. A record that is classified wrong
            to begin with never counts as survived.
        queries: Int64 [N], how many times the attack had the model evaluate a point for this record.
    """

    adversarial: Features
    margins: NDArray[np.float32]
    survived: NDArray[np.bool_]
    queries: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Attack(ABC, Generic[AttackedModel_contra]):
    """One attack with its parameters; frozen, so that a report can name it and anyone can repeat it."""

    name: ClassVar[str]
    """Name in reports and in the registry."""
    knowledge: ClassVar[Knowledge]
    """What it must know of the model: its gradients ("white-box") or its answers ("scores")."""

    def run(
        self, model: AttackedModel_contra, features: Features, targets: Targets, *, threat: FeatureThreat, seed: int = 0
    ) -> AttackResult:
        """Attack every record: attack records are pushed below the threshold, benign ones above it.

        Args:
            model: The model, as much of it as the attack knows.
            features: Float32 [N, D], finite.
            targets: Int64 [N], 0 benign and 1 attack: the labels that are right, and stay right.
            threat: How far records may be moved.
            seed: Seed of everything random; the same seed finds the same records.

        Raises:
            InputError: Shapes, dtypes or values are not as above.
            ContractError: The attack returned a record outside the threat model, which is a bug in the attack.
        """
        _check(features, targets, threat)
        adversarial, margins, queries = self._search(model, features, targets, threat, np.random.default_rng(seed))
        outside = np.argwhere(threat.violations(adversarial, features))
        if outside.size:
            record, column = outside[0]
            raise ContractError(f"attack {self.name}: record {record} left the threat model in column {column}")
        return AttackResult(adversarial, margins, classified_right(margins, targets, model.threshold), queries)

    @abstractmethod
    def _search(
        self,
        model: AttackedModel_contra,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.float32], NDArray[np.int64]]:
        """Return the worst records, the model's margins of them, and the evaluations spent on each."""


def classified_right(margins: NDArray[np.float32], targets: Targets, threshold: float) -> NDArray[np.bool_]:
    """Bool [N]: whether the label (`margin >= threshold`) is the target. A NaN never reaches the threshold."""
    right: NDArray[np.bool_] = (margins >= np.float32(threshold)) == (targets == 1)
    return right


def headroom(margins: NDArray[np.float32], targets: Targets, threshold: float) -> NDArray[np.float32]:
    """How far each margin lies on the right side of the threshold, float32 [N]; what attacks make small.

    Negative (or zero, for a benign record) means that the label is wrong. A NaN never reaches the threshold: it is
    as bad as can be for an attack record, and as good as can be for a benign one.
    """
    distance = margins - np.float32(threshold)
    side = np.where(targets == 1, np.float32(1), np.float32(-1))
    return np.where(np.isnan(margins), np.copysign(np.float32(np.inf), -side), distance * side)


def _check(features: Features, targets: Targets, threat: FeatureThreat) -> None:
    if features.ndim != 2 or features.dtype != np.float32 or features.shape[1] != threat.width:
        raise InputError(
            f"attack: features must be float32 [N, {threat.width}] as in the threat model,"
            f" not {features.dtype} {list(features.shape)}"
        )
    if not np.isfinite(features).all():
        raise InputError("attack: features hold a NaN or an infinity; attack finite records")
    if targets.shape != features.shape[:1] or targets.dtype != np.int64 or not np.isin(targets, (0, 1)).all():
        raise InputError(f"attack: targets must be int64 [{len(features)}], 0 for benign and 1 for attack")
