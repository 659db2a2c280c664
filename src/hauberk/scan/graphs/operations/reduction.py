"""Operators that make few numbers out of many, and normalisation, which makes as many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from hauberk.scan.graphs.call import Call, axis_of, rule
from hauberk.scan.graphs.elements import ELEMENTS, FLOAT, INT64, integral
from hauberk.scan.graphs.operations.elementwise import like
from hauberk.scan.graphs.values import Array, Tensor, UnmodelledError, Values, between, exactly, unsized

_FOLDED: dict[str, Callable[..., Array]] = {
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
}


@rule("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")
@rule("ReduceSum", "ReduceSumSquare")
@rule("ReduceSumInteger", "QLinearReduceMean", domain="com.microsoft")
def reduce(call: Call) -> Sequence[Tensor]:
    """One number for all along some axes."""
    source = call.input(0)
    if source.dims is None:
        return [unsized(source.element, source.elements)]
    keep = call.integer("keepdims", 1)
    axes: list[int] | None
    if call.has(1) and call.operator != "QLinearReduceMean":
        given = call.input(1)
        if given.known is None:
            # Axes that depend on data: any of them may stay.
            return [unsized(source.element, source.elements)]
        axes = [axis_of(int(axis), source.rank) for axis in given.known.ravel()]
    else:
        numbers = call.integers("axes")
        axes = None if numbers is None else [axis_of(axis, source.rank) for axis in numbers]
    if not axes:
        if axes is not None and call.integer("noop_with_empty_axes"):
            return [like(call, source, values=source.values)]
        axes = list(range(source.rank))
    dims = [1 if at in axes else size for at, size in enumerate(source.shape) if keep or at not in axes]
    return [call.result(source.element, dims, values=_reduced(call, source, tuple(axes), keepdims=bool(keep)))]


def _reduced(call: Call, source: Tensor, axes: tuple[int, ...], *, keepdims: bool) -> Values | None:
    function, values = _FOLDED.get(call.operator), source.bounds()
    if values is None or function is None:
        return None
    if source.settled and source.known is not None and source.known.size:
        with np.errstate(all="ignore"):
            result = np.asarray(function(source.known, axis=axes, keepdims=keepdims))
        return exactly(result.astype(source.known.dtype))
    bounds = values.collapsed()
    if bounds is None or call.operator == "ReduceProd":
        return None
    low, high = float(bounds.low), float(bounds.high)
    if call.operator == "ReduceSum":
        count = math.prod(source.shape[axis] for axis in axes)
        low, high = min(low * count, 0.0), max(high * count, 0.0)
        if integral(source.element) and max(-low, high) >= 2.0 ** (ELEMENTS[source.element].bits - 1):
            return None  # the sum may wrap
    elif not source.exact:
        return None  # of nothing, the largest is the least of its type
    return between(low, high) if math.isfinite(low) and math.isfinite(high) else None


@rule("ArgMax", "ArgMin")
def place_of_extreme(call: Call) -> Sequence[Tensor]:
    """Where the largest or smallest stands: a number below the size of the axis."""
    source = call.input(0)
    axis = axis_of(call.integer("axis"), source.rank)
    keep = call.integer("keepdims", 1)
    dims = [1 if at == axis else size for at, size in enumerate(source.shape) if keep or at != axis]
    return [call.result(INT64, dims, values=between(0, max(0, source.shape[axis] - 1)) if source.dims else None)]


@rule("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization")
@rule("SimplifiedLayerNormalization")
@rule(
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "GroupNorm", "SkipGroupNorm", domain="com.microsoft"
)
@rule("GatedRMSNorm", "BranchwiseRMSNorm", "QOrderedLayerNormalization", domain="com.microsoft")
@rule("BatchNormalization", "InstanceNormalization", domain="com.ms.internal.nhwc")
def normalise(call: Call) -> Sequence[Tensor]:
    """The shape of the first input, and some statistics of it."""
    source = call.input(0)
    call.operations = 8.0 * source.elements
    if not source.elements:
        raise UnmodelledError("nothing to normalise")  # ONNX Runtime dies of it in InstanceNormalization
    result = like(call, source)
    if call.operator.startswith("Skip"):
        return [result, like(call, source, FLOAT), like(call, source, FLOAT), result]
    if call.operator == "LayerNormalization":
        if call.left_blank(2):  # ONNX Runtime reads it
            raise UnmodelledError("a blank name in the place of what is added")
        first = axis_of(call.integer("axis", -1), source.rank)
        statistic = call.result(FLOAT, [1 if at >= first else size for at, size in enumerate(source.shape)])
        return [result, statistic, statistic]
    if call.operator == "BatchNormalization":
        if call.gaps:  # ONNX Runtime writes them
            raise UnmodelledError("results without a name")
        statistics = [like(call, call.input(min(index, len(call.inputs) - 1))) for index in (3, 4, 3, 4)]
        return [result, *statistics]
    return [result, like(call, source, FLOAT), like(call, source, FLOAT)]


@rule("LRN")
@rule("LRN", domain="com.ms.internal.nhwc")
def across_channels(call: Call) -> Sequence[Tensor]:
    """Numbers over the squares of channels around; for these, a runtime makes room before and behind the channels."""
    source = call.input(0)
    window = max(1, call.integer("size", 1))
    records = max(1, source.shape[0] if source.shape else 1)
    # Squares of one record with `window - 1` channels of zeros, and what everything is divided by.
    call.scratch = 4.0 * (source.elements + source.elements / records + (window - 1) * _largest_plane(source))
    call.operations = float(source.elements) * window
    return [like(call, source)]


def _largest_plane(source: Tensor) -> float:
    """Elements of one channel of one record, wherever the channels stand."""
    if source.rank < 3:
        return float(source.elements)
    return float(math.prod(source.shape[1:]) // max(1, min(source.shape[1], source.shape[-1])))


@rule("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
def loss(call: Call) -> Sequence[Tensor]:
    """One number, or one a record."""
    source, labels = call.input(0), call.input(1)
    call.operations = 20.0 * source.elements
    dims = labels.shape if call.text("reduction", "mean") == "none" else ()
    return [call.result(source.element, dims), like(call, source)]


@rule("CDist", domain="com.microsoft")
def distances(call: Call) -> Sequence[Tensor]:
    """A distance for each pair of rows."""
    first, second = call.input(0), call.input(1)
    if first.rank != 2 or second.rank != 2:
        raise UnmodelledError("no matrices")
    result = call.result(first.element, (first.shape[0], second.shape[0]))
    call.operations = float(result.elements) * max(1, first.shape[1])
    return [result]


@rule("STFT", "DFT")
def fourier(call: Call) -> Sequence[Tensor]:
    """Spectra: of frames that slide over the signal, or of one axis."""
    source = call.input(0)
    if call.operator == "DFT":
        if call.left_blank(2):  # ONNX Runtime reads it
            raise UnmodelledError("a blank name in the place of the axis")
        axis = call.integer("axis", 1)
        if call.has(2) and call.input(2).known is not None:
            axis = int(call.input(2).uppermost()[0])
        dims = [*source.shape[:-1], 2]
        at = axis_of(axis, source.rank)
        if call.has(1):
            dims[at] = max(call.input(1).uppermost()[0], 0)
        points = dims[at]
        exact = source.exact and (not call.has(1) or call.input(1).known is not None)
        if call.integer("onesided") and call.integer("inverse"):  # from half a spectrum back to real numbers
            dims[at] = points = dims[at] if call.has(1) else max(1, 2 * (source.shape[at] - 1))
            dims[-1] = 1
        elif call.integer("onesided"):
            dims[at] = dims[at] // 2 + 1
        result = call.result(source.element, dims, exact=exact)
        call.operations = 5.0 * result.elements * max(points, source.shape[at], 1).bit_length() ** 2
        call.scratch = _transform_room(points, source.element) + result.bytes
        return [result]
    step, exact = call.input(1).uppermost()[0], call.input(1).known is not None
    window = call.optional(2)
    length = call.input(3).uppermost()[0] if call.has(3) else (window.elements if window else source.shape[1])
    exact = exact and source.exact and (not call.has(3) or call.input(3).known is not None)
    if step <= 0 or length <= 0:
        raise UnmodelledError("frames of no length")
    # Where its length or that of the signal is only bounded, shorter frames are more frames.
    frames = max(0, (source.shape[1] - length) // step + 1) if exact else source.shape[1] + 1
    bins = length // 2 + 1 if call.integer("onesided", 1) else length
    result = call.result(source.element, (source.shape[0], frames, bins, 2), exact=exact)
    call.operations = 5.0 * result.elements * length.bit_length()
    call.scratch = _transform_room(length, source.element)
    return [result]


def _transform_room(points: int, element: int) -> float:
    """Bytes beside the result of one transform of so many points.

    For other numbers of points than powers of two, runtimes take Bluestein's way: a convolution of at least twice the
    length, at a power of two, for which ONNX Runtime holds five lists of complex numbers.
    """
    complex_bytes = ELEMENTS[element].bits / 4
    if points & (points - 1) == 0:
        return 4 * complex_bytes * points
    return 5 * complex_bytes * float(1 << (2 * points - 2).bit_length())
