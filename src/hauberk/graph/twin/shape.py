"""Operators that move elements about without computing with them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator, integers


def _axes(node: Node, given: Tensor | None) -> list[int] | None:
    """Axes as an input (newer opsets) or as an attribute (older ones)."""
    return integers(given) if given is not None else node.get("axes", None)


def _concat(node: Node, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=node.attributes["axis"])


def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value: Tensor = node.get("value", torch.zeros(1))
    return value.to(shape.device).reshape(()).expand(integers(shape) or []).clone()


def _depth_to_space(node: Node, data: Tensor) -> Tensor:
    size = node.attributes["blocksize"]
    batch, channels, height, width = data.shape
    if node.get("mode", "DCR") == "DCR":
        parts = data.reshape(batch, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = data.reshape(batch, channels // size**2, size, size, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(batch, channels // size**2, height * size, width * size)


def _dropout(
    node: Node, data: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Nothing is dropped: the twin is of the detector as it answers, also while it trains."""
    del ratio
    if training is not None and bool(training):
        raise node.unsupported("training_mode")
    return data, torch.ones_like(data, dtype=torch.bool)


def _expand(node: Node, data: Tensor, shape: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return data.expand(np.broadcast_shapes(data.shape, tuple(integers(shape) or ())))


def _flatten(node: Node, data: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis += data.dim() if axis < 0 else 0
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def _identity(node: Node, data: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return data


def _pad(node: Node, data: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    """Paddings by constant, edge, reflection or repetition; negative ones crop."""
    mode, amounts = node.get("mode", "constant"), integers(pads) or []
    chosen = [axis % data.dim() for axis in (integers(axes) or range(data.dim()))]
    if mode == "constant":
        begin, end = [0] * data.dim(), [0] * data.dim()
        for place, axis in enumerate(chosen):
            begin[axis], end[axis] = amounts[place], amounts[place + len(chosen)]
        flat = [amount for pair in zip(reversed(begin), reversed(end), strict=True) for amount in pair]
        fill = 0.0 if value is None else value.item()
        return functional.pad(data, flat, value=fill)
    for place, axis in enumerate(chosen):
        before, after = amounts[place], amounts[place + len(chosen)]
        if before or after:
            data = data.index_select(axis, _padded(node, mode, data.shape[axis], before, after).to(data.device))
    return data


def _padded(node: Node, mode: str, size: int, before: int, after: int) -> Tensor:
    """Which element of an axis of that size stands at each place of the padded axis."""
    places = torch.arange(-before, size + after)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if mode == "reflect":
        period = max(1, 2 * (size - 1))
        folded = places % period
        return torch.where(folded < size, folded, period - folded)
    raise node.unsupported(f"the mode {mode}")


def _range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:  # noqa: ARG001
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


def _reshape(node: Node, data: Tensor, shape: Tensor) -> Tensor:
    wanted = integers(shape) or []
    if not node.get("allowzero", 0):
        wanted = [data.shape[position] if size == 0 else size for position, size in enumerate(wanted)]
    return data.reshape(wanted)


def _shape(node: Node, data: Tensor) -> Tensor:
    return torch.tensor(data.shape, dtype=torch.int64)[node.get("start", 0) : node.get("end", None)]


def _size(node: Node, data: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return torch.tensor(data.numel(), dtype=torch.int64)


def _space_to_depth(node: Node, data: Tensor) -> Tensor:
    size = node.attributes["blocksize"]
    batch, channels, height, width = data.shape
    parts = data.reshape(batch, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(batch, channels * size**2, height // size, width // size)


def _split(node: Node, data: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0)
    length = data.shape[axis]
    if sizes is None:
        return torch.split(data, math.ceil(length / len(node.output_types)), dim=axis)
    return torch.split(data, integers(sizes) or [], dim=axis)


def _squeeze(node: Node, data: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _axes(node, axes)
    return data.squeeze() if chosen is None else data.squeeze(tuple(chosen))


def _tile(node: Node, data: Tensor, repeats: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return data.repeat(integers(repeats) or [])


def _transpose(node: Node, data: Tensor) -> Tensor:
    return data.permute(node.get("perm", list(reversed(range(data.dim())))))


def _unsqueeze(node: Node, data: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _axes(node, axes) or []
    rank = data.dim() + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        data = data.unsqueeze(axis)
    return data


OPERATORS: dict[str, Operator] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _identity,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
