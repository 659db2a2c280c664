"""Operators that work on each element by itself: arithmetic, activations, comparisons."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator, straight_through

_INTEGERS = frozenset(
    {
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    }
)


def _plain(function: Callable[..., Tensor]) -> Operator:
    """An operator without attributes that torch has under another name."""

    def operator(node: Node, *inputs: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
        return function(*inputs)

    return operator


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator over any number of inputs."""

    def operator(node: Node, *inputs: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
        return reduce(function, inputs)

    return operator


def _div(node: Node, dividend: Tensor, divisor: Tensor) -> Tensor:
    quotient = dividend / divisor
    if node.output_types[0] not in _INTEGERS:
        return quotient
    truncated = torch.div(dividend, divisor, rounding_mode="trunc")
    return straight_through(quotient, truncated) if truncated.is_floating_point() else truncated


def _pow(node: Node, base: Tensor, exponent: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return torch.pow(base, exponent).to(base.dtype)


def _clip(node: Node, data: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:  # noqa: ARG001
    return data if low is None and high is None else torch.clamp(data, min=low, max=high)


def _leaky_relu(node: Node, data: Tensor) -> Tensor:
    return functional.leaky_relu(data, node.get("alpha", 0.01))


def _elu(node: Node, data: Tensor) -> Tensor:
    return functional.elu(data, node.get("alpha", 1.0))


def _prelu(node: Node, data: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return torch.where(data < 0, data * slope, data)


def _gelu(node: Node, data: Tensor) -> Tensor:
    return functional.gelu(data, approximate=node.get("approximate", "none"))


def _hard_sigmoid(node: Node, data: Tensor) -> Tensor:
    return torch.clamp(data * node.get("alpha", 0.2) + node.get("beta", 0.5), 0, 1)


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "Clip": _clip,
    "Div": _div,
    "Elu": _elu,
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Gelu": _gelu,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "LeakyRelu": _leaky_relu,
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "Max": _variadic(torch.maximum),
    "Min": _variadic(torch.minimum),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _plain(torch.reciprocal),
    "Relu": _plain(torch.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Softplus": _plain(lambda data: torch.logaddexp(data, torch.zeros_like(data))),
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Where": _plain(torch.where),
}
