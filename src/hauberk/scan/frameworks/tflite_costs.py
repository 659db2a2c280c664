"""What a run of a TensorFlow Lite model takes: scalar operations, and memory at its peak."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hauberk.scan.frameworks.tflite_calls import Call

_CONVOLUTION, _DEPTHWISE, _DENSE, _PRODUCT = 3, 4, 9, 126
_POOLS = frozenset({1, 12, 17})
_NUMBER = 8  # bytes, at most
_MOST = 1 << 80


@dataclass
class Costs:
    """Of one subgraph.

    Attributes:
        operations: Scalar operations of its own operators.
        scratch: Bytes that the largest of them takes beside its tensors.
        calls: Numbers of the subgraphs that it calls, as often as it does.
    """

    operations: int = 0
    scratch: int = 0
    calls: list[int] = field(default_factory=list)

    def add(self, code: int, call: Call) -> None:
        """Take an operator into account whose shapes agree."""
        given = math.prod(call.outputs[0].shape)
        inputs = [math.prod(each.shape) for each in call.inputs if each]
        second = call.inputs[1].shape if len(call.inputs) > 1 and call.inputs[1] else ()
        reach = 1
        if code == _CONVOLUTION:
            reach = math.prod(second[1:])
            self.scratch = max(self.scratch, given // max(1, second[0]) * reach * _NUMBER)
        elif code == _DEPTHWISE:
            reach = math.prod(second[1:3])
        elif code == _DENSE:
            reach = second[-1]
        elif code == _PRODUCT and call.inputs[0]:
            reach = call.inputs[0].shape[-2 if call.option(0, 1) else -1]
        elif code in _POOLS:
            reach = call.option(3) * call.option(4)
        self.operations += max(given * reach, *inputs, 0)


def total(costs: Sequence[Costs]) -> int:
    """Operations of the whole model, whose subgraphs do not call themselves.

    Args:
        costs: Of each subgraph.
    """
    known: dict[int, int] = {}
    waiting = list(range(len(costs)))
    while waiting:
        index = waiting[-1]
        if index in known:
            waiting.pop()
            continue
        missing = {each for each in costs[index].calls if each not in known}
        if missing:
            waiting += missing
            continue
        operations = costs[index].operations + sum(known[each] for each in costs[index].calls) + 1
        known[index] = min(operations, _MOST)  # twice as many with each subgraph soon takes memory here
    return max(known.values(), default=0)


def circles(calls: Mapping[int, set[int]]) -> list[int]:
    """Subgraphs that call themselves, directly or through others, or that call such ones.

    Args:
        calls: Which subgraphs each one calls.
    """
    callers: dict[int, list[int]] = {}
    for caller, called in calls.items():
        for each in called:
            callers.setdefault(each, []).append(caller)
    left = {caller: len(called) for caller, called in calls.items()}
    ends = [each for each in callers if each not in left]
    while ends:
        for caller in callers.get(ends.pop(), ()):
            left[caller] -= 1
            if not left[caller]:
                ends.append(caller)
    return sorted(caller for caller, count in left.items() if count)


def peak(steps: Sequence[tuple[Sequence[int], Sequence[int]]], sizes: Mapping[int, int], kept: set[int]) -> int:
    """Bytes of the tensors that are there at once, at most.

    Args:
        steps: Tensors that each operator takes, and gives.
        sizes: Bytes of each tensor that is no constant.
        kept: Tensors that are there from the beginning to the end.
    """
    last = {each: place for place, (takes, gives) in enumerate(steps) for each in (*takes, *gives)}
    ends: dict[int, list[int]] = {}
    for each, place in last.items():
        ends.setdefault(place, []).append(each)
    there = set(kept)
    held = sum(sizes.get(each, 0) for each in there)
    most = held
    for place, (_, gives) in enumerate(steps):
        new = set(gives) - there
        there |= new
        held += sum(sizes.get(each, 0) for each in new)
        most = max(most, held)
        for each in ends.get(place, ()):
            if each in there and each not in kept:
                there.discard(each)
                held -= sizes.get(each, 0)
    return most
