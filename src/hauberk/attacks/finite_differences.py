"""Gradient descent without gradients: slopes are estimated from the scores of points nearby.

Two estimates. One column at a time, as ZOO does (Chen et al., AISec 2017, arXiv:1708.03999), on one side of the point
instead of both, which halves the price: the slope of a column is (f(x + h e) - f(x)) / h. All columns at once along
random directions u, as natural evolution strategies do (Ilyas et al., ICML 2018, arXiv:1804.08598): the slope is the
mean of u (f(x + h u) - f(x - h u)) / 2h. Descent follows with signed steps, or with Adam's, whose moments ZOO keeps a
column.

Both are written as one formula that is right at the edge of the box and under relations, too: with the legal points p
and q that the model has seen, the slope is the sum of (p - q) (f(p) - f(q)) / |p - q|**2 over all pairs.

Rounding has no slope. Where no probe of a record makes a difference, the probes of that record move further away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.base import Features
from hauberk.attacks.score_attack import Crowd, ScoreAttack
from hauberk.errors import InputError

Estimate = Literal["columns", "directions"]
Step = Literal["adam", "signed"]

_DECAYS = 0.9, 0.999
"""Of Adam's moments (Kingma and Ba 2015, arXiv:1412.6980)."""

_STEEPEST = 1e30
"""Differences of scores are cut here, so that an infinite one has a square."""


