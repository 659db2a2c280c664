"""What relations compare: numbers, columns, and what is computed from them.

Each quantity can be evaluated on records, bounded over ranges (interval arithmetic) and, where it is one, written as a
weighted sum of columns with exact weights.
"""

# ruff: noqa: D102, ARG002 - methods do what the base class says of them, and have its signature

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """`constant + sum of weight * column`, exactly; weights of 0 are left out."""

    weights: Mapping[int, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)

    def plus(self, other: Linear, times: Fraction = Fraction(1)) -> Linear:
        """`self + times * other`."""
        weights = dict(self.weights)
        for column, weight in other.weights.items():
            weights[column] = weights.get(column, Fraction(0)) + times * weight
        kept = {column: weight for column, weight in weights.items() if weight}
        return Linear(kept, self.constant + times * other.constant)


class Quantity(ABC):
    """A number for each record."""

    @abstractmethod
    def evaluate(self, numeric: Values) -> Values:
        """Its values [N] for records float64 [N, F]; NaN where it is not defined."""

    @abstractmethod
    def range(self, low: Values, high: Values) -> tuple[float, float]:
        """Ends that it cannot leave while columns stay between `low` and `high` [F], up to rounding."""

    @abstractmethod
    def columns(self) -> Iterator[Column]:
        """The columns in it, in order of appearance."""

    def measured(self) -> Iterator[Column]:
        """Those of which more matters than whether they are 0."""
        yield from self.columns()

    def linear(self) -> Linear | None:
        """It as a weighted sum, or `None`."""
        return None


@dataclass(frozen=True)
class Constant(Quantity):
    """The same for every record."""

    value: float

    def evaluate(self, numeric: Values) -> Values:
        return np.full(len(numeric), self.value)

    def range(self, low: Values, high: Values) -> tuple[float, float]:
        return self.value, self.value

    def columns(self) -> Iterator[Column]:
        yield from ()

    def linear(self) -> Linear:
        return Linear(constant=Fraction(self.value))


@dataclass(frozen=True)
class Column(Quantity):
    """One number of the record."""

    index: int
    name: str

    def evaluate(self, numeric: Values) -> Values:
        return numeric[:, self.index]

    def range(self, low: Values, high: Values) -> tuple[float, float]:
        return float(low[self.index]), float(high[self.index])

    def columns(self) -> Iterator[Column]:
        yield self

    def linear(self) -> Linear:
        return Linear({self.index: Fraction(1)})


@dataclass(frozen=True)
class Combination(Quantity):
    """`left operator right` with `+`, `-`, `*` or `/`; a division by zero is not defined, whatever is divided."""

    operator: str
    left: Quantity
    right: Quantity

    def evaluate(self, numeric: Values) -> Values:
        left, right = self.left.evaluate(numeric), self.right.evaluate(numeric)
        with np.errstate(all="ignore"):
            if self.operator == "+":
                return left + right
            if self.operator == "-":
                return left - right
            if self.operator == "*":
                return left * right
            return np.where(right == 0, np.nan, left / right)

    def range(self, low: Values, high: Values) -> tuple[float, float]:
        (a, b), (c, d) = self.left.range(low, high), self.right.range(low, high)
        if self.operator == "+":
            return a + c, b + d
        if self.operator == "-":
            return a - d, b - c
        if self.operator == "/":
            if c <= 0 <= d:
                return -math.inf, math.inf
            c, d = 1 / d, 1 / c
        ends = [x * y if x and y else 0.0 for x in (a, b) for y in (c, d)]
        return min(ends), max(ends)

    def columns(self) -> Iterator[Column]:
        yield from self.left.columns()
        yield from self.right.columns()

    def linear(self) -> Linear | None:
        left, right = self.left.linear(), self.right.linear()
        if left is None or right is None:
            return None
        if self.operator in {"+", "-"}:
            return left.plus(right, Fraction(1 if self.operator == "+" else -1))
        if self.operator == "*" and not left.weights:
            return Linear().plus(right, left.constant)
        if self.operator == "*" and not right.weights:
            return Linear().plus(left, right.constant)
        if self.operator == "/" and not right.weights and right.constant:
            return Linear().plus(left, 1 / right.constant)
        return None


@dataclass(frozen=True)
class Function(Quantity):
    """`sum`, `count` (how many are not 0), `min` or `max` of some quantities."""

    function: str
    values: tuple[Quantity, ...]

    def evaluate(self, numeric: Values) -> Values:
        found = np.stack([value.evaluate(numeric) for value in self.values])
        if self.function == "count":
            counted: Values = np.where(np.isnan(found), np.nan, found != 0).sum(axis=0)
            return counted
        combine: np.ufunc = {"sum": np.add, "min": np.minimum, "max": np.maximum}[self.function]
        with np.errstate(all="ignore"):
            reduced: Values = combine.reduce(found, axis=0)
        return reduced

    def range(self, low: Values, high: Values) -> tuple[float, float]:
        ranges = [value.range(low, high) for value in self.values]
        least, most = [a for a, _ in ranges], [b for _, b in ranges]
        if self.function == "sum":
            return sum(least), sum(most)
        if self.function == "count":
            return float(sum(a > 0 or b < 0 for a, b in ranges)), float(sum(a != 0 or b != 0 for a, b in ranges))
        return (min(least), min(most)) if self.function == "min" else (max(least), max(most))

    def columns(self) -> Iterator[Column]:
        for value in self.values:
            yield from value.columns()

    def measured(self) -> Iterator[Column]:
        if self.function != "count":
            yield from self.columns()

    def linear(self) -> Linear | None:
        if self.function != "sum":
            return self.values[0].linear() if len(self.values) == 1 and self.function != "count" else None
        total = Linear()
        for value in self.values:
            one = value.linear()
            if one is None:
                return None
            total = total.plus(one)
        return total
