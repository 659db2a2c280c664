"""The adversary of training: moves batches of records to where the model answers worst, on tensors throughout.

`hauberk.attacks` attacks a finished model and proves what it finds. Here the same projected gradient descent (Madry et
al. 2018, arXiv:1706.06083) runs thousands of times inside a training, so that it keeps no book: it takes the last
point, looks at no record twice, and leaves exact rounding at the edge of the ball to the attacks that judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hauberk.attacks import FeatureThreat, Judge
from hauberk.attacks.judge import headroom

Aim = Callable[[Tensor], Tensor]
"""Logits [B, K] to what the adversary drives down, [B]."""

_TINY = 1e-30  # in place of a length of 0


class TensorThreat:
    """A threat model for tensors [B, *shape] of any device.

    The box, the L-infinity and the L2 ball of a `FeatureThreat` are computed by torch. A richer threat (a subclass) is
    asked itself, which is exact and slower. One that is `constrained` projects a point once, after the last step:
    rounding to whole numbers would swallow every step that is shorter than a unit.

    Args:
        threat: Of rows [D], where D is the size of a record.
    """

    def __init__(self, threat: FeatureThreat) -> None:
        self.threat = threat
        self._plain = type(threat) is FeatureThreat
        self._columns = tuple(torch.from_numpy(part.copy()) for part in (threat.low, threat.high, threat.mutable))

    def around(self, features: Tensor) -> Reach:
        """Where these records may be moved.

        Args:
            features: Float32 [B, *shape].
        """
        rows = features.detach().flatten(1)
        if not self._plain:
            lowest, highest = (
                torch.from_numpy(end).to(rows.device) for end in self.threat.limits(rows.cpu().contiguous().numpy())
            )
            return Reach(self.threat, features.shape, rows, lowest, highest, asked=self.threat.constrained)
        if self._columns[0].device != rows.device:
            self._columns = tuple(part.to(rows.device) for part in self._columns)
        low, high, mutable = self._columns
        lowest, highest = torch.minimum(rows, low), torch.maximum(rows, high)
        if self.threat.norm != "none":
            lowest = torch.maximum(lowest, rows - self.threat.radius)
            highest = torch.minimum(highest, rows + self.threat.radius)
        lowest, highest = torch.where(mutable, lowest, rows), torch.where(mutable, highest, rows)
        return Reach(self.threat, features.shape, rows, lowest, highest, asked=False)


@dataclass(frozen=True)
class Reach:
    """Where the records of one batch may be moved.

    Attributes:
        threat: The threat model.
        shape: [B, *shape] of the batch.
        records: Float32 [B, D].
        lowest: Float32 [B, D].
        highest: Float32 [B, D].
        asked: Whether the threat itself has to project finished points.
    """

    threat: FeatureThreat
    shape: torch.Size
    records: Tensor
    lowest: Tensor
    highest: Tensor
    asked: bool

    def anywhere(self, generator: torch.Generator) -> Tensor:
        """A random point for each record, [B, D]: uniform in the box, then into the ball."""
        share = torch.rand(self.records.shape, generator=generator, device=self.records.device)
        return self.inside(self.lowest + share * (self.highest - self.lowest))

    def noisy(self, length: float, generator: torch.Generator) -> Tensor:
        """The records [B, D] with uniform noise of up to a length in radii on what can move; nothing is put back.

        Under the L2 norm the noise of all columns together has that length.
        """
        noise = 2 * torch.rand(self.records.shape, generator=generator, device=self.records.device) - 1
        noise = self.movable(noise)
        if self.threat.norm == "l2":
            return self.step(self.records, noise, length)
        return self.records + length * self._unit * noise

    def inside(self, points: Tensor) -> Tensor:
        """Points [B, D] put back into box and ball."""
        points = torch.clamp(points, self.lowest, self.highest)
        if self.threat.norm != "l2":
            return points
        moves = points - self.records
        length: Tensor = moves.norm(dim=1, keepdim=True).clamp_min(_TINY)
        return self.records + (self.threat.radius / length).clamp_max(1.0) * moves

    def step(self, points: Tensor, slope: Tensor, length: float) -> Tensor:
        """Points [B, D] moved down the slope [B, D] by a length in radii, not put back yet.

        Without a norm, the unit of a column is half its range.
        """
        if self.threat.norm == "l2":
            steepness: Tensor = slope.norm(dim=1, keepdim=True).clamp_min(_TINY)
            return points - length * self.threat.radius * slope / steepness
        return points - length * self._unit * slope.sign()

    def movable(self, slope: Tensor) -> Tensor:
        """The part of a slope [B, D] along columns that can move."""
        return torch.where(self.highest > self.lowest, slope, 0.0)

    @property
    def _unit(self) -> Tensor | float:
        """What one radius is to a column."""
        return (self.highest - self.lowest) / 2 if self.threat.norm == "none" else self.threat.radius

    def legal(self, points: Tensor) -> Tensor:
        """Points [B, D] of the box as points that satisfy everything, in the shape of the batch."""
        if self.asked:
            found = self.threat.project(points.cpu().numpy(), self.records.cpu().numpy())
            points = torch.from_numpy(found).to(points.device)
        return points.view(self.shape)


class Adversary:
    """Projected gradient descent on batches, through a module in training.

    Args:
        threat: How far records may be moved.
        steps: Gradient steps, at least 1.
        length: Of a step, in radii; `None` for 2.5 / steps, which can cross the ball.
        spread: Where to start: 1 anywhere in the threat model, 0 at the record itself, else so far between them.
        seed: Of the random starts.
    """

    def __init__(
        self,
        threat: FeatureThreat,
        *,
        steps: int = 5,
        length: float | None = None,
        spread: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.threat = TensorThreat(threat)
        self._steps = steps
        self._length = 2.5 / steps if length is None else length
        self._spread = spread
        self._chance = Chance(seed)

    def attack(self, module: nn.Module, features: Tensor, aim: Aim) -> Tensor:
        """The records as an adversary who knows the module would move them, of the same shape; a constant.

        The module is asked in evaluation mode and left in the mode in which it was.

        Args:
            module: Maps [B, *shape] to logits [B, K].
            features: Float32 [B, *shape].
            aim: What is driven down.
        """
        reach = self.threat.around(features)
        points = reach.records
        if self._spread:
            points = torch.lerp(points, reach.anywhere(self._chance.of(features.device)), self._spread)
        with evaluated(module):
            for _ in range(self._steps):
                slope = reach.movable(slope_of(module, points.view(reach.shape), aim).flatten(1))
                points = reach.inside(reach.step(points, slope, self._length))
        return reach.legal(points)


class Chance:
    """Random numbers of one seed, on whatever device they are asked for.

    They are drawn apart from torch's own, so that an attack more or less leaves dropout and the order of batches alone.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def of(self, device: torch.device) -> torch.Generator:
        """The generator of a device."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def against(judge: Judge, targets: Tensor) -> Aim:
    """To lower the headroom of the right answers int64 [B]: what the attacks of `hauberk.attacks` do, too."""
    return lambda logits: headroom(judge, logits, targets)


def slope_of(module: nn.Module, points: Tensor, aim: Aim, *, create_graph: bool = False) -> Tensor:
    """The gradient of the aim, summed over the batch, at points [B, *shape]; zero where there is none."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        height = aim(module(points).float()).sum()
        if not height.requires_grad:  # an answer that does not depend on the record
            return torch.zeros_like(points)
        (slope,) = torch.autograd.grad(
            height, points, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    return slope if create_graph else slope.nan_to_num_(nan=0.0)


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode for a while; every part goes back to its own mode afterwards."""
    learning = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in learning:
            part.training = True
