"""What attacks share that know scores: the budget, batches, what each record cost, the worst point that was seen.

A subclass writes `_explore`, which gets a `Crowd`: the records of one batch that are answered right and can be moved.
It asks the crowd for the headroom of points that satisfy the threat model; the crowd counts, and remembers the worst.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks import judge as judging
from hauberk.attacks.base import Attack, Features, Knowledge, Scored, as_tensor
from hauberk.attacks.judge import Targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ScoreAttack(Attack[Scored]):
    """An attack on any model that gives scores.

    A record is left alone once its answer is wrong, so that `AttackResult.queries` says what each one cost.

    Attributes:
        queries: Most evaluations a record, its own included; at least 1.
        batch_size: Records searched together, and the largest batch that the model sees; at least 1. It changes the
            speed, and results by the order in which random numbers are drawn.
    """

    knowledge: ClassVar[Knowledge] = "scores"

    queries: int = 1000
    batch_size: int = 512

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise InputError(
                f"attack {self.name}: nothing can be learnt from {self.queries} queries; allow at least 1 a record"
            )
        if self.batch_size < 1:
            raise InputError(f"attack {self.name}: the batch size must be at least 1, not {self.batch_size}")

    @abstractmethod
    def _explore(self, crowd: Crowd, generator: np.random.Generator) -> None:
        """Search for the records of one batch until each is answered wrong or the budget is spent."""

    def _search(
        self,
        model: Scored,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.int64]]:
        notes = _Notes(features.copy(order="C"), np.empty(len(features), np.float32), np.zeros(len(features), np.int64))
        for start in range(0, len(features), self.batch_size):
            rows = np.arange(start, min(start + self.batch_size, len(features)))
            records = notes.worst[rows]
            notes.headroom[rows] = model.headroom(records, targets[rows])
            notes.queries[rows] = 1
            lowest, highest = threat.limits(records)
            wanted = ~_fooled(model, notes.headroom[rows], targets[rows]) & (highest > lowest).any(axis=1)
            if self.queries > 1 and wanted.any():
                batch = _Batch(rows[wanted], records[wanted], lowest[wanted], highest[wanted], targets[rows[wanted]])
                self._explore(Crowd(model, threat, batch, notes, self.queries, self.batch_size), generator)
        if threat.constrained:  # whatever was judged has been projected
            return notes.worst, notes.queries
        # Every point is inside already; this makes columns that did not move identical, the sign of a zero included.
        return threat.project(notes.worst, features), notes.queries


@dataclass(frozen=True)
class _Notes:
    """What is known of all N records: the worst points float32 [N, D], their headroom [N], evaluations int64 [N]."""

    worst: Features
    headroom: NDArray[np.float32]
    queries: NDArray[np.int64]


@dataclass(frozen=True)
class _Batch:
    """Some of the records under attack, the ends of their ranges, and their targets."""

    rows: NDArray[np.int64]
    records: Features
    lowest: Features
    highest: Features
    targets: Targets

    def take(self, kept: NDArray[np.bool_]) -> _Batch:
        return _Batch(self.rows[kept], self.records[kept], self.lowest[kept], self.highest[kept], self.targets[kept])


class Crowd:
    """The records of one batch that are still answered right, and what their search may spend.

    Args:
        model: The model under attack.
        threat: How far records may be moved.
        batch: The records.
        notes: What is known of all records, updated in place.
        budget: Most evaluations a record.
        most: Points that the model is given at once.
    """

    def __init__(
        self, model: Scored, threat: FeatureThreat, batch: _Batch, notes: _Notes, budget: int, most: int
    ) -> None:
        self.threat = threat
        self._model = model
        self._batch = batch
        self._notes = notes
        self._right = np.ones(len(batch.rows), dtype=np.bool_)
        self._spent = 1
        self._budget = budget
        self._most = most

    def __len__(self) -> int:
        return len(self._batch.rows)

    @property
    def records(self) -> Features:
        """The records, float32 [n, D]."""
        return self._batch.records

    @property
    def lowest(self) -> Features:
        """Lowest value of each column, float32 [n, D]."""
        return self._batch.lowest

    @property
    def highest(self) -> Features:
        """Highest value of each column, float32 [n, D]."""
        return self._batch.highest

    @property
    def headroom(self) -> NDArray[np.float32]:
        """Of the worst point so far, float32 [n]."""
        return self._notes.headroom[self._batch.rows]

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, in (0, 1]."""
        return self._spent / self._budget

    @property
    def left(self) -> int:
        """Evaluations that each record has left."""
        return self._budget - self._spent

    @property
    def movable(self) -> NDArray[np.int64]:
        """The columns that move one at a time in at least one record: no one-hot groups."""
        free = np.zeros(self.threat.width, dtype=np.bool_)
        (self.highest > self.lowest).any(axis=0, out=free)
        for group in self.threat.groups:
            free[group.start : group.stop] = False
        return np.flatnonzero(free)

    def legal(self, points: Features) -> Features:
        """Points [n, D] or [n, k, D] within `lowest` and `highest`, made to satisfy the threat model in full."""
        if not self.threat.constrained:
            return points
        if points.ndim == 2:
            return self.threat.project(points, self.records)
        each = points.shape[1]
        flat = points.reshape(-1, points.shape[-1])
        return self.threat.project(flat, np.repeat(self.records, each, axis=0)).reshape(points.shape)

    def judge(self, points: Features) -> NDArray[np.float32]:
        """Headroom of points that satisfy the threat model; each costs its record a query, and the worst are kept.

        Args:
            points: Float32 [n, D], or [n, k, D] for k points a record, of which there must be `left` as many.

        Returns:
            Float32 [n] or [n, k].
        """
        each = 1 if points.ndim == 2 else points.shape[1]
        flat = points.reshape(-1, points.shape[-1])
        targets = np.repeat(self._batch.targets, each)
        parts = [
            self._model.headroom(flat[start : start + self._most], targets[start : start + self._most])
            for start in range(0, len(flat), self._most)
        ]
        found = np.concatenate(parts).reshape(len(self), each)
        best = found.argmin(axis=1)
        everyone = np.arange(len(self))
        self._note(points.reshape(len(self), each, -1)[everyone, best], found[everyone, best])
        self._notes.queries[self._batch.rows] += each
        self._spent += each
        return found.reshape(points.shape[:-1])

    def leave(self) -> NDArray[np.bool_] | None:
        """Let go of the records that are answered wrong by now.

        Returns:
            Which of the present ones stay, bool [n]; `None` where all do.
        """
        if self._right.all():
            return None
        kept = self._right
        self._batch = self._batch.take(kept)
        self._right = np.ones(len(self), dtype=np.bool_)
        return kept

    def _note(self, points: Features, found: NDArray[np.float32]) -> None:
        rows = self._batch.rows
        worse = found < self._notes.headroom[rows]
        chosen = rows[worse]
        self._notes.worst[chosen], self._notes.headroom[chosen] = points[worse], found[worse]
        self._right = ~_fooled(self._model, self._notes.headroom[rows], self._batch.targets)


def _fooled(model: Scored, headroom: NDArray[np.float32], targets: Targets) -> NDArray[np.bool_]:
    answers: NDArray[np.bool_] = judging.fooled(model.judge, as_tensor(headroom), as_tensor(targets)).numpy()
    return answers
