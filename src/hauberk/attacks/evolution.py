"""Evolution: populations of legal records that recombine and mutate, the strong attack under constraints.

In the spirit of MOEVA (Simonetto, Dyrmishi, Ghamizi, Cordy, Le Traon, "A Unified Framework for Adversarial Attack and
Defense in Constrained Feature Space", IJCAI 2022, arXiv:2112.01156), which weighs headroom, violated constraints and
distance against each other. Here two of the three are settled otherwise: every child is repaired before the model sees
it (`FeatureThreat.project`), so that nothing is ever violated, and the threat model bounds the distance. What is left
to select by is the headroom. Where it is equal, as on the plateaus of trees and of rounded scores, the young replace
the old, so that the population wanders on. Keeping half of the population by the non-dominated ones in headroom and
distance was tried, and found no more.

Children also teach what a column does: each gives the headroom of one more move, and slopes learnt from all of them
hold back mutations that lead uphill. Where scores are smooth, that makes up for most of what a population costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.base import Features
from hauberk.attacks.groups import change_groups
from hauberk.attacks.score_attack import Crowd, ScoreAttack
from hauberk.errors import InputError

_ENDS, _OWN = 0.7, 0.1
"""Shares of the mutations of a number that take it to an end of its range, and back to the record's own value. The
others are polynomial."""

_INDEX = 20
"""Distribution index of the polynomial mutation: large means near (Deb and Goyal 1996, "A Combined Genetic Adaptive
Search (GeneAS) for Engineering Design")."""

_FEWEST, _MOST = 0.3, 0.5
"""Mutations a child: from this many to this share of all columns and groups, every order of magnitude alike. Heavy
tails need no schedule (Doerr, Le, Makhmara, Nguyen, "Fast Genetic Algorithms", GECCO 2017, arXiv:1703.03334)."""


_TRUST = 0.9
"""How often a mutation that the slopes advise against is not carried out."""

_RATE = 0.5
"""How much of what a slope did not foresee it learns from each child."""


@dataclass(frozen=True, kw_only=True)
class Evolution(ScoreAttack):
    """Evolutionary search under any threat model: integers, one-hot groups and relations included.

    Attributes:
        population: Records that evolve for each record under attack, and children a generation; at least 2.
    """

    name: ClassVar[str] = "evolution"

    population: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.population < 2:
            raise InputError(f"attack evolution: the population must be at least 2, not {self.population}")

    def _explore(self, crowd: Crowd, generator: np.random.Generator) -> None:
        people = _Population(crowd)
        people.found(min(self.population, crowd.left), generator)
        while crowd.left:
            kept = crowd.leave()
            if kept is not None:
                people.take(kept)
            if not len(crowd):
                return
            people.breed(min(self.population, crowd.left), generator)


class _Population:
    """Points [n, P, D] that satisfy the threat model, with their headroom [n, P].

    What is inherited and what mutates is a unit: a column, or a one-hot group as a whole.

    Args:
        crowd: The records that are under attack.
    """

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._columns = crowd.movable
        self._unit = np.zeros(crowd.threat.width, dtype=np.int64)
        self._unit[self._columns] = np.arange(self._columns.size)
        for number, group in enumerate(crowd.threat.groups):
            self._unit[group.start : group.stop] = self._columns.size + number
        self._units = self._columns.size + len(crowd.threat.groups)
        self._slopes = np.zeros(crowd.records.shape)
        self._points = crowd.records[:, None, :]
        self._headroom = crowd.headroom[:, None]

    def take(self, kept: NDArray[np.bool_]) -> None:
        """Go on with some of the records, bool [n]."""
        self._points, self._headroom, self._slopes = self._points[kept], self._headroom[kept], self._slopes[kept]

    def found(self, count: int, generator: np.random.Generator) -> None:
        """Begin with `count` mutants of each record; a record in which all may change is among the likely ones."""
        points = np.repeat(self._points, count, axis=1)
        self._mutate(points, 1.0, generator)
        points = self._crowd.legal(points)
        headroom = self._crowd.judge(points)
        self._learn(points - self._points, headroom, self._headroom)
        self._points, self._headroom = points, headroom

    def breed(self, count: int, generator: np.random.Generator) -> None:
        """Have `count` children each, and let the best of all live on."""
        row = np.arange(len(self._points))[:, None]
        mother, father = self._parents(count, generator)
        mothers = self._points[row, mother]
        children = self._inherited(mothers, self._points[row, father], generator)
        self._mutate(children, _MOST, generator)
        children = self._crowd.legal(children)
        headroom = self._crowd.judge(children)
        self._learn(children - mothers, headroom, self._headroom[row, mother])
        # A child that repair has made its mother again is no second vote for her.
        rank = np.where((children == mothers).all(axis=2), np.inf, headroom)
        everyone = np.concatenate([children, self._points], axis=1)
        ranks, headroom = (np.concatenate([new, self._headroom], axis=1) for new in (rank, headroom))
        best = np.argsort(ranks, axis=1, kind="stable")[:, : self._points.shape[1]]
        self._points, self._headroom = everyone[row, best], headroom[row, best]

    def _parents(self, count: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Mothers, each the better of two, and fathers, who may be anyone, int64 [n, count]."""
        row = np.arange(len(self._points))[:, None]
        one, two, father = generator.integers(0, self._points.shape[1], size=(3, len(self._points), count))
        return np.where(self._headroom[row, one] <= self._headroom[row, two], one, two), father

    def _inherited(self, mothers: Features, fathers: Features, generator: np.random.Generator) -> Features:
        """Half of the children are their mother's alone; of the others, up to half of the units are the father's."""
        shape = mothers.shape[:2]
        share = generator.random((*shape, 1), dtype=np.float32) - np.float32(0.5)
        inherited = generator.random((*shape, self._units), dtype=np.float32) < share
        return np.where(inherited[:, :, self._unit], fathers, mothers)

    def _mutate(self, points: Features, most: float, generator: np.random.Generator) -> None:
        """Change at least one unit, and at most about a share of them, of each of the points [n, k, D] in place."""
        count, each = points.shape[:2]
        fewest = min(_FEWEST / self._units, most)
        rate = np.exp(generator.uniform(np.log(fewest), np.log(most), size=(count, each, 1))).astype(np.float32)
        units = generator.random((count, each, self._units), dtype=np.float32) < rate
        certain = generator.integers(0, self._units, size=(count, each, 1))
        np.put_along_axis(units, certain, values=True, axis=2)
        self._mutate_numbers(points, units[:, :, : self._columns.size], certain[:, :, 0], generator)
        if groups := self._crowd.threat.groups:
            chosen = units[:, :, self._columns.size :].reshape(count * each, -1)
            highest = np.repeat(self._crowd.highest, each, axis=0)
            change_groups(points.reshape(count * each, -1), chosen, groups, highest, generator)

    def _mutate_numbers(
        self, points: Features, chosen: NDArray[np.bool_], certain: NDArray[np.int64], generator: np.random.Generator
    ) -> None:
        record, person, number = np.nonzero(chosen)
        column = self._columns[number]
        present = points[record, person, column]
        low, high, own = (
            array[record, column] for array in (self._crowd.lowest, self._crowd.highest, self._crowd.records)
        )
        kind, side = generator.random((2, len(column)), dtype=np.float32)
        end = np.where((present == low) | ((present != high) & (side < 0.5)), high, low)
        near = np.clip(present + (high.astype(np.float64) - low) * _polynomial(side), low, high)
        changed = np.where(kind < _ENDS, end, np.where(kind < _ENDS + _OWN, own, near))
        uphill = (changed - present) * self._slopes[record, column] > 0
        kept = uphill & (certain[record, person] != number) & (generator.random(len(column)) < _TRUST)
        points[record, person, column] = np.where(kept, present, changed)

    def _learn(self, moves: Features, found: NDArray[np.float32], known: NDArray[np.float32]) -> None:
        """Learn slopes [n, D] from the moves [n, k, D] of children and the headroom [n, k] of them and their mothers.

        Normalised least mean squares (Widrow and Hoff 1960): each child corrects the slopes along its own move by what
        they did not foresee. Slopes are changes of headroom over the whole range of a column.
        """
        with np.errstate(invalid="ignore"):  # of two infinities
            changes = np.subtract(found, known, dtype=np.float64)
        seen = np.where(np.isfinite(changes), changes, 0.0)
        ranges = self._crowd.highest.astype(np.float64) - self._crowd.lowest
        shares = moves / np.where(ranges > 0, ranges, 1.0)[:, None, :]
        lengths = np.square(shares).sum(axis=2)
        for child in range(shares.shape[1]):
            missed = seen[:, child] - np.einsum("nd,nd->n", self._slopes, shares[:, child])
            step = _RATE * missed / np.where(lengths[:, child] > 0, lengths[:, child], 1.0)
            self._slopes += step[:, None] * shares[:, child]


def _polynomial(draw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moves in (-1, 1) as shares of the range, most of them small, for numbers drawn evenly from [0, 1)."""
    power = np.float32(1 / (_INDEX + 1))
    found: NDArray[np.float32] = np.where(draw < 0.5, (2 * draw) ** power - 1, 1 - (2 - 2 * draw) ** power)
    return found
