"""The geometry that convolutions and pools share: kernel, strides, dilations and paddings as ONNX gives them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node


@dataclass(frozen=True)
class Window:
    """How a kernel moves over the last axes of a tensor [N, C, *sizes].

    Attributes:
        kernel: Its size along each spatial axis.
        strides: How far it moves.
        dilations: Distance between neighbouring places of the kernel.
        begin: Padding before the first element of each axis.
        end: Padding after the last.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether each axis is padded alike at both ends, as torch's own paddings are."""
        return self.begin == self.end

    @property
    def reach(self) -> tuple[int, ...]:
        """Elements that the dilated kernel spans along each axis."""
        return tuple((size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True))


def window(node: Node, data: Tensor, kernel: tuple[int, ...]) -> Window:
    """The window of a Conv or pool on data [N, C, *sizes], `auto_pad` worked out for its sizes."""
    rank = data.dim() - 2
    strides = tuple(node.get("strides", [1] * rank))
    dilations = tuple(node.get("dilations", [1] * rank))
    begin, end = _paddings(node, data, kernel, strides, dilations)
    return Window(kernel, strides, dilations, begin, end)


def _paddings(
    node: Node, data: Tensor, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank, mode = len(kernel), node.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = node.get("pads", [0] * (2 * rank))
        return tuple(pads[:rank]), tuple(pads[rank:])
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    begin, end = [], []
    for size, width, stride, dilation in zip(data.shape[2:], kernel, strides, dilations, strict=True):
        steps = -(-size // stride)
        total = max(0, (steps - 1) * stride + (width - 1) * dilation + 1 - size)
        smaller, larger = total // 2, total - total // 2
        begin.append(smaller if mode == "SAME_UPPER" else larger)
        end.append(larger if mode == "SAME_UPPER" else smaller)
    return tuple(begin), tuple(end)


def pad(data: Tensor, begin: tuple[int, ...], end: tuple[int, ...], value: float = 0.0) -> Tensor:
    """Data with its last axes padded; negative amounts crop."""
    amounts = [amount for pair in zip(reversed(begin), reversed(end), strict=True) for amount in pair]
    return functional.pad(data, amounts, value=value) if any(amounts) else data
