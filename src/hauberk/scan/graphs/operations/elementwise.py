"""Operators that compute every element of one tensor by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hauberk.scan.graphs.call import Call, rule
from hauberk.scan.graphs.elements import BOOL, ELEMENTS, FLOAT, INT64, STRING, Element, integral
from hauberk.scan.graphs.values import (
    Array,
    Tensor,
    UnmodelledError,
    Value,
    Values,
    between,
    exactly,
    rounded,
    unsized,
)

TRANSCENDENTAL = 20
"""Multiply-adds that one exp, log or the like counts for."""


def like(call: Call, source: Tensor, element: int | None = None, values: Values | None = None, text: int = 0) -> Tensor:
    """A result of the shape of an input."""
    element = source.element if element is None else element
    if source.dims is None:
        return unsized(element, source.elements, text=text)
    return call.result(element, source.dims, values=values, exact=source.exact, count=source.count, text=text)


@rule("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Sin", "Sinh", "Tan", "Exp", "Log", "Erf")
@rule("Celu", "Elu", "Gelu", "Mish", "Selu", "Softplus", "Swish", "Hardmax", "Softmax", "LogSoftmax", "LpNormalization")
@rule("ParametricSoftplus", "ScaledTanh")
@rule("QuickGelu", "Gelu", "FastGelu", "BiasGelu", "BiasSoftmax", "QLinearSoftmax", domain="com.microsoft")
@rule("QLinearSigmoid", "QLinearLeakyRelu", "ScaledSiLU", domain="com.microsoft")
def transcendental(call: Call) -> Sequence[Tensor]:
    """One function a number."""
    source = call.input(0)
    if call.operator.startswith("QLinear"):
        call.require_constants(1, 2, 3, 4)
    call.operations = TRANSCENDENTAL * source.elements
    values = between(0, 1) if call.operator in {"Softmax", "Hardmax"} else None
    return [like(call, source, values=values)]


@rule("LeakyRelu", "Shrink", "Softsign", "ThresholdedRelu", "BitwiseNot", "HardSwish", "Affine", "ImageScaler")
@rule("CumSum", "CumProd", "MeanVarianceNormalization", "Scale", "Trilu", "Round", "Reciprocal")
@rule("Crop", "MemcpyFromHost", "MemcpyToHost")
@rule("Trilu", "BiasAdd", domain="com.microsoft")
@rule("Normalizer", "Scaler", "Imputer", "Binarizer", domain="ai.onnx.ml")
def same(call: Call) -> Sequence[Tensor]:
    """The shape of the first input."""
    source = call.input(0)
    if call.operator in {"CumSum", "CumProd", "Trilu"}:
        call.operations = 4 * source.elements
    element = FLOAT if call.operator in {"Normalizer", "Scaler"} else source.element
    if call.operator == "Trilu":
        return [like(call, source)]
    plain = call.operator == "CumSum" and not (call.integer("exclusive") or call.integer("reverse"))
    if plain and source.known is not None and source.exact and source.rank == 1:
        return [like(call, source, values=exactly(np.cumsum(source.known, dtype=source.known.dtype)))]
    return [like(call, source, element)]


@rule("Sigmoid", "HardSigmoid", "Tanh")
def squashed(call: Call) -> Sequence[Tensor]:
    """Results between two numbers."""
    source = call.input(0)
    call.operations = TRANSCENDENTAL * source.elements
    return [like(call, source, values=between(-1 if call.operator == "Tanh" else 0, 1))]


@rule("IsInf", "IsNaN", "Not")
def truth(call: Call) -> Sequence[Tensor]:
    """A truth value an element."""
    source = call.input(0)
    values = exactly(np.logical_not(source.known)) if call.operator == "Not" and source.known is not None else None
    return [like(call, source, BOOL, values=values)]


_MONOTONE: dict[str, Callable[[Array], Array]] = {
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Relu": lambda array: np.maximum(array, 0),
    "Sqrt": np.sqrt,
    "Sign": np.sign,
}


@rule(*_MONOTONE)
def growing(call: Call) -> Sequence[Tensor]:
    """Functions that never fall, so that bounds go through them."""
    source = call.input(0)
    values = None
    if source.values is not None:
        with np.errstate(all="ignore"):
            kept = _MONOTONE[call.operator]
            values = source.values.map(lambda array: np.asarray(kept(array)).astype(array.dtype))
            if not values.known and np.any(np.isnan(values.low)):  # the root of what may be below zero
                values = None
    return [like(call, source, values=values)]


@rule("Neg", "Abs")
def mirrored(call: Call) -> Sequence[Tensor]:
    """Functions that turn bounds round."""
    source, values = call.input(0), None
    least = -(2.0 ** (ELEMENTS[source.element].bits - 1)) if integral(source.element) else -np.inf
    # The least whole number of a type has no opposite: it stays what it is.
    if (bounds := source.bounds()) is not None and (bounds.known or np.all(bounds.low > least)):
        if bounds.known:
            values = exactly(np.negative(bounds.low) if call.operator == "Neg" else np.abs(bounds.low))
        elif call.operator == "Neg":
            values = Values(-bounds.high, -bounds.low, bounds.numbers)
        else:
            high = np.maximum(np.abs(bounds.low), np.abs(bounds.high))
            values = Values(np.zeros_like(high), high, bounds.numbers)
    return [like(call, source, values=values)]


@rule("Identity", "Dropout", "Optional", "OptionalGetElement")
@rule("BiasDropout", "BitmaskDropout", domain="com.microsoft")
def unchanged(call: Call) -> Sequence[Value]:
    """The input itself."""
    value = call.value(0)
    call.view, call.operations = True, 0
    if isinstance(value, Tensor) and call.outputs > 1:
        return [value, like(call, value, BOOL)]
    return [value]


@rule("Cast", "CastLike", "BitCast")
def cast(call: Call) -> Sequence[Tensor]:
    """Another element type."""
    source = call.input(0)
    element = call.input(1).element if call.operator == "CastLike" else call.integer("to")
    if element not in ELEMENTS:
        raise UnmodelledError(f"element type {element}")
    text = max(source.text, 32) if element == STRING else 0
    values = source.bounds() if call.operator != "BitCast" and STRING not in {element, source.element} else None
    if values is not None and source.element in ELEMENTS and integral(source.element) and not values.known:
        values = replace(values, numbers=True)
    return [like(call, source, element, values=_converted(values, element), text=text)]


def _converted(values: Values | None, element: int) -> Values | None:
    """Bounds after a cast; those that may leave the range of the type are dropped."""
    if values is None or (integral(element) and element != BOOL and not values.certain):
        return None
    info = ELEMENTS[element]
    if element == BOOL:
        return exactly(np.asarray(values.low != 0)) if values.known else between(0, 1)
    if not integral(element):
        return _as_float(values, info)
    low, high = (-(2.0 ** (info.bits - 1)), 2.0 ** (info.bits - 1)) if info.name[0] == "i" else (0.0, 2.0**info.bits)
    with np.errstate(all="ignore"):
        if not (np.all(values.low >= low) and np.all(values.high < high)):
            return None
    if values.known and info.dtype is not None:
        return exactly(values.low.astype(info.dtype))
    return Values(np.trunc(values.low), np.trunc(values.high))


def _as_float(values: Values, info: Element) -> Values | None:
    """Bounds of floating-point numbers after a cast to such numbers of this type, which may make them infinite."""
    if values.known:
        with np.errstate(all="ignore"):
            return exactly(values.low.astype(info.dtype)) if info.dtype is not None else None
    return rounded(values, info.dtype) if info.dtype is not None else None


@rule("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
@rule("QuantizeLinear", "DequantizeLinear", "QuantizeBFP", "DequantizeBFP", domain="com.microsoft")
@rule("QuantizeWithOrder", "DequantizeWithOrder", domain="com.microsoft")
def quantized(call: Call) -> Sequence[Tensor]:
    """Numbers to codes and back."""
    source = call.input(0)
    if call.operator.startswith("Dequantize"):
        element = call.integer("output_dtype") or (call.input(1).element if call.has(1) else FLOAT)
        return [like(call, source, element)]
    if call.operator == "DynamicQuantizeLinear":
        return [like(call, source, 2), call.result(FLOAT, ()), call.result(2, ())]
    zero = call.optional(2)
    element = zero.element if zero is not None else call.integer("output_dtype") or 2
    return [like(call, source, element)]


@rule("IsAllFinite", domain="com.microsoft")
def single_truth(call: Call) -> Sequence[Tensor]:
    """One truth value."""
    return [call.result(BOOL, ())]


@rule("Bernoulli", "RandomNormalLike", "RandomUniformLike")
def random_like(call: Call) -> Sequence[Tensor]:
    """Random numbers in the shape of the input."""
    source = call.input(0)
    call.operations = TRANSCENDENTAL * source.elements
    return [like(call, source, call.integer("dtype") or source.element)]


@rule("Shape")
def shape(call: Call) -> Sequence[Tensor]:
    """The sizes of the input: where its values begin to matter."""
    source = call.input(0)
    dims = source.shape
    start, end = call.integer("start", 0), call.integer("end", len(dims))
    sizes = np.array([min(size, (1 << 62)) for size in dims[slice(start, end)]], np.int64)
    values = exactly(sizes) if source.exact else Values(np.zeros(sizes.shape), sizes.astype(np.float64))
    call.operations = 0
    return [call.result(INT64, sizes.shape, values=values, exact=True)]


@rule("Size", "SequenceLength")
def size(call: Call) -> Sequence[Tensor]:
    """The number of elements."""
    source = call.value(0)
    count = source.elements if isinstance(source, Tensor) else source.length
    number = min(count, 1 << 62)
    call.operations = 0
    values = exactly(np.array(number, np.int64)) if source.exact else between(0, number)
    return [call.result(INT64, (), values=values, exact=True)]


@rule("Rfft", "Irfft", domain="com.microsoft")
def spectrum(call: Call) -> Sequence[Tensor]:
    """A transform over the last axis (or two)."""
    source = call.input(0)
    call.operations = 5.0 * source.elements * max(1, source.elements).bit_length()
    return [call.result(source.element, (*source.shape, 2))]
