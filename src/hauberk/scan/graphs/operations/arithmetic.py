"""Operators that put elements of several tensors together, with the arithmetic that models do on shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hauberk.scan.graphs.call import Call, broadcast, rule
from hauberk.scan.graphs.elements import BOOL, ELEMENTS, integral
from hauberk.scan.graphs.model import MOST_VALUES
from hauberk.scan.graphs.operations.elementwise import TRANSCENDENTAL, like
from hauberk.scan.graphs.values import LARGE, Array, Tensor, UnmodelledError, Values, between, exactly, rounded, unsized

_NUMPY_BROADCASTING = 7
"""Version of ONNX's operators that brought it."""

_ONCE_BROADCAST_BY_AXIS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu"}
)

_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}


@rule(*_COMPARISONS)
def compared(call: Call) -> Sequence[Tensor]:
    """A truth value for each pair of elements."""
    first, second = call.input(0), call.input(1)
    result = together(call, [first, second], BOOL)
    one, other = first.known, second.known
    if one is not None and other is not None and call.exact and (result.count or 0) <= MOST_VALUES:
        array = np.asarray(_COMPARISONS[call.operator](one, other))
        return [replace_values(result, exactly(array))]
    return [result]


@rule("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Mod", "Pow", "BitShift")
@rule("BitwiseAnd", "BitwiseOr", "BitwiseXor", "SwiGLU", "PRelu")
@rule("QLinearAdd", "QLinearMul", "MulInteger", "GatedAdd", domain="com.microsoft")
def arithmetic(call: Call) -> Sequence[Tensor]:
    """An element for each group of elements."""
    inputs = call.tensors()
    if call.operator in {"QLinearAdd", "QLinearMul"}:
        inputs = [call.input(0), call.input(3)]
    result = together(call, inputs, inputs[0].element)
    if call.operator in {"Div", "Mod"} and integral(inputs[0].element) and len(inputs) > 1:
        _look_at_division(call, inputs[0], inputs[1])
    if call.operator == "Pow":
        call.operations = TRANSCENDENTAL * (result.count or 0)
    if (result.count or 0) > MOST_VALUES and any(each.values is None or not each.values.uniform for each in inputs):
        return [result]
    return [replace_values(result, _computed(call, inputs))]


def _look_at_division(call: Call, dividend: Tensor, divisor: Tensor) -> None:
    """Whether whole numbers are divided as processors do not bear: by zero, or the least of a type by -1.

    Raises:
        UnmodelledError: Both come from the file alone, and it cannot be told.
    """
    zero = _holds(divisor, 0)
    call.divides_by_zero = bool(zero)
    info = ELEMENTS[dividend.element]
    trapping = info.name in {"int32", "int64"} and not call.integer("fmod")  # smaller ones are computed as int32
    one, least = (_holds(divisor, -1), _holds(dividend, -(1 << info.bits - 1))) if trapping else (False, False)
    call.overflows = bool(one and least)
    if zero is None and divisor.constant:
        raise UnmodelledError("it divides by numbers of the file that are not known; a zero may be among them")
    if one is not False and least is not False and not call.overflows and divisor.constant and dividend.constant:
        raise UnmodelledError("it divides numbers of the file that are not known; the least may be divided by -1")


def _holds(tensor: Tensor, number: int) -> bool | None:
    """Whether a number is among the elements; `None` where that is not known."""
    if not tensor.count:
        return False if tensor.exact else None
    values = tensor.bounds()
    if values is None:
        return None
    if values.known or (tensor.exact and values.uniform and float(values.low) == float(values.high)):
        return bool(np.any(values.low == number))
    inside = (values.low <= number) & (values.high >= number)
    return None if np.any(inside) else False


def together(call: Call, inputs: Sequence[Tensor], element: int) -> Tensor:
    """A result of the shape that inputs have together."""
    if call.version < _NUMPY_BROADCASTING and call.operator in _ONCE_BROADCAST_BY_AXIS:
        return like(call, inputs[0], element)  # the others had to fit the first
    known = [each for each in inputs if each.dims is not None]
    if len(known) == len(inputs):
        exact = all(each.exact for each in inputs)
        return call.result(element, broadcast(*(each.shape for each in inputs), exact=exact))
    counts = [each.elements for each in inputs]
    larger = [count for count in counts if count > 1]
    if len(larger) > 1 and len(set(larger)) > 1:
        raise UnmodelledError("shapes whose ranks depend on data")
    return unsized(element, max(counts, default=0))


