"""Pools: the largest, the mean or the p-norm of a window, or of everything."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator
from hauberk.graph.twin.windows import Window, pad, window

_MAXIMA: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_MEANS: dict[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def _max_pool(node: Node, data: Tensor) -> Tensor:
    if node.get("storage_order", 0):
        raise node.unsupported("storage_order")
    area = _area(node, data)
    begin, end = _both_ends(node, data, area)
    padded = pad(data, begin, end, -torch.inf)  # torch pads by half a kernel at most
    return _MAXIMA[len(area.kernel)](padded, area.kernel, area.strides, 0, area.dilations)


def _average_pool(node: Node, data: Tensor) -> Tensor:
    """The mean over the window; padding counts only where the node says so, and what lies beyond it never."""
    area = _area(node, data)
    begin, end = _both_ends(node, data, area)
    if not any((*begin, *end)) and not any(step > 1 for step in area.dilations):
        return _MEANS[len(area.kernel)](data, area.kernel, area.strides)
    total = _windowed_sum(area, pad(data, begin, end))
    inside = torch.ones_like(data[:1, :1])
    if node.get("count_include_pad", 0):
        inside = pad(inside, area.begin, area.end, 1.0)
        beyond = tuple(last - counted for last, counted in zip(end, area.end, strict=True))
        return total / _windowed_sum(area, pad(inside, (0,) * len(beyond), beyond))
    return total / _windowed_sum(area, pad(inside, begin, end))


def _lp_pool(node: Node, data: Tensor) -> Tensor:
    power = node.get("p", 2)
    area = _area(node, data)
    begin, end = _both_ends(node, data, area)
    return _root(_windowed_sum(area, pad(data, begin, end).abs() ** power), power)


def _area(node: Node, data: Tensor) -> Window:
    if data.dim() - 2 not in _MAXIMA:
        raise node.unsupported(f"a pool over {data.dim() - 2} axes")
    return window(node, data, tuple(node.attributes["kernel_shape"]))


def _both_ends(node: Node, data: Tensor, area: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The paddings; with `ceil_mode` more at the end, for a last window that starts within the input or its padding."""
    if not node.get("ceil_mode", 0):
        return area.begin, area.end
    end = []
    for size, stride, reach, first, last in zip(
        data.shape[2:], area.strides, area.reach, area.begin, area.end, strict=True
    ):
        steps = -(-(size + first + last - reach) // stride)
        if steps * stride >= size + first:
            steps -= 1  # a window must not start in the padding at the end
        end.append(max(last, steps * stride + reach - size - first))
    return area.begin, tuple(end)


def _windowed_sum(area: Window, data: Tensor) -> Tensor:
    """The sum over each window [N, C, *windows]: a depthwise convolution with ones."""
    rank, channels = len(area.kernel), data.shape[1]
    flat = data.reshape(-1, 1, *data.shape[2:])
    ones = torch.ones(1, 1, *area.kernel, dtype=data.dtype, device=data.device)
    convolution = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    summed: Tensor = convolution(flat, ones, None, area.strides, 0, area.dilations)
    return summed.reshape(-1, channels, *summed.shape[2:])


def _root(total: Tensor, power: int) -> Tensor:
    return torch.sqrt(total) if power == 2 else total ** (1 / power)


def _spatial(data: Tensor) -> list[int]:
    return list(range(2, data.dim()))


def _global_average_pool(node: Node, data: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return data.mean(_spatial(data), keepdim=True)


def _global_max_pool(node: Node, data: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return data.amax(_spatial(data), keepdim=True)


def _global_lp_pool(node: Node, data: Tensor) -> Tensor:
    power = node.get("p", 2)
    return _root((data.abs() ** power).sum(_spatial(data), keepdim=True), power)


OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_max_pool,
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
}
