"""Operators that round: quantization, integer products, casts.

They compute what the runtime computes. Backwards, rounding is passed straight through, and saturation has the gradient
of a clip, zero outside the range: where a Relu was folded into a quantizer, that is the Relu's gradient. The quantizer
of the graph's own input is the exception and passes everything, because a zero there would blind an attack to every
feature beyond the end of its calibrated range, and the blindness would be reported as robustness. Scales and zero
points that are computed from the data count as constants.
"""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from hauberk.graph.twin.node import Node, Operator, straight_through

_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.UINT4: (0, 15),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT16: (-32768, 32767),
}

_FLOATS: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
}

_HALVES: dict[int, torch.dtype] = {
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
}

_INTEGERS: dict[int, torch.dtype] = {
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
}

_EXACT_IN_SINGLE = 2**24 // 255**2
"""Longest sum of products of two differences of 8-bit numbers that float32 holds exactly, in any order of summation."""


def _along(node: Node, parameter: Tensor, data: Tensor) -> Tensor:
    """A scale or zero point, one for all or one a channel, shaped to broadcast over the data."""
    if node.get("block_size", 0):
        raise node.unsupported("block_size")
    if parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * data.dim()
    shape[node.get("axis", 1)] = -1
    return parameter.reshape(shape)


def _quantize_linear(node: Node, data: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """`clip(round_half_even(x / scale) + zero_point)`."""
    if node.output_types[0] not in _RANGES:
        raise node.unsupported(f"quantizing to {TensorProto.DataType.Name(node.output_types[0])}")
    low, high = _RANGES[node.output_types[0]]
    zero = torch.zeros(()) if zero_point is None else _along(node, zero_point, data).to(data.dtype)
    scaled = data / _along(node, scale, data)
    code = straight_through(scaled, torch.round(scaled)) + zero
    clipped = torch.clamp(code, low, high)
    return straight_through(code, clipped) if node.on_input else clipped


def _dequantize_linear(node: Node, code: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """`(q - zero_point) * scale`."""
    steps = code.to(scale.dtype)
    if zero_point is not None:
        steps = steps - _along(node, zero_point, code).to(scale.dtype)
    return steps * _along(node, scale, code)


def _dynamic_quantize_linear(node: Node, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    """Codes in uint8 with the range of this very tensor, zero included; then its scale and zero point."""
    with torch.no_grad():
        low, high = data.amin().clamp(max=0), data.amax().clamp(min=0)
        scale = torch.where(high == low, torch.ones_like(high), (high - low) / 255)
        zero_point = torch.clamp(torch.round(-low / scale), 0, 255)
        code = torch.clamp(torch.round(data / scale) + zero_point, 0, 255)
    return straight_through(data / scale, code), scale, zero_point


def _matmul_integer(
    node: Node,  # noqa: ARG001 - the signature of every operator
    a: Tensor,
    b: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
) -> Tensor:
    """The exact integer product of A and B less their zero points (per row of A, per column of B)."""
    dtype = torch.float32 if a.shape[-1] <= _EXACT_IN_SINGLE else torch.float64
    left, right = a.to(dtype), b.to(dtype)
    if a_zero_point is not None:
        rows = a_zero_point.to(dtype)
        left = left - (rows.unsqueeze(-1) if rows.dim() == 1 and rows.numel() > 1 else rows)
    if b_zero_point is not None:
        right = right - b_zero_point.to(dtype)
    return left @ right


def _cast(node: Node, data: Tensor) -> Tensor:
    target = int(node.attributes["to"])
    if target in _FLOATS:
        return data.to(_FLOATS[target])
    if target in _HALVES:
        single = data.to(torch.float32)
        return straight_through(single, single.to(_HALVES[target]).to(torch.float32))
    if target == TensorProto.BOOL:
        return data != 0
    if target not in _INTEGERS:
        raise node.unsupported(f"casting to {TensorProto.DataType.Name(target)}")
    if data.is_floating_point():
        return straight_through(data, torch.trunc(data))
    return data.to(_INTEGERS[target])


OPERATORS: dict[str, Operator] = {
    "Cast": _cast,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic_quantize_linear,
    "MatMulInteger": _matmul_integer,
    "QuantizeLinear": _quantize_linear,
}
