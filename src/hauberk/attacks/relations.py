"""Relations between features, bound to the columns of a schema and evaluated on raw records.

A relation has an **excess**: 0 where it holds, and otherwise by how much it does not. Everything is computed in float64
on the raw values, without a tolerance other than the one that the relation states: whole numbers up to 2**53 are
exact. A division by zero, or anything else that is no number, is an infinite excess, so such a relation says for which
records it is meant (`count > 0 implies …`).
"""

# ruff: noqa: D102, ARG002 - methods do what the base class says of them, and have its signature

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.quantities import Column, Constant, Linear, Quantity

Excess = NDArray[np.float64]

_TINY = float(np.finfo(np.float64).tiny)
"""Excess of `<`, `>` and `!=` where both sides are equal."""


class Raw(NamedTuple):
    """Raw records, decoded.

    Attributes:
        numeric: Float64 [N, F], the numbers in schema order, each of them a float32.
        codes: Int64 [N, C], the categories in schema order, as `hauberk.schema.Coded` has them.
    """

    numeric: NDArray[np.float64]
    codes: NDArray[np.int64]


class Condition(ABC):
    """Something that holds for a record or does not."""

    @abstractmethod
    def excess(self, raw: Raw, tolerance: float = 0.0) -> Excess:
        """By how much it does not hold, float64 [N], at least 0."""

    @abstractmethod
    def certain(self, low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float) -> bool | None:
        """Whether it holds for all records, or for none, with numbers in these ranges; `None`: for some."""

    @abstractmethod
    def columns(self) -> Iterator[Column]:
        """The numbers in it, in order of appearance."""

    def categoricals(self) -> Iterator[int]:
        """The categoricals in it."""
        yield from ()


@dataclass(frozen=True)
class Compare(Condition):
    """`left operator right` for two quantities."""

    operator: str
    left: Quantity
    right: Quantity

    def gap(self, raw: Raw) -> Excess:
        """`left - right`, or the other way round where `left` has to be the larger one: at most 0 is wanted."""
        left, right = self.left.evaluate(raw.numeric), self.right.evaluate(raw.numeric)
        with np.errstate(invalid="ignore", over="ignore"):
            found: Excess = right - left if self.operator in {">=", ">"} else left - right
        return found

    def excess(self, raw: Raw, tolerance: float = 0.0) -> Excess:
        gap = self.gap(raw)
        if self.operator == "!=":
            found = np.where(gap == 0, _TINY, 0.0)
        elif self.operator == "==":
            found = np.where(np.abs(gap) > tolerance, np.abs(gap), 0.0)
        else:
            found = np.where(gap > tolerance, gap, 0.0)
            if self.operator in {"<", ">"}:
                found = np.where(gap == tolerance, max(tolerance, _TINY), found)
        return np.where(np.isnan(gap), np.inf, found)

    def certain(self, low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float) -> bool | None:
        if self.operator in {">=", ">"}:
            (right, left), strict = (self.left, self.right), self.operator == ">"
        else:
            (left, right), strict = (self.left, self.right), self.operator == "<"
        (least_left, most_left), (least_right, most_right) = left.range(low, high), right.range(low, high)
        # Ranges are computed in float64, which rounds: what it could get wrong counts as open.
        ends = (least_left, most_left, least_right, most_right)
        slack = 1e-9 * max(1.0, *(abs(end) if np.isfinite(end) else 0.0 for end in ends))
        below = most_left + slack < least_right - tolerance
        above = least_left - slack > most_right + tolerance
        if self.operator in {"==", "!="}:
            return (self.operator == "!=") if below or above else None
        if most_left + slack < least_right:
            return True
        exact = isinstance(left, (Column, Constant)) and isinstance(right, (Column, Constant))
        if exact and not tolerance and not strict and most_left <= least_right:
            return True
        if exact and not tolerance and strict and least_left >= most_right:
            return False
        return False if above else None

    def columns(self) -> Iterator[Column]:
        yield from self.left.columns()
        yield from self.right.columns()

    @cached_property
    def linear(self) -> Linear | None:
        """`left - right` as a weighted sum, exactly; `None` where it is none."""
        left, right = self.left.linear(), self.right.linear()
        return None if left is None or right is None else left.plus(right, Fraction(-1))


@dataclass(frozen=True)
class IsCategory(Condition):
    """Whether a categorical has a code, or, negated, another one."""

    categorical: int
    code: int
    negated: bool

    def excess(self, raw: Raw, tolerance: float = 0.0) -> Excess:
        return np.where((raw.codes[:, self.categorical] == self.code) == self.negated, 1.0, 0.0)

    def certain(self, low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float) -> bool | None:
        return None

    def columns(self) -> Iterator[Column]:
        yield from ()

    def categoricals(self) -> Iterator[int]:
        yield self.categorical


