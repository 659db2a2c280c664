"""White-box models, and what gradient attacks share: restarts, batches, the objective, the worst record so far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks.base import Attack, Features, Knowledge, Targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError
from hauberk.schema import Decision

Objective = Literal["margin", "cross-entropy"]


class WhiteBox:
    """A torch module whose gradients the adversary knows, with the decision that is made on its logits.

    The module is evaluated as it is: put it into evaluation mode first. Its parameters collect no gradients.

    Args:
        module: Maps features float32 [N, D] to logits [N, K], differentiably.
        decision: From logits to a margin and its threshold.
    """

    def __init__(self, module: torch.nn.Module, decision: Decision) -> None:
        self.module = module
        self.decision = decision

    @property
    def threshold(self) -> float:
        """A record is labelled an attack where its margin reaches this."""
        return self.decision.threshold

    def margin(self, features: Features) -> NDArray[np.float32]:
        """Log-odds of attack, float32 [N], of features float32 [N, D]."""
        with torch.no_grad():
            margins: NDArray[np.float32] = self.differentiable_margin(_tensor(features)).numpy()
        return margins

    def differentiable_margin(self, features: torch.Tensor) -> torch.Tensor:
        """The same on tensors, with its gradient.

        Raises:
            InputError: The logits are not [N, K] with the K of the decision.
        """
        logits: torch.Tensor = self.module(features)
        outputs, benign = self.decision.outputs, self.decision.benign
        if logits.ndim != 2 or logits.shape[1] != outputs:
            raise InputError(f"white-box model: expected logits [N, {outputs}], got {list(logits.shape)}")
        if outputs == 1:
            return logits[:, 0]
        attack = torch.cat([logits[:, :benign], logits[:, benign + 1 :]], dim=1)
        evidence = attack[:, 0] if outputs == 2 else attack.logsumexp(dim=1)
        return evidence - logits[:, benign]


@dataclass(frozen=True)
class Batch:
    """Some records under attack: `side` [n] is +1 for attack records and -1 for benign ones, the rest is [n, D]."""

    lowest: torch.Tensor
    highest: torch.Tensor
    side: torch.Tensor

    def take(self, rows: torch.Tensor) -> Batch:
        """Some of the records."""
        return Batch(self.lowest[rows], self.highest[rows], self.side[rows])


class Worst:
    """The worst point seen for each record of an attack, updated in place.

    Args:
        points: Float32 [N, D], the records themselves.
        side: Float32 [N], +1 for attack records and -1 for benign ones.
        threshold: The model's threshold.
    """

    def __init__(self, points: torch.Tensor, side: torch.Tensor, threshold: float) -> None:
        self.points = points.clone()
        self.margins = torch.full_like(side, torch.nan)
        self.headroom = torch.full_like(side, torch.inf)
        self.queries = torch.zeros(len(side), dtype=torch.int64)
        self._side = side
        self._threshold = threshold

    def see(self, rows: torch.Tensor, points: torch.Tensor, margins: torch.Tensor) -> None:
        """Take note of the model's margins [n] of points [n, D], which belong to the records `rows` int64 [n]."""
        side = self._side[rows]
        headroom = (margins - self._threshold) * side
        # A NaN never reaches the threshold: worst for an attack record, harmless for a benign one.
        headroom = torch.where(margins.isnan(), -side * torch.inf, headroom)
        first = self.queries[rows] == 0
        worse = (headroom < self.headroom[rows]) | first
        chosen = rows[worse]
        self.points[chosen] = points[worse]
        self.margins[chosen] = margins[worse]
        self.headroom[chosen] = headroom[worse]
        self.queries[rows] += 1

    def fooled(self, rows: torch.Tensor) -> torch.Tensor:
        """Bool [n]: whether the worst point of each of these records is labelled wrong."""
        return torch.where(self._side[rows] > 0, self.headroom[rows] < 0, self.headroom[rows] <= 0)


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack[WhiteBox]):
    """An attack that follows the gradient of the model's margin with respect to its input.

    Attributes:
        objective: What is driven over the threshold: the "margin", which never saturates, or the "cross-entropy" of
            attack against benign, whose gradient underflows where the model is sure of itself.
        batch_size: Records attacked together. It changes the speed, and results by rounding only.
    """

    knowledge: ClassVar[Knowledge] = "white-box"

    objective: Objective = "margin"
    batch_size: int = 1024

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"attack {self.name}: the batch size must be at least 1, not {self.batch_size}")

    @abstractmethod
    def _starts(
        self, features: Features, lowest: Features, highest: Features, generator: np.random.Generator
    ) -> Iterator[Features]:
        """Where to start, one float32 [N, D] a restart, within the limits."""

    @abstractmethod
    def _follow(
        self, model: WhiteBox, rows: torch.Tensor, start: torch.Tensor, batch: Batch, worst: Worst, radius: float
    ) -> None:
        """Attack one batch from `start` [n, D] and show every evaluated point to `worst`."""

    def _wanted(self, worst: Worst) -> torch.Tensor:
        """The records that another restart should attack, int64 indices: all of them unless a subclass stops early."""
        return torch.arange(len(worst.points))

    def _search(
        self,
        model: WhiteBox,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.float32], NDArray[np.int64]]:
        limits = threat.limits(features)
        side = torch.from_numpy(np.where(targets == 1, np.float32(1), np.float32(-1)))
        everything = Batch(torch.from_numpy(limits[0]), torch.from_numpy(limits[1]), side)
        records = _tensor(features)
        worst = Worst(records, side, float(np.float32(model.threshold)))
        for rows in _batches(torch.arange(len(features)), self.batch_size):
            with torch.no_grad():
                worst.see(rows, records[rows], model.differentiable_margin(records[rows]))
        for start in map(_tensor, self._starts(features, *limits, generator)):
            for rows in _batches(self._wanted(worst), self.batch_size):
                self._follow(model, rows, start[rows], everything.take(rows), worst, threat.radius)
        # Every point is inside already; this makes columns that did not move identical, the sign of a zero included.
        adversarial = threat.project(worst.points.numpy(), features)
        return adversarial, worst.margins.numpy(), worst.queries.numpy()

    def slope(self, model: WhiteBox, points: torch.Tensor, side: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The model's margins of points [n, D], and which way is up for their headroom.

        Returns:
            Margins float32 [n], and a gradient float32 [n, D] that the attack descends; zero where there is none.
        """
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            margins = model.differentiable_margin(points)
            aim = margins * side
            if self.objective == "cross-entropy":
                # The binary cross-entropy of attack against benign is softplus(-margin) for an attack record.
                aim = -torch.nn.functional.softplus(-aim)
        if not aim.requires_grad:
            return margins, torch.zeros_like(points)
        (gradient,) = torch.autograd.grad(aim.sum(), points, allow_unused=True, materialize_grads=True)
        return margins.detach(), gradient.nan_to_num_(nan=0.0)


def _batches(rows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _tensor(features: Features) -> torch.Tensor:
    """The same numbers as a tensor; without a copy, unless they are read-only or scattered, which torch dislikes."""
    return torch.from_numpy(np.require(features, requirements=["C", "W"]))
