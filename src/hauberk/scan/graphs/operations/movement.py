"""Operators that move elements without making new ones out of nothing: reshape, slice, join, split, pick."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hauberk.scan.graphs.call import Call, axis_of, rule
from hauberk.scan.graphs.model import MOST_VALUES
from hauberk.scan.graphs.operations.elementwise import like
from hauberk.scan.graphs.values import Array, MisfitError, Tensor, UnmodelledError, Values, tensor, unsized


def axes_of(call: Call, index: int, rank: int, name: str = "axes") -> list[int] | None:
    """Axes that are an input since some version and an attribute before; `None` where they are left out.

    Raises:
        UnmodelledError: They depend on data.
    """
    given = call.optional(index) if index < len(call.inputs) else None
    if given is not None:
        if given.known is None:
            raise UnmodelledError("axes that depend on data")
        return [axis_of(int(axis), rank) for axis in given.known.ravel()]
    numbers = call.integers(name)
    return None if numbers is None else [axis_of(axis, rank) for axis in numbers]


def _moved(source: Tensor, dims: Sequence[int], *, exact: bool | None = None) -> Tensor:
    """The input's elements under another shape."""
    values = source.values
    if values is not None and not values.uniform and source.exact and math.prod(dims) == values.low.size:
        values = values.map(lambda array: array.reshape(tuple(dims)))
    elif values is not None and not values.uniform:
        values = values.collapsed()
    exact = source.exact if exact is None else exact
    return tensor(source.element, dims, exact=exact, values=values, count=source.count, text=source.text)


