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


OPERATORS: dict[str, Operator] = {
    "LogSoftmax": _log_softmax,
    "ReduceLogSumExp": _reduction(lambda data, axes, keep: torch.logsumexp(data, axes, keepdim=keep)),
    "ReduceMax": _reduction(lambda data, axes, keep: torch.amax(data, axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda data, axes, keep: torch.mean(data, axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda data, axes, keep: torch.amin(data, axes, keepdim=keep)),
    "ReduceSum": _reduction(lambda data, axes, keep: torch.sum(data, axes, keepdim=keep)),
    "Softmax": _softmax,
}
