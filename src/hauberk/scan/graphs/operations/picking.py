"""Operators that pick elements by number or by condition, and those that put elements in the place of others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hauberk.scan.graphs.call import Call, axis_of, rule
from hauberk.scan.graphs.elements import INT64
from hauberk.scan.graphs.model import MOST_VALUES
from hauberk.scan.graphs.operations.elementwise import like
from hauberk.scan.graphs.values import Tensor, Values, unsized

_TREE_NODE = 96.0
"""Bytes that ONNX Runtime takes for each different element of Unique, in a sorted tree."""


@rule("Gather")
def gather(call: Call) -> Sequence[Tensor]:
    """Parts of the first input, picked by number."""
    source, indices = call.input(0), call.input(1)
    axis = axis_of(call.integer("axis"), source.rank)
    if indices.dims is None:
        row = math.prod(size for at, size in enumerate(source.shape) if at != axis)
        return [unsized(source.element, row * indices.elements, text=source.text)]
    dims = (*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])
    values = source.values
    if values is not None and not values.uniform:
        picked = indices.known
        inside = (
            picked is not None
            and picked.size
            and np.all((picked >= -source.shape[axis]) & (picked < source.shape[axis]))
        )
        if picked is not None and inside and math.prod(dims) <= MOST_VALUES:
            values = values.map(lambda array: np.take(array, picked.astype(np.int64), axis))
        else:
            values = values.collapsed()
    elif values is not None and values.known and source.dims:
        values = values.collapsed()
    return [call.result(source.element, dims, values=values, text=source.text)]


@rule("GatherElements", "ArrayFeatureExtractor")
@rule("ArrayFeatureExtractor", domain="ai.onnx.ml")
def gather_elements(call: Call) -> Sequence[Tensor]:
    """Elements of the first input, one for each index."""
    source, indices = call.input(0), call.input(1)
    values = source.values.collapsed() if source.values is not None else None
    if call.operator == "ArrayFeatureExtractor":
        dims = (*(source.shape[:-1] or (1,)), indices.elements)
        return [call.result(source.element, dims, text=source.text)]
    if indices.dims is None:
        return [unsized(source.element, indices.elements, text=source.text)]
    return [call.result(source.element, indices.shape, values=values, text=source.text)]


@rule("GatherND")
@rule("GatherND", domain="com.microsoft")
def gather_nd(call: Call) -> Sequence[Tensor]:
    """Parts of the first input, picked by rows of numbers."""
    source, indices = call.input(0), call.input(1)
    batch = call.integer("batch_dims")
    width = indices.shape[-1] if indices.shape else 0
    dims = (*indices.shape[:-1], *source.shape[batch + width :])
    values = source.values.collapsed() if source.values is not None else None
    return [call.result(source.element, dims, values=values, text=source.text)]


@rule("Scatter", "ScatterElements", "ScatterND", "TensorScatter")
def scatter(call: Call) -> Sequence[Tensor]:
    """The first input with some elements replaced."""
    source = call.input(0)
    result = like(call, source, text=source.text)
    if call.operator != "ScatterND" or not (source.settled and call.input(1).settled):
        return [result]
    indices, updates = call.input(1).known, call.input(2)
    bounds = updates.bounds()
    if (
        source.rank != 1
        or source.known is None
        or indices is None
        or bounds is None
        or call.text("reduction", "none") != "none"
    ):
        return [result]
    low, high = source.known.astype(np.float64), source.known.astype(np.float64)
    flat = indices.reshape(-1).astype(np.int64)
    if flat.size and (flat.min() < -low.size or flat.max() >= low.size):
        return [result]
    low[flat] = np.broadcast_to(bounds.low, updates.shape).reshape(-1)
    high[flat] = np.broadcast_to(bounds.high, updates.shape).reshape(-1)
    if np.array_equal(low, high):
        array = low.astype(source.known.dtype)
        return [like(call, source, values=Values(array, array))]
    return [like(call, source, values=Values(low, high))]


@rule("Compress")
def compress(call: Call) -> Sequence[Tensor]:
    """Some of the elements or rows."""
    source, condition = call.input(0), call.input(1)
    values = source.values.collapsed() if source.values is not None else None
    if "axis" not in call.attributes:
        dims = [min(source.elements, condition.elements)]
    else:
        axis = axis_of(call.integer("axis"), source.rank)
        dims = [min(size, condition.elements) if at == axis else size for at, size in enumerate(source.shape)]
    if condition.known is not None and source.exact:
        taken = int(np.count_nonzero(condition.known))
        index = 0 if "axis" not in call.attributes else axis_of(call.integer("axis"), source.rank)
        dims[index] = min(dims[index], taken)
        return [call.result(source.element, dims, values=values, text=source.text)]
    return [call.result(source.element, dims, values=values, exact=False, text=source.text)]


@rule("NonZero")
def non_zero(call: Call) -> Sequence[Tensor]:
    """The places of elements that are not zero: at most all."""
    source = call.input(0)
    largest = max(source.shape, default=1)
    values = Values(np.asarray(0.0), np.asarray(float(max(largest - 1, 0))))
    if source.settled and source.known is not None:
        places = np.array(np.nonzero(np.atleast_1d(source.known)), np.int64)
        return [call.result(INT64, places.shape, values=Values(places, places))]
    return [call.result(INT64, (max(source.rank, 1), source.elements), values=values, exact=False)]


@rule("Unique")
@rule("Unique", domain="com.microsoft")
def unique(call: Call) -> Sequence[Tensor]:
    """Different elements, their places and counts: at most as many as there are."""
    source = call.input(0)
    count = source.elements
    call.operations = 8.0 * count * max(1, count).bit_length()
    call.scratch = _TREE_NODE * count
    if "axis" in call.attributes:
        axis = axis_of(call.integer("axis"), source.rank)
        count, dims = source.shape[axis], list(source.shape)
    else:
        dims = [count]
    others = [call.result(INT64, (count,), exact=False) for _ in range(3)]
    return [call.result(source.element, dims, exact=False, text=source.text), *others]
