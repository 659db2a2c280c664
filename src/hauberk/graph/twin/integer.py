"""Products of integers and the quantized layers that are made of them, ONNX's own and ONNX Runtime's.

A layer computes `q = clip(round(sum * scale) + zero_point)` with `sum` the exact integer sum and `scale` the product of
its inputs' scales over that of its output. Sums are held in float32 where that is exact, else in float64. Backwards,
rounding is passed straight through and saturation has the gradient of a clip, as in `quantization`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.convolution import convolve
from hauberk.graph.twin.node import Node, Operator, straight_through
from hauberk.graph.twin.quantization import RANGES

_EXACT_IN_SINGLE = 2**24 // 255**2
"""Longest sum of products of two differences of 8-bit numbers that float32 holds exactly, in any order of summation."""


def _exact(length: int) -> torch.dtype:
    """A dtype that holds sums of that many products exactly."""
    return torch.float32 if length <= _EXACT_IN_SINGLE else torch.float64


def _centred(codes: Tensor, zero_point: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...] = ()) -> Tensor:
    """Codes less their zero point, which is one for all or broadcasts in the given shape."""
    if zero_point is None:
        return codes.to(dtype)
    zero = zero_point.to(dtype)
    return codes.to(dtype) - (zero.reshape(()) if zero.numel() == 1 else zero.reshape(shape or zero.shape))


def requantize(scaled: Tensor, zero_point: Tensor | None, element: int) -> Tensor:
    """`clip(round(scaled) + zero_point)` for an ONNX element type, straight through where it rounds.

    onnx knows nothing of the types of ONNX Runtime's own operators (0); there the zero point has the type.
    """
    signed = zero_point is not None and zero_point.dtype == torch.int8
    low, high = RANGES[element or (TensorProto.INT8 if signed else TensorProto.UINT8)]
    code = straight_through(scaled, torch.round(scaled))
    return torch.clamp(code if zero_point is None else code + zero_point.to(scaled.dtype), low, high)


class _Code(NamedTuple):
    """A quantized tensor as a layer is given it."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None

    @property
    def steps(self) -> Tensor:
        """Codes less their zero point."""
        return _centred(self.codes, self.zero_point, self.scale.dtype)

    @property
    def value(self) -> Tensor:
        """The numbers that the codes stand for."""
        return self.steps * self.scale


