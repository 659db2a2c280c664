"""Auto-PGD: projected gradient descent that finds its own step size; and its targeted form.

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML
2020 (arXiv:2003.01690). Steps start at twice the radius, carry momentum, and halve at checkpoints where the search did
not get on, which then goes on from the best point so far. Checkpoints lie at the shares p of the budget with

    p_0 = 0,   p_1 = 0.22,   p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06)

and a step halves where fewer than 75 % of the steps since the last checkpoint went down, or where it did not halve at
the last checkpoint and nothing better was found since. What the paper leaves out: records that fool the model are left
alone at once, and one whose gradient is exactly zero goes on from a random point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hauberk.attacks.base import as_tensor
from hauberk.attacks.batch import Batch
from hauberk.attacks.gradient import GradientAttack, Pass, Slope, WhiteBox, Worst, flat, is_worth_leaving
from hauberk.attacks.judge import Classes, Judge
from hauberk.errors import InputError

_MOMENTUM = 0.75
"""Share of a new move that comes from the gradient; the rest repeats the move before."""

_DESCENTS = 0.75
"""Share of steps that have to go down for the step size to stay."""


@dataclass(frozen=True, kw_only=True)
class APGD(GradientAttack):
    """Auto-PGD. The step size is no parameter; the number of steps is the budget.

    Attributes:
        steps: Gradient steps a restart, at least 1; 100 in the paper.
        restarts: Starting points, at least 1, all of them random: uniform in the threat model.
        early_stopping: Leave a record alone once its answer is wrong.
    """

    name: ClassVar[str] = "apgd"

    steps: int = 100
    restarts: int = 1
    early_stopping: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.restarts < 1:
            raise InputError(
                f"attack {self.name}: steps and restarts must be at least 1, not {self.steps} and {self.restarts}"
            )

    def _passes(
        self,
        model: WhiteBox,  # noqa: ARG002
        everything: Batch,
        generator: np.random.Generator,
    ) -> Iterator[Pass]:
        for restart in range(self.restarts):
            yield Pass(everything.scattered(generator), lazy=everything.lazy and restart % 2 == 0)

    def _wanted(self, worst: Worst) -> Tensor:
        everyone = torch.arange(len(worst.points))
        return everyone[~worst.fooled(everyone)] if self.early_stopping else everyone

    def _follow(
        self, model: WhiteBox, rows: Tensor, start: Tensor, batch: Batch, worst: Worst, generator: np.random.Generator
    ) -> None:
        found = self.slope(model, start, batch)
        worst.see(rows, start, found.headroom)
        state = _State.at(start, found)
        stops = checkpoints(self.steps)
        since = 0
        for step in range(self.steps):
            if self.early_stopping and is_worth_leaving(fooled := worst.fooled(rows)):
                alive = torch.nonzero(~fooled)[:, 0]
                if not len(alive):
                    return
                rows, batch, state = rows[alive], batch.take(alive), state.take(alive)
            iterates = state.moved(batch, 1.0 if step == 0 else _MOMENTUM)
            iterates = batch.scatter(
                iterates, flat(state.gradient, batch, state.height == state.height_before), generator
            )
            points = batch.legal(iterates)
            if step + 1 == self.steps:
                worst.see(rows, points, self.headroom(model, points, batch))
                return
            found = self.slope(model, points, batch)
            worst.see(rows, points, found.headroom)
            state.step_to(iterates if batch.lazy else points, found)
            if step + 1 in stops:
                state.adjust(step + 1 - since)
                since = step + 1


@dataclass(frozen=True, kw_only=True)
class TargetedAPGD(APGD):
    """Auto-PGD towards one rival class after the other, the most likely first, on the targeted ratio of logits.

    Where only one other answer is left (a detector, two classes, a wanted class), it has nothing to choose, and
    descends the objective like `APGD`.

    Attributes:
        rivals: Most classes to try for a record, at least 1; 9 in the paper.
    """

    name: ClassVar[str] = "apgd-targeted"

    rivals: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rivals < 1:
            raise InputError(f"attack {self.name}: there must be at least 1 rival class, not {self.rivals}")

    def _passes(self, model: WhiteBox, everything: Batch, generator: np.random.Generator) -> Iterator[Pass]:
        order = rival_classes(model, everything, self.rivals, self.batch_size)
        if order is None:
            yield from super()._passes(model, everything, generator)
            return
        for rivals in order:
            for one in super()._passes(model, everything, generator):
                yield replace(one, rivals=rivals)


def rival_classes(model: WhiteBox, everything: Batch, most: int, batch_size: int) -> tuple[Tensor, ...] | None:
    """The wrong classes of each record, the most likely first: up to `most` of int64 [N].

    `None` where there is no choice: for a detector, for two classes, and with a wanted class.
    """
    if not has_rivals(model.judge):
        return None
    records, targets = everything.records.numpy(), everything.targets
    parts = [model.logits(records[start : start + batch_size]) for start in range(0, max(len(records), 1), batch_size)]
    logits = as_tensor(np.concatenate(parts)).scatter(1, targets[:, None], -torch.inf)
    order = logits.argsort(dim=1, descending=True, stable=True)
    return tuple(order[:, place].contiguous() for place in range(min(most, logits.shape[1] - 1)))


def has_rivals(judge: Judge) -> bool:
    """Whether a wrong answer can be one of several."""
    return isinstance(judge, Classes) and judge.wanted is None and judge.outputs > 2


def checkpoints(steps: int) -> frozenset[int]:
    """After how many of the steps the step size is looked at."""
    places, before, here = set(), 0.0, 0.22
    while here < 1:
        places.add(max(int(here * steps), 1))
        before, here = here, here + max(here - before - 0.03, 0.06)
    return frozenset(places)


@dataclass
class _State:
    """Where a search stands: everything a record carries from step to step, [n, ...].

    `height`, `gradient` and `iterates` belong to the present point, those that start with `best` to the lowest so far.
    `share` is the step size in radii. `descents` counts since the last checkpoint; `halved` and `best_then` are of it.
    """

    iterates: Tensor
    before: Tensor
    height: Tensor
    height_before: Tensor
    gradient: Tensor
    best: Tensor
    best_height: Tensor
    best_gradient: Tensor
    share: Tensor
    descents: Tensor
    halved: Tensor
    best_then: Tensor

    @classmethod
    def at(cls, start: Tensor, found: Slope) -> _State:
        count, height = len(start), found.height
        return cls(
            iterates=start,
            before=start,
            height=height,
            height_before=height,
            gradient=found.gradient,
            best=start.clone(),
            best_height=height.clone(),
            best_gradient=found.gradient.clone(),
            share=torch.full((count, 1), 2.0),
            descents=torch.zeros(count),
            # As if the step had just halved: the first checkpoint looks at the share of descents alone.
            halved=torch.ones(count, dtype=torch.bool),
            best_then=height.clone(),
        )

    def take(self, rows: Tensor) -> _State:
        return _State(**{name: value[rows] for name, value in vars(self).items()})

    def moved(self, batch: Batch, momentum: float) -> Tensor:
        """Where the next step leads: the projected step, and part of the move before."""
        there = batch.descended(self.iterates, self.gradient, self.share)
        if momentum == 1.0:
            return there
        carried = self.iterates + momentum * (there - self.iterates) + (1 - momentum) * (self.iterates - self.before)
        return batch.within(carried)

    def step_to(self, iterates: Tensor, found: Slope) -> None:
        """Take a step, and note whether it went down and whether it is the best so far."""
        self.descents += found.height < self.height
        self.before, self.iterates = self.iterates, iterates
        self.height_before, self.height, self.gradient = self.height, found.height, found.gradient
        better = found.height < self.best_height
        self.best_height = torch.where(better, found.height, self.best_height)
        self.best = torch.where(better[:, None], iterates, self.best)
        self.best_gradient = torch.where(better[:, None], found.gradient, self.best_gradient)

    def adjust(self, steps: int) -> None:
        """Halve the steps of records that did not get on in the last `steps`, and put them back to their best point."""
        stalled = ~self.halved & (self.best_height >= self.best_then)
        self.halved = (self.descents < _DESCENTS * steps) | stalled
        back = self.halved[:, None]
        self.share = torch.where(back, self.share / 2, self.share)
        self.iterates = torch.where(back, self.best, self.iterates)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.height = torch.where(self.halved, self.best_height, self.height)
        self.best_then = self.best_height.clone()
        self.descents = torch.zeros_like(self.descents)
