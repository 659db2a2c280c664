"""Nodes that hold graphs: branches and loops.

A loop is followed as it runs for a first round, then on trial with all that changes made unknown: if the shapes hold
then, they hold in every round, and a round counts as often as the loop runs. Where they do not (something grows), the
loop is followed round by round until it ends, a limit is passed, or what grows turns out to grow by the same amount
each time. What none of this decides is reported as unknown.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hauberk.scan.graphs import rules
from hauberk.scan.graphs.account import Held, Scope, TrialFailedError
from hauberk.scan.graphs.call import Call, axis_of
from hauberk.scan.graphs.elements import BOOL, INT64
from hauberk.scan.graphs.estimator import Estimator, Setting
from hauberk.scan.graphs.model import Graph, Node
from hauberk.scan.graphs.values import (
    LARGE,
    MisfitError,
    Tensor,
    TensorSequence,
    UnboundedError,
    UnmodelledError,
    Value,
    between,
    constant_of,
    exactly,
    joined,
    poisoned,
    tensor,
)

_MOST_ROUNDS = 512
"""Rounds that a loop is followed one by one."""

_STEADY_ROUNDS = 4
"""Rounds of the same growth after which growth is taken to go on like that."""

_UNENDING = float(1 << 53)

Control = Callable[[Estimator, Call, Node, Scope, Setting], Sequence[Value]]


def _graph(call: Call, name: str) -> Graph:
    value = call.attribute(name)
    if not isinstance(value, Graph):
        raise UnmodelledError(f"no graph in attribute '{name}'")
    return value


def _body(
    estimator: Estimator, graph: Graph, values: Sequence[Value], node: Node, scope: Scope, setting: Setting
) -> list[Value]:
    """Follow a graph once, with these values as its inputs."""
    inner = Scope(scope)
    estimator.hold_weights(graph, inner, node)
    weights = sum(held.value.bytes for held in inner.own.values())
    if len(graph.inputs) > len(values):
        raise UnmodelledError("a body with more inputs than the node gives it")
    for declared, value in zip(graph.inputs, values, strict=False):
        inner.own[declared.name] = Held(value)
    results = estimator.follow(graph.nodes, inner, [value.name for value in graph.outputs], setting)
    estimator.account.free(weights, sure=True)
    return results


def branches(estimator: Estimator, call: Call, node: Node, scope: Scope, setting: Setting) -> Sequence[Value]:
    """If: the branch that is taken, where that is known; else what either of them makes.

    Where only the assumed sizes decide, the other branch is followed too, because other sizes would take it.
    """
    condition = call.input(0)
    known = condition.known
    taken = bool(known.reshape(-1)[0]) if known is not None and known.size else None
    results: list[Value] | None = None
    for name, wanted in (("then_branch", True), ("else_branch", False)):
        graph = _graph(call, name)
        if taken is None or taken is wanted:
            found = _body(estimator, graph, (), node, scope, setting)
            if results is not None and len(results) != len(found):
                raise UnmodelledError("branches with different numbers of results")
            results = found if results is None else [joined(*pair) for pair in zip(results, found, strict=True)]
        elif not condition.constant:
            outer, estimator.doubtful = estimator.doubtful, True
            try:
                _body(estimator, graph, (), node, scope, setting)
            finally:
                estimator.doubtful = outer
    return results or []


@dataclass
class _Rounds:
    """What a loop does in a round, and how often.

    Attributes:
        follow: From the number of the round and the state to whether it goes on, the next state and the parts that the
            round adds to the results.
        most: Rounds at most; infinite where nothing bounds them.
        sure: It runs that often, unless its condition ends it.
        counted: Data decide how often it runs; where that is false and nothing bounds it, only its condition ends it.
    """

    follow: Callable[[Tensor, list[Value]], tuple[Value, list[Value], list[Value]]]
    most: float
    sure: bool
    counted: bool = False


@dataclass
class _Outcome:
    state: list[Value]
    parts: list[Value]
    rounds: float
    sure: bool


def loop(estimator: Estimator, call: Call, node: Node, scope: Scope, setting: Setting) -> Sequence[Value]:
    """Loop: as often as its count says and while its condition holds."""
    graph = _graph(call, "body")
    carried = max(0, len(call.inputs) - 2)
    if len(graph.inputs) < 2 or len(graph.outputs) < 1 + carried:
        raise UnmodelledError("a body with other inputs and outputs than the loop")
    most, sure = _count(call)
    condition = call.optional(1)
    if condition is not None and condition.known is not None and not condition.known.all():
        most, sure = 0.0, True
    initial = [call.value(index) for index in range(2, len(call.inputs))]

    def follow(number: Tensor, state: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        # Its body only runs while the condition holds.
        going = constant_of(np.array(True), BOOL)  # noqa: FBT003 - the value of a tensor
        results = _body(estimator, graph, [number, replace(going, constant=False), *state], node, scope, setting)
        if len(results) < 1 + carried:
            raise UnmodelledError("a body with fewer outputs than the loop")
        return results[0], results[1 : 1 + carried], results[1 + carried :]

    counted = call.has(0) and not sure
    outcome = _turn(estimator, _Rounds(follow, most, sure, counted), initial, node)
    rounds = min(outcome.rounds, 1 << 62)
    parts = [_stacked(part, int(rounds), 0, sure=outcome.sure) for part in outcome.parts]
    call.scratch = float(sum(part.bytes for part in parts))
    return [*outcome.state, *parts]


def _count(call: Call) -> tuple[float, bool]:
    """Rounds at most, and whether they are known."""
    count = call.optional(0)
    if count is None:
        return math.inf, False
    bounds = count.bounds()
    if bounds is None or not bounds.high.size:
        return math.inf, False
    high = float(np.max(bounds.high))
    return (max(0.0, high) if high < _UNENDING else math.inf), count.known is not None


def _turn(estimator: Estimator, rounds: _Rounds, initial: list[Value], node: Node) -> _Outcome:
    """Follow a loop to its end."""
    account = estimator.account
    if rounds.most <= 0:
        with account.repeated(0, sure=True):
            _, _, parts = rounds.follow(_number(0, 0), initial)
        return _Outcome(initial, parts, 0, sure=True)
    going, state, parts = rounds.follow(_number(0, 0), initial)
    if any(isinstance(value, Tensor) and value.never for value in [going, *state, *parts]):
        raise MisfitError
    if rounds.most == 1 or _ends(going):
        sure = rounds.sure or _ends(going)
        return _Outcome(state if sure else _either(initial, state), parts, 1, sure)
    steady = _steady(estimator, rounds, [joined(*pair) for pair in zip(initial, state, strict=True)])
    if steady is not None:
        widened, condition = steady
        if not math.isinf(rounds.most):
            with account.repeated(rounds.most - 1, sure=rounds.sure and _goes_on(condition)):
                _, state, parts = rounds.follow(_number(0, rounds.most - 1), widened)
            return _Outcome(_either(widened, state), parts, rounds.most, rounds.sure and _goes_on(condition))
        if _goes_on(condition) and not rounds.counted:
            account.report(rules.ENDLESS_LOOP, "its condition is always true, and no count ends it", node)
            return _Outcome(_either(widened, state), [poisoned() for _ in parts], math.inf, sure=False)
        if _goes_on(condition) or not _goes_on(going):
            account.report(rules.UNBOUNDED_LOOP, "how often it runs depends on data that nothing bounds", node)
            return _Outcome(_either(widened, state), [poisoned() for _ in parts], math.inf, sure=False)
    return _round_by_round(estimator, rounds, going, state, parts, node)


def _round_by_round(
    estimator: Estimator, rounds: _Rounds, going: Value, state: list[Value], parts: list[Value], node: Node
) -> _Outcome:
    """Follow a loop that does not come to rest, as it runs."""
    history, sure, done = [_sizes(state)], rounds.sure and _goes_on(going), 1
    while done < min(rounds.most, _MOST_ROUNDS):
        going, state, more = rounds.follow(_number(done, done), state)
        parts = [joined(*pair) for pair in zip(parts, more, strict=False)]
        done += 1
        if _ends(going):
            return _Outcome(state, parts, done, sure=True)
        sure = sure and _goes_on(going)
        history.append(_sizes(state))
    if done >= rounds.most:
        return _Outcome(state, parts, done, sure)
    account = estimator.account
    grown = _grown(state, history, rounds.most - done - 1)
    if math.isinf(rounds.most) or grown is None:
        account.report(rules.UNBOUNDED_LOOP, f"it grows or counts on after {done} rounds", node)
        return _Outcome([poisoned() for _ in state], [poisoned() for _ in parts], math.inf, sure=False)
    with account.repeated(rounds.most - done, sure=sure):
        _, state, more = rounds.follow(_number(done, rounds.most - 1), grown)
    parts = [joined(*pair) for pair in zip(parts, more, strict=False)]
    # What was even so far may double from now on: enough to find a bomb, not enough to call it safe.
    account.report(rules.UNBOUNDED_LOOP, f"it grew by the same amount for {done} rounds, and then goes on", node)
    return _Outcome(state, parts, rounds.most, sure)


def _steady(estimator: Estimator, rounds: _Rounds, state: list[Value]) -> tuple[list[Value], Value] | None:
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


def _stacked(part: Value, rounds: int, axis: int, *, sure: bool) -> Value:
    """What a part of each round becomes when they are put behind one another."""
    if isinstance(part, TensorSequence):
        raise UnmodelledError("a sequence as a result of each round")
    if part.count is None:
        return part
    dims = list(part.shape)
    dims.insert(axis_of(axis, part.rank + 1), rounds)
    return tensor(part.element, dims, exact=part.exact and sure, text=part.text)


def scan(estimator: Estimator, call: Call, node: Node, scope: Scope, setting: Setting) -> Sequence[Value]:
    """Scan: once for each place along an axis of its inputs."""
    graph = _graph(call, "body")
    scanned = call.integer("num_scan_inputs")
    if setting.opsets.get("", 1) < 9 or not 0 < scanned <= len(call.inputs):  # before, it had a batch of its own
        raise UnmodelledError("an older form of Scan")
    carried = len(call.inputs) - scanned
    axes = call.integers("scan_input_axes") or [0] * scanned
    slices: list[Value] = []
    count = 0
    for index, axis in zip(range(carried, len(call.inputs)), axes, strict=False):
        source = call.input(index)
        at = axis_of(axis, source.rank)
        if not source.dims:
            raise UnmodelledError("a number to scan")
        count = max(count, source.shape[at])
        slices.append(
            tensor(source.element, [*source.shape[:at], *source.shape[at + 1 :]], exact=source.exact, text=source.text)
        )
    initial = [call.value(index) for index in range(carried)]

    def follow(_: Tensor, state: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        results = _body(estimator, graph, [*state, *slices], node, scope, setting)
        if len(results) < carried:
            raise UnmodelledError("a body with fewer outputs than the scan")
        return constant_of(np.array(True), BOOL), results[:carried], results[carried:]  # noqa: FBT003

    exact = all(each.exact for each in slices)
    outcome = _turn(estimator, _Rounds(follow, float(count), exact), initial, node)
    out_axes = call.integers("scan_output_axes") or [0] * len(outcome.parts)
    parts = [_stacked(part, count, axis, sure=exact) for part, axis in zip(outcome.parts, out_axes, strict=False)]
    return [*outcome.state, *parts]


def sequence_map(estimator: Estimator, call: Call, node: Node, scope: Scope, setting: Setting) -> Sequence[Value]:
    """SequenceMap: once for each element of a sequence."""
    graph = _graph(call, "body")
    source = call.value(0)
    if not isinstance(source, TensorSequence):
        raise UnmodelledError("no sequence")
    items: list[Value] = []
    for index in range(len(call.inputs)):
        value = call.value(index)
        item = value.item if isinstance(value, TensorSequence) else value
        if item is None:
            raise UnmodelledError("a sequence of which nothing is known")
        items.append(item)
    with estimator.account.repeated(source.length, sure=source.exact):
        results = _body(estimator, graph, items, node, scope, setting)
    if not all(isinstance(each, Tensor) for each in results):
        raise UnmodelledError("a sequence of sequences")
    return [
        TensorSequence(each, source.length, exact=source.exact and each.exact)
        for each in results
        if isinstance(each, Tensor)
    ]


CONTROL: dict[str, Control] = {"If": branches, "Loop": loop, "Scan": scan, "SequenceMap": sequence_map}

__all__ = ["CONTROL", "UnboundedError"]
