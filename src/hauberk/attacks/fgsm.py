"""The fast gradient sign method: one step to the corner of the threat model that the gradient points to.

Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015 (arXiv:1412.6572). The step
goes to the limit itself, so that on a linear model it is the exact worst case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from hauberk.attacks.base import Features
from hauberk.attacks.gradient import Batch, GradientAttack, WhiteBox, Worst


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """One gradient, one step, two evaluations a record besides its own. Cheap, and a weak attack on curved models."""

    name: ClassVar[str] = "fgsm"

    def _starts(
        self,
        features: Features,
        lowest: Features,  # noqa: ARG002
        highest: Features,  # noqa: ARG002
        generator: np.random.Generator,  # noqa: ARG002
    ) -> Iterator[Features]:
        yield features

    def _follow(
        self,
        model: WhiteBox,
        rows: torch.Tensor,
        start: torch.Tensor,
        batch: Batch,
        worst: Worst,
        radius: float,  # noqa: ARG002
    ) -> None:
        headroom, gradient = self.slope(model, start, batch.targets)
        worst.see(rows, start, headroom)
        corner = torch.where(gradient > 0, batch.lowest, torch.where(gradient < 0, batch.highest, start))
        with torch.no_grad():
            worst.see(rows, corner, model.headroom_of(corner, batch.targets))
