"""A Gemm becomes a MatMul and an Add, for back ends that run those faster."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.linear import read_layer
from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass, is_operator
from hauberk.recipe import Close, Contract


class GemmToMatMul(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gemm-to-mat-mul"):
    """Gemm(x, W, b) = Add(MatMul(x, W'), b'), with alpha, beta and the transposition of W in the constants.

    Legal when weights and bias are finite constants, and x is not transposed. Off by default: in ONNX Runtime both run
    the same kernel, which merges the two again; `choose-fastest` tries it where another back end may differ.
    """

    @property
    def contract(self) -> Contract:
        """The bias is added last."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Split one Gemm."""
        layer = read_layer(node, "Gemm")
        if layer is None:
            return Refusal("weights or bias are no finite constants") if is_operator(node, "Gemm") else None
        old = node.outputs[0]
        weight, bias = layer.constants()
        if weight is None or (layer.bias is not None and bias is None):
            return Refusal("alpha or beta would overflow or underflow the constants")
        product = editor.node(
            "MatMul", [layer.input, editor.constant(weight, f"{old.name}_weight")], f"{old.name}_product", like=old
        )
        if bias is None:
            return Replacement((product.outputs[0],), (product,))
        added = editor.constant(bias, f"{old.name}_bias")
        total = editor.node("Add", [product.outputs[0], added], f"{old.name}_total", like=old)
        return Replacement((total.outputs[0],), (product, total))
