"""A gradient-free search that needs nothing but scores: the attack that gradient masking cannot hide from.

Square Attack (Andriushchenko et al., ECCV 2020, arXiv:1912.00049) made for tables. Columns of a table have no
neighbours, so that groups of columns drawn at random take the place of squares. As there, every mutable column sits on
an end of its range, a proposal moves some of them to the other end, the number of them falls on a fixed schedule, and
a proposal is kept where it is not worse. Flipping replaces redrawing the sign, because no query is spent on a proposal
that changes nothing: on NSL-KDD (118 columns, radius 0.05) 59.8 % of records stood after 100 queries instead of
67.8 %, and 32.6 % instead of 34.4 % after 500.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks import judge as judging
from hauberk.attacks.base import Attack, Features, Knowledge, Scored, as_tensor
from hauberk.attacks.judge import Targets
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError

_HALVINGS = (0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the budget after which the share of flipped columns halves: the paper's schedule, scaled to the budget."""


@dataclass(frozen=True, kw_only=True)
class ScoreSearch(Attack[Scored]):
    """Random search over the corners of the threat model, on any model that gives scores.

    A record is left alone once its label is wrong, so that `AttackResult.queries` says what each one cost.

    Attributes:
        queries: Most evaluations a record, its own included; at least 1.
        share: Share of the mutable columns that the first proposals flip, in (0, 1].
        batch_size: Records searched together, the largest batch that the model sees.
    """

    name: ClassVar[str] = "score-search"
    knowledge: ClassVar[Knowledge] = "scores"

    queries: int = 1000
    share: float = 0.8
    batch_size: int = 512

    def __post_init__(self) -> None:
        if self.queries < 1 or self.batch_size < 1:
            raise InputError(
                f"attack score-search: queries and batch size must be at least 1, not {self.queries}, {self.batch_size}"
            )
        if not 0 < self.share <= 1:
            raise InputError(f"attack score-search: the share of columns must lie in (0, 1], not {self.share}")

    def _search(
        self,
        model: Scored,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.int64]]:
        worst = features.copy()
        lowest = np.empty(len(features), dtype=np.float32)
        queries = np.ones(len(features), dtype=np.int64)
        limits = threat.limits(features)
        mutable = np.flatnonzero(threat.mutable)
        for start in range(0, len(features), self.batch_size):
            rows = np.arange(start, min(start + self.batch_size, len(features)))
            lowest[rows] = model.headroom(features[rows], targets[rows])
            right = ~_fooled(model, lowest[rows], targets[rows])
            if mutable.size and right.any() and self.queries > 1:
                crowd = _Crowd(rows[right], worst, lowest, queries, targets, model)
                self._climb(crowd, limits, mutable, generator)
        return worst, queries

    def _climb(
        self,
        crowd: _Crowd,
        limits: tuple[Features, Features],
        mutable: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> None:
        """Search for the records of one batch until each is labelled wrong or the budget is spent."""
        lowest, highest = (limit[crowd.rows] for limit in limits)
        corner = generator.random((len(crowd.rows), mutable.size), dtype=np.float32) < 0.5
        points = crowd.worst[crowd.rows]
        points[:, mutable] = np.where(corner, lowest[:, mutable], highest[:, mutable])
        best = crowd.judge(points)
        for spent in range(2, self.queries):
            if not crowd.right.all():
                kept = crowd.drop_fooled()
                points, best, lowest, highest = points[kept], best[kept], lowest[kept], highest[kept]
                if not len(points):
                    return
            row = np.arange(len(points))[:, None]
            flips = self._flips(spent, mutable.size)
            column = mutable[generator.integers(0, mutable.size, size=(len(points), flips))]
            proposal = points.copy()
            here, low, high = points[row, column], lowest[row, column], highest[row, column]
            proposal[row, column] = np.where(here == low, high, low)
            found = crowd.judge(proposal)
            better = found <= best
            points[better], best[better] = proposal[better], found[better]

    def _flips(self, spent: int, columns: int) -> int:
        """How many columns a proposal flips after `spent` of the budget."""
        halvings = sum(spent > halving * self.queries for halving in _HALVINGS)
        return max(1, round(self.share * columns * 0.5**halvings))


def _fooled(model: Scored, headroom: NDArray[np.float32], targets: Targets) -> NDArray[np.bool_]:
    answers: NDArray[np.bool_] = judging.fooled(model.judge, as_tensor(headroom), as_tensor(targets)).numpy()
    return answers


class _Crowd:
    """The records of one batch that are still answered right, and the shared arrays of all records.

    Args:
        rows: Int64 [n], the records.
        worst: Float32 [N, D], the worst points so far, updated in place.
        headroom: Float32 [N], the model's headroom of them, updated in place.
        queries: Int64 [N], evaluations so far, updated in place.
        targets: Int64 [N].
        model: The model under attack.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        worst: Features,
        headroom: NDArray[np.float32],
        queries: NDArray[np.int64],
        targets: Targets,
        model: Scored,
    ) -> None:
        self.rows = rows
        self.worst = worst
        self.right = np.ones(len(rows), dtype=np.bool_)
        self._headroom = headroom
        self._queries = queries
        self._targets = targets
        self._model = model

    def judge(self, points: Features) -> NDArray[np.float32]:
        """Headroom float32 [n] of one point a record, each of which costs a query; the worst are taken note of."""
        targets = self._targets[self.rows]
        found = self._model.headroom(points, targets)
        self._queries[self.rows] += 1
        worse = found < self._headroom[self.rows]
        chosen = self.rows[worse]
        self.worst[chosen], self._headroom[chosen] = points[worse], found[worse]
        self.right = ~_fooled(self._model, self._headroom[self.rows], targets)
        return found

    def drop_fooled(self) -> NDArray[np.bool_]:
        """Let go of the records that are answered wrong by now; which of the present ones stay, bool [n]."""
        kept = self.right
        self.rows = self.rows[kept]
        self.right = np.ones(len(self.rows), dtype=np.bool_)
        return kept
