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


def _rounding(function: Callable[[Tensor], Tensor]) -> Operator:
    """An operator that rounds: its gradient is passed straight through."""

    def operator(node: Node, data: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
        return straight_through(data, function(data))

    return operator


def _mod(node: Node, dividend: Tensor, divisor: Tensor) -> Tensor:
    """The remainder with the sign of the divisor, or with `fmod` that of the dividend."""
    return (torch.fmod if node.get("fmod", 0) else torch.remainder)(dividend, divisor)


def _mean(node: Node, *inputs: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return reduce(torch.add, inputs) / len(inputs)


def _celu(node: Node, data: Tensor) -> Tensor:
    return functional.celu(data, node.get("alpha", 1.0))


def _selu(node: Node, data: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.6732632423543772), node.get("gamma", 1.0507009873554805)
    result: Tensor = gamma * functional.elu(data, alpha)
    return result


def _swish(node: Node, data: Tensor) -> Tensor:
    return data * torch.sigmoid(node.get("alpha", 1.0) * data)


def _quick_gelu(node: Node, data: Tensor) -> Tensor:
    return data * torch.sigmoid(node.get("alpha", 1.702) * data)


def _bias_gelu(node: Node, data: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return functional.gelu(data + bias)


def _fast_gelu(node: Node, data: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: ARG001
    return functional.gelu(data if bias is None else data + bias, approximate="tanh")


def _thresholded_relu(node: Node, data: Tensor) -> Tensor:
    return torch.where(data > node.get("alpha", 1.0), data, torch.zeros_like(data))


def _shrink(node: Node, data: Tensor) -> Tensor:
    bias, bound = node.get("bias", 0.0), node.get("lambd", 0.5)
    moved = torch.where(data < -bound, data + bias, data - bias)
    return torch.where(data.abs() > bound, moved, torch.zeros_like(data))


def _is_inf(node: Node, data: Tensor) -> Tensor:
    wanted = torch.zeros_like(data, dtype=torch.bool)
    if node.get("detect_positive", 1):
        wanted = wanted | torch.isposinf(data)
    if node.get("detect_negative", 1):
        wanted = wanted | torch.isneginf(data)
    return wanted


def _hard_sigmoid(node: Node, data: Tensor) -> Tensor:
    return torch.clamp(data * node.get("alpha", 0.2) + node.get("beta", 0.5), 0, 1)


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Acos": _plain(torch.acos),
    "Acosh": _plain(torch.acosh),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "Asin": _plain(torch.asin),
    "Asinh": _plain(torch.asinh),
    "Atan": _plain(torch.atan),
    "Atanh": _plain(torch.atanh),
    "Ceil": _rounding(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _plain(torch.cos),
    "Cosh": _plain(torch.cosh),
    "Div": _div,
    "Elu": _elu,
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Floor": _rounding(torch.floor),
    "Gelu": _gelu,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "IsInf": _is_inf,
    "IsNaN": _plain(torch.isnan),
    "LeakyRelu": _leaky_relu,
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "Max": _variadic(torch.maximum),
    "Mean": _mean,
    "Min": _variadic(torch.minimum),
    "Mish": _plain(functional.mish),
    "Mod": _mod,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": _plain(torch.reciprocal),
    "Relu": _plain(torch.relu),
    "Round": _rounding(torch.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Sin": _plain(torch.sin),
    "Sinh": _plain(torch.sinh),
    "Softplus": _plain(lambda data: torch.logaddexp(data, torch.zeros_like(data))),
    "Softsign": _plain(functional.softsign),
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(torch.sub),
    "Sum": _variadic(torch.add),
    "Swish": _swish,
    "Tan": _plain(torch.tan),
    "Tanh": _plain(torch.tanh),
    "ThresholdedRelu": _thresholded_relu,
    "Where": _plain(torch.where),
    "Xor": _plain(torch.logical_xor),
    "com.microsoft:BiasGelu": _bias_gelu,
    "com.microsoft:FastGelu": _fast_gelu,
    "com.microsoft:Gelu": _plain(functional.gelu),
    "com.microsoft:QuickGelu": _quick_gelu,
}