@dataclass(frozen=True)
class Joined(Condition):
    """`left and right`, `left or right`, `left implies right`. A premise is judged without the tolerance."""

    operator: str
    left: Condition
    right: Condition

    def excess(self, raw: Raw, tolerance: float = 0.0) -> Excess:
        right = self.right.excess(raw, tolerance)
        if self.operator == "implies":
            return np.where(self.left.excess(raw) > 0, 0.0, right)
        left = self.left.excess(raw, tolerance)
        return np.maximum(left, right) if self.operator == "and" else np.minimum(left, right)

    def certain(self, low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float) -> bool | None:
        premise = self.operator == "implies"
        left = self.left.certain(low, high, 0.0 if premise else tolerance)
        right = self.right.certain(low, high, tolerance)
        if premise:
            left = None if left is None else not left
        if self.operator == "and":
            return False if left is False or right is False else (left and right)
        return True if left or right else (False if left is False and right is False else None)

    def columns(self) -> Iterator[Column]:
        yield from self.left.columns()
        yield from self.right.columns()

    def categoricals(self) -> Iterator[int]:
        yield from self.left.categoricals()
        yield from self.right.categoricals()


@dataclass(frozen=True)
class Part:
    """A comparison that a relation needs, the conditions under which it does, and the tolerance."""

    premises: tuple[Condition, ...]
    comparison: Compare
    tolerance: float

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """The columns of `numeric` in the comparison, in order of appearance."""
        return tuple(dict.fromkeys(column.index for column in self.comparison.columns()))

    def excess(self, raw: Raw) -> Excess:
        """Of the comparison, where all premises hold; 0 elsewhere."""
        found = self.comparison.excess(raw, self.tolerance)
        for premise in self.premises:
            found = np.where(premise.excess(raw) > 0, 0.0, found)
        return found


@dataclass(frozen=True)
class Relation:
    """One relation of a threat model.

    Attributes:
        text: As it was written.
        tolerance: By how much a comparison may miss and still hold, in raw units; for rates that a sensor rounded.
        condition: What has to hold.
    """

    text: str
    tolerance: float
    condition: Condition

    def excess(self, raw: Raw) -> Excess:
        """By how much it does not hold for each record, float64 [N]; 0 where it does."""
        return self.condition.excess(raw, self.tolerance)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The columns of `numeric` in it, in order of appearance."""
        return tuple(dict.fromkeys(column.index for column in self.condition.columns()))

    @cached_property
    def categoricals(self) -> tuple[int, ...]:
        """The columns of `codes` in it."""
        return tuple(dict.fromkeys(self.condition.categoricals()))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The comparisons that can be repaired one by one: of alternatives, the first first; a premise last of all."""
        return tuple(_parts(self.condition, (), self.tolerance))


_OPPOSITE = {"==": "!=", "!=": "==", "<=": ">", ">": "<=", ">=": "<", "<": ">="}


def _parts(condition: Condition, premises: tuple[Condition, ...], tolerance: float) -> Iterator[Part]:
    if isinstance(condition, Compare):
        yield Part(premises, condition, tolerance)
    elif isinstance(condition, Joined):
        left, right = condition.left, condition.right
        if condition.operator == "and":
            yield from _parts(left, premises, tolerance)
            yield from _parts(right, premises, tolerance)
        elif condition.operator == "or":
            yield from _parts(left, (*premises, _Not(right, tolerance)), tolerance)
            yield from _parts(right, (*premises, _Not(left, tolerance)), tolerance)
        else:
            yield from _parts(right, (*premises, left), tolerance)
            yield from _parts(_opposite(left), (*premises, _Not(right, tolerance)), 0.0)


def _opposite(condition: Condition) -> Condition:
    """What holds where a condition does not, spelled out as far as it can be."""
    if isinstance(condition, Compare):
        return Compare(_OPPOSITE[condition.operator], condition.left, condition.right)
    if isinstance(condition, Joined):
        left, right = condition.left, condition.right
        if condition.operator == "implies":
            return Joined("and", left, _opposite(right))
        return Joined("or" if condition.operator == "and" else "and", _opposite(left), _opposite(right))
    return _Not(condition, 0.0)


@dataclass(frozen=True)
class _Not(Condition):
    """Whether a condition does not hold: the premise under which the other of two alternatives is needed."""

    other: Condition
    tolerance: float

    def excess(self, raw: Raw, tolerance: float = 0.0) -> Excess:
        return np.where(self.other.excess(raw, self.tolerance) == 0, 1.0, 0.0)

    def certain(self, low: NDArray[np.float64], high: NDArray[np.float64], tolerance: float) -> bool | None:
        known = self.other.certain(low, high, self.tolerance)
        return None if known is None else not known

    def columns(self) -> Iterator[Column]:
        yield from self.other.columns()

    def categoricals(self) -> Iterator[int]:
        yield from self.other.categoricals()
