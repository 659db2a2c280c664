"""Projected gradient descent: many small signed steps, each followed by a projection outside the gradient.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018 (arXiv:1706.06083).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from hauberk.attacks.base import Features
from hauberk.attacks.gradient import Batch, GradientAttack, WhiteBox, Worst
from hauberk.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """Projected gradient descent under the L-infinity norm; the worst point of all steps and restarts is kept.

    Attributes:
        steps: Gradient steps a restart, at least 1.
        step_size: Length of a step in feature space; `None` for 2.5 * radius / steps, which can cross the ball.
        restarts: Starting points, at least 1. The first is the record itself unless `random_start`; every further one
            is uniform in the threat model.
        random_start: Whether the first start is random, too.
        early_stopping: Leave a record alone once its label is wrong. Faster; records that are meant to be transferred
            to another model should go as deep as they can, so switch it off there.
    """

    name: ClassVar[str] = "pgd"

    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = False
    early_stopping: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.restarts < 1:
            raise InputError(f"attack pgd: steps and restarts must be at least 1, not {self.steps} and {self.restarts}")
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size > 0):
            raise InputError(f"attack pgd: the step size must be a finite number above 0, not {self.step_size}")

    def _starts(
        self, features: Features, lowest: Features, highest: Features, generator: np.random.Generator
    ) -> Iterator[Features]:
        for restart in range(self.restarts):
            if restart == 0 and not self.random_start:
                yield features
            else:
                share = generator.random(features.shape, dtype=np.float32)
                yield np.clip(lowest + share * (highest - lowest), lowest, highest)

    def _wanted(self, worst: Worst) -> torch.Tensor:
        everyone = torch.arange(len(worst.points))
        return everyone[~worst.fooled(everyone)] if self.early_stopping else everyone

    def _follow(
        self, model: WhiteBox, rows: torch.Tensor, start: torch.Tensor, batch: Batch, worst: Worst, radius: float
    ) -> None:
        step_size = 2.5 * radius / self.steps if self.step_size is None else self.step_size
        points = start
        for _ in range(self.steps):
            headroom, gradient = self.slope(model, points, batch.targets)
            worst.see(rows, points, headroom)
            if self.early_stopping and (fooled := worst.fooled(rows)).any():
                alive = torch.nonzero(~fooled)[:, 0]
                if not len(alive):
                    return
                rows, points, gradient, batch = rows[alive], points[alive], gradient[alive], batch.take(alive)
            points = torch.clamp(points - step_size * gradient.sign(), batch.lowest, batch.highest)
        with torch.no_grad():
            worst.see(rows, points, model.headroom_of(points, batch.targets))
