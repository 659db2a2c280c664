"""Weights that the graph holds as codes behind DequantizeLinear: float parameters, rounded to codes at every use.

The parameter holds `scale * (code - zero_point)`. In a run it becomes `clip(round(w / scale) + zero_point)`, which for
an untouched parameter is the code of the file; rounding is passed straight through and saturation has the gradient of a
clip. So a quantized graph is trained like a float one and written back in the same form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from hauberk.graph.twin.node import straight_through
from hauberk.graph.twin.quantization import RANGES, along

_RANGES: dict[int, tuple[int, int]] = {
    **RANGES,
    TensorProto.INT32: (-(2**31), 2**31 - 128),  # the largest int32 that float32 holds
}


class Code(NamedTuple):
    """How one initializer is coded.

    Attributes:
        scale: The initializer that holds its scales.
        zero_point: The one that holds its zero points; empty where there is none.
        axis: Of one scale a channel.
        block_size: Elements that share a scale along the axis; 0 where that is not the way.
        low: Lowest code.
        high: Highest code.
    """

    scale: str
    zero_point: str
    axis: int
    block_size: int
    low: int
    high: int

    def encode(self, weight: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        """Codes of a weight, as floats, differentiable in weight and scale."""
        steps = weight / self._along(scale, weight)
        codes = straight_through(steps, torch.round(steps))
        if zero_point is not None:
            codes = codes + self._along(zero_point, weight).to(codes.dtype)
        return torch.clamp(codes, self.low, self.high)

    def decode(self, codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        """The weight that codes stand for."""
        steps = codes.to(scale.dtype)
        if zero_point is not None:
            steps = steps - self._along(zero_point, codes).to(scale.dtype)
        return steps * self._along(scale, codes)

    def _along(self, parameter: Tensor, data: Tensor) -> Tensor:
        return along(parameter, data, self.axis, self.block_size)


def find_codes(graph: onnx.GraphProto) -> dict[str, Code]:
    """The initializers that are trainable through their codes, by name.

    Legal where every use is a DequantizeLinear with the same constant scale and zero point, and where decoding and
    encoding gives the codes back (scales may be so small that it does not).
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    found = {}
    for name, tensor in constants.items():
        if tensor.data_type not in _RANGES or not tensor.dims or name in outputs or name not in users:
            continue
        codes = {_code(node, name, tensor.data_type, constants) for node in users[name]}
        code = codes.pop() if len(codes) == 1 else None
        if code is not None and _survives(code, tensor, constants):
            found[name] = code
    return found


def _code(node: onnx.NodeProto, name: str, element: int, constants: Mapping[str, onnx.TensorProto]) -> Code | None:
    """How one use of an initializer decodes it; `None` where it does something else with it."""
    scale, zero_point = (*node.input, "", "", "")[1:3]
    if node.op_type != "DequantizeLinear" or node.input[0] != name or scale not in constants:
        return None
    if (zero_point and zero_point not in constants) or constants[scale].data_type != TensorProto.FLOAT:
        return None
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    low, high = _RANGES[element]
    return Code(scale, zero_point, attributes.get("axis", 1), attributes.get("block_size", 0), low, high)


def _survives(code: Code, tensor: onnx.TensorProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether the codes come back from the weight that they stand for; those of a bias in int32 are only near."""
    codes, scale = _floats(tensor), _floats(constants[code.scale])
    zero_point = _floats(constants[code.zero_point]) if code.zero_point else None
    again = code.encode(code.decode(codes, scale, zero_point), scale, zero_point)
    return tensor.data_type == TensorProto.INT32 or torch.equal(again, codes)


def _floats(tensor: onnx.TensorProto) -> Tensor:
    array: NDArray[np.float32] = numpy_helper.to_array(tensor).astype(np.float32)
    return torch.from_numpy(np.array(array))
