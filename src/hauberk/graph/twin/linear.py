"""Matrix products and normalisation layers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.node import Node, Operator


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """`alpha * A' B' + beta * C`, A' and B' transposed where asked."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    left = a.T if node.get("transA", 0) else a
    right = b.T if node.get("transB", 0) else b
    if c is not None and alpha == 1 and beta == 1 and c.dim() == 1:
        return functional.linear(left, right.T, c)
    product: Tensor = alpha * (left @ right)
    return product if c is None else product + beta * c


def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return a @ b


def _batch_normalization(
    node: Node, data: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    if node.get("training_mode", 0):
        raise node.unsupported("training_mode")
    channel = [1, -1] + [1] * (data.dim() - 2)
    deviation = torch.sqrt(variance + node.get("epsilon", 1e-5))
    return (data - mean.view(channel)) / deviation.view(channel) * scale.view(channel) + bias.view(channel)


def _layer_normalization(node: Node, data: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = node.get("axis", -1) % data.dim()
    shape = data.shape[axis:]
    weight = scale.expand(shape)
    return functional.layer_norm(
        data, shape, weight, None if bias is None else bias.expand(shape), node.get("epsilon", 1e-5)
    )


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": _batch_normalization,
    "Gemm": _gemm,
    "LayerNormalization": _layer_normalization,
    "MatMul": _matmul,
}
