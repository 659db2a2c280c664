"""The arithmetic of ONNX Runtime's integer kernels in numpy, bit for bit: what a QDQ graph computes when deployed.

For a graph that fuses completely (`qdq.py`). All sums of products are exact; then each operator rounds once, to a code
`clip(rint(r) + zy)` or to a float32 number:

    QGemm, QLinearConv   r = f32(acc) * f32(f32(sx * sw) / sy), acc the int32 sum with the bias
    QGemm to float       y = f32(acc) * f32(sx * sw)
    QLinearAdd           r + zy = fma(a, ra, fma(b, rb, zy - fma(za, ra, rb * zb))), ra = f32(sa / sy), rb alike
    GlobalAveragePool    r = f32(sum of (x - zx)) * f32(sx / (sy * pixels))
    QuantizeLinear       r = x / s

`fma` is rounded once, as the vector instruction does, and `rint` goes half to even. Moves of codes (MaxPool, Reshape,
…) are exact by themselves. This is the reference that kernels are compared with: a processor or a version of the
runtime that deviates (saturating int16 sums without VNNI, say) shows as a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import attributes, parse

_Floats = NDArray[np.float32]
_Array = NDArray[np.generic]


@dataclass(frozen=True)
class _Coded:
    """Codes that a DequantizeLinear decodes; int64 so that sums need no care."""

    codes: NDArray[np.int64]
    scale: _Floats
    zero_point: NDArray[np.int64]

    @property
    def steps(self) -> NDArray[np.float64]:
        """Codes less their zero point, exact in float64 and in sums of them."""
        return (self.codes - self.zero_point).astype(np.float64)

    def moved(self, function: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> _Coded:
        """The same codes elsewhere."""
        return _Coded(function(self.codes), self.scale, self.zero_point)


@dataclass(frozen=True)
class _Pending:
    """The result of an integer kernel before it is known whether codes or floats are wanted.

    Attributes:
        requantized: What is rounded to a code less the zero point, float32, given scale and zero point of the output.
        value: As floats; `None` where ONNX Runtime has no kernel that returns floats.
        rectified: Whether a Relu came after it.
    """

    requantized: Callable[[np.float32, int], _Floats]
    value: _Floats | None
    rectified: bool = False


_Value = _Coded | _Pending | _Array


def emulate(artifact: OnnxArtifact, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits that ONNX Runtime's integer kernels compute.

    Args:
        artifact: A core in QDQ form with uint8 activations, every node of it fused; `quantize-static` and
            `quantize-aware` write such.
        features: Float32 [N, *shape].

    Returns:
        Float32 [N, K].

    Raises:
        InputError: The graph has a node that computes in floats or whose integer kernel is not emulated; the message
            names it.
    """
    graph = parse(artifact.model).graph
    values: dict[str, _Value] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values[graph.input[0].name] = features
    for node in graph.node:
        values[node.output[0]] = _run(node, [values[name] for name in node.input if name])
    result = values[graph.output[0].name]
    if isinstance(result, _Pending) and result.value is not None:
        result = np.maximum(result.value, 0) if result.rectified else result.value
    if not isinstance(result, np.ndarray) or result.dtype != np.float32:
        raise InputError("emulation: the logits are not the float32 result of a Gemm or MatMul on codes")
    return np.asarray(result, np.float32)


def _run(node: onnx.NodeProto, inputs: list[_Value]) -> _Value:
    if node.op_type in _OPERATORS:
        result = _OPERATORS[node.op_type](attributes(node), inputs)
        if result is not None:
            return result
    name = node.name or node.output[0]
    raise InputError(f"emulation: {node.op_type} (node {name!r}) computes in floats or is not emulated")


_Attributes = dict[str, object]


