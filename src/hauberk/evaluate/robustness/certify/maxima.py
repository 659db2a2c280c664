"""Maxima over windows and axes: how the candidates of each output are brought side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hauberk.evaluate.robustness.certify.functions import cannot
from hauberk.evaluate.robustness.certify.operations import Maximum
from hauberk.graph.twin.node import Node, integers
from hauberk.graph.twin.windows import pad, window


def _max_pool(node: Node, constants: Sequence[Tensor | None]) -> Maximum:
    del constants
    if node.get("ceil_mode", 0) or node.get("storage_order", 0):
        raise cannot(node, "with ceil_mode or storage_order")

    def windows(data: Tensor, fill: float) -> Tensor:
        area = window(node, data, tuple(node.attributes["kernel_shape"]))
        data = pad(data, area.begin, area.end, fill)
        for axis, (width, stride, dilation, reach) in enumerate(
            zip(area.kernel, area.strides, area.dilations, area.reach, strict=True), start=2
        ):
            # What has been brought to the end by the axes before stays there; this axis splits into start and place.
            starts = torch.arange(0, data.shape[axis] - reach + 1, stride)
            places = starts[:, None] + dilation * torch.arange(width)[None, :]
            data = data.index_select(axis, places.reshape(-1))
            data = data.reshape(*data.shape[:axis], *places.shape, *data.shape[axis + 1 :]).movedim(axis + 1, -1)
        return data.flatten(2 + len(area.kernel))

    return Maximum(windows)


def _global_max_pool(node: Node, constants: Sequence[Tensor | None]) -> Maximum:
    del node, constants
    return Maximum(lambda data, fill: data.flatten(2).reshape(*data.shape[:2], *[1] * (data.dim() - 2), -1))  # noqa: ARG005


def _reduce_max(node: Node, constants: Sequence[Tensor | None]) -> Maximum:
    given = integers(constants[0]) if constants else node.get("axes", None)
    if not given:
        raise cannot(node, "over all axes")

    def windows(data: Tensor, fill: float) -> Tensor:
        del fill
        axes = sorted(axis % data.dim() for axis in given)
        kept = [size for axis, size in enumerate(data.shape) if axis not in axes]
        if node.get("keepdims", 1):
            kept = [1 if axis in axes else size for axis, size in enumerate(data.shape)]
        return data.movedim(axes, list(range(-len(axes), 0))).flatten(-len(axes)).reshape(*kept, -1)

    return Maximum(windows)


MAXIMA: dict[str, Callable[[Node, Sequence[Tensor | None]], Maximum]] = {
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMax": _reduce_max,
}
"""By operator, what reads a node; it is given the constants among its inputs after the first."""