def replace_values(result: Tensor, values: Values | None) -> Tensor:
    """The result with values, if they fit."""
    if values is None or result.dims is None:
        return result
    uniform = values.uniform and not (values.known and result.dims)
    fits = uniform or (values.low.shape == result.dims and result.exact)
    if fits:
        return replace(result, values=values)
    return replace(result, values=values.collapsed() if values.low.size else None)


def _computed(call: Call, inputs: Sequence[Tensor]) -> Values | None:
    """Values or bounds of the result; `None` where the arithmetic may leave the range of its type."""
    bounds = [each.bounds() for each in inputs]
    whole = integral(inputs[0].element)
    with np.errstate(all="ignore"):
        if all(each is not None and each.known for each in bounds) and all(each.known is not None for each in inputs):
            arrays = [each.low for each in bounds if each is not None]
            return _exact(call, arrays, inputs[0].element)
        if call.operator in {"Min", "Max"}:
            return _extreme(call, bounds)
        if call.operator == "Mod" and bounds[0] is None and not call.integer("fmod") and whole:
            bounds[0] = between(0, 0)  # the result lies between zero and the divisor whatever is divided
        if any(each is None for each in bounds) or len(bounds) > 2:
            return None
        pairs = [(each.low.astype(np.float64), each.high.astype(np.float64)) for each in bounds if each is not None]
        found = _interval(call, pairs, whole=whole)
    if found is None or not (np.all(np.isfinite(found.low)) and np.all(np.isfinite(found.high))):
        return None
    info = ELEMENTS[inputs[0].element]
    if not whole:
        certain = all(each is not None and each.certain for each in bounds)
        return rounded(replace(found, numbers=certain), info.dtype) if info.dtype is not None else None
    limit = 2.0 ** (info.bits - 1)
    least = 0.0 if info.name.startswith("uint") else -limit + 1
    inside = np.all(found.low >= least) and np.all(found.high < limit)
    return found if inside else None


def _exact(call: Call, arrays: list[Array], element: int) -> Values | None:
    dtype = ELEMENTS[element].dtype
    functions: dict[str, Callable[[Array, Array], Array]] = {
        "Add": np.add,
        "Sum": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Min": np.minimum,
        "Max": np.maximum,
        "Div": _truncated if integral(element) else np.divide,
        "Mod": np.fmod if call.integer("fmod") else np.mod,
        "Pow": _power,
    }
    function = functions.get(call.operator)
    if function is None or dtype is None:
        return None
    if call.operator == "Mod" and not np.all(arrays[-1]):
        return None
    result = arrays[0]
    for array in arrays[1:]:
        result = np.asarray(function(result, array))
    limit = 2.0 ** (ELEMENTS[element].bits - 1)
    rounded = integral(element) and result.dtype.kind == "f"
    if rounded and not (np.all(np.isfinite(result)) and np.all(np.abs(result) < limit)):
        return None
    return exactly(np.asarray(result.astype(dtype)))


def _power(base: Array, power: Array) -> Array:
    """Powers as floating-point numbers; none (NaN) where those may be other whole numbers than a runtime's."""
    found = np.asarray(np.power(base.astype(np.float64), power))
    return np.where(np.abs(found) < LARGE, found, np.nan) if base.dtype.kind in "iu" else found


def _truncated(first: Array, second: Array) -> Array:
    """Division of whole numbers towards zero; by zero it is anything, here 0."""
    divisor = np.where(second == 0, 1, second)
    quotient = np.abs(first) // np.abs(divisor)
    return np.where(second == 0, 0, np.where((first < 0) != (second < 0), -quotient, quotient))


