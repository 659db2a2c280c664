"""The attack of Carlini and Wagner: the smallest L2 change as a smooth optimisation.

Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", IEEE S&P 2017 (arXiv:1608.04644). For a record
r with headroom h it minimises

    |x - r|^2  +  c max(h(x) / h(r), 0)

by Adam, and looks for the least c at which the answer turns wrong. Dividing by h(r) makes c an area in feature space,
whatever the scale of logits: if the boundary were a plane at the distance d, the least c would be 2 d^2, and there the
search starts.

The paper stays in the box by x = tanh(w), which has no slope at the edge, where most columns of flow records lie. Here
iterates are clipped, outside the gradient (the paper's "projected gradient descent").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hauberk.attacks.batch import Batch, in_batches
from hauberk.attacks.gradient import WhiteBox, gradient_of
from hauberk.attacks.nearest import Nearest, NearestAttack
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError

_DECAYS = (0.9, 0.999)
"""Those of Adam (Kingma, Ba, ICLR 2015, arXiv:1412.6980)."""

_PACE = 0.1
"""Step size at the start, in units of the largest move of one column that a plane boundary would ask for."""

_PATIENCE = 20
"""Steps without a better loss after which a record waits for the next weight."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(NearestAttack):
    """The smallest L2 change within the threat model, whatever its norm.

    Attributes:
        steps: Steps of Adam for each weight, at least 1.
        rounds: Weights c to try, at least 1: tenfold as long as none is enough, then halving the interval.
    """

    name: ClassVar[str] = "carlini-wagner"

    steps: int = 100
    rounds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.rounds) < 1:
            raise InputError(
                f"attack {self.name}: steps and rounds must be at least 1, not {self.steps} and {self.rounds}"
            )

    def _euclidean(self, threat: FeatureThreat) -> bool:  # noqa: ARG002
        return True

    def _field(self, threat: FeatureThreat) -> FeatureThreat:
        return threat

    def _approach(
        self,
        model: WhiteBox,
        everything: Batch,
        nearest: Nearest,
        radius: float,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> None:
        for rows in in_batches(torch.nonzero(nearest.distance > 0)[:, 0], self.batch_size):
            self._weigh(model, rows, everything.take(rows), nearest, generator)

    def _weigh(
        self, model: WhiteBox, rows: Tensor, batch: Batch, nearest: Nearest, generator: np.random.Generator
    ) -> None:
        """Search one batch with one weight after the other."""
        headroom, gradient = _slope(model, batch.records, batch)
        nearest.see(rows, batch.records, headroom)
        faint = 1e-6 * (gradient.abs() * (batch.highest - batch.lowest)).sum(dim=1)
        unit = torch.maximum(headroom, faint).clamp_min(torch.finfo(headroom.dtype).tiny)
        steepness = (gradient / unit[:, None]).nan_to_num(0.0)
        square = (steepness**2).sum(dim=1).clamp_min(1e-12)
        room = (batch.highest - batch.lowest).amax(dim=1)
        pace = _PACE * torch.minimum(steepness.abs().amax(dim=1) / square, room).clamp_min(1e-3 * room)
        weight = 2 / square
        low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
        active = torch.arange(len(rows))
        for _ in range(self.rounds):
            part = batch.take(active)
            fooled = self._descend(
                model, rows[active], part, nearest, unit[active], weight[active], pace[active], generator
            )
            high[active] = torch.where(fooled, weight[active], high[active])
            low[active] = torch.where(fooled, low[active], weight[active])
            weight = torch.where(high.isfinite(), (low + high) / 2, 10 * low)
            if self.early_stopping:
                active = torch.nonzero(nearest.distance[rows].isinf())[:, 0]
                if not len(active):
                    return

    def _descend(
        self,
        model: WhiteBox,
        rows: Tensor,
        batch: Batch,
        nearest: Nearest,
        unit: Tensor,
        weight: Tensor,
        pace: Tensor,
        generator: np.random.Generator,
    ) -> Tensor:
        """Adam with one weight a record; bool [n], for which of them a wrong answer came by."""
        found, active = torch.zeros(len(rows), dtype=torch.bool), torch.arange(len(rows))
        best, waited = torch.full((len(rows),), torch.inf), torch.zeros(len(rows), dtype=torch.int64)
        iterates, mean, square = batch.records, torch.zeros_like(batch.records), torch.zeros_like(batch.records)
        for step in range(1, self.steps + 1):
            points = batch.legal(iterates)
            headroom, slope = _slope(model, points, batch)
            fooled = nearest.see(rows[active], points, headroom)
            found[active] |= fooled
            away = points - batch.records
            loss = (away**2).sum(dim=1) + weight * (headroom / unit).clamp_min(0.0)
            waited = torch.where(loss < 0.9999 * best, 0, waited + 1)
            best = torch.minimum(best, loss)
            gradient = (2 * away + (weight / unit * ~fooled)[:, None] * slope).masked_fill_(batch.pinned, 0.0)
            mean, square = torch.lerp(gradient, mean, _DECAYS[0]), torch.lerp(gradient**2, square, _DECAYS[1])
            spread = (square / (1 - _DECAYS[1] ** step)).sqrt()
            move = mean / (1 - _DECAYS[0] ** step) / torch.where(spread > 0, spread, 1.0)
            decayed = 0.5 * (1 + math.cos(math.pi * step / self.steps)) * pace[:, None]
            moved = batch.within((iterates if batch.lazy else points) - decayed * move)
            iterates = batch.scatter(moved, ~fooled & ~slope.any(dim=1), generator)
            kept = waited < _PATIENCE
            if not kept.any() or (self.early_stopping and found.all()):
                break
            if not kept.all():
                still = torch.nonzero(kept)[:, 0]
                batch, active = batch.take(still), active[still]
                iterates, mean, square = iterates[still], mean[still], square[still]
                best, waited, weight, unit, pace = (part[still] for part in (best, waited, weight, unit, pace))
        return found


def _slope(model: WhiteBox, points: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Headroom [n] of legal points, and its gradient [n, D]."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        headroom = model.headroom_of(points, batch.targets)
    return headroom.detach(), gradient_of(headroom, points).masked_fill_(batch.pinned, 0.0)
