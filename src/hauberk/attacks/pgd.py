"""Projected gradient descent: many small signed steps, each followed by a projection outside the gradient.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018 (arXiv:1706.06083). The
momentum is that of Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018 (arXiv:1710.06081): gradients
of mean length one, added up with a decay. Under constraints, every iterate is repaired before the model sees it and the
worst repaired one is kept, as in CAPGD (Simonetto et al. 2024, arXiv:2406.00775).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from hauberk.attacks.batch import Batch
from hauberk.attacks.gradient import GradientAttack, Pass, WhiteBox, Worst, flat, is_worth_leaving
from hauberk.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """Projected gradient descent; the worst point of all steps and restarts is kept.

    A record whose gradient is exactly zero goes on from a random point of the threat model. One that stands in a corner
    from which its gradient does not lead is left alone: every further step of the restart would repeat the last.

    Attributes:
        steps: Gradient steps a restart, at least 1.
        step_size: Length of a step in feature space, of one column in an L-infinity ball and of all together in an L2
            ball. `None` for steps that shrink evenly, from the radius to the radius divided by `steps`: most records
            that fall do so in the first ones. Without a norm it must be `None`: each column then has its own steps,
            which start at half of its range.
        momentum: Share of the earlier direction that a step keeps, at least 0; 0 for none, 1 in the paper.
        restarts: Starting points, at least 1. The first is the record itself unless `random_start`; every further one
            is uniform in the threat model. Where repairs round, every second restart goes on from the repair; see
            `hauberk.attacks.batch`.
        random_start: Whether the first start is random, too.
        early_stopping: Leave a record alone once its answer is wrong. Faster; records that are meant to be transferred
            to another model should go as deep as they can, so switch it off there.
    """

    name: ClassVar[str] = "pgd"

    steps: int = 20
    step_size: float | None = None
    momentum: float = 0.0
    restarts: int = 1
    random_start: bool = False
    early_stopping: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.restarts < 1:
            raise InputError(f"attack pgd: steps and restarts must be at least 1, not {self.steps} and {self.restarts}")
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size > 0):
            raise InputError(f"attack pgd: the step size must be a finite number above 0, not {self.step_size}")
        if not (math.isfinite(self.momentum) and self.momentum >= 0):
            raise InputError(f"attack pgd: the momentum must be a finite number of at least 0, not {self.momentum}")

    def _passes(
        self,
        model: WhiteBox,  # noqa: ARG002
        everything: Batch,
        generator: np.random.Generator,
    ) -> Iterator[Pass]:
        if self.step_size is not None and everything.threat.norm == "none":
            raise InputError("attack pgd: without a norm columns have steps of their own; leave the step size out")
        for restart in range(self.restarts):
            itself = restart == 0 and not self.random_start
            start = everything.records if itself else everything.scattered(generator)
            yield Pass(start, lazy=everything.lazy and restart % 2 == 0)

    def _wanted(self, worst: Worst) -> torch.Tensor:
        everyone = torch.arange(len(worst.points))
        return everyone[~worst.fooled(everyone)] if self.early_stopping else everyone

    def _follow(
        self,
        model: WhiteBox,
        rows: torch.Tensor,
        start: torch.Tensor,
        batch: Batch,
        worst: Worst,
        generator: np.random.Generator,
    ) -> None:
        radius = batch.threat.radius
        fixed = None if self.step_size is None or radius == 0 else self.step_size / radius
        iterates, direction = start, torch.zeros_like(start) if self.momentum else start
        for step in range(self.steps):
            share = 1 - step / self.steps if fixed is None else fixed
            points = batch.legal(iterates)
            found = self.slope(model, points, batch)
            worst.see(rows, points, found.headroom)
            direction = self._direction(direction, found.gradient)
            here = iterates if batch.lazy else points
            iterates = batch.descended(here, direction, share)
            unmoved = (iterates == here).all(dim=1)
            stuck = flat(found.gradient, batch, unmoved)
            iterates = batch.scatter(iterates, stuck, generator)
            # A step that leads nowhere leads nowhere the next time, too, nor does a shorter one; momentum may change.
            done = unmoved & ~stuck & (self.momentum == 0)
            if self.early_stopping:
                done |= worst.fooled(rows)
            if is_worth_leaving(done):
                going = torch.nonzero(~done)[:, 0]
                if not len(going):
                    return
                rows, batch = rows[going], batch.take(going)
                iterates, direction = iterates[going], direction[going]
        points = batch.legal(iterates)
        worst.see(rows, points, self.headroom(model, points, batch))

    def _direction(self, before: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        if not self.momentum:
            return gradient
        length = gradient.abs().mean(dim=1, keepdim=True)
        return self.momentum * before + gradient / torch.where(length > 0, length, 1.0)
