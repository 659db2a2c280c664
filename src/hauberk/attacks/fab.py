"""FAB: the fast adaptive boundary attack, which walks along the boundary to its nearest point.

Croce, Hein, "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack", ICML 2020
(arXiv:1907.02044). At a point x with height f and gradient g, the boundary is taken for the plane f + g (z - x) = 0.
With p(x) the nearest point of that plane to x within the box, and r the record,

    x  <-  (1 - a) (x + o (p(x) - x)) + a (r + o (p(r) - r)),    a = min(|p(x) - x| / (|p(x) - x| + |p(r) - r|), 0.1)

with an overshoot o of 1.05. Where x is answered wrong, it steps back to r + 0.9 (x - r), and goes on from there. Only
the ratio of f and g counts, so that the scale of logits does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hauberk.attacks import judge as judging
from hauberk.attacks.apgd import rival_classes
from hauberk.attacks.batch import Batch, in_batches
from hauberk.attacks.gradient import WhiteBox, gradient_of
from hauberk.attacks.nearest import Nearest, NearestAttack
from hauberk.errors import InputError

_OVERSHOOT = 1.05
_BACK = 0.9
_MOST_BIAS = 0.1


@dataclass(frozen=True, kw_only=True)
class FAB(NearestAttack):
    """The smallest change, in the norm of the threat model (L-infinity where it has none), within its box.

    With several wrong classes to choose from, it approaches them one by one, the most likely first. It leaves
    categories alone.

    Attributes:
        steps: Steps a restart and class, at least 1; 100 in the paper.
        restarts: Starting points, at least 1: the record, then random points within half of the way that is known.
        rivals: Most classes to approach for a record, at least 1; 9 in the paper.
    """

    name: ClassVar[str] = "fab"

    steps: int = 50
    restarts: int = 1
    rivals: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.steps, self.restarts, self.rivals) < 1:
            raise InputError(
                "attack fab: steps, restarts and rival classes must be at least 1,"
                f" not {self.steps}, {self.restarts} and {self.rivals}"
            )

    def _approach(
        self, model: WhiteBox, everything: Batch, nearest: Nearest, radius: float, generator: np.random.Generator
    ) -> None:
        enough = radius if self.early_stopping else 0.0
        for rivals in rival_classes(model, everything, self.rivals, self.batch_size) or (None,):
            towards = replace(everything, rivals=rivals)
            for restart in range(self.restarts):
                for rows in in_batches(torch.nonzero(nearest.distance > enough)[:, 0], self.batch_size):
                    batch = towards.take(rows)
                    start = batch.records if restart == 0 else _around(batch, nearest, rows, radius, generator)
                    self._walk(model, rows, start, batch, nearest, enough, generator)

    def _walk(
        self,
        model: WhiteBox,
        rows: Tensor,
        points: Tensor,
        batch: Batch,
        nearest: Nearest,
        enough: float,
        generator: np.random.Generator,
    ) -> None:
        height, gradient = _plane(model, points, batch)
        for _ in range(self.steps):
            moved = _step(points, height, gradient, batch, nearest)
            points = batch.legal(batch.scatter(moved, ~gradient.any(dim=1), generator))
            headroom, height, gradient = _seen(model, points, batch)
            fooled = nearest.see(rows, points, headroom)
            if enough and (done := nearest.distance[rows] <= enough).any():
                alive = torch.nonzero(~done)[:, 0]
                if not len(alive):
                    return
                rows, batch, fooled = rows[alive], batch.take(alive), fooled[alive]
                points, height, gradient = points[alive], height[alive], gradient[alive]
            if fooled.any():
                back = torch.nonzero(fooled)[:, 0]
                behind = batch.take(back)
                nearer = behind.legal(behind.within(torch.lerp(behind.records, points[back], _BACK)))
                points, height, gradient = points.clone(), height.clone(), gradient.clone()
                headroom, height[back], gradient[back] = _seen(model, nearer, behind)
                nearest.see(rows[back], nearer, headroom)
                points[back] = nearer


def _seen(model: WhiteBox, points: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Headroom [n], height [n] and gradient [n, D] of legal points: the height over the rival, or over any other."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = model.module(points)
        headroom = judging.headroom(model.judge, logits, batch.targets)
        aim = headroom
        if batch.rivals is not None:
            own, rival = (logits.gather(1, chosen[:, None])[:, 0] for chosen in (batch.targets, batch.rivals))
            aim = own - rival
    gradient = gradient_of(aim, points).masked_fill_(batch.pinned, 0.0)
    for group in batch.threat.groups:
        gradient[:, group.start : group.stop] = 0.0
    return headroom.detach(), aim.detach(), gradient


def _plane(model: WhiteBox, points: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    _, height, gradient = _seen(model, points, batch)
    return height, gradient


def _step(points: Tensor, height: Tensor, gradient: Tensor, batch: Batch, nearest: Nearest) -> Tensor:
    """One step towards the boundary, drawn to the place of it that is nearest to the record."""
    from_record = height + (gradient * (batch.records - points)).sum(dim=1)
    here = to_plane(points, height, gradient, batch, euclidean=nearest.euclidean)
    there = to_plane(batch.records, from_record, gradient, batch, euclidean=nearest.euclidean)
    near, far = nearest.length(here), nearest.length(there)
    bias = (near / (near + far).clamp_min(torch.finfo(near.dtype).tiny)).clamp_max(_MOST_BIAS)[:, None]
    # From the wrong side the same overshoot would lead back to the right one.
    overshoot = torch.where(height > 0, _OVERSHOOT, 2 - _OVERSHOOT)[:, None]
    return batch.within((1 - bias) * (points + overshoot * here) + bias * (batch.records + _OVERSHOOT * there))


def _around(batch: Batch, nearest: Nearest, rows: Tensor, radius: float, generator: np.random.Generator) -> Tensor:
    """Legal points [n, D] at random, within half of the known distance or of the radius, whichever is less."""
    reach = nearest.distance[rows].clamp_max(radius)[:, None] / 2
    reach = torch.where(reach.isfinite(), reach, (batch.highest - batch.lowest) / 2)
    draw = torch.from_numpy(generator.uniform(-1, 1, tuple(batch.records.shape)).astype(np.float32))
    if nearest.euclidean:
        draw = draw / draw.norm(dim=1, keepdim=True)
    return batch.legal(batch.within(batch.records + reach * draw))


def to_plane(points: Tensor, height: Tensor, gradient: Tensor, batch: Batch, *, euclidean: bool) -> Tensor:
    """The shortest move [n, D] within the box from each point to the plane on which a linear height becomes 0.

    A column with slope w and room c moves by min(t, c) in L-infinity and by min(t |w|, c) in L2, for the one t at which
    the moves times |w| add up to the height (the Karush-Kuhn-Tucker conditions). That sum is concave in t and made of
    straight pieces, so that Newton's method from 0 ends at its root after as many steps as columns run out of room in
    turn. Where the box ends before the plane, every column moves as far as it can.

    Args:
        points: Float32 [n, D], within the limits of the batch.
        height: Float32 [n] at the points; a negative one is walked up to 0.
        gradient: Float32 [n, D], the slopes.
        batch: Its limits are the box.
        euclidean: Whether "shortest" is L2; L-infinity otherwise.
    """
    direction = -gradient.sign() * height.sign()[:, None]
    room = torch.where(direction > 0, batch.highest - points, points - batch.lowest).clamp_min(0.0)
    slope = gradient.abs()
    pace = slope if euclidean else (slope > 0).to(slope)
    wanted, full = height.abs(), torch.zeros_like(slope, dtype=torch.bool)
    while True:
        gained = (slope * room).masked_fill(~full, 0.0).sum(dim=1)
        left = (slope * pace).masked_fill(full, 0.0).sum(dim=1)
        time = torch.where(left > 0, (wanted - gained).clamp_min(0.0) / torch.where(left > 0, left, 1.0), 0.0)
        move = time[:, None] * pace
        more = ~full & (move > room)
        if not more.any():
            return direction * torch.where(full, room, move)
        full |= more
