"""Convolutions over one, two or three axes, and their transposes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator
from hauberk.graph.twin.windows import pad, window

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}

_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def convolve(node: Node, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution of data [N, C, *sizes] with weight [outputs, C / group, *kernel] by the attributes of a node."""
    rank = data.dim() - 2
    if rank not in _CONVOLUTIONS:
        raise node.unsupported(f"a convolution over {rank} axes")
    area = window(node, data, tuple(weight.shape[2:]))
    padding = area.begin
    if not area.symmetric:
        data, padding = pad(data, area.begin, area.end), (0,) * rank
    return _CONVOLUTIONS[rank](data, weight, bias, area.strides, padding, area.dilations, node.get("group", 1))


def _conv_transpose(node: Node, data: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The full transposed convolution, then cropped by the paddings and extended by `output_padding`.

    The extension holds the bias alone: nothing of the input reaches it.
    """
    rank = data.dim() - 2
    if rank not in _TRANSPOSED:
        raise node.unsupported(f"a transposed convolution over {rank} axes")
    strides = node.get("strides", [1] * rank)
    full = _TRANSPOSED[rank](data, weight, None, strides, 0, 0, node.get("group", 1), node.get("dilations", [1] * rank))
    begin, end = _crops(node, full, [size * stride for size, stride in zip(data.shape[2:], strides, strict=True)])
    result = pad(full, begin, end)
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


def _crops(node: Node, full: Tensor, same: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How much to add to each end of each axis (negative: to take away)."""
    rank, mode = len(same), node.get("auto_pad", "NOTSET")
    extension = node.get("output_padding", [0] * rank)
    wanted = node.get("output_shape", None)
    if wanted is not None:
        wanted = wanted[-rank:]
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = same
    if wanted is None:
        pads = node.get("pads", [0] * (2 * rank)) if mode == "NOTSET" else [0] * (2 * rank)
        begin = tuple(-amount for amount in pads[:rank])
        return begin, tuple(more - amount for more, amount in zip(extension, pads[rank:], strict=True))
    begin, end = [], []  # type: ignore[assignment]
    for size, more, target in zip(full.shape[2:], extension, wanted, strict=True):
        total = size + more - target
        smaller, larger = total // 2, total - total // 2
        first = smaller if mode == "SAME_UPPER" else larger
        begin.append(-first)  # type: ignore[attr-defined]
        end.append(more - (total - first))
    return tuple(begin), tuple(end)


def _fused_conv(
    node: Node, data: Tensor, weight: Tensor, bias: Tensor | None = None, add: Tensor | None = None
) -> Tensor:
    """ONNX Runtime's Conv, Add and activation in one."""
    result = convolve(node, data, weight, bias)
    return activate(node, result if add is None else result + add)


def activate(node: Node, data: Tensor) -> Tensor:
    """The activation that a fused node names, with its parameters."""
    kind, parameters = node.get("activation", ""), node.get("activation_params", [])
    simple: dict[str, Callable[[Tensor], Tensor]] = {
        "": lambda value: value,
        "Relu": torch.relu,
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
    }
    if kind in simple:
        return simple[kind](data)
    if kind == "LeakyRelu":
        return functional.leaky_relu(data, (*parameters, node.get("leaky_relu_alpha", 0.01))[0])
    if kind == "Clip":
        return torch.clamp(data, *parameters)
    if kind == "HardSigmoid":
        return torch.clamp(data * parameters[0] + parameters[1], 0, 1)
    raise node.unsupported(f"the activation {kind}")


OPERATORS: dict[str, Operator] = {
    "Conv": convolve,
    "ConvTranspose": _conv_transpose,
    "com.microsoft:FusedConv": _fused_conv,
}
