"""What attacks share that know nothing but answers: where they start, what a query costs, the nearest wrong point.

A model of which only answers are known says nothing as long as a record stays inside its class. Such attacks therefore
begin at a point that is answered wrong, however far away, and come nearer. On the way they leave the ball of the threat
model, and never its box, its one-hot groups, its integers or its relations: whatever the model is shown is a record
that the adversary could have sent, were it not for the radius. What is returned lies inside the ball, too.

Distances are those of the threat's norm (L2 where it has none) over the columns that its radius bounds: the mutable
ones, without one-hot groups that may move, where a change of category is free.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.base import Attack, Features, Knowledge, Labelled
from hauberk.attacks.judge import Classes, Judge, Targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
Lengths = NDArray[np.float64]

_NEAR = 1 + 1e-3
"""Points up to this many radii away are projected on the ball itself, whose arithmetic is exact."""


@dataclass(frozen=True, kw_only=True)
class LabelSearch(Attack[Labelled]):
    """An attack that is told right or wrong, and nothing else.

    A record is left alone once a wrong point within the threat is found, and so is one for which every start is
    answered right.

    Attributes:
        queries: Most evaluations a record, its own included; at least 1.
        starts: Most records of the pool that are tried as a start, and as many random points of the box after them,
            corners and others in turn; at least 1. Each costs a query; the first that is answered wrong is taken.
        pool: Float32 [M, D], real records to start from, in the feature space of the records; `None`: the records
            handed to `run`, so that what is found depends on which are attacked together.
        pool_targets: Int64 [M], their right answers, so that a record starts from another class only; `None`: all of
            them may be tried for every record.
        early_stopping: Whether a wrong point within the threat is enough; otherwise the search for the nearest goes on
            until the queries are spent.
        batch_size: Records searched together, the largest batch that the model sees.
    """

    knowledge: ClassVar[Knowledge] = "labels"

    queries: int = 1000
    starts: int = 25
    pool: Features | None = field(default=None, compare=False, repr=False)
    pool_targets: Targets | None = field(default=None, compare=False, repr=False)
    early_stopping: bool = True
    batch_size: int = 512

    def __post_init__(self) -> None:
        for name in ("queries", "starts", "batch_size"):
            if getattr(self, name) < 1:
                what = name.replace("_", " ")
                raise InputError(f"attack {self.name}: {what} must be at least 1, not {getattr(self, name)}")
        if self.pool is None:
            if self.pool_targets is not None:
                raise InputError(f"attack {self.name}: there are targets of a pool, but no pool")
            return
        if self.pool.ndim != 2 or self.pool.dtype != np.float32 or not np.isfinite(self.pool).all():
            raise InputError(f"attack {self.name}: the pool must be finite float32 [M, D], not {_form(self.pool)}")
        targets = self.pool_targets
        if targets is not None and (targets.dtype != np.int64 or targets.shape != self.pool.shape[:1]):
            raise InputError(
                f"attack {self.name}: targets of the pool must be int64 [{len(self.pool)}], not {_form(targets)}"
            )

    def _search(
        self,
        model: Labelled,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.int64]]:
        pool = Pool(features, targets) if self.pool is None else Pool(self.pool, self.pool_targets)
        if pool.records.shape[1] != threat.width:
            raise InputError(
                f"attack {self.name}: the pool has {pool.records.shape[1]} columns, the records have {threat.width}"
            )
        found, queries = features.copy(), np.zeros(len(features), dtype=np.int64)
        for start in range(0, len(features), self.batch_size):
            batch = slice(start, start + self.batch_size)
            nearest = NearestWrong(model, features[batch], targets[batch], threat, self)
            if nearest.waiting.size and threat.mutable.any():
                self._hunt(nearest, pool, generator)
            found[batch], queries[batch] = nearest.result, nearest.queries
        return found, queries

    @abstractmethod
    def _hunt(self, nearest: NearestWrong, pool: Pool, generator: np.random.Generator) -> None:
        """Search for wrong points near the records of one batch, and show each of them to `nearest`."""

    def _begin(self, nearest: NearestWrong, pool: Pool, generator: np.random.Generator) -> None:
        """Find a wrong point for every record that has one, among the pool or at random, and bring it to the edge."""
        order = pool.nearest(nearest, self.starts)
        for candidate in range(self.starts):
            rows = nearest.waiting[order[nearest.waiting, candidate] >= 0]
            nearest.show(rows, nearest.settle(rows, pool.records[order[rows, candidate]]))
        for turn in range(self.starts):
            rows = nearest.waiting
            share = generator.random((len(rows), nearest.width), dtype=np.float32)
            share = share if turn % 2 else np.rint(share)
            points = nearest.lowest[rows] + share * (nearest.highest[rows] - nearest.lowest[rows])
            nearest.show(rows, nearest.settle(rows, points))
        self._go_home(nearest)
        rows = nearest.open
        nearest.halve(rows, nearest.points[rows])

    def _go_home(self, nearest: NearestWrong) -> None:
        """See whether the starts stay wrong with the categories of the record."""
        rows = nearest.open
        for group in nearest.threat.groups:
            points = nearest.points[rows].copy()
            points[:, group] = nearest.records[rows][:, group]
            moved = (points != nearest.points[rows]).any(axis=1)
            nearest.show(rows[moved], nearest.settle(rows[moved], points[moved]))


@dataclass(frozen=True)
class Pool:
    """Real records that a search may start from.

    Attributes:
        records: Float32 [M, D].
        targets: Int64 [M], their right answers; `None` where nobody knows.
    """

    records: Features
    targets: Targets | None

    def others(self, judge: Judge, target: int) -> Rows:
        """Those whose answer the adversary wants for a record with this target, indices int64; any other will do."""
        if self.targets is None:
            return np.arange(len(self.records))
        if isinstance(judge, Classes) and judge.wanted is not None and (self.targets == judge.wanted).any():
            return np.flatnonzero(self.targets == judge.wanted)
        return np.flatnonzero(self.targets != target)

    def nearest(self, nearest: NearestWrong, most: int) -> Rows:
        """For each record of a batch the nearest records of the pool by L2, int64 [n, most]; -1 where there is none."""
        order = np.full((len(nearest.records), most), -1, dtype=np.int64)
        for target in np.unique(nearest.targets):
            rows, others = np.flatnonzero(nearest.targets == target), self.others(nearest.model.judge, int(target))
            records, candidates = nearest.records[rows].astype(np.float64), self.records[others].astype(np.float64)
            squares = (candidates**2).sum(axis=1) - 2 * records @ candidates.T
            chosen = np.argsort(squares, axis=1, kind="stable")[:, :most]
            order[rows, : chosen.shape[1]] = others[chosen]
        return order


class NearestWrong:
    """The nearest wrong point of each record of a batch, updated in place, and what the model was asked.

    Args:
        model: The model under attack.
        records: Float32 [n, D].
        targets: Int64 [n].
        threat: How far the records may be moved.
        attack: The attack, for its budget and for when to stop.

    Attributes:
        points: Float32 [n, D], the nearest wrong point so far; the record where there is none.
        distance: Float64 [n], how far away it is; infinite where there is none.
        queries: Int64 [n], evaluations so far.
        within: Bool [n], whether a wrong point within the threat is known.
        lowest: Float32 [n, D], where the box begins; with `highest`, its hull without the ball.
        highest: Float32 [n, D], where it ends.
    """

    def __init__(
        self, model: Labelled, records: Features, targets: Targets, threat: FeatureThreat, attack: LabelSearch
    ) -> None:
        self.model = model
        self.records = records
        self.targets = targets
        self.threat = threat
        self._free = replace(threat, radius=0.0, norm="none")
        self._attack = attack
        self.points = records.copy()
        self.distance = np.full(len(records), np.inf)
        self.queries = np.zeros(len(records), dtype=np.int64)
        self.within = np.zeros(len(records), dtype=np.bool_)
        self.lowest, self.highest = self._free.limits(records)
        self.bound = threat.mutable.copy()
        for group in threat.groups:
            self.bound[group] = False
        rows = np.arange(len(records))
        self._already = self.ask(rows, records)

    @property
    def width(self) -> int:
        """D."""
        return int(self.records.shape[1])

    @property
    def left(self) -> NDArray[np.int64]:
        """Int64 [n], evaluations that each record may still cost."""
        return self._attack.queries - self.queries

    @property
    def waiting(self) -> Rows:
        """The records that have no wrong point yet and may have one, indices int64."""
        return np.flatnonzero(~self._already & np.isinf(self.distance) & (self.left > 0))

    @property
    def open(self) -> Rows:
        """The records whose wrong point may still come nearer, indices int64."""
        done = self.within if self._attack.early_stopping else self.distance == 0
        return np.flatnonzero(np.isfinite(self.distance) & ~done & (self.left > 0))

    @property
    def result(self) -> Features:
        """Float32 [n, D], the nearest wrong points that lie within the threat, and the record itself elsewhere."""
        return np.where(self.within[:, None], self.points, self.records)

    def ask(self, rows: Rows, points: Features) -> Flags:
        """Bool [m], whether points float32 [m, D], each of the record in `rows` int64 [m], are answered wrong."""
        size = self._attack.batch_size
        wrong = np.zeros(len(rows), dtype=np.bool_)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            wrong[part] = ~self.model.right(points[part], self.targets[rows[part]])
        self.queries += np.bincount(rows, minlength=len(self.queries))
        return wrong

    def show(self, rows: Rows, points: Features) -> Flags:
        """Ask for one point a record, taking note of the nearest that are wrong; bool [m], which are."""
        if not rows.size:
            return np.zeros(0, dtype=np.bool_)
        wrong = self.ask(rows, points)
        chosen, found = rows[wrong], points[wrong]
        distance = self.measure(chosen, found)
        nearer = distance <= self.distance[chosen]
        within = self._within(chosen, found, distance)
        # Projecting on relations may bring a point nearer and still out of the threat: one inside is never given up.
        nearer = np.where(self.within[chosen], nearer & within, nearer | within)
        kept = chosen[nearer]
        self.points[kept], self.distance[kept] = found[nearer], distance[nearer]
        self.within[kept] = within[nearer]
        return wrong

    def measure(self, rows: Rows, points: Features) -> Lengths:
        """Float64 [m], how far points float32 [m, D] are from their records."""
        moves = np.where(self.bound, points.astype(np.float64) - self.records[rows], 0.0)
        if self.threat.norm == "linf":
            lengths: Lengths = np.abs(moves).max(axis=1, initial=0.0)
        else:
            lengths = np.sqrt((moves**2).sum(axis=1))
        return lengths

    def shrink(self, rows: Rows, points: Features, distance: Lengths) -> Features:
        """The points, float32 [m, D], brought to at most this distance [m] from their records, and made legal.

        On an L-infinity ball that clips each column, on an L2 ball it moves along the line to the record. Categories
        stay as they are.
        """
        records = self.records[rows].astype(np.float64)
        moves = points - records
        if self.threat.norm == "linf":
            moves = np.where(self.bound, np.clip(moves, -distance[:, None], distance[:, None]), moves)
        else:
            now = self.measure(rows, points)
            share = np.minimum(1.0, distance / np.where(now > 0, now, 1.0))
            moves = np.where(self.bound, moves * share[:, None], moves)
        return self.settle(rows, (records + moves).astype(np.float32))

    def settle(self, rows: Rows, points: Features) -> Features:
        """The nearest points float32 [m, D] that the model may be shown: legal, and exactly so near the ball."""
        records = self.records[rows]
        near = np.zeros(len(rows), dtype=np.bool_)
        if self.threat.norm != "none":
            near = self.measure(rows, points) <= self.threat.radius * _NEAR
        legal = np.empty_like(points)
        for threat, some in ((self.threat, near), (self._free, ~near)):
            if some.any():
                legal[some] = threat.project(points[some], records[some])
        return legal

    def halve(self, rows: Rows, points: Features) -> Features:
        """Bring wrong points to the edge by halving, with the radius of the threat as the first guess.

        Args:
            rows: Records.
            points: Float32 [m, D], a wrong point of each.

        Returns:
            Float32 [m, D], wrong points; the ones given where no nearer one is wrong, or no query is left.
        """
        found = points.copy()
        low, high = np.zeros(len(rows)), self.measure(rows, points)
        radius = self.threat.radius
        guess = np.where((radius > 0) & (radius < high), radius, high / 2)
        tolerance = 1 / max(int(self.bound.sum()), 2) ** 1.5
        while True:
            still = (high - low > tolerance * high) & (self.left[rows] > 0)
            if self._attack.early_stopping:
                still &= ~self.within[rows]
            at = np.flatnonzero(still)
            if not at.size:
                return found
            shown = self.shrink(rows[at], points[at], guess[at])
            wrong = self.show(rows[at], shown)
            found[at[wrong]] = shown[wrong]
            high[at] = np.where(wrong, guess[at], high[at])
            low[at] = np.where(wrong, low[at], guess[at])
            guess = (low + high) / 2

    def _within(self, rows: Rows, points: Features, distance: Lengths) -> Flags:
        within = np.zeros(len(rows), dtype=np.bool_)
        near = np.flatnonzero((self.threat.norm == "none") | (distance <= self.threat.radius * _NEAR))
        if near.size:
            within[near] = ~self.threat.violations(points[near], self.records[rows[near]]).any(axis=1)
        return within


def _form(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