def _quantized(node: Node, value: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    return requantize(value / scale, zero_point, node.output_types[0])


def _matmul_integer(
    node: Node,  # noqa: ARG001 - the signature of every operator
    a: Tensor,
    b: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
) -> Tensor:
    """The exact integer product of A and B less their zero points (per row of A, per column of B)."""
    dtype = _exact(a.shape[-1])
    return _centred(a, a_zero_point, dtype, (-1, 1)) @ _centred(b, b_zero_point, dtype)


def _matmul_integer_to_float(
    node: Node,
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    total = _matmul_integer(node, a, b, a_zero_point, b_zero_point).to(a_scale.dtype) * (a_scale * b_scale)
    return total if bias is None else total + bias


def _dynamic_quantize_matmul(
    node: Node, a: Tensor, b: Tensor, b_scale: Tensor, b_zero_point: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    code, scale, zero_point = dynamic_quantize(a)
    return _matmul_integer_to_float(node, code, b, scale, b_scale, zero_point, b_zero_point, bias)


def dynamic_quantize(data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes in uint8 with the range of this very tensor, zero included; then its scale and zero point."""
    with torch.no_grad():
        low, high = data.amin().clamp(max=0), data.amax().clamp(min=0)
        scale = torch.where(high == low, torch.ones_like(high), (high - low) / 255)
        zero_point = torch.clamp(torch.round(-low / scale), 0, 255)
        code = torch.clamp(torch.round(data / scale) + zero_point, 0, 255)
    return straight_through(data / scale, code), scale, zero_point


def _dynamic_quantize_linear(node: Node, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    return dynamic_quantize(data)


def _conv_integer(
    node: Node, x: Tensor, w: Tensor, x_zero_point: Tensor | None = None, w_zero_point: Tensor | None = None
) -> Tensor:
    """The exact integer convolution of codes less their zero points (one for all or one an output of w)."""
    dtype = _exact(w[0].numel())
    channels = (-1, *[1] * (w.dim() - 1))
    return convolve(node, _centred(x, x_zero_point, dtype), _centred(w, w_zero_point, dtype, channels))


def _qlinear_conv(  # noqa: PLR0917 - the operator's own inputs
    node: Node,
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    total = _conv_integer(node, x, w, x_zero_point, w_zero_point)
    channels = (-1, *[1] * (x.dim() - 2))
    if bias is not None:
        total = total.to(torch.float64) + bias.to(torch.float64).reshape(channels)
    scale = x_scale * w_scale / y_scale
    scaled = total.to(x_scale.dtype) * (scale if scale.numel() == 1 else scale.reshape(channels))
    return requantize(scaled, y_zero_point, node.output_types[0])


def _qlinear_matmul(  # noqa: PLR0917 - the operator's own inputs
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    total = _matmul_integer(node, a, b, a_zero_point, b_zero_point).to(a_scale.dtype)
    rows = a_scale.reshape(-1, 1) if a_scale.numel() > 1 else a_scale
    return requantize(total * (rows * b_scale / y_scale), y_zero_point, node.output_types[0])


def _qgemm(  # noqa: PLR0917 - the operator's own inputs
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    bias: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
) -> Tensor:
    """ONNX Runtime's QGemm: codes where it is given an output scale, else float32."""
    left = a.T if node.get("transA", 0) else a
    transposed = node.get("transB", 0)
    right = b.T if transposed else b
    total = _matmul_integer(node, left, right, a_zero_point, b_zero_point)
    if bias is not None:
        total = total.to(torch.float64) + bias.to(torch.float64)
    scale = node.get("alpha", 1.0) * a_scale * b_scale
    if y_scale is None:
        value: Tensor = total.to(a_scale.dtype) * scale
        return value
    return requantize(total.to(a_scale.dtype) * (scale / y_scale), y_zero_point, node.output_types[0])


def _added(first: _Code, second: _Code, scale: Tensor) -> Tensor:
    return (first.value + second.value) / scale


def _multiplied(first: _Code, second: _Code, scale: Tensor) -> Tensor:
    return first.steps * second.steps * (first.scale * second.scale / scale)


def _qlinear_pair(function: Callable[[_Code, _Code, Tensor], Tensor]) -> Operator:
    """ONNX Runtime's QLinearAdd and QLinearMul, by what they round: the result in steps of the output."""

    def operator(  # noqa: PLR0917 - the operator's own inputs
        node: Node,
        a: Tensor,
        a_scale: Tensor,
        a_zero_point: Tensor | None,
        b: Tensor,
        b_scale: Tensor,
        b_zero_point: Tensor | None,
        y_scale: Tensor,
        y_zero_point: Tensor | None = None,
    ) -> Tensor:
        first, second = _Code(a, a_scale, a_zero_point), _Code(b, b_scale, b_zero_point)
        return requantize(function(first, second, y_scale), y_zero_point, node.output_types[0])

    return operator


def _qlinear_unary(function: Callable[[Node, Tensor], Tensor]) -> Operator:
    """ONNX Runtime's quantized activations and pools."""

    def operator(
        node: Node,
        x: Tensor,
        x_scale: Tensor,
        x_zero_point: Tensor | None,
        y_scale: Tensor,
        y_zero_point: Tensor | None = None,
    ) -> Tensor:
        return _quantized(node, function(node, _Code(x, x_scale, x_zero_point).value), y_scale, y_zero_point)

    return operator


def _qlinear_concat(node: Node, y_scale: Tensor, y_zero_point: Tensor, *parts: Tensor) -> Tensor:
    values = [_Code(*parts[start : start + 3]).value for start in range(0, len(parts), 3)]
    return requantize(torch.cat(values, node.attributes["axis"]) / y_scale, y_zero_point, node.output_types[0])


def _global_average(node: Node, data: Tensor) -> Tensor:
    if node.get("channels_last", 0):
        raise node.unsupported("channels_last")
    return data.mean(list(range(2, data.dim())), keepdim=True)


def _leaky_relu(node: Node, data: Tensor) -> Tensor:
    return functional.leaky_relu(data, node.get("alpha", 0.01))


OPERATORS: dict[str, Operator] = {
    "ConvInteger": _conv_integer,
    "DynamicQuantizeLinear": _dynamic_quantize_linear,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "com.microsoft:DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "com.microsoft:MatMulIntegerToFloat": _matmul_integer_to_float,
    "com.microsoft:QGemm": _qgemm,
    "com.microsoft:QLinearAdd": _qlinear_pair(_added),
    "com.microsoft:QLinearConcat": _qlinear_concat,
    "com.microsoft:QLinearGlobalAveragePool": _qlinear_unary(_global_average),
    "com.microsoft:QLinearLeakyRelu": _qlinear_unary(_leaky_relu),
    "com.microsoft:QLinearMul": _qlinear_pair(_multiplied),
    "com.microsoft:QLinearSigmoid": _qlinear_unary(lambda node, data: torch.sigmoid(data)),  # noqa: ARG005
}
