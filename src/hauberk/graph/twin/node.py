"""What the twin's operators are given, and the one trick that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hauberk.errors import InputError


@dataclass(frozen=True)
class Node:
    """One node of the graph, read once.

    Attributes:
        operator: Its operator ("Gemm"), with its domain before a colon where that is not the standard one.
        name: Its name, or that of its first output.
        attributes: Its attributes as Python values; tensors as torch tensors.
        input_types: ONNX element type of each input; 0 where the input is absent or its type unknown.
        output_types: The same of each output.
        on_input: Whether its first input is the graph's own input.
    """

    operator: str
    name: str
    attributes: Mapping[str, Any]
    input_types: tuple[int, ...]
    output_types: tuple[int, ...]
    on_input: bool

    def get(self, attribute: str, default: Any) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(attribute, default)

    def unsupported(self, what: str) -> InputError:
        """The error that says what of this node the twin cannot do."""
        return InputError(f"twin: {self.operator} (node {self.name!r}): {what} is not supported")


Operator = Callable[..., Tensor | tuple[Tensor, ...]]
"""A node's function: the node, then its inputs (`None` for an absent one), to its output or outputs.

Integer tensors that were made from floats (quantized, cast) are floats holding whole numbers, so that gradients pass;
those that the graph holds itself (shapes, indices) are torch integers.
"""


class _StraightThrough(torch.autograd.Function):
    """Forward the given value, backward the identity in `source` (Bengio et al. 2013, arXiv:1308.3432)."""

    @staticmethod
    def forward(source: Tensor, value: Tensor) -> Tensor:
        """`value`, of the same shape and dtype as `source`."""
        return value.view_as(source)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept for the way back."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - torch's signature
        """The gradient as it came."""
        return gradient, None


def straight_through(source: Tensor, value: Tensor) -> Tensor:
    """`value`, exactly, with the gradient of `source`: how rounding stays differentiable."""
    result: Tensor = _StraightThrough.apply(source, value.detach())  # type: ignore[no-untyped-call]
    return result


def integers(values: Tensor | None) -> list[int] | None:
    """A tensor of axes or sizes as a list; `None` where it is absent."""
    return None if values is None else [int(value) for value in values.reshape(-1).tolist()]
