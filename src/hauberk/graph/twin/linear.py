"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.graph.twin.convolution import activate
from hauberk.graph.twin.node import Node, Operator


def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """`alpha * A' B' + beta * C`, A' and B' transposed where asked."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    left = a.T if node.get("transA", 0) else a
    right = b.T if node.get("transB", 0) else b
    if c is not None and alpha == 1 and beta == 1 and c.dim() == 1:
        return functional.linear(left, right.T, c)
    product: Tensor = left @ right
    if alpha != 1:
        product = alpha * product
    return product if c is None else product + beta * c


def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG001 - the signature of every operator
    return a @ b


def _einsum(node: Node, *operands: Tensor) -> Tensor:
    result: Tensor = torch.einsum(node.attributes["equation"], *operands)
    return result


def _fused_gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """ONNX Runtime's Gemm and activation in one."""
    return activate(node, gemm(node, a, b, c))


def _fused_matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """ONNX Runtime's MatMul with scale and transpositions."""
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        raise node.unsupported("transBatchA or transBatchB")
    left = a.transpose(-1, -2) if node.get("transA", 0) and a.dim() > 1 else a
    right = b.transpose(-1, -2) if node.get("transB", 0) and b.dim() > 1 else b
    product: Tensor = node.get("alpha", 1.0) * (left @ right)
    return product


OPERATORS: dict[str, Operator] = {
    "Einsum": _einsum,
    "Gemm": gemm,
    "MatMul": _matmul,
    "com.microsoft:FusedGemm": _fused_gemm,
    "com.microsoft:FusedMatMul": _fused_matmul,
}
