"""A product of matrices and an addition become one Gemm."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    is_float,
    is_operator,
    producer,
    rank_of,
    same_shape,
    size_of,
    used_once,
)
from hauberk.recipe import Close, Contract


class MatMulAddToGemm(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="mat-mul-add-to-gemm"):
    """Add(MatMul(a, b), c)  =  Gemm(a, b, c), in either order of the addition.

    Legal when:

    1. a and b are matrices of floats;
    2. c broadcasts over the product without widening it: a number, one for each column, or the product's own shape.

    ONNX Runtime does the same when it loads a graph; other passes and back ends see the Gemm only if it stands in the
    file. onnxscript's rule is not used: it does not look at c, and of a c of three dimensions, or one that widens the
    product, it makes a Gemm that does not run. Close, not exact: the sum starts from c.
    """

    @property
    def contract(self) -> Contract:
        """Sums in another order."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Fuse an addition with the product before it."""
        if not is_operator(node, "Add"):
            return None
        refusal = None
        for product, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
            multiply = producer(product, "MatMul")
            if multiply is None or product is None or other is None:
                continue
            first, second = multiply.inputs[0], multiply.inputs[1]
            if rank_of(first) != 2 or rank_of(second) != 2 or not is_float(product):
                refusal = Refusal("the factors are not matrices of floats")
            elif not used_once(product):
                refusal = Refusal("the product has another user")
            elif not _broadcasts(other, product):
                refusal = Refusal("what is added is not known to fit over the product")
            else:
                gemm = editor.node("Gemm", [first, second, other], f"{node.outputs[0].name}_gemm", like=node.outputs[0])
                return Replacement((gemm.outputs[0],), (gemm,))
        return refusal


def _broadcasts(other: ir.Value, product: ir.Value) -> bool:
    """Whether `other` broadcasts over a product [M, N] in one direction only."""
    rank = rank_of(other)
    if rank is None or rank > 2:
        return False
    if rank == 0 or same_shape(other, product):
        return True
    columns = size_of(other, -1)
    return columns in (1, size_of(product, -1)) and columns is not None and (rank == 1 or size_of(other, 0) == 1)
