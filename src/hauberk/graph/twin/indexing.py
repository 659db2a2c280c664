"""Operators that choose elements: gathers, scatters, slices, extremes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator, integers


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices as int64, negative ones counted from the end."""
    whole = indices.long()
    return torch.where(whole < 0, whole + size, whole)


def _gather(node: Node, data: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % data.dim()
    chosen = data.index_select(axis, _wrapped(indices.reshape(-1), data.shape[axis]))
    return chosen.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def _gather_elements(node: Node, data: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0) % data.dim()
    return data.gather(axis, _wrapped(indices, data.shape[axis]))


def _gather_nd(node: Node, data: Tensor, indices: Tensor) -> Tensor:
    batch = node.get("batch_dims", 0)
    coordinates = [_wrapped(part, size) for part, size in zip(indices.unbind(-1), data.shape[batch:], strict=False)]
    leading = [
        torch.arange(size, device=data.device).reshape(-1, *[1] * (indices.dim() - 2 - position))
        for position, size in enumerate(data.shape[:batch])
    ]
    return data[(*leading, *coordinates)]


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(node: Node, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = node.get("axis", 0) % data.dim()
    places, how = _wrapped(indices, data.shape[axis]), node.get("reduction", "none")
    if how == "none":
        return data.scatter(axis, places, updates)
    return data.scatter_reduce(axis, places, updates, _REDUCTIONS[how])


def _scatter_nd(node: Node, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    how = node.get("reduction", "none")
    if how not in ("none", "add"):
        raise node.unsupported(f"the reduction {how}")
    places = tuple(_wrapped(part, size) for part, size in zip(indices.unbind(-1), data.shape, strict=False))
    return data.index_put(places, updates, accumulate=how == "add")


def _slice(
    node: Node,  # noqa: ARG001 - the signature of every operator
    data: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = integers(starts) or [], integers(ends) or []
    along = integers(axes) or list(range(len(first)))
    strides = integers(steps) or [1] * len(first)
    region = [slice(None)] * data.dim()
    for axis, begin, end, stride in zip(along, first, last, strides, strict=True):
        if stride > 0:
            region[axis] = slice(begin, end, stride)
            continue
        places = _backwards(begin, end, stride, data.shape[axis])
        data = data.index_select(axis, torch.tensor(places, dtype=torch.int64, device=data.device))
    return data[tuple(region)]


def _backwards(begin: int, end: int, step: int, size: int) -> list[int]:
    """The places of a slice with a negative step: unlike Python's, a start before the first element is the first."""
    first = min(max(begin + size if begin < 0 else begin, 0), size - 1)
    last = min(max(end + size if end < 0 else end, -1), size - 1)
    return list(range(first, last, step))


def _top_k(node: Node, data: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    chosen = torch.topk(
        data, int(count), node.get("axis", -1), bool(node.get("largest", 1)), bool(node.get("sorted", 1))
    )
    return chosen.values, chosen.indices


def _extreme(function: Callable[..., Tensor]) -> Operator:
    """ArgMax or ArgMin."""

    def operator(node: Node, data: Tensor) -> Tensor:
        axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
        if not node.get("select_last_index", 0):
            return function(data, dim=axis, keepdim=keep)
        last: Tensor = data.shape[axis] - 1 - function(data.flip(axis), dim=axis, keepdim=keep)
        return last

    return operator


def _one_hot(node: Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    size, axis = int(depth), node.get("axis", -1)
    whole = indices.long()
    inside = (whole >= -size) & (whole < size)
    codes = functional.one_hot(_wrapped(torch.where(inside, whole, 0), size), size).bool() & inside.unsqueeze(-1)
    return torch.where(codes.movedim(-1, axis), values[1], values[0])


def _trilu(node: Node, data: Tensor, diagonal: Tensor | None = None) -> Tensor:
    shift = 0 if diagonal is None else int(diagonal)
    return torch.triu(data, shift) if node.get("upper", 1) else torch.tril(data, shift)


def _cumulative_sum(node: Node, data: Tensor, axis: Tensor) -> Tensor:
    along = int(axis)
    source = data.flip(along) if node.get("reverse", 0) else data
    total = source.cumsum(along)
    if node.get("exclusive", 0):
        total = total - source
    return total.flip(along) if node.get("reverse", 0) else total


OPERATORS: dict[str, Operator] = {
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "CumSum": _cumulative_sum,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "TopK": _top_k,
    "Trilu": _trilu,
}
