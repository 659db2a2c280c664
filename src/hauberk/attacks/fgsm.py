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

from hauberk.attacks.batch import Batch
from hauberk.attacks.gradient import GradientAttack, Pass, WhiteBox, Worst


@dataclass(frozen=True, kw_only=True)
class FGSM(GradientAttack):
    """One gradient, one step, two evaluations a record. Cheap, and a weak attack on curved models.

    In an L2 ball the step has the length of the radius (the fast gradient method). A category becomes the one of its
    group with the lowest slope.
    """

    name: ClassVar[str] = "fgsm"

    def _passes(
        self,
        model: WhiteBox,  # noqa: ARG002
        everything: Batch,
        generator: np.random.Generator,  # noqa: ARG002
    ) -> Iterator[Pass]:
        yield Pass(everything.records)

    def _follow(
        self,
        model: WhiteBox,
        rows: torch.Tensor,
        start: torch.Tensor,
        batch: Batch,
        worst: Worst,
        generator: np.random.Generator,  # noqa: ARG002
    ) -> None:
        found = self.slope(model, start, batch)
        worst.see(rows, start, found.headroom)
        corner = batch.legal(batch.corner(found.gradient))
        worst.see(rows, corner, self.headroom(model, corner, batch))