@rule("Reshape")
def reshape(call: Call) -> Sequence[Tensor]:
    """Another shape of as many elements; sizes that depend on data are bounded by them."""
    source = call.input(0)
    call.view, call.operations = True, 0
    wanted = call.integers("shape") if not call.has(1) else None
    if wanted is not None:
        sizes: list[int | None] = list(wanted)
    else:
        given = call.input(1)
        if given.dims is None or not given.exact or given.rank != 1:
            return [unsized(source.element, source.elements, text=source.text)]
        if given.known is not None:
            sizes = [int(size) for size in given.known]
        else:
            values = given.values
            known = values is not None and not values.uniform
            sizes = [
                int(low) if known and low == high else None
                for low, high in (
                    zip(values.low, values.high, strict=True)
                    if values is not None and known
                    else [(0, 1)] * given.elements
                )
            ]
    fixed = math.prod(size for size in sizes if size is not None and size > 0)
    if source.dims is not None and not call.integer("allowzero"):
        copied = {at: source.dims[at] for at, size in enumerate(sizes) if size == 0 and at < len(source.dims)}
        sizes = [copied.get(at, size) for at, size in enumerate(sizes)]
        # A bound that is copied must not make what is left for -1 smaller.
        fixed *= math.prod(copied.values()) or 1 if source.exact else 1
    rest = -(-source.elements // max(1, fixed))
    loose = sum(size is None for size in sizes)
    dims: list[int] = [rest if size is None or size == -1 else max(0, size) for size in sizes]
    exact = source.exact and not loose
    if exact and source.dims is not None and math.prod(dims) != math.prod(source.dims):
        raise MisfitError
    return [_moved(source, dims, exact=exact)]


@rule("Flatten")
def flatten(call: Call) -> Sequence[Tensor]:
    """Two dimensions."""
    source = call.input(0)
    axis = call.integer("axis", 1)
    axis = axis + source.rank if axis < 0 else min(axis, source.rank)
    call.view, call.operations = True, 0
    return [_moved(source, (math.prod(source.shape[:axis]), math.prod(source.shape[axis:])))]


@rule("Squeeze")
def squeeze(call: Call) -> Sequence[Tensor]:
    """Without dimensions of size 1."""
    source = call.input(0)
    axes = axes_of(call, 1, source.rank)
    call.view, call.operations = True, 0
    if axes is None:
        if not source.exact:
            return [unsized(source.element, source.elements, text=source.text)]
        axes = [axis for axis, size in enumerate(source.shape) if size == 1]
    if source.exact and any(source.shape[axis] != 1 for axis in axes):
        raise MisfitError
    return [_moved(source, [size for axis, size in enumerate(source.shape) if axis not in axes])]


@rule("Unsqueeze")
@rule("ExpandDims", domain="com.microsoft")
def unsqueeze(call: Call) -> Sequence[Tensor]:
    """With new dimensions of size 1."""
    source = call.input(0)
    call.view, call.operations = True, 0
    given = call.optional(1)
    axes = call.integers("axes") if given is None else None
    if given is not None:
        if given.known is None:
            return [unsized(source.element, source.elements, text=source.text)]
        axes = [int(axis) for axis in given.known.ravel()]
    axes = axes or []
    rank = source.rank + len(axes)
    places = {axis_of(axis, rank) for axis in axes}
    sizes = iter(source.shape)
    return [_moved(source, [1 if axis in places else next(sizes, 1) for axis in range(rank)])]


@rule("Transpose")
def transpose(call: Call) -> Sequence[Tensor]:
    """Dimensions in another order."""
    source = call.input(0)
    order = call.integers("perm") or list(range(source.rank))[::-1]
    if sorted(order) != list(range(source.rank)):
        raise UnmodelledError("an order that is none")
    values = source.values
    if values is not None and not values.uniform:
        values = values.map(lambda array: np.transpose(array, order))
    dims = [source.shape[axis] for axis in order]
    return [tensor(source.element, dims, exact=source.exact, values=values, count=source.count, text=source.text)]


@rule("Concat")
@rule("QLinearConcat", domain="com.microsoft")
def concat(call: Call) -> Sequence[Tensor]:
    """Tensors behind one another."""
    inputs = call.tensors()
    if call.operator == "QLinearConcat":
        inputs = [call.input(index) for index in range(2, len(call.inputs), 3)]
        call.require_constants(*(index for index in range(len(call.inputs)) if index < 2 or index % 3 != 2))
    if not inputs:
        raise UnmodelledError("nothing to join")
    text = max(each.text for each in inputs)
    if any(each.dims is None for each in inputs) or len({each.rank for each in inputs}) > 1:
        return [unsized(inputs[0].element, sum(each.elements for each in inputs), text=text)]
    axis = axis_of(call.integer("axis"), inputs[0].rank)
    dims = [max(sizes) for sizes in zip(*(each.shape for each in inputs), strict=True)]
    others = {each.shape[:axis] + each.shape[axis + 1 :] for each in inputs if each.shape != (0,)}
    if call.exact and len(others) > 1:
        raise MisfitError
    dims[axis] = sum(each.shape[axis] for each in inputs)
    values = None
    if math.prod(dims) <= MOST_VALUES and call.exact:
        values = _joined_values(inputs, axis)
    count = sum(each.elements for each in inputs)
    return [call.result(inputs[0].element, dims, values=values, count=count, text=text)]


def _joined_values(inputs: Sequence[Tensor], axis: int) -> Values | None:
    bounds = [each.bounds() for each in inputs]
    if all(each.known is not None for each in inputs):
        array = np.concatenate([each.known for each in inputs if each.known is not None], axis)
        return Values(array, array) if array.size else None

    def side(index: int) -> Array:
        parts = []
        for each, bound in zip(inputs, bounds, strict=True):
            array = np.asarray((-math.inf, math.inf)[index]) if bound is None else (bound.low, bound.high)[index]
            parts.append(np.broadcast_to(array.astype(np.float64), each.shape))
        return np.concatenate(parts, axis)

    try:
        return Values(side(0), side(1))
    except ValueError:  # shapes that contradict each other
        return None


@rule("Split")
def split(call: Call) -> Sequence[Tensor]:
    """Parts along one axis."""
    source = call.input(0)
    axis = axis_of(call.integer("axis"), source.rank)
    total = source.shape[axis]
    given = call.optional(1)
    sizes = call.integers("split") if given is None else None
    if given is not None and given.known is not None:
        sizes = [int(size) for size in given.known.ravel()]
    if given is not None and sizes is None:
        sizes, loose = [total] * call.outputs, True
    else:
        loose = False
    if sizes is None:
        parts = max(1, call.integer("num_outputs", call.outputs))
        each = -(-total // parts)
        # Of a shorter axis than this bound, the last parts need not be shorter.
        sizes = [max(0, min(each, total - at * each)) if source.exact else each for at in range(parts)]
    results, start = [], 0
    for size in sizes[: call.outputs]:
        values = source.values
        if values is not None and not values.uniform and not loose:
            place = tuple(slice(start, start + size) if at == axis else slice(None) for at in range(source.rank))
            values = values.map(lambda array, place=place: array[place])  # type: ignore[misc]
        elif values is not None:
            values = values.collapsed()
        dims = [min(size, total) if at == axis else other for at, other in enumerate(source.shape)]
        start += size
        exact = source.exact and not loose
        results.append(tensor(source.element, dims, exact=exact, values=values, count=source.count, text=source.text))
    return results


@rule("Slice", "DynamicSlice")
def slice_(call: Call) -> Sequence[Tensor]:
    """A part of each axis; where its ends depend on data, at most all of it."""
    source = call.input(0)
    names = ("starts", "ends", "axes", "steps")
    parts: list[Values | None] = []
    count = 0
    for index, name in enumerate(names, 1):
        numbers = call.integers(name)
        given = call.optional(index)
        if given is not None:
            parts.append(given.bounds())
            if index == 1:
                count = given.elements
        elif numbers is not None:
            array = np.array(numbers, np.int64)
            parts.append(Values(array, array))
            count = len(numbers) if index == 1 else count
        else:
            parts.append(None)
    axes = parts[2].low.astype(np.int64).tolist() if parts[2] is not None and parts[2].known else list(range(count))
    if (parts[2] is not None and not parts[2].known) or (call.has(3) and parts[2] is None):
        return [tensor(source.element, source.shape, exact=False, text=source.text)]
    dims, places, exact = list(source.shape), [slice(None)] * source.rank, source.exact
    for at, axis_given in enumerate(np.ravel(axes).tolist()):
        axis = axis_of(int(axis_given), source.rank)
        start, end, step = (_one(part, at) for part in (parts[0], parts[1], parts[3] or _ones(count)))
        if start is None or end is None or step is None or step == 0:
            exact = False
            dims[axis] = _longest(parts[0], parts[1], at, dims[axis])
            continue
        # The bounds of a Python slice are cut to the axis as ONNX cuts them.
        end_place = None if step < 0 and end < -dims[axis] else end
        places[axis] = slice(start, end_place, step)
        total = dims[axis]
        dims[axis] = len(range(*places[axis].indices(total)))
        if not source.exact:
            dims[axis] = max(dims[axis], _of_shorter(total, start, end, step))
    values = source.values
    if values is not None and not values.uniform:
        values = values.map(lambda array: array[tuple(places)]) if exact else values.collapsed()
    return [tensor(source.element, dims, exact=exact, values=values, count=source.count, text=source.text)]


def _of_shorter(total: int, start: int, end: int, step: int) -> int:
    """What may be left of an axis that is shorter than this bound, where that can be more; else 0."""
    if start < 0 <= end:
        return total if end < total else min(total, -start)
    if step < 0 and end < 0 <= start:
        return min(total, start + 1, -end - 1)
    return 0


def _ones(count: int) -> Values:
    array = np.ones(count, np.int64)
    return Values(array, array)


def _one(part: Values | None, at: int) -> int | None:
    """An element whose value is known."""
    if part is None:
        return None
    low, high = (float(part.low), float(part.high)) if part.uniform else (float(part.low[at]), float(part.high[at]))
    if low != high or not math.isfinite(low):
        return None
    return int(part.low if part.uniform else part.low[at])


def _longest(starts: Values | None, ends: Values | None, at: int, total: int) -> int:
    """How long a part can be at most."""
    if ends is None:
        return total
    high = float(ends.high if ends.uniform else ends.high[at])
    low = float(starts.low if starts.uniform else starts.low[at]) if starts is not None else 0.0
    if math.isfinite(high) and high >= 0 and low >= 0:
        return min(total, max(0, int(high - low)))
    return total


@rule("ReverseSequence")
def reverse(call: Call) -> Sequence[Tensor]:
    """The shape of the first input."""
    return [like(call, call.input(0))]


@rule("DepthToSpace", "SpaceToDepth")
def blocks(call: Call) -> Sequence[Tensor]:
    """Channels to places or back."""
    source = call.input(0)
    block = max(1, call.integer("blocksize", 1))
    if source.rank != 4:
        raise UnmodelledError(f"{source.rank} dimensions")
    records, channels, height, width = source.shape
    if call.operator == "DepthToSpace":
        return [call.result(source.element, (records, channels // block**2, height * block, width * block))]
    return [call.result(source.element, (records, channels * block**2, height // block, width // block))]


@rule("ReorderInput", "ReorderOutput", domain="com.microsoft.nchwc")
def reorder(call: Call) -> Sequence[Tensor]:
    """Channels in blocks or not: sizes rounded up to blocks of at most 16."""
    source = call.input(0)
    dims = list(source.shape)
    if call.operator == "ReorderOutput":
        dims[1] = call.integer("channels", dims[1])
        if call.integer("channels_last"):
            dims = [dims[0], *dims[2:], dims[1]]
    else:
        if call.integer("channels_last"):
            dims = [dims[0], dims[-1], *dims[1:-1]]
        dims[1] = -(-dims[1] // 16) * 16
    return [call.result(source.element, dims)]


@rule("CenterCropPad")
def center(call: Call) -> Sequence[Tensor]:
    """Cut or padded to sizes that are given."""
    source = call.input(0)
    sizes = call.input(1).uppermost()
    axes = axes_of(call, 99, source.rank) or list(range(source.rank))
    dims = list(source.shape)
    for axis, size in zip(axes, sizes, strict=False):
        dims[axis] = size
    return [call.result(source.element, dims, exact=call.exact and call.input(1).known is not None)]
