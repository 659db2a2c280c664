"""Layers with constant weights (Gemm, MatMul, Conv, ConvTranspose) as passes read, scale and write them.

Folds are computed in double precision and rounded once. A fold that would overflow, or push a weight below the normal
numbers of its type, where precision ends, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from hauberk.graph.passes.rewriting import (
    Array,
    Editor,
    Refusal,
    Replacement,
    float_constant,
    integer,
    is_operator,
    rank_of,
)

Doubles = NDArray[np.float64]

LINEAR = ("Gemm", "MatMul")
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Layer:
    """A linear layer or convolution whose weights, and bias where it has one, are finite float constants.

    Attributes:
        node: Where it was read.
        weight: Float64. Gemm and MatMul [in, out], with alpha folded in; Conv [out, in / group, …]; ConvTranspose
            [in, out / group, …].
        bias: Float64 [out], with beta folded in; `None` where there is none.
        dtype: Of the weights in the graph.
    """

    node: ir.Node
    weight: Doubles
    bias: Doubles | None
    dtype: np.dtype[Any]

    @property
    def input(self) -> ir.Value:
        """What flows in."""
        value = self.node.inputs[0]
        assert value is not None  # noqa: S101 - required by the operator, and seen by `read_layer`
        return value

    @property
    def linear(self) -> bool:
        """Whether it is a matrix product; otherwise a convolution."""
        return self.node.op_type in LINEAR

    @property
    def group(self) -> int:
        """Of a convolution."""
        return integer(self.node, "group", 1)

    @property
    def inputs(self) -> int:
        """Columns or channels that flow in."""
        return int(self.weight.shape[1] * self.group if self.node.op_type == "Conv" else self.weight.shape[0])

    @property
    def outputs(self) -> int:
        """Columns or channels that flow out."""
        if self.linear:
            return int(self.weight.shape[1])
        return int(self.weight.shape[0] if self.node.op_type == "Conv" else self.weight.shape[1] * self.group)

    @property
    def padded(self) -> bool:
        """Whether a convolution adds anything around its input."""
        attributes = self.node.attributes
        return attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(
            attributes.get_ints("pads", ())
        )

    @property
    def shared(self) -> bool:
        """Whether another node uses the same weights: folding would store them twice."""
        weight = self.node.inputs[1]
        return weight is not None and len(weight.uses()) > 1

    def scaled_outputs(self, scale: Doubles | None, shift: Doubles | None) -> Layer:
        """The layer that gives `y * scale + shift`, one number an output column or channel."""
        weight, bias = self.weight, self.bias
        if scale is not None:
            if self.linear:
                weight = weight * scale
            elif self.node.op_type == "Conv":
                weight = weight * _along(scale, weight.ndim, 0)
            else:  # [in, out / group, …]: rows of one group share its outputs
                grouped = weight.reshape(self.group, -1, *weight.shape[1:])
                factors = scale.reshape(self.group, 1, -1, *[1] * (weight.ndim - 2))
                weight = (grouped * factors).reshape(weight.shape)
            bias = None if bias is None else bias * scale
        if shift is not None:
            bias = shift if bias is None else bias + shift
        return replace(self, weight=weight, bias=bias)

    def scaled_inputs(self, scale: Doubles | None, shift: Doubles | None) -> Layer:
        """The layer that gives for `x` what this one gives for `x * scale + shift`; no ConvTranspose, no padding."""
        weight, bias = self.weight, self.bias
        if shift is not None:
            moved = shift @ weight if self.linear else self._response(shift)
            bias = moved if bias is None else bias + moved
        if scale is not None:
            weight = weight * (scale[:, None] if self.linear else self._by_channel(scale))
        return replace(self, weight=weight, bias=bias)

    def _by_channel(self, values: Doubles) -> Doubles:
        """Numbers of input channels, laid out like the weight of a Conv: [out, in / group, 1, …]."""
        groups = values.reshape(self.group, -1)
        rows = np.repeat(groups, self.weight.shape[0] // self.group, axis=0)
        return rows.reshape(*rows.shape, *[1] * (self.weight.ndim - 2))

    def _response(self, values: Doubles) -> Doubles:
        """What a Conv answers to an input that is constant in every channel."""
        product = self.weight * self._by_channel(values)
        result: Doubles = product.sum(axis=tuple(range(1, product.ndim)))
        return result

    def constants(self) -> tuple[Array | None, Array | None]:
        """Weight and bias in the type of the graph, alpha and beta folded in; `None` for one that does not fit."""
        return _rounded(self.weight, self.dtype), None if self.bias is None else _rounded(self.bias, self.dtype)

    def written(self, editor: Editor, like: ir.Value, source: ir.Value | None = None) -> Replacement | Refusal:
        """The layer as a node that takes the place of one whose output is `like`.

        Args:
            editor: The graph.
            like: The output that is replaced.
            source: What flows in, where that is no longer the node's own input.
        """
        weight, bias = self.constants()
        if weight is None or (self.bias is not None and bias is None):
            return Refusal("the folded weights or bias would overflow or underflow")
        source = source or self.input
        operator, attributes = self.node.op_type, dict(self.node.attributes)
        if self.linear:
            operator = "Gemm" if bias is not None or operator == "Gemm" else "MatMul"
            if operator == "Gemm" and rank_of(source) != 2:
                return Refusal("a bias needs a Gemm, and a Gemm needs a matrix")
            attributes = {}
            if self.node.op_type == "Gemm" and integer(self.node, "transB"):
                weight, attributes = weight.T, {"transB": ir.AttrInt64("transB", 1)}
        old = self.node.inputs[1]
        name = (old.name if old is not None else None) or "weight"
        inputs = [source, editor.constant(weight, f"{name}_folded")]
        if bias is not None:
            inputs.append(editor.constant(bias, f"{name}_folded_bias"))
        node = editor.node(operator, inputs, f"{like.name}_folded", like=like, attributes=attributes)
        return Replacement((node.outputs[0],), (node,))


def read_layer(node: ir.Node | None, *operators: str) -> Layer | None:  # noqa: PLR0911 - one return a rule
    """The layer that a node is, if it is one of these operators (all, where none is named) with constant weights."""
    if node is None or not is_operator(node, *(operators or (*LINEAR, *CONVOLUTIONS))):
        return None
    weight = float_constant(node.inputs[1])
    if weight is None or node.inputs[0] is None or weight.size == 0:
        return None
    if node.op_type in LINEAR and weight.ndim != 2:
        return None
    alpha = beta = 1.0
    if node.op_type == "Gemm":
        if integer(node, "transA"):
            return None
        alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    values = weight.astype(np.float64) * alpha
    if node.op_type == "Gemm" and integer(node, "transB"):
        values = values.T
    layer = Layer(node, values, None, weight.dtype)
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return layer
    bias = float_constant(node.inputs[2])
    if bias is None or bias.size not in (1, layer.outputs) or (bias.ndim > 1 and bias.shape[-1] != bias.size):
        return None
    return replace(layer, bias=np.broadcast_to(bias.astype(np.float64).reshape(-1) * beta, (layer.outputs,)))


def per_column(values: Array, count: int) -> Doubles | None:
    """A constant that acts on the last axis only, as float64 [count]; `None` where it does something else."""
    if values.size != 1 and (values.shape[-1:] != (count,) or values.size != count):
        return None
    return np.broadcast_to(values.astype(np.float64).reshape(-1), (count,))


def per_channel(values: Array, count: int, rank: int) -> Doubles | None:
    """A constant that acts on axis 1 of a tensor of that rank only, as float64 [count]; `None` where it does not."""
    if values.size != 1:
        shape = (1,) * (rank - values.ndim) + values.shape
        if len(shape) != rank or shape[1] != count or values.size != count:
            return None
    return np.broadcast_to(values.astype(np.float64).reshape(-1), (count,))


def _along(values: Doubles, rank: int, axis: int) -> Doubles:
    return values.reshape([-1 if position == axis else 1 for position in range(rank)])


def _rounded(values: Doubles, dtype: np.dtype[Any]) -> Array | None:
    """In the graph's type, unless something becomes infinite or falls below the normal numbers."""
    with np.errstate(over="ignore", under="ignore"):
        result = values.astype(dtype)
    smallest = float(np.finfo(result[:0].dtype).smallest_normal)
    lost = (np.abs(values) < smallest) & (values != 0)
    return None if lost.any() or not np.isfinite(result).all() else np.ascontiguousarray(result)
