"""Sequences of tensors. How long one may grow is bounded like everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hauberk.scan.graphs.call import Call, axis_of, rule
from hauberk.scan.graphs.elements import FLOAT
from hauberk.scan.graphs.values import Tensor, TensorSequence, UnmodelledError, Value, joined, tensor, unsized

_COPIED = 10.0
"""Operations that handing on one tensor of a sequence counts for: a sequence is copied where something is added."""


def _sequence(call: Call) -> TensorSequence:
    found = call.value(0)
    if not isinstance(found, TensorSequence):
        raise UnmodelledError("no sequence")
    return found


def _either(first: Tensor | None, second: Tensor) -> Tensor:
    if first is None:
        return second
    both = joined(first, second)
    return both if isinstance(both, Tensor) else second


@rule("SequenceEmpty")
def empty(_: Call) -> Sequence[Value]:
    """A sequence of nothing."""
    return [TensorSequence(None, 0)]


@rule("SequenceConstruct")
def construct(call: Call) -> Sequence[Value]:
    """A sequence of the inputs."""
    item: Tensor | None = None
    for each in call.tensors():
        item = _either(item, each)
    return [TensorSequence(item, len(call.inputs), exact=call.exact)]


@rule("SequenceInsert")
def insert(call: Call) -> Sequence[Value]:
    """A sequence with one more."""
    source = _sequence(call)
    call.operations = _COPIED * source.length
    return [TensorSequence(_either(source.item, call.input(1)), source.length + 1, exact=call.exact)]


@rule("SequenceErase")
def erase(call: Call) -> Sequence[Value]:
    """A sequence with one less."""
    source = _sequence(call)
    return [TensorSequence(source.item, max(0, source.length - 1), exact=source.exact)]


@rule("SequenceAt")
def at(call: Call) -> Sequence[Value]:
    """One of the sequence."""
    source = _sequence(call)
    return [source.item if source.item is not None else tensor(FLOAT, ())]


@rule("ConcatFromSequence")
def join(call: Call) -> Sequence[Value]:
    """All of the sequence behind one another."""
    source = _sequence(call)
    item = source.item
    if item is None:
        return [tensor(FLOAT, (0,))]
    if item.dims is None:
        return [unsized(item.element, item.elements * source.length, text=item.text)]
    dims = list(item.dims)
    if call.integer("new_axis"):
        dims.insert(axis_of(call.integer("axis"), item.rank + 1), source.length)
    else:
        dims[axis_of(call.integer("axis"), item.rank)] *= source.length
    return [tensor(item.element, dims, exact=item.exact and source.exact, text=item.text)]


@rule("SplitToSequence")
def to_sequence(call: Call) -> Sequence[Value]:
    """Parts along an axis: as many as an input says, or one for each place."""
    source = call.input(0)
    axis = axis_of(call.integer("axis"), source.rank)
    total = source.shape[axis]
    if not call.has(1):
        dims = [1 if at == axis else size for at, size in enumerate(source.shape)]
        if not call.integer("keepdims", 1):
            del dims[axis]
        return [TensorSequence(call.result(source.element, dims), total, exact=source.exact)]
    sizes = call.input(1)
    if sizes.known is None:
        return [TensorSequence(source, total, exact=False)]
    if sizes.rank == 0:
        size = max(1, int(sizes.known))
        parts, largest = math.ceil(total / size), min(size, total)
    else:
        parts, largest = sizes.elements, int(max(sizes.known.ravel(), default=0))
    dims = [min(largest, total) if at == axis else size for at, size in enumerate(source.shape)]
    return [TensorSequence(call.result(source.element, dims), parts, exact=source.exact)]
