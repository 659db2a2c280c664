"""Operators that move elements about without computing with them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hauberk.graph.twin.node import Node, Operator, integers


def _axes(node: Node, given: Tensor | None) -> list[int] | None:
    """Axes as an input (newer opsets) or as an attribute (older ones)."""
    return integers(given) if given is not None else node.get("axes", None)


def _concat(node: Node, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=node.attributes["axis"])


def _expand(node: Node, data: Tensor, shape: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return data.expand(np.broadcast_shapes(data.shape, tuple(integers(shape) or ())))


def _flatten(node: Node, data: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis += data.dim() if axis < 0 else 0
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def _gather(node: Node, data: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % data.dim()
    size = data.shape[axis]
    flat = indices.reshape(-1).long()
    chosen = data.index_select(axis, torch.where(flat < 0, flat + size, flat))
    return chosen.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def _identity(node: Node, data: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return data


def _reshape(node: Node, data: Tensor, shape: Tensor) -> Tensor:
    wanted = integers(shape) or []
    if not node.get("allowzero", 0):
        wanted = [data.shape[position] if size == 0 else size for position, size in enumerate(wanted)]
    return data.reshape(wanted)


def _shape(node: Node, data: Tensor) -> Tensor:
    return torch.tensor(data.shape, dtype=torch.int64)[node.get("start", 0) : node.get("end", None)]


def _slice(
    node: Node, data: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    first, last = integers(starts) or [], integers(ends) or []
    along = integers(axes) or list(range(len(first)))
    strides = integers(steps) or [1] * len(first)
    if min(strides, default=1) < 1:
        raise node.unsupported("a negative step")
    region = [slice(None)] * data.dim()
    for axis, begin, end, stride in zip(along, first, last, strides, strict=True):
        region[axis] = slice(begin, end, stride)
    return data[tuple(region)]


def _split(node: Node, data: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0)
    length = data.shape[axis]
    if sizes is None:
        return torch.split(data, math.ceil(length / len(node.output_types)), dim=axis)
    return torch.split(data, integers(sizes) or [], dim=axis)


def _squeeze(node: Node, data: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = _axes(node, axes)
    return data.squeeze() if chosen is None else data.squeeze(tuple(chosen))


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
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
