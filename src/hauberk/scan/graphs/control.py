"""Nodes that hold graphs: branches and loops (which `rounds` follows)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hauberk.scan.graphs.account import Held, Scope
from hauberk.scan.graphs.call import Call, axis_of
from hauberk.scan.graphs.elements import BOOL
from hauberk.scan.graphs.estimator import Estimator, Setting
from hauberk.scan.graphs.model import Graph, Node
from hauberk.scan.graphs.rounds import Rounds, turn
from hauberk.scan.graphs.values import (
    Tensor,
    TensorSequence,
    UnboundedError,
    UnmodelledError,
    Value,
    constant_of,
    joined,
    tensor,
)

_UNENDING = float(1 << 53)
"""Rounds beyond which a count is none."""

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
    starts = condition is None or condition.known is not None
    outcome = turn(estimator, Rounds(follow, most, sure and starts, counted, starts), initial, node)
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
    outcome = turn(estimator, Rounds(follow, float(count), exact), initial, node)
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