def _extreme(call: Call, bounds: Sequence[Values | None]) -> Values | None:
    """The smallest or largest: bounded on one side by any that is."""
    known = [each for each in bounds if each is not None]
    if not known:
        return None
    unknown = len(known) < len(bounds)
    lows = [each.low.astype(np.float64) for each in known]
    highs = [each.high.astype(np.float64) for each in known]
    combine = np.minimum if call.operator == "Min" else np.maximum
    low, high = lows[0], highs[0]
    for other_low, other_high in zip(lows[1:], highs[1:], strict=True):
        low, high = combine(low, other_low), combine(high, other_high)
    if unknown:
        low = np.full_like(low, -math.inf) if call.operator == "Min" else low
        high = np.full_like(high, math.inf) if call.operator == "Max" else high
    certain = not unknown and all(each.certain for each in known)
    return Values(np.asarray(low), np.asarray(high), certain)


def _interval(call: Call, pairs: list[tuple[Array, Array]], *, whole: bool) -> Values | None:
    if len(pairs) == 1:
        return Values(*pairs[0])
    (low, high), (other_low, other_high) = pairs
    found: Values | None = None
    match call.operator:
        case "Add" | "Sum":
            found = Values(np.asarray(low + other_low), np.asarray(high + other_high))
        case "Sub":
            found = Values(np.asarray(low - other_high), np.asarray(high - other_low))
        case "Mul":
            found = _ends([low * other_low, low * other_high, high * other_low, high * other_high])
        case "Div" if np.all(other_low > 0):
            found = _ends([low / other_low, low / other_high, high / other_low, high / other_high])
            found = Values(np.trunc(found.low), np.trunc(found.high)) if whole else found
        case "Mod" if np.all(other_low > 0):
            edge = np.asarray(other_high - 1 if whole else other_high)
            found = Values(-edge if call.integer("fmod") else np.zeros_like(edge), edge)
    return found


def _ends(products: list[Array]) -> Values:
    return Values(np.asarray(np.minimum.reduce(products)), np.asarray(np.maximum.reduce(products)))


@rule("Clip")
def clip(call: Call) -> Sequence[Tensor]:
    """Values between two numbers, which may be attributes (before version 11) or inputs."""
    source = call.input(0)
    bounds = source.bounds() or between(-math.inf, math.inf)
    low = _limit(call, 1, "min", -math.inf)
    high = _limit(call, 2, "max", math.inf)
    if bounds.known and low[0] == low[1] and high[0] == high[1]:
        clipped = np.minimum(np.maximum(bounds.low, low[0]), high[0]).astype(bounds.low.dtype)
        return [like(call, source, values=exactly(np.asarray(clipped)))]
    floor = np.minimum(np.maximum(bounds.low, low[0]), high[0])
    ceiling = np.minimum(np.maximum(bounds.high, low[1]), high[1])
    certain = bounds.certain and all(map(math.isfinite, (*low, *high)))
    return [like(call, source, values=Values(np.asarray(floor, np.float64), np.asarray(ceiling, np.float64), certain))]


def _limit(call: Call, index: int, name: str, default: float) -> tuple[float, float]:
    """Bounds of a limit of Clip."""
    if (given := call.optional(index)) is not None:
        bounds = given.bounds()
        collapsed = bounds.collapsed() if bounds is not None else None
        if collapsed is None:
            return (-math.inf, math.inf)
        return float(collapsed.low), float(collapsed.high)
    value = call.number(name, default)
    return value, value


@rule("Where")
@rule("QLinearWhere", domain="com.microsoft")
def where(call: Call) -> Sequence[Tensor]:
    """One of two values an element."""
    if call.operator == "QLinearWhere":
        condition, first, second = call.input(0), call.input(1), call.input(4)
        call.require_constants(2, 3, 5, 6, 7, 8)
    else:
        condition, first, second = call.input(0), call.input(1), call.input(2)
    result = together(call, [condition, first, second], first.element)
    result = replace(result, text=max(first.text, second.text))
    one, other = first.bounds(), second.bounds()
    if one is None or other is None or call.operator == "QLinearWhere":
        return [result]
    if (result.count or 0) > MOST_VALUES:
        one, other = one.collapsed(), other.collapsed()
        if one is None or other is None:
            return [result]
    elif (chosen := condition.known) is not None and condition.exact:
        low = np.asarray(np.where(chosen, one.low, other.low))
        if one.known and other.known and result.exact:
            return [replace_values(result, exactly(low))]
        return [replace_values(result, Values(low, np.asarray(np.where(chosen, one.high, other.high))))]
    return [replace_values(result, Values(np.minimum(one.low, other.low), np.maximum(one.high, other.high)))]