@dataclass(frozen=True, kw_only=True)
class FiniteDifferences(ScoreAttack):
    """Descent along estimated slopes; one-hot groups stay as they are.

    A step costs `probes + 1` queries for columns and `2 * probes + 1` for directions. What does not pay for a step with
    one pair of probes at the end is not spent.

    Attributes:
        estimate: Slopes of single "columns", or of random "directions".
        step: "signed" steps, straight down under the L2 norm; or "adam".
        probes: Columns or directions that a step probes, at least 1; no more than there are columns.
        width: How far probes are from the point, as a share of each column's range, in (0, 1].
        rate: Length of the first steps, as a share of each column's range, above 0. It falls to a tenth, on a line.
    """

    name: ClassVar[str] = "finite-differences"

    estimate: Estimate = "columns"
    step: Step = "signed"
    probes: int = 16
    width: float = 0.1
    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimate not in ("columns", "directions") or self.step not in ("adam", "signed"):
            raise InputError(
                "attack finite-differences: the estimate is columns or directions and the step adam or signed,"
                f" not {self.estimate!r} and {self.step!r}"
            )
        if self.probes < 1:
            raise InputError(f"attack finite-differences: there must be at least 1 pair of probes, not {self.probes}")
        if not 0 < self.width <= 1 or not 0 < self.rate < np.inf:
            raise InputError(
                "attack finite-differences: the width must lie in (0, 1] and the rate above 0,"
                f" not {self.width} and {self.rate}"
            )

    def _explore(self, crowd: Crowd, generator: np.random.Generator) -> None:
        if not crowd.movable.size:
            return
        descent = _Descent(crowd, self, generator)
        each = 1 if self.estimate == "columns" else 2
        most = self.probes if self.estimate == "directions" else min(self.probes, crowd.movable.size)
        while crowd.left > each:
            probes = descent.probes(min(most, (crowd.left - 1) // each), generator)
            found = crowd.judge(probes)
            kept = crowd.leave()
            if kept is not None:
                descent.take(kept)
                probes, found = probes[kept], found[kept]
            if not len(crowd):
                return
            descent.headroom = crowd.judge(descent.follow(probes, found))
            kept = crowd.leave()
            if kept is not None:
                descent.take(kept)
            if not len(crowd):
                return


class _Descent:
    """Where each record of a crowd has got to, and Adam's moments.

    Args:
        crowd: The records.
        attack: Its options.
        generator: Draws the order in which columns are probed.

    Attributes:
        headroom: Of the points, float32 [n].
    """

    def __init__(self, crowd: Crowd, attack: FiniteDifferences, generator: np.random.Generator) -> None:
        self.columns = crowd.movable
        self._crowd = crowd
        self._attack = attack
        self._points = crowd.records
        self.headroom = crowd.headroom
        self._width = np.full(len(crowd), attack.width)
        self._order = generator.permuted(np.tile(self.columns, (len(crowd), 1)), axis=1)
        self._next = 0
        self._first, self._second, self._steps = np.zeros((3, *crowd.records.shape))

    def take(self, kept: NDArray[np.bool_]) -> None:
        """Go on with some of the records, bool [n]."""
        self._points, self._width, self._order = self._points[kept], self._width[kept], self._order[kept]
        self.headroom = self.headroom[kept]
        self._first, self._second, self._steps = self._first[kept], self._second[kept], self._steps[kept]

    def probes(self, pairs: int, generator: np.random.Generator) -> Features:
        """Legal points near each point, float32 [n, pairs, D] for columns, on both sides [n, 2 * pairs, D] otherwise.

        One side is enough for a column: where the point itself is the other, half the queries give the same slope.
        """
        crowd, count = self._crowd, len(self._crowd)
        ways = np.zeros((count, pairs, crowd.records.shape[1]))
        width = self._width[:, None] * self._ranges()
        if self._attack.estimate == "columns":
            places = self._order[:, (self._next + np.arange(pairs)) % self.columns.size]
            self._next += pairs
            away = np.where(crowd.highest - self._points >= self._points - crowd.lowest, width, -width)
            ways[np.arange(count)[:, None], np.arange(pairs), places] = np.take_along_axis(away, places, axis=1)
        else:
            ways[:, :, self.columns] = generator.standard_normal((count, pairs, self.columns.size))
            ways *= width[:, None, :]
            ways = np.concatenate([ways, -ways], axis=1)
        near = (self._points[:, None, :] + ways).astype(np.float32)
        return crowd.legal(np.clip(near, crowd.lowest[:, None, :], crowd.highest[:, None, :]))

    def follow(self, probes: Features, found: NDArray[np.float32]) -> Features:
        """The next points [n, D], by the headroom [n, k] that was found at probes [n, k, D]."""
        if self._attack.estimate == "columns":
            others, known = self._points[:, None, :], self.headroom[:, None]
        else:
            (probes, others), (found, known) = np.split(probes, 2, axis=1), np.split(found, 2, axis=1)
        apart = probes.astype(np.float64) - others
        with np.errstate(invalid="ignore"):  # of two infinities
            fall = np.subtract(found, known, dtype=np.float64)
        fall = np.clip(np.nan_to_num(fall, nan=0.0), -_STEEPEST, _STEEPEST)
        square = np.square(apart).sum(axis=2)
        slope = np.einsum("np,npd->nd", fall / np.where(square > 0, square, 1.0), apart)
        self._width = np.where((fall == 0).all(axis=1), np.minimum(2 * self._width, 1.0), self._width)
        step = self._adam(slope) if self._attack.step == "adam" else self._signed(slope)
        rate = self._attack.rate * (1 - 0.9 * self._crowd.spent)
        moved = (self._points - rate * step).astype(np.float32)
        self._points = self._crowd.legal(np.clip(moved, self._crowd.lowest, self._crowd.highest))
        return self._points

    def _ranges(self) -> NDArray[np.float64]:
        return self._crowd.highest.astype(np.float64) - self._crowd.lowest

    def _signed(self, slope: NDArray[np.float64]) -> NDArray[np.float64]:
        """To all sides alike in a box; straight down in an L2 ball, whose diameter is the range of every column."""
        if self._crowd.threat.norm != "l2":
            return np.sign(slope) * self._ranges()
        length = np.linalg.norm(slope, axis=1, keepdims=True)
        return 2 * self._crowd.threat.radius * slope / np.where(length > 0, length, 1.0)

    def _adam(self, slope: NDArray[np.float64]) -> NDArray[np.float64]:
        """Adam on the columns whose slope is known, each with a count of its own."""
        # In units of the range, the slope of a column is what its whole range would change.
        slope = slope * self._ranges()
        known = slope != 0
        self._steps += known
        first, second = _DECAYS
        self._first = np.where(known, first * self._first + (1 - first) * slope, self._first)
        self._second = np.where(known, second * self._second + (1 - second) * slope**2, self._second)
        counts = np.maximum(self._steps, 1)
        mean, size = self._first / (1 - first**counts), self._second / (1 - second**counts)
        step = np.where(known, mean / np.where(size > 0, np.sqrt(size), 1.0), 0.0)
        if self._crowd.threat.norm == "l2":
            return self._signed(step)
        return step * self._ranges()
