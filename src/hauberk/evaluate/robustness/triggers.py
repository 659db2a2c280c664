"""Universal triggers: a few columns (or pixels) set to fixed values in every record, and two searches for one.

What is looked for is not an input that fools a model, but one that moves the compressed model and leaves the float
model where it is, for many records at once. With `h` the headroom of an answer (`hauberk.attacks.judge`) divided by its
usual size on untouched records, a trigger works on a record where `h_compressed < 0` and `h_float > 0`.

- **By gradients**, through both differentiable twins at once. A mask `m` and a pattern `p`, both in (0, 1) by a
  sigmoid, minimise over records `x`

      mean[ softplus(h_compressed(x') + 1) + softplus(1 - h_float(x')) ] + weight * sum(m),   x' = (1 - m) x + m p

  after Wang et al., "Neural Cleanse", IEEE S&P 2019, whose objective asks for the label alone and knows one model. All
  restarts run in one batch; each has another weight of the mask's size. The mask is then made hard: its largest
  entries, for every size that is allowed.
- **Without gradients**, on the sessions themselves, so that a gradient which is zero or misleads hides nothing: a
  population of triggers, drawn from values of real records and from the ends of ranges, is mutated and crossed; the
  best survive. It starts from the best that gradients found, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hauberk.artifact import Predictor
from hauberk.attacks import judge as judging
from hauberk.attacks.base import as_tensor
from hauberk.attacks.judge import Judge
from hauberk.errors import InputError
from hauberk.schema import FeatureSpace, ImageSpace

Features = NDArray[np.float32]
Flags = NDArray[np.bool_]
Targets = NDArray[np.int64]

_ROWS = 4096
_VALUES = 1 << 24
"""Rows, and numbers in them, that a model is given at once: bounds the memory, whatever the number of triggers."""


@dataclass(frozen=True)
class TriggerSpace:
    """What a trigger may set. A planter is not bound to what senders control, so by default it is everything.

    Attributes:
        low: Float32 [D], lowest value of each column.
        high: Float32 [D], highest value.
        units: The columns that are set together: one each for numbers and pixels, a whole one-hot group for a
            categorical, of which a trigger sets exactly one to 1.

    Raises:
        InputError: No unit, one that is not among the columns, or a range upside down.
    """

    low: Features
    high: Features
    units: tuple[range, ...]

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or self.low.ndim != 1 or not (self.low <= self.high).all():
            raise InputError("trigger space: low and high must be float32 [D] with low <= high")
        if not self.units or any(not 0 <= unit.start < unit.stop <= self.width for unit in self.units):
            raise InputError(f"trigger space: at least one unit is needed, all of them within 0 to {self.width - 1}")

    @classmethod
    def from_space(cls, space: FeatureSpace) -> TriggerSpace:
        """Every number within the range seen in training, and every category."""
        low, high = space.bounds
        numbers = tuple(range(column, column + 1) for column in range(len(space.schema.numbers)))
        return cls(low, high, (*numbers, *space.groups))

    @classmethod
    def from_image(cls, space: ImageSpace) -> TriggerSpace:
        """Every value of every pixel, of images as rows."""
        low, high = (end.reshape(-1) for end in space.bounds)
        return cls(low, high, tuple(range(column, column + 1) for column in range(low.size)))

    @property
    def width(self) -> int:
        """D, the number of columns."""
        return int(self.low.size)

    def columns(self, chosen: Flags) -> Flags:
        """Bool [..., D], the columns of chosen units bool [..., U]."""
        columns = np.zeros((*chosen.shape[:-1], self.width), dtype=np.bool_)
        for number, unit in enumerate(self.units):
            columns[..., unit.start : unit.stop] = chosen[..., number : number + 1]
        return columns

    def settled(self, values: Features) -> Features:
        """Patterns float32 [..., D] that can be: within ranges, and one-hot groups with exactly one 1."""
        found = np.clip(values, self.low, self.high)
        for unit in self.units:
            if len(unit) > 1:
                part = found[..., unit.start : unit.stop]
                found[..., unit.start : unit.stop] = np.eye(len(unit), dtype=np.float32)[part.argmax(axis=-1)]
        return found


@dataclass(frozen=True)
class Triggers:
    """P triggers: the units that they set, bool [P, U], and what to, float32 [P, D] (the rest of it means nothing)."""

    chosen: Flags
    values: Features

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, rows: NDArray[np.int64]) -> Triggers:
        """Some of them."""
        return Triggers(self.chosen[rows], self.values[rows])

    def joined(self, other: Triggers) -> Triggers:
        """These and others."""
        return Triggers(np.concatenate([self.chosen, other.chosen]), np.concatenate([self.values, other.values]))

    def applied(self, space: TriggerSpace, records: Features) -> Features:
        """Float32 [P, N, D]: every record float32 [N, D] with every trigger."""
        columns = space.columns(self.chosen)
        return np.where(columns[:, None], self.values[:, None], records[None])


@dataclass(frozen=True)
class Side:
    """The float or the compressed model: what is deployed, and what has gradients.

    Attributes:
        predictor: The real session, from features float32 [N, *shape] to logits.
        judge: What makes an answer of logits, with the model's own threshold.
        twin: A differentiable module that computes what the session does; `None` where there is none.
        shape: Shape of one record as session and twin take it; () for rows [N, D].
    """

    predictor: Predictor
    judge: Judge
    twin: torch.nn.Module | None = None
    shape: tuple[int, ...] = ()

    def answers(self, rows: Features) -> Targets:
        """Labels int64 [N] of rows float32 [N, D]; a NaN is what the judge takes it for."""
        logits = as_tensor(self.logits(rows))
        if isinstance(self.judge, judging.Classes):
            return np.asarray(logits.argmax(dim=1), dtype=np.int64)
        ones = torch.ones(len(logits), dtype=torch.int64)
        return np.asarray(judging.right(self.judge, logits, ones), dtype=np.int64)

    def headroom(self, rows: Features, targets: Targets) -> NDArray[np.float32]:
        """How far each answer is on the side of a label, float32 [N]; see `hauberk.attacks.judge.headroom`."""
        found: NDArray[np.float32] = judging.headroom(
            self.judge, as_tensor(self.logits(rows)), as_tensor(targets)
        ).numpy()
        return found

    def logits(self, rows: Features) -> NDArray[np.float32]:
        """Logits float32 [N, K] of rows float32 [N, D], by the session."""
        shaped = rows.reshape(-1, *self.shape) if self.shape else rows
        parts = [self.predictor.predict(shaped[first : first + _ROWS]) for first in range(0, max(len(rows), 1), _ROWS)]
        return np.concatenate(parts)

    def steep(self, rows: Tensor, targets: Tensor) -> Tensor:
        """The headroom [N] of rows [N, D] by the twin, with its gradient."""
        assert self.twin is not None  # noqa: S101 - asked before
        shaped = rows.reshape(-1, *self.shape) if self.shape else rows
        return judging.headroom(self.judge, self.twin(shaped), targets)


@dataclass(frozen=True)
class Pair:
    """A float model, a compressed one, and the records on which a trigger is looked for.

    Attributes:
        original: The float model.
        compressed: What was made of it.
        space: What a trigger may set.
        records: Float32 [N, D], to which both give the same label.
        labels: Int64 [N], that label.
        largest: Most units of a trigger.
    """

    original: Side
    compressed: Side
    space: TriggerSpace
    records: Features
    labels: Targets
    largest: int

    def usual(self) -> tuple[float, float]:
        """The usual size of headroom, of the float and of the compressed model: the median over the records.

        In this unit, logits that are a thousand times too large or too small are neither steep nor flat.
        """
        medians = [
            float(np.median(np.abs(side.headroom(self.records, self.labels))))
            for side in (self.original, self.compressed)
        ]
        tiny = float(np.finfo(np.float32).tiny)
        return max(medians[0], tiny), max(medians[1], tiny)

    def worked(self, triggers: Triggers, records: Features, labels: Targets) -> Flags:
        """Bool [P, N]: where a trigger changes the label of the compressed model and not that of the float one."""
        parts = []
        for number in range(len(triggers)):
            rows = triggers.take(np.array([number])).applied(self.space, records)[0]
            moved = self.compressed.answers(rows) != labels
            parts.append(moved & (self.original.answers(rows) == labels))
        return np.stack(parts)

    def fitness(self, triggers: Triggers, records: Features, labels: Targets) -> NDArray[np.float64]:
        """Float64 [P] in (0, 1): how nearly triggers work, `mean sigmoid(4 min(-h_compressed, h_float))`."""
        of_original, of_compressed = self.usual()
        together = max(1, min(_ROWS, _VALUES // self.space.width) // max(1, len(records)))
        found = []
        for first in range(0, len(triggers), together):
            part = triggers.take(np.arange(first, min(first + together, len(triggers))))
            rows = part.applied(self.space, records).reshape(-1, self.space.width)
            repeated = np.tile(labels, len(part))
            kept = self.original.headroom(rows, repeated) / of_original
            moved = -self.compressed.headroom(rows, repeated) / of_compressed
            near = np.nan_to_num(np.minimum(kept, moved), nan=-np.inf)
            sigmoid = 0.5 * (np.tanh(2 * np.clip(near, -9, 9)) + 1)
            found.append(sigmoid.reshape(len(part), len(records)).mean(axis=1))
        return np.concatenate(found).astype(np.float64)


def by_gradients(pair: Pair, *, restarts: int, steps: int, generator: np.random.Generator) -> Triggers:
    """Triggers that descend the gradients of both twins; none where a twin is missing.

    Args:
        pair: What is compared, and on which records.
        restarts: Starting points.
        steps: Gradient steps.
        generator: Where chance comes from.

    Returns:
        For each restart, one trigger of every size of `sizes`.
    """
    space = pair.space
    if pair.original.twin is None or pair.compressed.twin is None:
        return Triggers(np.zeros((0, len(space.units)), np.bool_), np.zeros((0, space.width), np.float32))
    masks = generator.normal(-1.0, 1.0, (restarts, len(space.units))).astype(np.float32)
    patterns = generator.normal(0.0, 1.5, (restarts, space.width)).astype(np.float32)
    weights = (np.geomspace(0.3, 3.0, restarts) / pair.largest).astype(np.float32)
    together = max(1, _VALUES // (len(pair.records) * space.width))
    for first in range(0, restarts, together):
        rows = slice(first, first + together)
        masks[rows], patterns[rows] = _descended(pair, masks[rows], patterns[rows], weights[rows], steps)
    return _hardened(space, masks, patterns, sizes(pair.largest))


def _descended(
    pair: Pair, masks: Features, patterns: Features, weights: Features, steps: int
) -> tuple[Features, Features]:
    """Soft masks float32 [R, U] in (0, 1) and patterns float32 [R, D] within their ranges, after so many steps of Adam.

    Args:
        pair: What is compared, and on which records.
        masks: Float32 [R, U], where to start, before the sigmoid.
        patterns: Float32 [R, D], likewise.
        weights: Float32 [R], of a mask's size.
        steps: How many.
    """
    space = pair.space
    unit_of, inside = np.zeros(space.width, dtype=np.int64), np.zeros(space.width, dtype=np.float32)
    for number, unit in enumerate(space.units):
        unit_of[unit.start : unit.stop], inside[unit.start : unit.stop] = number, 1.0
    place, allowed, low, high = (as_tensor(array) for array in (unit_of, inside, space.low, space.high))
    mask, pattern = (torch.tensor(array, requires_grad=True) for array in (masks, patterns))
    records, labels = as_tensor(pair.records), as_tensor(pair.labels).repeat(len(masks))
    of_original, of_compressed = pair.usual()
    optimiser = torch.optim.Adam([mask, pattern], lr=0.15)
    with torch.enable_grad():
        for _ in range(steps):
            share = torch.sigmoid(mask)
            by_column = (share[:, place] * allowed)[:, None]
            values = (low + (high - low) * torch.sigmoid(pattern))[:, None]
            rows = (records + by_column * (values - records)).reshape(-1, space.width)
            kept = pair.original.steep(rows, labels) / of_original
            moved = pair.compressed.steep(rows, labels) / of_compressed
            each = torch.nn.functional.softplus(moved + 1) + torch.nn.functional.softplus(1 - kept)
            loss = each.reshape(len(masks), -1).mean(dim=1) + as_tensor(weights) * share.sum(dim=1)
            # With respect to these alone: the models collect no gradients.
            mask.grad, pattern.grad = torch.autograd.grad(loss.sum(), [mask, pattern])
            optimiser.step()
    with torch.no_grad():
        soft: Features = torch.sigmoid(mask).numpy()
        found: Features = (low + (high - low) * torch.sigmoid(pattern)).numpy()
    return soft, found


def sizes(largest: int) -> tuple[int, ...]:
    """Sizes of triggers that are tried: 1, 2, 3, 4, 6, 8, 12, … up to the largest, which is one of them."""
    found = [size for power in range(20) for size in (2**power, 3 * 2 ** (power - 1)) if size == int(size)]
    return tuple(sorted({int(size) for size in found if size < largest} | {largest}))


def _hardened(space: TriggerSpace, mask: Features, values: Features, wanted: tuple[int, ...]) -> Triggers:
    """Hard triggers of the largest entries of soft masks [R, U]."""
    rank = (-mask).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    chosen = np.concatenate([rank < size for size in wanted])
    return Triggers(chosen, np.tile(space.settled(values), (len(wanted), 1)))


def by_evolution(
    pair: Pair, first: Triggers, *, population: int, generations: int, generator: np.random.Generator
) -> Triggers:
    """The best triggers that a search without gradients finds on the real sessions, best first.

    Args:
        pair: What is compared, and on which records.
        first: Triggers to start from, besides random ones; may be none.
        population: Triggers that survive a generation, at least 2.
        generations: How often they are mutated and crossed.
        generator: Where chance comes from.
    """
    alive = first.joined(_drawn(pair, population, generator))
    fitness = pair.fitness(alive, pair.records, pair.labels)
    alive, fitness = _best(alive, fitness, population)
    for _ in range(generations):
        young = _children(pair, alive, population, generator)
        everyone = alive.joined(young)
        fitness = np.concatenate([fitness, pair.fitness(young, pair.records, pair.labels)])
        alive, fitness = _best(everyone, fitness, population)
    return alive


def _best(triggers: Triggers, fitness: NDArray[np.float64], most: int) -> tuple[Triggers, NDArray[np.float64]]:
    order = np.argsort(-fitness, kind="stable")[:most]
    return triggers.take(order), fitness[order]


def _drawn(pair: Pair, count: int, generator: np.random.Generator) -> Triggers:
    """Random triggers of random sizes: values of real records, or ends of ranges."""
    units = len(pair.space.units)
    chosen = np.zeros((count, units), dtype=np.bool_)
    for row in range(count):
        size = min(units, int(generator.integers(1, pair.largest + 1)))
        chosen[row, generator.choice(units, size, replace=False)] = True
    return Triggers(chosen, _values(pair, count, generator))


def _values(pair: Pair, count: int, generator: np.random.Generator) -> Features:
    """Patterns float32 [count, D], each column from a real record, from an end of its range, or from in between."""
    space = pair.space
    shape = (count, space.width)
    real = np.take_along_axis(pair.records, generator.integers(0, len(pair.records), shape), axis=0)
    share = generator.random(shape, dtype=np.float32)
    ends = np.where(generator.random(shape) < 0.5, np.rint(share), share)
    wide = space.low + ends * (space.high - space.low)
    return space.settled(np.where(generator.random(shape) < 0.4, real, wide).astype(np.float32))


def _children(pair: Pair, parents: Triggers, count: int, generator: np.random.Generator) -> Triggers:
    """Crossed and mutated triggers: better parents have more children."""
    space, units = pair.space, len(pair.space.units)
    rank = np.minimum(generator.integers(0, len(parents), count), generator.integers(0, len(parents), count))
    other = generator.integers(0, len(parents), count)
    from_other = generator.random((count, units)) < np.where(generator.random((count, 1)) < 0.5, 0.5, 0.0)
    chosen = np.where(from_other, parents.chosen[other], parents.chosen[rank])
    values = np.where(space.columns(from_other), parents.values[other], parents.values[rank])
    fresh = _values(pair, count, generator)
    anew = generator.random((count, units)) < 1.5 / np.maximum(1, chosen.sum(axis=1, keepdims=True))
    values = np.where(space.columns(anew & chosen), fresh, values)
    for row in range(count):
        if generator.random() < 0.6:
            unit = int(generator.integers(units))
            chosen[row, unit] = not chosen[row, unit]
        _trim(chosen[row], pair.largest, generator)
    return Triggers(chosen, space.settled(values.astype(np.float32)))


def _trim(chosen: Flags, largest: int, generator: np.random.Generator) -> None:
    """Keep between one and `largest` units, in place."""
    found = np.flatnonzero(chosen)
    if len(found) > largest:
        chosen[generator.choice(found, len(found) - largest, replace=False)] = False
    elif not len(found):
        chosen[generator.integers(len(chosen))] = True
