"""White-box models, and what gradient attacks share: restarts, batches, the objective, the worst record so far."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import judge as judging
from hauberk.attacks.base import Attack, Features, Knowledge, as_tensor
from hauberk.attacks.judge import Judge, Targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError
from hauberk.schema import Decision

Objective = Literal["margin", "cross-entropy"]


class WhiteBox:
    """A torch module whose gradients the adversary knows, with the judge behind its logits.

    The module is evaluated as it is: put it into evaluation mode first. Its parameters collect no gradients.

    Args:
        module: Maps features float32 [N, D] to logits [N, K], differentiably.
        judge: What makes an answer of them.
    """

    def __init__(self, module: torch.nn.Module, judge: Judge) -> None:
        self.module = module
        self.judge = judge

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Logits float32 [N, K] of features float32 [N, D]."""
        with torch.no_grad():
            found: NDArray[np.float32] = self.module(as_tensor(features)).numpy()
        return found

    def headroom(self, features: Features, targets: Targets) -> NDArray[np.float32]:
        """How far each answer is on the right side, float32 [N]."""
        with torch.no_grad():
            found: NDArray[np.float32] = self.headroom_of(as_tensor(features), as_tensor(targets)).numpy()
        return found

    def right(self, features: Features, targets: Targets) -> NDArray[np.bool_]:
        """Whether each answer is right, bool [N]."""
        with torch.no_grad():
            logits = self.module(as_tensor(features))
            answers: NDArray[np.bool_] = judging.right(self.judge, logits, as_tensor(targets)).numpy()
        return answers

    def headroom_of(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The headroom [N] of tensors, with its gradient.

        Raises:
            InputError: The logits are not [N, K] with the judge's K.
        """
        return judging.headroom(self.judge, self.module(features), targets)


@dataclass(frozen=True)
class Batch:
    """Some records under attack: the ends of their ranges [n, D] and their targets int64 [n]."""

    lowest: torch.Tensor
    highest: torch.Tensor
    targets: torch.Tensor

    def take(self, rows: torch.Tensor) -> Batch:
        """Some of the records."""
        return Batch(self.lowest[rows], self.highest[rows], self.targets[rows])


class Worst:
    """The worst point seen for each record of an attack, updated in place.

    Args:
        points: Float32 [N, D], the records themselves.
        targets: Int64 [N].
        judge: The attacked model's.
    """

    def __init__(self, points: torch.Tensor, targets: torch.Tensor, judge: Judge) -> None:
        self.points = points.clone()
        self.headroom = torch.full((len(points),), torch.inf)
        self.queries = torch.zeros(len(points), dtype=torch.int64)
        self._targets = targets
        self._judge = judge

    def see(self, rows: torch.Tensor, points: torch.Tensor, headroom: torch.Tensor) -> None:
        """Take note of the headroom [n] of points [n, D], which belong to the records `rows` int64 [n]."""
        worse = (headroom < self.headroom[rows]) | (self.queries[rows] == 0)
        chosen = rows[worse]
        self.points[chosen] = points[worse]
        self.headroom[chosen] = headroom[worse]
        self.queries[rows] += 1

    def fooled(self, rows: torch.Tensor) -> torch.Tensor:
        """Bool [n]: whether the worst point of each of these records is answered wrong."""
        return judging.fooled(self._judge, self.headroom[rows], self._targets[rows])


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack[WhiteBox]):
    """An attack that follows the gradient of the model's headroom with respect to its input.

    Attributes:
        objective: What is driven down: the "margin", which is the headroom and never saturates, or minus the
            "cross-entropy" of the right answer, whose gradient underflows where the model is sure of itself.
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
    ) -> tuple[Features, NDArray[np.int64]]:
        limits = threat.limits(features)
        records, right_answers = as_tensor(features), as_tensor(targets)
        everything = Batch(torch.from_numpy(limits[0]), torch.from_numpy(limits[1]), right_answers)
        worst = Worst(records, right_answers, model.judge)
        for rows in _batches(torch.arange(len(features)), self.batch_size):
            with torch.no_grad():
                worst.see(rows, records[rows], model.headroom_of(records[rows], right_answers[rows]))
        for start in map(as_tensor, self._starts(features, *limits, generator)):
            for rows in _batches(self._wanted(worst), self.batch_size):
                self._follow(model, rows, start[rows], everything.take(rows), worst, threat.radius)
        # Every point is inside already; this makes columns that did not move identical, the sign of a zero included.
        return threat.project(worst.points.numpy(), features), worst.queries.numpy()

    def slope(self, model: WhiteBox, points: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The headroom of points [n, D] with targets int64 [n], and which way is up for it.

        Returns:
            Headroom float32 [n], and a gradient float32 [n, D] that the attack descends; zero where there is none.
        """
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            logits = model.module(points)
            found = judging.headroom(model.judge, logits, targets)
            aim = self._aim(model.judge, logits, found, targets)
        if not aim.requires_grad:
            return found, torch.zeros_like(points)
        (gradient,) = torch.autograd.grad(aim.sum(), points, allow_unused=True, materialize_grads=True)
        return found.detach(), gradient.nan_to_num_(nan=0.0)

    def _aim(self, judge: Judge, logits: torch.Tensor, found: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """What is driven down, [n]."""
        if self.objective == "margin":
            return found
        if isinstance(judge, Decision):
            # The binary cross-entropy of attack against benign is softplus(-margin) for an attack record.
            return -torch.nn.functional.softplus(-found)
        if judge.wanted is not None:
            return torch.nn.functional.cross_entropy(logits, torch.full_like(targets, judge.wanted), reduction="none")
        return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def _batches(rows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
