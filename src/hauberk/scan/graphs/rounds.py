"""How a loop is followed: round by round, or once for all rounds where it comes to rest.

It is followed as it runs for a first round, then on trial with all that changes made unknown: if the shapes hold then,
they hold in every round, and a round counts as often as the loop runs. Where they do not (something grows), the loop is
followed round by round until it ends or a limit is passed. What none of this decides is reported as unknown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hauberk.scan.graphs import rules
from hauberk.scan.graphs.account import TrialFailedError
from hauberk.scan.graphs.elements import INT64
from hauberk.scan.graphs.estimator import Estimator
from hauberk.scan.graphs.model import Node
from hauberk.scan.graphs.values import (
    LARGE,
    MisfitError,
    Tensor,
    TensorSequence,
    Value,
    between,
    exactly,
    joined,
    poisoned,
    tensor,
)

_MOST_ROUNDS = 512
"""Rounds that a loop is followed one by one."""

_STEADY_ROUNDS = 4
"""Rounds of the same growth after which growth is taken to go on like that."""


@dataclass
class Rounds:
    """What a loop does in a round, and how often.

    Attributes:
        follow: From the number of the round and the state to whether it goes on, the next state and the parts that the
            round adds to the results.
        most: Rounds at most; infinite where nothing bounds them.
        sure: It runs that often, unless its condition ends it.
        counted: Data decide how often it runs; where that is false and nothing bounds it, only its condition ends it.
        starts: It runs at all, unless it runs 0 times.
    """

    follow: Callable[[Tensor, list[Value]], tuple[Value, list[Value], list[Value]]]
    most: float
    sure: bool
    counted: bool = False
    starts: bool = True


@dataclass
class Outcome:
    """What a loop comes to.

    Attributes:
        state: After its last round.
        parts: What each round adds to the results, or what bounds it.
        rounds: How often it ran, at most.
        sure: That often.
    """

    state: list[Value]
    parts: list[Value]
    rounds: float
    sure: bool


def turn(estimator: Estimator, rounds: Rounds, initial: list[Value], node: Node) -> Outcome:
    """Follow a loop to its end."""
    account = estimator.account
    if rounds.most <= 0:
        with account.repeated(0, sure=True):
            _, _, parts = rounds.follow(_number(0, 0), initial)
        return Outcome(initial, parts, 0, sure=True)
    going, state, parts = rounds.follow(_number(0, 0), initial)
    if any(isinstance(value, Tensor) and value.never for value in [going, *state, *parts]):
        raise MisfitError
    if rounds.most == 1 or _ends(going):
        sure = rounds.sure or (_ends(going) and rounds.starts)
        return Outcome(state if sure else _either(initial, state), parts, 1, sure)
    steady = _steady(estimator, rounds, [joined(*pair) for pair in zip(initial, state, strict=True)])
    if steady is not None:
        widened, condition = steady
        if not math.isinf(rounds.most):
            with account.repeated(rounds.most - 1, sure=rounds.sure and _goes_on(condition)):
                _, state, parts = rounds.follow(_number(0, rounds.most - 1), widened)
            return Outcome(_either(widened, state), parts, rounds.most, rounds.sure and _goes_on(condition))
        if _goes_on(condition) and not rounds.counted:
            account.report(rules.ENDLESS_LOOP, "its condition is always true, and no count ends it", node)
            return Outcome(_either(widened, state), [poisoned() for _ in parts], math.inf, sure=False)
        if _goes_on(condition) or not _goes_on(going):
            account.report(rules.UNBOUNDED_LOOP, "how often it runs depends on data that nothing bounds", node)
            return Outcome(_either(widened, state), [poisoned() for _ in parts], math.inf, sure=False)
    return _round_by_round(estimator, rounds, initial, (going, state, parts), node)


def _round_by_round(
    estimator: Estimator,
    rounds: Rounds,
    initial: list[Value],
    first: tuple[Value, list[Value], list[Value]],
    node: Node,
) -> Outcome:
    """Follow a loop that does not come to rest, as it runs.

    Args:
        estimator: Of this model.
        rounds: The loop.
        initial: The state before it.
        first: What came of its first round: condition, state, parts.
        node: The loop's.
    """
    going, state, parts = first
    left = None if rounds.starts else initial  # the states in which it may have ended, as far as data decide that
    history, sure, done = [_sizes(state)], rounds.sure and _goes_on(going), 1
    while done < min(rounds.most, _MOST_ROUNDS):
        if not _goes_on(going):
            left = state if left is None else _either(left, state)
        going, state, more = rounds.follow(_number(done, done), state)
        parts = [joined(*pair) for pair in zip(parts, more, strict=False)]
        done += 1
        if _ends(going):
            return Outcome(_either(left, state) if left else state, parts, done, sure=left is None)
        sure = sure and _goes_on(going)
        history.append(_sizes(state))
    if done >= rounds.most:
        return Outcome(_either(left, state) if left else state, parts, done, sure)
    account = estimator.account
    grown = _grown(state, history, rounds.most - done - 1)
    if math.isinf(rounds.most) or grown is None:
        account.report(rules.UNBOUNDED_LOOP, f"it grows or counts on after {done} rounds", node)
        return Outcome([poisoned() for _ in state], [poisoned() for _ in parts], math.inf, sure=False)
    with account.repeated(rounds.most - done, sure=sure):
        _, state, more = rounds.follow(_number(done, rounds.most - 1), grown)
    parts = [joined(*pair) for pair in zip(parts, more, strict=False)]
    # What was even so far may double from now on: enough to find a bomb, not enough to call it safe.
    account.report(rules.UNBOUNDED_LOOP, f"it grew by the same amount for {done} rounds, and then goes on", node)
    return Outcome(state, parts, rounds.most, sure)


def _steady(estimator: Estimator, rounds: Rounds, state: list[Value]) -> tuple[list[Value], Value] | None:
    """A state, values made unknown, that a round leads back to, and the condition then; `None` where there is none."""
    for _ in range(2):
        widened = [_widened(value) for value in state]
        if any(isinstance(value, Tensor) and value.count is None for value in widened):
            return None
        try:
            with estimator.account.trial():
                condition, after, _ = rounds.follow(_number(0, rounds.most - 1), widened)
        except TrialFailedError:
            return None
        if all(_within(new, old) for new, old in zip(after, widened, strict=True)):
            return widened, condition
        state = [joined(*pair) for pair in zip(widened, after, strict=True)]
    return None


def _number(low: float, high: float) -> Tensor:
    """The number of a round."""
    if low == high:
        return tensor(INT64, (), values=exactly(np.array(int(low), np.int64)))
    return tensor(INT64, (), values=between(low, high) if high < LARGE else None)


def _widened(value: Value) -> Value:
    """A value of which only the sizes are known."""
    if isinstance(value, Tensor):
        return replace(value, values=None, constant=False)
    item = replace(value.item, values=None, constant=False) if value.item else None
    return replace(value, item=item, constant=False)


def _within(new: Value, old: Value) -> bool:
    if isinstance(new, TensorSequence) or isinstance(old, TensorSequence):
        if not (isinstance(new, TensorSequence) and isinstance(old, TensorSequence)) or new.length > old.length:
            return False
        return new.item is None or (old.item is not None and _within(new.item, old.item))
    if new.count is None or old.count is None or new.count > old.count or new.text > old.text:
        return False
    if old.dims is None:
        return True
    if new.dims is None or len(new.dims) != len(old.dims):
        return False
    return all(a <= b for a, b in zip(new.dims, old.dims, strict=True)) and (new.exact or not old.exact)


def _either(first: list[Value], second: list[Value]) -> list[Value]:
    return [joined(*pair) for pair in zip(first, second, strict=True)]


def _ends(condition: Value) -> bool:
    known = condition.known if isinstance(condition, Tensor) else None
    return known is not None and bool(known.size) and not known.all()


def _goes_on(condition: Value) -> bool:
    known = condition.known if isinstance(condition, Tensor) else None
    return known is not None and bool(known.size) and bool(known.all())


Sizes = tuple[tuple[int, ...], ...]


def _sizes(state: list[Value]) -> Sizes:
    found = []
    for value in state:
        if isinstance(value, TensorSequence):
            item = value.item
            found.append((value.length, *(item.dims or () if item else ())))
        else:
            found.append((value.text, *(value.dims or (value.count or 0,))))
    return tuple(found)


def _grown(state: list[Value], history: list[Sizes], rounds: float) -> list[Value] | None:
    """The state after so many more rounds, where everything grows by the same amount each time."""
    recent = history[-_STEADY_ROUNDS - 1 :]
    if (
        len(recent) <= _STEADY_ROUNDS
        or math.isinf(rounds)
        or any(len({*map(len, each)}) > 1 for each in zip(*recent, strict=True))
    ):
        return None
    result: list[Value] = []
    for value, *sizes in zip(state, *recent, strict=True):
        steps = [tuple(b - a for a, b in zip(one, other, strict=True)) for one, other in itertools.pairwise(sizes)]
        if len(set(steps)) != 1:
            return None
        first, *others = (max(0, size + int(step * rounds)) for size, step in zip(sizes[-1], steps[0], strict=True))
        if isinstance(value, TensorSequence):
            item = value.item
            if item is not None and item.dims is not None:
                item = tensor(item.element, others, exact=item.exact, text=item.text)
            result.append(TensorSequence(item, first, exact=value.exact))
        elif value.dims is None:
            return None
        else:
            result.append(tensor(value.element, others if value.dims else (), exact=value.exact, text=first))
    return result