def _quantize_linear(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:  # noqa: ARG001
    data, scale, zero = inputs
    if not isinstance(scale, np.ndarray) or not isinstance(zero, np.ndarray) or scale.ndim:
        return None
    if zero.dtype not in (np.uint8, np.int8):
        return None
    low, high = (0, 255) if zero.dtype == np.uint8 else (-128, 127)
    step, offset = np.float32(scale.item()), int(zero.item())
    if isinstance(data, _Coded):
        if data.scale != step or data.zero_point != offset:
            return None
        return data.codes
    if isinstance(data, _Pending):
        scaled, low = data.requantized(step, offset), offset if data.rectified else low
    else:
        scaled = np.asarray(data, np.float32) / step
    codes: NDArray[np.int64] = np.clip(np.rint(scaled) + np.float32(offset), low, high).astype(np.int64)
    return codes


def _dequantize_linear(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:
    codes, scale, *zeros = inputs
    if not isinstance(codes, np.ndarray) or not isinstance(scale, np.ndarray):
        return None
    zero = np.asarray(zeros[0], np.int64) if zeros and isinstance(zeros[0], np.ndarray) else np.int64(0)
    shape, steps = [1] * codes.ndim, scale.astype(np.float32)
    if steps.ndim:
        axis = attributes.get("axis", 1)
        shape[axis if isinstance(axis, int) else 1] = -1
        return _Coded(codes.astype(np.int64), steps.reshape(shape), np.broadcast_to(zero, steps.shape).reshape(shape))
    return _Coded(codes.astype(np.int64), steps, np.asarray(zero, np.int64))


def _product(data: _Coded, weight: _Coded, total: NDArray[np.float64], channels: tuple[int, ...]) -> _Pending:
    """The result of a layer from its exact sums; `channels` is the shape in which scales broadcast over them."""
    scale = data.scale * weight.scale.reshape(channels) if weight.scale.ndim else data.scale * weight.scale
    sums = total.astype(np.int64).astype(np.float32)

    def requantized(step: np.float32, offset: int) -> _Floats:  # noqa: ARG001 - the form of every pending result
        result: _Floats = sums * (scale / step).astype(np.float32)
        return result

    return _Pending(requantized, sums * scale.astype(np.float32))


def _matrix_product(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:
    data, weight, *bias = inputs
    if not isinstance(data, _Coded) or not isinstance(weight, _Coded) or set(attributes):
        return None
    total = data.steps @ weight.steps
    if bias:
        if not isinstance(bias[0], _Coded):
            return None
        total = total + bias[0].codes
    return _product(data, weight, total, (-1,))


def _conv(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:
    data, weight, *bias = inputs
    if (
        not isinstance(data, _Coded)
        or not isinstance(weight, _Coded)
        or attributes.get("auto_pad", b"NOTSET") != b"NOTSET"
    ):
        return None
    total = _convolved(data.steps, weight.steps, attributes)
    channels = (-1, *[1] * (data.codes.ndim - 2))
    if bias:
        if not isinstance(bias[0], _Coded):
            return None
        total = total + bias[0].codes.reshape(channels)
    pending = _product(data, weight, total, channels)
    return _Pending(pending.requantized, None)


def _convolved(data: NDArray[np.float64], weight: NDArray[np.float64], attributes: _Attributes) -> NDArray[np.float64]:
    """Exact sums [N, outputs, *sizes] of steps [N, C, *sizes] and [outputs, C / group, *kernel]; padding is step 0."""
    windows = _windows(data, weight.shape[2:], attributes, 0.0)
    rank = data.ndim - 2
    groups = _integer(attributes, "group", 1)
    flat = np.moveaxis(windows, 1, 1 + rank)  # [N, *sizes, C, *kernel]
    parts = []
    for part, kernels in zip(np.split(flat, groups, axis=1 + rank), np.split(weight, groups), strict=True):
        columns = part.reshape(*part.shape[: 1 + rank], -1)
        parts.append(columns @ kernels.reshape(len(kernels), -1).T)
    result: NDArray[np.float64] = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    return result


def _windows(
    data: NDArray[np.float64], kernel: tuple[int, ...], attributes: _Attributes, fill: float
) -> NDArray[np.float64]:
    """Every place of a kernel [N, C, *sizes, *kernel] over data [N, C, *sizes]."""
    rank = data.ndim - 2
    strides, dilations = (_integers(attributes, name, [1] * rank) for name in ("strides", "dilations"))
    pads = _integers(attributes, "pads", [0] * (2 * rank))
    padded = np.pad(data, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=fill)
    reach = tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True))
    views = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    moves = tuple(slice(None, None, stride) for stride in strides)
    places = tuple(slice(None, None, dilation) for dilation in dilations)
    chosen: NDArray[np.float64] = views[(slice(None), slice(None), *moves, *places)]
    return chosen


def _add(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:  # noqa: ARG001
    first, second = inputs
    if not isinstance(first, _Coded) or not isinstance(second, _Coded):
        return None

    def requantized(step: np.float32, offset: int) -> _Floats:
        ratio_a, ratio_b = np.float32(first.scale / step), np.float32(second.scale / step)
        moved = _fused_multiply_add(first.zero_point, ratio_a, ratio_b * np.float32(second.zero_point))
        total = _fused_multiply_add(second.codes, ratio_b, np.float32(offset) - moved)
        # Rounded with the zero point in the sum, as the kernel does; the caller adds it, so it is taken off again.
        return np.rint(_fused_multiply_add(first.codes, ratio_a, total)) - np.float32(offset)

    return _Pending(requantized, None)


def _fused_multiply_add(codes: NDArray[np.int64], ratio: np.float32, addend: _Floats | np.float32) -> _Floats:
    """`codes * ratio + addend` in float32, rounded once: product and sum are exact, or nearly, in float64."""
    result: _Floats = (codes.astype(np.float64) * np.float64(ratio) + addend).astype(np.float32)
    return result


def _global_average_pool(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:  # noqa: ARG001
    data = inputs[0]
    if not isinstance(data, _Coded):
        return None
    axes = tuple(range(2, data.codes.ndim))
    sums = data.steps.sum(axis=axes, keepdims=True).astype(np.float32)
    pixels = np.float32(np.prod(data.codes.shape[2:]))

    def requantized(step: np.float32, offset: int) -> _Floats:  # noqa: ARG001 - the form of every pending result
        result: _Floats = sums * (data.scale / (step * pixels)).astype(np.float32)
        return result

    return _Pending(requantized, None)


def _max_pool(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:
    data = inputs[0]
    if not isinstance(data, _Coded) or _integer(attributes, "ceil_mode", 0):
        return None
    kernel = tuple(_integers(attributes, "kernel_shape", []))
    axes = tuple(range(-len(kernel), 0))
    return data.moved(
        lambda codes: _windows(codes.astype(np.float64), kernel, attributes, -np.inf).max(axis=axes).astype(np.int64)
    )


def _relu(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:  # noqa: ARG001
    data = inputs[0]
    return _Pending(data.requantized, data.value, rectified=True) if isinstance(data, _Pending) else None


def _move(function: Callable[[_Array, _Attributes, list[_Value]], _Array]) -> Callable[..., _Value | None]:
    """An operator that only moves elements, on codes before or behind their DequantizeLinear, or on floats."""

    def operator(attributes: _Attributes, inputs: list[_Value]) -> _Value | None:
        data = inputs[0]
        if isinstance(data, _Coded):
            return data.moved(lambda codes: function(codes, attributes, inputs[1:]).astype(np.int64))
        return function(data, attributes, inputs[1:]) if isinstance(data, np.ndarray) else None

    return operator


def _reshape(data: _Array, attributes: _Attributes, others: list[_Value]) -> _Array:
    wanted = [int(size) for size in np.asarray(others[0]).tolist()]
    if not attributes.get("allowzero", 0):
        wanted = [data.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    return data.reshape(wanted)


def _flatten(data: _Array, attributes: _Attributes, others: list[_Value]) -> _Array:  # noqa: ARG001
    axis = _integer(attributes, "axis", 1) % (data.ndim + 1)
    return data.reshape(int(np.prod(data.shape[:axis])), -1)


def _transpose(data: _Array, attributes: _Attributes, others: list[_Value]) -> _Array:  # noqa: ARG001
    return data.transpose(_integers(attributes, "perm", list(range(data.ndim))[::-1]))


def _cast(data: _Array, attributes: _Attributes, others: list[_Value]) -> _Array:  # noqa: ARG001
    converted: _Array = data.astype(helper.tensor_dtype_to_np_dtype(_integer(attributes, "to", 1)))
    return converted


def _gather(data: _Array, attributes: _Attributes, others: list[_Value]) -> _Array:
    return np.take(data, np.asarray(others[0]), axis=_integer(attributes, "axis", 0))


def _integer(attributes: _Attributes, name: str, default: int) -> int:
    value = attributes.get(name, default)
    return value if isinstance(value, int) else default


def _integers(attributes: _Attributes, name: str, default: list[int]) -> list[int]:
    value = attributes.get(name, default)
    return [int(entry) for entry in value] if isinstance(value, list) else default


_OPERATORS: dict[str, Callable[[_Attributes, list[_Value]], _Value | None]] = {
    "Add": _add,
    "Cast": _move(_cast),
    "Conv": _conv,
    "DequantizeLinear": _dequantize_linear,
    "Flatten": _move(_flatten),
    "Gather": _move(_gather),
    "Gemm": _matrix_product,
    "GlobalAveragePool": _global_average_pool,
    "MatMul": _matrix_product,
    "MaxPool": _max_pool,
    "QuantizeLinear": _quantize_linear,
    "Relu": _relu,
    "Reshape": _move(_reshape),
    "Transpose": _move(_transpose),
}
