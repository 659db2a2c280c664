"""White-box models, and what gradient attacks share: passes, batches, the slope, the worst record so far."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import judge as judging
from hauberk.attacks.base import Attack, Features, Knowledge, as_tensor
from hauberk.attacks.batch import Batch, in_batches, slices
from hauberk.attacks.judge import Judge, Targets
from hauberk.attacks.objectives import Objective, check_objective, height, towards
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError

_POOL = 8
"""Most batches that are attacked side by side: as records are left alone, what still stands fills fewer of them."""

_ROOM = 2**24
"""Most numbers of the records that are attacked side by side: 64 MiB an array of them."""


class WhiteBox:
    """A torch module whose gradients the adversary knows, with the judge behind its logits.

    The module is evaluated as it is: put it into evaluation mode first. Its parameters collect no gradients.

    Args:
        module: Maps features float32 [N, D] to logits [N, K], differentiably.
        judge: What makes an answer of them.
        batch_size: Most records that the module is given at once where nobody asks for gradients.
    """

    def __init__(self, module: torch.nn.Module, judge: Judge, *, batch_size: int = 1024) -> None:
        self.module = module
        self.judge = judge
        self._batch_size = batch_size

    def logits(self, features: Features) -> NDArray[np.float32]:
        """Logits float32 [N, K] of features float32 [N, D]."""
        found: NDArray[np.float32] = self._logits(features).numpy()
        return found

    def headroom(self, features: Features, targets: Targets) -> NDArray[np.float32]:
        """How far each answer is on the right side, float32 [N]."""
        room = judging.headroom(self.judge, self._logits(features), as_tensor(targets))
        found: NDArray[np.float32] = room.numpy()
        return found

    def right(self, features: Features, targets: Targets) -> NDArray[np.bool_]:
        """Whether each answer is right, bool [N]."""
        answers: NDArray[np.bool_] = judging.right(self.judge, self._logits(features), as_tensor(targets)).numpy()
        return answers

    def _logits(self, features: Features) -> torch.Tensor:
        records = as_tensor(features)
        with torch.no_grad():
            return torch.cat([self.module(part) for part in torch.split(records, self._batch_size)])

    def headroom_of(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The headroom [N] of tensors, with its gradient.

        Raises:
            InputError: The logits are not [N, K] with the judge's K.
        """
        return judging.headroom(self.judge, self.module(features), targets)


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
        worse = headroom < self.headroom[rows]
        if worse.all():
            self.points.index_copy_(0, rows, points)
            self.headroom.index_copy_(0, rows, headroom)
        else:
            chosen = torch.nonzero(worse)[:, 0]
            self.points.index_copy_(0, rows[chosen], points[chosen])
            self.headroom.index_copy_(0, rows[chosen], headroom[chosen])
        self.queries[rows] += 1

    def fooled(self, rows: torch.Tensor) -> torch.Tensor:
        """Bool [n]: whether the worst point of each of these records is answered wrong."""
        return judging.fooled(self._judge, self.headroom[rows], self._targets[rows])


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack[WhiteBox]):
    """An attack that follows the gradient of the model with respect to its input.

    Attributes:
        objective: What is driven down: the "margin", which is the headroom; the "cross-entropy" of the right answer, by
            its log-odds; or "dlr", the difference-of-logits ratio, for three classes or more. See
            `hauberk.attacks.objectives`.
        batch_size: Records attacked together. It changes the speed, and results by rounding and random draws only.
    """

    knowledge: ClassVar[Knowledge] = "white-box"

    objective: Objective = "margin"
    batch_size: int = 1024

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"attack {self.name}: the batch size must be at least 1, not {self.batch_size}")

    @abstractmethod
    def _passes(self, model: WhiteBox, everything: Batch, generator: np.random.Generator) -> Iterator[Pass]:
        """The passes over all records, one after the other."""

    @abstractmethod
    def _follow(
        self,
        model: WhiteBox,
        rows: torch.Tensor,
        start: torch.Tensor,
        batch: Batch,
        worst: Worst,
        generator: np.random.Generator,
    ) -> None:
        """Attack some records from the legal points `start` [n, D] and show every evaluated point to `worst`."""

    def _wanted(self, worst: Worst) -> torch.Tensor:
        """The records that another pass should attack, int64 indices: all of them unless a subclass stops early."""
        return torch.arange(len(worst.points))

    def _search(
        self,
        model: WhiteBox,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.int64]]:
        check_objective(self.objective, model.judge, self.name)
        everything = Batch.of(threat, features, targets)
        worst = Worst(everything.records, everything.targets, model.judge)
        together = max(self.batch_size, min(_POOL * self.batch_size, _ROOM // max(threat.width, 1)))
        with still(model.module):
            for number, one in enumerate(self._passes(model, everything, generator)):
                if number == 0 and one.start is not everything.records:
                    itself = self.headroom(model, everything.records, everything)
                    worst.see(torch.arange(len(everything)), everything.records, itself)
                for rows in in_batches(self._wanted(worst), together):
                    batch = replace(everything, rivals=one.rivals, lazy=one.lazy).take(rows)
                    self._follow(model, rows, one.start[rows], batch, worst, generator)
        # Every point is legal already; this makes columns that did not move identical, the sign of a zero included.
        found = torch.where(worst.points == everything.records, everything.records, worst.points)
        return found.numpy(), worst.queries.numpy()

    def headroom(self, model: WhiteBox, points: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The headroom [n] of legal points, without a gradient; the model sees `batch_size` of them at once."""
        with torch.no_grad():
            parts = [
                model.headroom_of(points[part], batch.targets[part]) for part in slices(len(points), self.batch_size)
            ]
        return torch.cat(parts)

    def slope(self, model: WhiteBox, points: torch.Tensor, batch: Batch) -> Slope:
        """Where legal points [n, D] stand, and which way is up; the model sees `batch_size` of them at once."""
        if len(points) <= self.batch_size:
            return self._slope(model, points, batch)
        parts = [self._slope(model, points[part], batch.cut(part)) for part in slices(len(points), self.batch_size)]
        return Slope(
            headroom=torch.cat([part.headroom for part in parts]),
            height=torch.cat([part.height for part in parts]),
            gradient=torch.cat([part.gradient for part in parts]),
        )

    def _slope(self, model: WhiteBox, points: torch.Tensor, batch: Batch) -> Slope:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            logits = model.module(points)
            found = judging.headroom(model.judge, logits, batch.targets)
            if batch.rivals is None:
                aim = height(self.objective, model.judge, logits, batch.targets, found)
            else:
                aim = towards(logits, batch.targets, batch.rivals)
        gradient = gradient_of(aim, points)
        if not batch.signs_only:
            gradient = gradient.masked_fill_(batch.pinned, 0.0)
        return Slope(found.detach(), aim.detach(), gradient)


@dataclass(frozen=True)
class Pass:
    """One go at all records.

    Attributes:
        start: Legal points float32 [N, D] to start from.
        rivals: Int64 [N], the classes to drive them to; `None` for any wrong answer.
        lazy: Whether iterates stay unrepaired; see `hauberk.attacks.batch`.
    """

    start: torch.Tensor
    rivals: torch.Tensor | None = None
    lazy: bool = False


@dataclass(frozen=True)
class Slope:
    """What one evaluation of legal points tells.

    Attributes:
        headroom: Float32 [n].
        height: Float32 [n], the objective, which falls as the answer goes wrong.
        gradient: Float32 [n, D], that of the height; zero where there is none and, unless signs are all that a step
            asks for, in columns that cannot move.
    """

    headroom: torch.Tensor
    height: torch.Tensor
    gradient: torch.Tensor


def flat(gradient: torch.Tensor, batch: Batch, suspects: torch.Tensor) -> torch.Tensor:
    """Bool [n]: which of the suspects, bool [n], have a gradient [n, D] of exactly zero in every column that can move.

    A step against such a gradient leads nowhere, so that only records that did not move are worth the look.
    """
    if not suspects.any():
        return suspects
    rows = torch.nonzero(suspects)[:, 0]
    found = suspects.clone()
    found[rows] = ~(gradient[rows] != 0).logical_and_(~batch.pinned[rows]).any(dim=1)
    return found


def is_worth_leaving(done: torch.Tensor) -> bool:
    """Whether so many records of a batch are done, bool [n], that going on without them saves time."""
    return int(done.sum()) * 16 >= len(done)


@contextmanager
def still(module: torch.nn.Module) -> Iterator[None]:
    """Ask nothing of the parameters while inputs are attacked, which saves what their gradients would need."""
    moving = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in moving:
            parameter.requires_grad = False
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad = True


def zero_gradient_share(model: WhiteBox, features: Features, targets: Targets, *, batch_size: int = 1024) -> float:
    """The share of records at which the gradient of the headroom is exactly zero: what no gradient attack can follow.

    Attacks with several steps go on from random points there, which is a weak search. A share that is not close to 0
    means that their figures say little: rounding, saturation or a clamp stands between the input and the answer.

    Args:
        model: The model, as it would be attacked.
        features: Float32 [N, D], at least one.
        targets: Int64 [N], the right answers.
        batch_size: Records evaluated together, at least 1.

    Raises:
        InputError: There is no record, or the batch size is below 1.
    """
    if not len(features) or batch_size < 1:
        raise InputError(
            f"gradients: there must be a record and a batch size of at least 1, not {len(features)}, {batch_size}"
        )
    flat = 0
    for rows in in_batches(torch.arange(len(features)), batch_size):
        points = as_tensor(features)[rows].requires_grad_()
        with torch.enable_grad():
            found = model.headroom_of(points, as_tensor(targets)[rows])
        flat += int((~gradient_of(found, points).any(dim=1)).sum())
    return flat / len(features)


def gradient_of(heights: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The gradient [n, D] of each height [n] with respect to its own point; zero where there is none, or a NaN."""
    if not heights.requires_grad:
        return torch.zeros_like(points, requires_grad=False)
    (gradient,) = torch.autograd.grad(heights.sum(), points, allow_unused=True, materialize_grads=True)
    # A sum is cheaper than a look at every number, and a NaN in one of them is a NaN in the sum.
    return gradient if math.isfinite(float(gradient.sum())) else gradient.nan_to_num_(nan=0.0)
