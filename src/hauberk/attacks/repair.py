"""Repairing relations: moving single numbers of raw records, within their limits, until what was broken holds.

In the spirit of the repair step of CAPGD (Simonetto et al., "Constrained Adaptive Attack: Effective Adversarial Attack
Against Deep Neural Networks for Tabular Data", NeurIPS 2024, arXiv:2406.00775), for any comparison and not equalities
alone. In each broken comparison the numbers give way one after the other, in the order in which they are written, as
far as their limits let them, until it holds. One relation's repair may break another, so this is repeated a few times;
`undo` then takes back what could not be repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.decoding import Decoder
from hauberk.attacks.relations import Part, Raw, Relation

_ROUNDS = 6
_HALVINGS = 40

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """How far the numbers of raw records may go: float64 [N, F] twice; both ends are legal values."""

    low: Numbers
    high: Numbers

    def take(self, rows: NDArray[np.int64]) -> Limits:
        """Those of some records."""
        return Limits(self.low[rows], self.high[rows])


def broken(relations: Sequence[Relation], raw: Raw, most: Numbers) -> NDArray[np.bool_]:
    """Bool [R, N]: where the excess of each relation is above `most` [R, N]."""
    found = np.zeros(most.shape, dtype=np.bool_)
    for place, relation in enumerate(relations):
        found[place] = relation.excess(raw) > most[place]
    return found


def excesses(relations: Sequence[Relation], raw: Raw) -> Numbers:
    """Float64 [R, N]: the excess of each relation."""
    found = np.zeros((len(relations), len(raw.codes)))
    for place, relation in enumerate(relations):
        found[place] = relation.excess(raw)
    return found


def repair(relations: Sequence[Relation], raw: Raw, limits: Limits, most: Numbers, decoder: Decoder) -> None:
    """Move numbers so that as many relations as can be hold; changes `raw.numeric` in place.

    Args:
        relations: R of them.
        raw: The records, within the limits.
        limits: Of these records.
        most: Float64 [R, N], the excess that each relation may keep.
        decoder: Which numbers are whole, and what difference survives encoding.
    """
    for attempt in range(_ROUNDS):
        held = True
        for place, relation in enumerate(relations):
            rows = np.flatnonzero(relation.excess(raw) > most[place])
            if not rows.size:
                continue
            held = False
            # Two relations may each want what the other does not: every second time, another part gives way first.
            for part in relation.parts if attempt % 2 == 0 else reversed(relation.parts):
                _give_way(part, raw, rows, limits, decoder)
        if held:
            return


def undo(relations: Sequence[Relation], raw: Raw, source: Raw, most: Numbers) -> None:
    """Put the features of broken relations back to the source's, until none is broken; changes `raw` in place.

    A relation of which every feature is back is as the source has it, so each round puts back at least one more
    feature of a record that still breaks one, and this ends.
    """
    while True:
        wrong = broken(relations, raw, most)
        if not wrong.any():
            return
        for relation, rows in zip(relations, wrong, strict=True):
            for column in relation.numbers:
                raw.numeric[rows, column] = source.numeric[rows, column]
            for column in relation.categoricals:
                raw.codes[rows, column] = source.codes[rows, column]


def _give_way(part: Part, raw: Raw, rows: NDArray[np.int64], limits: Limits, decoder: Decoder) -> None:
    """Move the numbers of one comparison, the first first, in those rows where it does not hold."""
    some = Raw(raw.numeric[rows], raw.codes[rows])
    wrong = np.flatnonzero(part.excess(some) > 0)
    for column in part.columns:
        if not wrong.size:
            break
        low, high = limits.low[rows[wrong], column], limits.high[rows[wrong], column]
        able = wrong[low < high]
        if able.size:
            at = Raw(some.numeric[able], some.codes[able])
            some.numeric[able, column] = _Move(part, at, column, low[low < high], high[low < high], decoder).found()
            wrong = wrong[part.excess(Raw(some.numeric[wrong], some.codes[wrong])) > 0]
    raw.numeric[rows] = some.numeric


@dataclass(frozen=True)
class _Move:
    """One number of some records in which a comparison does not hold: where should it go?"""

    part: Part
    raw: Raw
    column: int
    low: Numbers
    high: Numbers
    decoder: Decoder

    def found(self) -> Numbers:
        """The value [n] nearest to the present one at which the comparison holds, or that comes nearest to it."""
        linear = self.part.comparison.linear
        if self.part.comparison.operator == "!=":
            return self._aside()
        if linear is None or self.column not in linear.weights:
            return self._halved()
        return self._solved(float(linear.weights[self.column]))

    @property
    def _now(self) -> Numbers:
        return self.raw.numeric[:, self.column]

    @property
    def _unit(self) -> Numbers:
        """The least move that survives encoding: 1 for whole numbers (large ones lie further apart)."""
        columns = np.full(len(self._now), self.column)
        least = 2 * self.decoder.resolution(self._now, columns)
        return np.where(self._whole, np.maximum(1.0, np.where(least > 1, np.ceil(least), 0.0)), least)

    @property
    def _whole(self) -> bool:
        return bool(self.decoder.whole[self.column])

    def _solved(self, weight: float) -> Numbers:
        """Where a linear comparison holds: one division."""
        comparison = self.part.comparison
        slope = -weight if comparison.operator in {">=", ">"} else weight
        move = -comparison.gap(self.raw) / slope
        wanted = self._now + np.where(np.isfinite(move), move, 0.0)
        if comparison.operator == "==":
            return np.clip(np.rint(wanted) if self._whole else wanted, self.low, self.high)
        step = self._unit * -np.sign(slope)
        if self._whole:
            wanted = np.ceil(wanted) if slope < 0 else np.floor(wanted)
        if not self._whole or comparison.operator in {"<", ">"}:
            wanted = wanted + step
        return np.clip(wanted, self.low, self.high)

    def _aside(self) -> Numbers:
        """The next value, where it must not be this one."""
        up = self._now + self._unit
        return np.where(up <= self.high, up, np.clip(self._now - self._unit, self.low, self.high))

    def _gap(self, value: Numbers) -> Numbers:
        numeric = self.raw.numeric.copy()
        numeric[:, self.column] = value
        return self.part.comparison.gap(Raw(numeric, self.raw.codes))

    def _holds(self, value: Numbers) -> NDArray[np.bool_]:
        numeric = self.raw.numeric.copy()
        numeric[:, self.column] = value
        holds: NDArray[np.bool_] = self.part.excess(Raw(numeric, self.raw.codes)) == 0
        return holds

    def _halved(self) -> Numbers:
        """By bisection between the present value and an end of the limits at which it holds, or changes its sign."""
        before = self._gap(self._now)
        equal = self.part.comparison.operator == "=="

        def beyond(value: Numbers) -> NDArray[np.bool_]:
            with np.errstate(invalid="ignore"):
                return self._gap(value) * before <= 0 if equal else self._holds(value)

        near = np.where(np.abs(self._now - self.low) <= np.abs(self.high - self._now), self.low, self.high)
        far = np.where(near == self.low, self.high, self.low)
        end = np.where(beyond(near), near, np.where(beyond(far), far, self._now))
        wrong = self._now.copy()
        for _ in range(_HALVINGS):
            if (np.abs(wrong - end) <= self._unit).all():
                break
            middle = (wrong + end) / 2
            middle = np.rint(middle) if self._whole else middle
            there = beyond(middle)
            wrong, end = np.where(there, wrong, middle), np.where(there, middle, end)
        return self._nearest_to_equal(wrong, end, near, far) if equal else end

    def _nearest_to_equal(self, *values: Numbers) -> Numbers:
        """Of some values [n], the one at which both sides differ least; the first of several."""
        found = values[0]
        for value in values[1:]:
            with np.errstate(invalid="ignore"):
                found = np.where(np.abs(self._gap(value)) < np.abs(self._gap(found)), value, found)
        return found
