"""Relations that no record can satisfy together: found, and brought down to the few that clash.

Two tests, both without rounding in favour of a contradiction. Bounds are propagated through the linear relations
(whole numbers to whole numbers), and every relation is evaluated on the intervals that are left. Then the linear ones
go through an exact simplex method over fractions, in the general form of Dutertre and de Moura ("A Fast Linear-
Arithmetic Solver for DPLL(T)", CAV 2006), with Bland's rule, so that it ends. What the two do not see, such as a
contradiction between products of features, is not found here; records that break a relation are reported as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.quantities import Linear
from hauberk.attacks.relations import Compare, Condition, Joined, Relation

_ROUNDS = 10
_LEAST_GAP = Fraction(1, 2**160)
"""Less than any difference between two float32 numbers: what `<` asks for between real numbers."""


@dataclass(frozen=True)
class Numbers:
    """The numbers of a schema: names [F], bounds float64 [F], and which are whole, bool [F]."""

    names: Sequence[str]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    whole: NDArray[np.bool_]


def explain_contradiction(relations: Sequence[Relation], numbers: Numbers) -> str:
    """Which relations clash, as one line; empty where no contradiction was found.

    Args:
        relations: All relations of a threat model.
        numbers: The numbers that they are about.
    """
    if not _impossible(relations, numbers):
        return ""
    clash = list(relations)
    for relation in relations:
        without = [other for other in clash if other is not relation]
        if _impossible(without, numbers):
            clash = without
    places = {id(relation): number for number, relation in enumerate(relations, start=1)}
    named = [f"{places[id(relation)]} ({relation.text})" for relation in clash]
    columns = list(dict.fromkeys(column for relation in clash for column in relation.numbers))
    free = Numbers(numbers.names, np.full(len(numbers.low), -np.inf), np.full(len(numbers.low), np.inf), numbers.whole)
    bounds = "" if _impossible(clash, free) else f" within the bounds {_bounds(columns, numbers)}"
    if len(clash) == 1:
        return f"relation {named[0]} cannot hold{bounds}; change it"
    return f"relations {', '.join(named[:-1])} and {named[-1]} contradict each other{bounds}; change one of them"


def _bounds(columns: Sequence[int], numbers: Numbers) -> str:
    shown = [f"{numbers.low[j]:.9g} <= {numbers.names[j]} <= {numbers.high[j]:.9g}" for j in columns[:4]]
    return ", ".join(shown) + (f" and {len(columns) - 4} more" if len(columns) > 4 else "")


def _impossible(relations: Sequence[Relation], numbers: Numbers) -> bool:
    """Whether no record can satisfy all of these relations, as far as the two tests see."""
    constraints = [one for relation in relations for one in _constraints(relation, numbers)]
    columns = sorted({column for one in constraints for column in one.weights})
    low = {column: _fraction(numbers.low[column]) for column in columns}
    high = {column: _fraction(numbers.high[column]) for column in columns}
    for _ in range(_ROUNDS):
        before = dict(low), dict(high)
        for one in constraints:
            if not _tighten(one, low, high, numbers.whole):
                return True
        if before == (low, high):
            break
    least, most = numbers.low.copy(), numbers.high.copy()
    for column in columns:
        # Conversion to float64 rounds; one unit further out does not.
        least[column] = max(least[column], _outwards(low[column], -math.inf))
        most[column] = min(most[column], _outwards(high[column], math.inf))
    if any(relation.condition.certain(least, most, relation.tolerance) is False for relation in relations):
        return True
    return not _feasible(constraints, low, high)


def _fraction(bound: float) -> Fraction | None:
    return Fraction(float(bound)) if math.isfinite(bound) else None


def _outwards(bound: Fraction | None, direction: float) -> float:
    return direction if bound is None else math.nextafter(float(bound), direction)


def _constraints(relation: Relation, numbers: Numbers) -> Iterator[Linear]:
    """Weighted sums that have to be at most 0 wherever the relation holds."""
    tolerance = Fraction(relation.tolerance)
    for comparison in _needed(relation.condition, relation.tolerance, numbers):
        linear = comparison.linear
        if linear is None or not linear.weights or comparison.operator == "!=":
            continue
        negated = Linear().plus(linear, Fraction(-1))
        slack = Linear(constant=-tolerance)
        if comparison.operator in {"<", ">"}:
            exact = all(numbers.whole[j] and weight.denominator == 1 for j, weight in linear.weights.items())
            whole = exact and linear.constant.denominator == 1 and not tolerance
            slack = slack.plus(Linear(constant=Fraction(1) if whole else _LEAST_GAP))
        if comparison.operator in {"<=", "<", "=="}:
            yield linear.plus(slack)
        if comparison.operator in {">=", ">", "=="}:
            yield negated.plus(slack)


def _needed(condition: Condition, tolerance: float, numbers: Numbers) -> Iterator[Compare]:
    """The comparisons that have to hold in every record that satisfies a condition."""
    if isinstance(condition, Compare):
        yield condition
    elif isinstance(condition, Joined):
        left, right = condition.left, condition.right
        if condition.operator == "and":
            yield from _needed(left, tolerance, numbers)
            yield from _needed(right, tolerance, numbers)
        elif condition.operator == "implies":
            if left.certain(numbers.low, numbers.high, 0.0) is True:
                yield from _needed(right, tolerance, numbers)
        elif left.certain(numbers.low, numbers.high, tolerance) is False:
            yield from _needed(right, tolerance, numbers)
        elif right.certain(numbers.low, numbers.high, tolerance) is False:
            yield from _needed(left, tolerance, numbers)


def _tighten(
    constraint: Linear,
    low: dict[int, Fraction | None],
    high: dict[int, Fraction | None],
    whole: NDArray[np.bool_],
) -> bool:
    """Narrow bounds by a weighted sum that is at most 0; whether something is left."""
    least = {j: low[j] if weight > 0 else high[j] for j, weight in constraint.weights.items()}
    open_ = [j for j, bound in least.items() if bound is None]
    total = constraint.constant + sum(constraint.weights[j] * bound for j, bound in least.items() if bound is not None)
    for j, weight in constraint.weights.items():
        if open_ and open_ != [j]:
            continue
        own = least[j]
        room = -(total - (weight * own if own is not None else 0)) / weight
        if weight > 0:
            bound = high[j]
            room = Fraction(math.floor(room)) if whole[j] else room
            high[j] = room if bound is None else min(bound, room)
        else:
            bound = low[j]
            room = Fraction(math.ceil(room)) if whole[j] else room
            low[j] = room if bound is None else max(bound, room)
        lowest, highest = low[j], high[j]
        if lowest is not None and highest is not None and lowest > highest:
            return False
    return True


def _feasible(
    constraints: Sequence[Linear], low: Mapping[int, Fraction | None], high: Mapping[int, Fraction | None]
) -> bool:
    """Whether weighted sums can all be at most 0 within the bounds."""
    first_slack = max(low, default=-1) + 1
    rows: dict[int, dict[int, Fraction]] = {}
    least, most = dict(low), dict(high)
    for place, constraint in enumerate(constraints, start=first_slack):
        rows[place] = dict(constraint.weights)
        least[place], most[place] = None, -constraint.constant
    value = {j: _within(low[j], high[j]) for j in low}
    for place, row in rows.items():
        value[place] = sum((weight * value[j] for j, weight in row.items()), Fraction(0))
    while True:
        wrong = next((j for j in sorted(rows) if not _inside(value[j], least[j], most[j])), None)
        if wrong is None:
            return True
        bound = least[wrong]
        up = bound is not None and value[wrong] < bound
        target = bound if up and bound is not None else most[wrong]
        helper = _helper(rows[wrong], value, least, most, up=up)
        if helper is None or target is None:
            return False
        _pivot(rows, value, wrong, helper, target)


def _within(low: Fraction | None, high: Fraction | None) -> Fraction:
    if low is not None:
        return low
    return high if high is not None else Fraction(0)


def _inside(value: Fraction, low: Fraction | None, high: Fraction | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _helper(
    row: Mapping[int, Fraction],
    value: Mapping[int, Fraction],
    least: Mapping[int, Fraction | None],
    most: Mapping[int, Fraction | None],
    *,
    up: bool,
) -> int | None:
    """The first variable of a row that can move the row's own one up, or down."""
    for j in sorted(row):
        rises = (row[j] > 0) == up
        bound = most[j] if rises else least[j]
        if row[j] and (bound is None or (value[j] < bound if rises else value[j] > bound)):
            return j
    return None


def _pivot(
    rows: dict[int, dict[int, Fraction]], value: dict[int, Fraction], leaving: int, entering: int, target: Fraction
) -> None:
    """Give the leaving variable its bound, and the entering one its row."""
    row = rows.pop(leaving)
    pivot = row.pop(entering)
    change = (target - value[leaving]) / pivot
    value[leaving] = target
    value[entering] += change
    for place, other in rows.items():
        value[place] += other.get(entering, Fraction(0)) * change
    solved = {leaving: 1 / pivot} | {j: -weight / pivot for j, weight in row.items()}
    for other in rows.values():
        times = other.pop(entering, Fraction(0))
        if times:
            for j, weight in solved.items():
                other[j] = other.get(j, Fraction(0)) + times * weight
    rows[entering] = solved
