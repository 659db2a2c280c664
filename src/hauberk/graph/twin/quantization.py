"""Operators that round: quantization and casts.

They compute what the runtime computes. Backwards, rounding is passed straight through, and saturation has the gradient
of a clip, zero outside the range: where a Relu was folded into a quantizer, that is the Relu's gradient. The quantizer
of the graph's own input is the exception and passes everything, because a zero there would blind an attack to every
feature beyond the end of its calibrated range, and the blindness would be reported as robustness. Scales and zero
points that are computed from the data count as constants.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from onnx import TensorProto
from torch import Tensor

from hauberk.graph.twin.node import Node, Operator, straight_through

RANGES: dict[int, tuple[int, int]] = {
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


def along(parameter: Tensor, data: Tensor, axis: int, block_size: int = 0) -> Tensor:
    """A scale or zero point, one for all, one a channel or one a block, shaped to broadcast over the data."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis %= data.dim()
    if block_size:
        return parameter.repeat_interleave(block_size, axis).narrow(axis, 0, data.shape[axis])  # the last may be cut
    return parameter.reshape([-1 if place == axis else 1 for place in range(data.dim())])


def _along(node: Node, parameter: Tensor, data: Tensor) -> Tensor:
    return along(parameter, data, node.get("axis", 1), node.get("block_size", 0))


def _quantize_linear(node: Node, data: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """`clip(round_half_even(x / scale) + zero_point)`."""
    if node.output_types[0] not in RANGES:
        raise node.unsupported(f"quantizing to {TensorProto.DataType.Name(node.output_types[0])}")
    low, high = RANGES[node.output_types[0]]
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


def _cast_like(node: Node, data: Tensor, example: Tensor) -> Tensor:  # noqa: ARG001 - its type was read with the graph
    return _cast(replace(node, attributes={"to": node.input_types[1]}), data)


OPERATORS: dict[str, Operator] = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "DequantizeLinear": _dequantize_linear,
    "QuantizeLinear": _quantize_linear,
}
