"""Operators that combine elements along axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hauberk.graph.twin.node import Node, Operator, integers


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """A reduction over axes given as an input (newer opsets) or as an attribute (older ones)."""

    def operator(node: Node, data: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = integers(axes) if axes is not None else node.get("axes", None)
        if not chosen and node.get("noop_with_empty_axes", 0):
            return data
        return function(data, chosen or list(range(data.dim())), bool(node.get("keepdims", 1)))

    return operator


def _softmax(node: Node, data: Tensor) -> Tensor:
    return torch.softmax(data, dim=node.get("axis", -1))


def _log_softmax(node: Node, data: Tensor) -> Tensor:
    return torch.log_softmax(data, dim=node.get("axis", -1))


def _hardmax(node: Node, data: Tensor) -> Tensor:
    """1 at the first largest element along the axis; it has no gradient."""
    axis = node.get("axis", -1)
    return torch.zeros_like(data).scatter(axis, data.argmax(axis, keepdim=True), 1)


def _product(data: Tensor, axes: list[int], keep: bool) -> Tensor:  # noqa: FBT001 - the form of every reduction
    for axis in sorted((axis % data.dim() for axis in axes), reverse=True):
        data = data.prod(axis, keepdim=keep)
    return data


OPERATORS: dict[str, Operator] = {
    "Hardmax": _hardmax,
    "LogSoftmax": _log_softmax,
    "ReduceL1": _reduction(lambda data, axes, keep: torch.sum(data.abs(), axes, keepdim=keep)),
    "ReduceL2": _reduction(lambda data, axes, keep: torch.linalg.vector_norm(data, dim=axes, keepdim=keep)),
    "ReduceLogSum": _reduction(lambda data, axes, keep: torch.log(torch.sum(data, axes, keepdim=keep))),
    "ReduceLogSumExp": _reduction(lambda data, axes, keep: torch.logsumexp(data, axes, keepdim=keep)),
    "ReduceMax": _reduction(lambda data, axes, keep: torch.amax(data, axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda data, axes, keep: torch.mean(data, axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda data, axes, keep: torch.amin(data, axes, keepdim=keep)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(lambda data, axes, keep: torch.sum(data, axes, keepdim=keep)),
    "ReduceSumSquare": _reduction(lambda data, axes, keep: torch.sum(data.square(), axes, keepdim=keep)),
    "Softmax": _softmax,
}
