"""Operators whose results can be of any size, because values and not shapes decide it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hauberk.scan.graphs.call import Call, axis_of, broadcast, rule
from hauberk.scan.graphs.elements import BOOL, ELEMENTS, FLOAT, INT64, STRING
from hauberk.scan.graphs.model import MOST_VALUES, Numbers, SparseWeights, Weights
from hauberk.scan.graphs.operations.elementwise import like
from hauberk.scan.graphs.operations.movement import axes_of
from hauberk.scan.graphs.values import (
    Tensor,
    UnboundedError,
    UnmodelledError,
    Values,
    between,
    constant_of,
    exactly,
    tensor,
)


def sizes_of(given: Tensor) -> tuple[list[int], bool]:
    """Sizes that are values of a tensor, or their upper bounds, and whether they are known.

    Raises:
        UnboundedError: There is no bound.
    """
    if not given.exact:
        raise UnboundedError
    return given.uppermost(), given.known is not None


@rule("Constant")
def constant(call: Call) -> Sequence[Tensor]:
    """What stands in the node."""
    call.operations = 0
    if len(call.attributes) > 1:
        raise UnmodelledError("a constant with several attributes, of which readers take different ones")
    for attribute in call.attributes.values():
        value = attribute.value
        match value:
            case Weights():
                return [weights_as(value)]
            case SparseWeights():
                return [sparse_as(value)]
            case Numbers():
                return [_listed(value, floats=attribute.kind == "floats")]
            case float():
                return [constant_of(np.array(value, np.float32), FLOAT)]
            case int():
                return [constant_of(np.array(value, np.int64), INT64)]
            case bytes() | list():
                texts = value if isinstance(value, list) else [value]
                dims = (len(texts),) if isinstance(value, list) else ()
                return [tensor(STRING, dims, text=max(map(len, texts), default=0), constant=True)]
    raise UnmodelledError("a constant without a value")


def _listed(numbers: Numbers, *, floats: bool) -> Tensor:
    element, dtype = (FLOAT, np.float32) if floats else (INT64, np.int64)
    if numbers.count > len(numbers.values):
        return tensor(element, (numbers.count,), constant=True)
    return constant_of(np.array(numbers.values, dtype), element)


def weights_as(weights: Weights) -> Tensor:
    """A tensor of the file."""
    values = exactly(weights.values) if weights.values is not None else None
    return tensor(weights.element, weights.dims, values=values, text=weights.longest, constant=True)


def sparse_as(sparse: SparseWeights) -> Tensor:
    """A sparse tensor of the file, made dense."""
    return tensor(sparse.values.element, sparse.dims, constant=True)


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> Sequence[Tensor]:
    """One value, as often as the input says."""
    sizes, known = sizes_of(call.input(0))
    filling = call.attribute("value")
    element, values = FLOAT, exactly(np.array(0, np.float32))
    if isinstance(filling, Weights):
        if filling.values is None or filling.values.size != 1:
            return [call.result(filling.element, sizes, exact=known)]
        element, values = filling.element, exactly(filling.values.reshape(()))
    return [call.result(element, sizes, values=values, exact=known)]


@rule("Expand")
def expand(call: Call) -> Sequence[Tensor]:
    """The input, repeated to a shape."""
    source, given = call.input(0), call.input(1)
    sizes, known = sizes_of(given)
    dims = broadcast(source.shape, sizes, exact=source.exact and known)
    values = source.values
    if values is not None and not values.uniform:
        small = known and source.exact and math.prod(dims) <= MOST_VALUES
        values = values.map(lambda array: np.array(np.broadcast_to(array, dims))) if small else values.collapsed()
    elif values is not None:
        small = known and source.exact and math.prod(dims) <= MOST_VALUES
        values = values.map(lambda array: np.full(dims, array, array.dtype)) if small else values.collapsed()
    return [call.result(source.element, dims, values=values, exact=source.exact and known, text=source.text)]


@rule("Tile")
def tile(call: Call) -> Sequence[Tensor]:
    """The input, as often as another input says for each axis."""
    source = call.input(0)
    if call.version < 6:
        repeats, known = [1] * source.rank, call.input(1).known is not None and call.input(2).known is not None
        axis = axis_of(call.input(2).uppermost()[0], source.rank)
        repeats[axis] = call.input(1).uppermost()[0]
    else:
        repeats, known = sizes_of(call.input(1))
    if len(repeats) != source.rank:
        raise UnmodelledError(f"{len(repeats)} repetitions of {source.rank} dimensions")
    dims = [size * max(times, 0) for size, times in zip(source.shape, repeats, strict=True)]
    values = source.values
    if values is not None and not values.uniform and known and source.exact and math.prod(dims) <= MOST_VALUES:
        values = values.map(lambda array: np.tile(array, repeats))
    elif values is not None:
        values = values.collapsed()
    return [call.result(source.element, dims, values=values, exact=source.exact and known, text=source.text)]


@rule("Range")
@rule("Range", domain="com.microsoft")
def range_(call: Call) -> Sequence[Tensor]:
    """Numbers from one to another."""
    start, limit = call.input(0), call.input(1)
    step = call.optional(2)
    first, last = start.bounds(), limit.bounds()
    stride = exactly(np.array(1)) if step is None else step.bounds()
    if first is None or last is None or stride is None:
        raise UnboundedError
    if not (first.low.size and last.low.size and stride.low.size):
        raise call.misfit("a range without its ends")
    known = all(each.known for each in (first, last, stride))
    low, high, by = float(np.min(first.low)), float(np.max(last.high)), float(np.min(stride.low))
    if np.min(stride.low) <= 0 <= np.max(stride.high):
        if known:
            return [call.result(start.element, (0,))]
        raise UnboundedError
    if by < 0:
        low, high, by = float(np.max(first.high)), float(np.min(last.low)), float(np.max(stride.high))
    span = (high - low) / by
    if not math.isfinite(span):
        raise UnboundedError
    count = max(0, math.ceil(span))
    values: Values | None = between(min(low, high), max(low, high))
    if known and count <= MOST_VALUES:
        dtype = ELEMENTS[start.element].dtype
        numbers = np.asarray(low + by * np.arange(count))
        values = exactly(numbers.astype(dtype)) if dtype is not None else None
    return [call.result(start.element, (count,), values=values, exact=known)]


@rule("OneHot")
def one_hot(call: Call) -> Sequence[Tensor]:
    """A new axis as long as an input says."""
    indices, depth, pair = call.input(0), call.input(1), call.input(2)
    size = depth.uppermost()[0] if depth.elements else 0
    axis = axis_of(call.integer("axis", -1), indices.rank + 1)
    dims = [*indices.shape[:axis], size, *indices.shape[axis:]]
    return [call.result(pair.element, dims, exact=indices.exact and depth.known is not None)]


@rule("EyeLike")
def eye(call: Call) -> Sequence[Tensor]:
    """Ones on the diagonal, in the shape of the input."""
    source = call.input(0)
    return [like(call, source, call.integer("dtype") or source.element)]


@rule("RandomNormal", "RandomUniform", "GivenTensorFill")
def random(call: Call) -> Sequence[Tensor]:
    """Numbers in a shape that stands in the node."""
    dims = call.integers("shape") or []
    result = call.result(call.integer("dtype", FLOAT), dims)
    call.operations = 20 * result.elements
    return [result]


@rule("Multinomial")
def multinomial(call: Call) -> Sequence[Tensor]:
    """Samples for each record, as many as stand in the node."""
    source, samples = call.input(0), call.integer("sample_size", 1)
    call.operations = 1.0 * source.elements * max(1, samples)
    return [call.result(call.integer("dtype", 6), (source.shape[0] if source.shape else 1, samples))]


@rule("Pad")
@rule("Pad", domain="com.microsoft")
def pad(call: Call) -> Sequence[Tensor]:
    """More on each side, as attributes (before version 11) or inputs say."""
    source = call.input(0)
    numbers = call.integers("pads") or call.integers("paddings")
    known = True
    if call.has(1):
        amounts, known = sizes_of(call.input(1))
    elif numbers is not None:
        amounts = numbers
    else:
        raise UnmodelledError("no amounts")
    axes = axes_of(call, 3, source.rank, "no such attribute") or list(range(source.rank))
    if len(amounts) != 2 * len(axes):
        raise UnmodelledError(f"{len(amounts)} amounts for {len(axes)} axes")
    dims = list(source.shape)
    for at, axis in enumerate(axes):
        dims[axis] += amounts[at] + amounts[at + len(axes)]
    values = source.values.collapsed() if source.values is not None else None
    if values is not None:
        values = between(min(float(values.low), 0), max(float(values.high), 0)) if not call.has(2) else None
    return [call.result(source.element, dims, values=values, exact=source.exact and known)]


@rule("TopK")
def top(call: Call) -> Sequence[Tensor]:
    """The largest elements along an axis: never more than there are."""
    source = call.input(0)
    axis = axis_of(call.integer("axis", -1), source.rank)
    dims, exact = list(source.shape), source.exact
    if call.has(1):
        try:
            dims[axis] = min(dims[axis], *call.input(1).uppermost())
            exact = exact and call.input(1).known is not None
        except UnboundedError:
            exact = False
    else:
        dims[axis] = min(dims[axis], call.integer("k", dims[axis]))
    call.operations = 4.0 * source.elements * max(1, dims[axis]).bit_length()
    values = source.values.collapsed() if source.values is not None else None
    return [
        call.result(source.element, dims, values=values, exact=exact),
        call.result(INT64, dims, exact=exact, values=between(0, max(0, source.shape[axis] - 1))),
    ]


@rule("HannWindow", "HammingWindow", "BlackmanWindow")
def window(call: Call) -> Sequence[Tensor]:
    """As many numbers as the input says."""
    sizes, known = sizes_of(call.input(0))
    result = call.result(call.integer("output_datatype", FLOAT), sizes[:1], exact=known)
    call.operations = 20 * result.elements
    return [result]


@rule("MelWeightMatrix")
def mel(call: Call) -> Sequence[Tensor]:
    """A matrix whose two sizes are inputs."""
    bins, length = (sizes_of(call.input(index)) for index in (0, 1))
    exact = bins[1] and length[1]
    return [call.result(call.integer("output_datatype", FLOAT), (length[0][0] // 2 + 1, bins[0][0]), exact=exact)]


@rule("AffineGrid")
def affine_grid(call: Call) -> Sequence[Tensor]:
    """A place for every pixel of an image whose size is an input."""
    sizes, known = sizes_of(call.input(1))
    (
        records,
        *_,
    ) = sizes
    spatial = sizes[2:]
    result = call.result(call.input(0).element, (records, *spatial, len(spatial)), exact=known)
    call.scratch = 4.0 * result.bytes  # the plain grid before it is bent, and its products
    return [result]


@rule("MaxUnpool")
@rule("MaxUnpool", domain="com.ms.internal.nhwc")
def unpool(call: Call) -> Sequence[Tensor]:
    """Maxima back to their places: sizes as an input says, or by kernel and strides."""
    source = call.input(0)
    if call.has(2):
        sizes, known = sizes_of(call.input(2))
        return [call.result(source.element, sizes, exact=source.exact and known)]
    kernel = call.integers("kernel_shape") or []
    strides = call.integers("strides") or [1] * len(kernel)
    pads = call.integers("pads") or [0] * 2 * len(kernel)
    if call.operator == "MaxUnpool" and len(kernel) != source.rank - 2:
        raise UnmodelledError("a kernel of another rank")
    dims = [
        (size - 1) * strides[at] + kernel[at] - pads[at] - pads[at + len(kernel)]
        for at, size in enumerate(source.shape[2:])
    ]
    return [call.result(source.element, (*source.shape[:2], *dims))]


@rule("NonMaxSuppression")
def suppression(call: Call) -> Sequence[Tensor]:
    """Boxes that are kept: at most all boxes of all classes, or as many of a class as an input says."""
    boxes, scores = call.input(0), call.input(1)
    records, classes, count = scores.shape if scores.rank == 3 else (1, 1, boxes.elements)
    kept = count
    if call.has(2):
        try:
            kept = min(count, max([0, *call.input(2).uppermost()]))
        except UnboundedError:
            kept = count
    else:
        kept = 0
    total = records * classes * kept
    call.operations = 20.0 * records * classes * count * max(1, min(kept, count))
    call.scratch = 16.0 * count
    return [call.result(INT64, (total, 3), exact=total == 0, values=between(0, max(records, classes, count)))]


@rule("Det")
def determinant(call: Call) -> Sequence[Tensor]:
    """One number a matrix."""
    source = call.input(0)
    call.operations = 1.0 * source.elements * (source.shape[-1] if source.shape else 1)
    return [call.result(source.element, source.shape[:-2])]


@rule("ImageDecoder")
def decoder(call: Call) -> Sequence[Tensor]:
    """An image out of a compressed file: its size stands in the data."""
    call.input(0)
    raise UnboundedError


@rule("OptionalHasElement")
def has_element(call: Call) -> Sequence[Tensor]:
    """Whether there is something."""
    return [call.result(BOOL, (), exact=True)]
