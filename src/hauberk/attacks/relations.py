"""Relations between features, bound to the columns of a schema and evaluated on raw records.

A relation has an **excess**: 0 where it holds, and otherwise by how much it does not. Everything is computed in float64
on the raw values, without a tolerance other than the one that the relation states: whole numbers up to 2**53 are
exact. A division by zero, or anything else that is no number, is an infinite excess, so such a relation says for which
records it is meant (`count > 0 implies …`).
"""

# ruff: noqa: D102, ARG002 - methods do what the base class says of them, and have its signature

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks import expressions as ast
from hauberk.attacks.quantities import Column, Combination, Constant, Function, Linear, Quantity
from hauberk.errors import InputError
from hauberk.schema import CategoricalFeature, NumericFeature, RecordSchema

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


def bind(text: str, tolerance: float, schema: RecordSchema) -> Relation:
    """Read a relation between the features of a schema.

    Args:
        text: In the language of `hauberk.attacks.expressions`.
        tolerance: At least 0, in raw units.
        schema: Whose features the names are.

    Raises:
        InputError: It cannot be read, names a feature or a category that the schema lacks, compares kinds that do not
            compare, or asks real numbers to be equal without a tolerance.
    """
    if not 0 <= tolerance < np.inf:
        raise InputError(f"the tolerance must be a finite number of at least 0, not {tolerance}")
    condition = _Binder(schema).condition(ast.parse(text))
    relation = Relation(text, tolerance, condition)
    if not relation.numbers and not relation.categoricals:
        raise InputError("there is no feature in it")
    for comparison in _concluded(condition):
        measured = (*comparison.left.measured(), *comparison.right.measured())
        real = [column.name for column in measured if isinstance(schema.numbers[column.index], NumericFeature)]
        if comparison.operator == "==" and real and not tolerance:
            raise InputError(f"{real[0]!r} is a real number, and '==' needs a tolerance for those; give one")
    return relation


def _concluded(condition: Condition) -> Iterator[Compare]:
    """The comparisons of a condition that are no premises."""
    if isinstance(condition, Compare):
        yield condition
    elif isinstance(condition, Joined):
        if condition.operator != "implies":
            yield from _concluded(condition.left)
        yield from _concluded(condition.right)


class _Binder:
    """Puts columns in the place of names."""

    def __init__(self, schema: RecordSchema) -> None:
        self._numbers = {feature.name: place for place, feature in enumerate(schema.numbers)}
        self._categoricals = {feature.name: place for place, feature in enumerate(schema.categoricals)}
        self._features = {feature.name: feature for feature in schema.features}

    def condition(self, node: ast.Truth) -> Condition:
        if isinstance(node, ast.Logic):
            return Joined(node.operator, self.condition(node.left), self.condition(node.right))
        sides = (node.left, node.right)
        if any(isinstance(side, ast.Category) or self._is_categorical(side) for side in sides):
            return self._category(node)
        return Compare(node.operator, self.quantity(node.left), self.quantity(node.right))

    def quantity(self, node: ast.Value) -> Quantity:
        if isinstance(node, ast.Number):
            return Constant(node.value)
        if isinstance(node, ast.Name):
            return self._column(node)
        if isinstance(node, ast.Arithmetic):
            return Combination(node.operator, self.quantity(node.left), self.quantity(node.right))
        if isinstance(node, ast.Call):
            return Function(node.function, tuple(value for each in node.values for value in self._values(each)))
        raise InputError(f"the category {node.name!r} is no number")

    def _values(self, node: ast.Value) -> Iterator[Quantity]:
        if not (isinstance(node, ast.Name) and node.pattern and node.name not in self._features):
            yield self.quantity(node)
            return
        matches = matcher(node.name)
        found = [Column(place, name) for name, place in self._numbers.items() if matches(name)]
        if not found:
            raise InputError(f"the name of no number matches {node.name!r}")
        yield from found

    def _column(self, node: ast.Name) -> Column:
        if node.name in self._numbers:
            return Column(self._numbers[node.name], node.name)
        if node.name in self._categoricals:
            raise InputError(f"{node.name!r} is a categorical feature; compare it with a category: {node.name} == '…'")
        if node.pattern:
            raise InputError(f"{node.name!r} stands for several features; use it in sum, count, min or max")
        raise InputError(f"there is no feature {node.name!r}")

    def _is_categorical(self, node: ast.Value) -> bool:
        return isinstance(node, ast.Name) and node.name in self._categoricals

    def _category(self, node: ast.Comparison) -> Condition:
        name, category = node.left, node.right
        if isinstance(name, ast.Category):
            name, category = category, name
        if not isinstance(name, ast.Name) or not isinstance(category, ast.Category):
            raise InputError("a categorical feature is compared with a category in single quotes, nothing else")
        if name.name not in self._features:
            raise InputError(f"there is no feature {name.name!r}")
        feature = self._features[name.name]
        if not isinstance(feature, CategoricalFeature):
            raise InputError(f"{name.name!r} is a number and cannot be {category.name!r}")
        if node.operator not in {"==", "!="}:
            raise InputError(f"categories have no order: use '==' or '!=' with {name.name!r}, not {node.operator!r}")
        if category.name not in feature.categories:
            raise InputError(f"{name.name!r} has no category {category.name!r}")
        code = feature.categories.index(category.name) + 1
        return IsCategory(self._categoricals[name.name], code, node.operator == "!=")


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a name matches a pattern, in which `*` stands for any characters and everything else for itself."""
    first, *rest = pattern.split("*")
    if not rest:
        return lambda name: name == pattern
    *middle, last = rest

    def matches(name: str) -> bool:
        if not (name.startswith(first) and name.endswith(last) and len(name) >= len(first) + len(last)):
            return False
        place, end = len(first), len(name) - len(last)
        for part in middle:
            place = name.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True

    return matches
