"""Records under attack as tensors: how far they go, what a step against a gradient is, what the model may see.

A search moves an **iterate** through the box and the ball. What the model sees of it is a legal point: the iterate
itself where the threat model is no more than a box, its repair (`FeatureThreat.project`) otherwise. All of this happens
outside the differentiated function, where it has no slope to lose.

Repairs round: integers, and one-hot groups to one category. A search that goes on from the repair would stand still as
soon as its steps are shorter than half a unit, and never change a category. So a **lazy** batch keeps the iterate
unrepaired, takes the gradient at the repair and applies it to the iterate, which adds up small steps until one of them
changes the repair (a straight-through estimate, as in dual averaging). A batch that is not lazy goes on from the
repair, as CAPGD does (Simonetto et al. 2024, arXiv:2406.00775), which follows equations between columns more closely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hauberk.attacks.base import Features, as_tensor
from hauberk.attacks.judge import Targets
from hauberk.attacks.threat import FeatureThreat

_PART = 512
"""Records whose limits are worked out at once: what stays in a processor's cache takes a third of the time."""

_TRIED = 16
"""Records by which it is found out to which members of a one-hot group a record may be moved."""


@dataclass(frozen=True)
class Batch:
    """Some records under attack.

    Attributes:
        threat: How far they may be moved.
        records: Float32 [n, D], the records themselves.
        lowest: Float32 [n, D], the lowest value of each of their columns.
        highest: Float32 [n, D], the highest.
        targets: Int64 [n], the right answers.
        barred: Bool [D], the members of one-hot groups that no record may be moved to.
        rivals: Int64 [n], the classes that a targeted attack drives them to; `None` for any wrong answer.
        lazy: Whether iterates stay unrepaired; see the head of this file.
    """

    threat: FeatureThreat
    records: Tensor
    lowest: Tensor
    highest: Tensor
    targets: Tensor
    barred: Tensor
    rivals: Tensor | None = None
    lazy: bool = False

    @classmethod
    def of(cls, threat: FeatureThreat, features: Features, targets: Targets) -> Batch:
        """All records: features float32 [N, D] with targets int64 [N]; lazy where repairs may round."""
        parts = [threat.limits(features[start : start + _PART]) for start in range(0, max(len(features), 1), _PART)]
        lowest, highest = (torch.from_numpy(np.concatenate(limit)) for limit in zip(*parts, strict=True))
        barred, lazy = _barred(threat, features), without_ball(threat).constrained
        return cls(threat, as_tensor(features), lowest, highest, as_tensor(targets), barred, lazy=lazy)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Tensor) -> Batch:
        """Some of the records, by int64 indices."""
        return replace(
            self,
            records=self.records[rows],
            lowest=self.lowest[rows],
            highest=self.highest[rows],
            targets=self.targets[rows],
            rivals=None if self.rivals is None else self.rivals[rows],
        )

    def cut(self, part: slice) -> Batch:
        """Some of the records that follow each other; nothing is copied."""
        return replace(
            self,
            records=self.records[part],
            lowest=self.lowest[part],
            highest=self.highest[part],
            targets=self.targets[part],
            rivals=None if self.rivals is None else self.rivals[part],
        )

    @property
    def pinned(self) -> Tensor:
        """Bool [n, D]: the columns that cannot move at all."""
        return self.lowest >= self.highest

    @property
    def signs_only(self) -> bool:
        """Whether a step asks for the signs of a gradient alone; then columns that cannot move do not matter to it."""
        return self.threat.norm != "l2" and not self.threat.groups

    def legal(self, points: Tensor) -> Tensor:
        """What the model may see of iterates float32 [n, D] that lie within the limits."""
        if not self.threat.constrained:
            return points
        return as_tensor(self.threat.project(points.numpy(), self.records.numpy()))

    def scattered(self, generator: np.random.Generator) -> Tensor:
        """Legal points float32 [n, D], each uniform within the limits before it is repaired."""
        share = torch.from_numpy(generator.random(tuple(self.records.shape), dtype=np.float32))
        return self.legal(self.within(self.lowest + share * (self.highest - self.lowest)))

    def scatter(self, points: Tensor, flat: Tensor, generator: np.random.Generator) -> Tensor:
        """Points [n, D] with random legal ones in place of those that are `flat`, bool [n]."""
        if not flat.any():
            return points
        moved = points.clone()
        moved[flat] = self.take(torch.nonzero(flat)[:, 0]).scattered(generator)
        return moved

    def within(self, points: Tensor) -> Tensor:
        """Points float32 [n, D] as iterates: cut to the limits, and pulled into an L2 ball.

        Clipping after the pull leaves the ball by nothing, for every record lies within its limits. One-hot groups are
        not measured by the radius.
        """
        if self.threat.norm == "l2":
            moves = points - self.records
            length = self._measured(moves).norm(dim=1, keepdim=True)
            points = self.records + moves * (self.threat.radius / length.clamp_min(self.threat.radius)).nan_to_num(1.0)
        inside = torch.clamp(points, self.lowest, self.highest)
        for group in self.threat.groups if self.lazy else ():
            # Iterates of a group are scores, of which the repair takes the largest; cut off, they could not grow apart.
            columns = slice(group.start, group.stop)
            inside[:, columns] = points[:, columns].masked_fill(self.barred[columns], -torch.inf).clamp_min(-1e6)
        return inside

    def downhill(self, gradient: Tensor) -> Tensor:
        """The move float32 [n, D] against a gradient that crosses from the record to the edge of the threat model.

        In an L-infinity ball every column moves by the radius, in an L2 ball all columns together, without a norm each
        by half of its range. Categories that a group may move to drift apart by one, in proportion to their slopes.
        """
        if self.threat.norm == "l2":
            measured = self._measured(gradient)
            length = measured.norm(dim=1, keepdim=True)
            move = -self.threat.radius * measured / torch.where(length > 0, length, 1.0)
        elif self.threat.norm == "linf":
            move = gradient.sign().mul_(-self.threat.radius)
        else:
            move = -gradient.sign() * (self.highest - self.lowest) / 2
        for group in self.threat.groups:
            columns = slice(group.start, group.stop)
            slopes = gradient[:, columns].masked_fill(self.barred[columns], 0.0)
            allowed = int((~self.barred[columns]).sum())
            slopes = (slopes - slopes.sum(dim=1, keepdim=True) / allowed).masked_fill(self.barred[columns], 0.0)
            spread = slopes.amax(dim=1, keepdim=True) - slopes.amin(dim=1, keepdim=True)
            move[:, columns] = -slopes / torch.where(spread > 0, spread, 1.0)
        return move

    def descended(self, points: Tensor, gradient: Tensor, share: float | Tensor) -> Tensor:
        """Iterates [n, D] a step further: `share` (a number, or float32 [n, 1]) of the move that `downhill` gives."""
        if self.threat.norm == "linf" and not self.threat.groups and isinstance(share, float):
            moved = torch.add(points, gradient.sign(), alpha=-share * self.threat.radius)
            return torch.clamp(moved, self.lowest, self.highest, out=moved)
        return self.within(points + share * self.downhill(gradient))

    def corner(self, gradient: Tensor) -> Tensor:
        """The iterate float32 [n, D] that is lowest on a plane of this gradient: every column at an end of its range.

        In an L2 ball it is the record and the longest step against the gradient. Columns without a slope stay.
        """
        if self.threat.norm == "l2":
            points = self.within(self.records + self.downhill(gradient))
        else:
            points = torch.where(gradient > 0, self.lowest, torch.where(gradient < 0, self.highest, self.records))
        for group in self.threat.groups:
            columns = slice(group.start, group.stop)
            flat = ~gradient[:, columns].any(dim=1, keepdim=True)
            allowed = gradient[:, columns].masked_fill(self.barred[columns], torch.inf)
            steepest = torch.nn.functional.one_hot(allowed.argmin(dim=1), len(group)).to(points)
            points[:, columns] = torch.where(flat, self.records[:, columns], steepest)
        return points

    def _measured(self, moves: Tensor) -> Tensor:
        """Moves float32 [n, D] without the columns of one-hot groups, which no ball measures."""
        if not self.threat.groups:
            return moves
        measured = moves.clone()
        for group in self.threat.groups:
            measured[:, group.start : group.stop] = 0.0
        return measured


def _barred(threat: FeatureThreat, features: Features) -> Tensor:
    """Bool [D]: the members of one-hot groups to which a repair moves none of a few records."""
    barred = np.zeros(threat.width, dtype=np.bool_)
    some = features[:: max(len(features) // _TRIED, 1)][:_TRIED]
    for group in threat.groups if len(some) else ():
        for column in group:
            wanted = some.copy()
            wanted[:, group.start : group.stop] = 0.0
            wanted[:, column] = 1.0
            barred[column] = not (threat.project(wanted, some)[:, column] == 1).any()
    return torch.from_numpy(barred)


def without_ball(threat: FeatureThreat) -> FeatureThreat:
    """The same threat model without its radius: what lies beyond it may be looked at on the way."""
    return replace(threat, radius=0.0, norm="none")


def slices(count: int, size: int) -> list[slice]:
    """Parts of at most `size` of `count` things; one empty part where there is nothing."""
    return [slice(start, start + size) for start in range(0, max(count, 1), size)]


def in_batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Indices int64 [N] in parts of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
