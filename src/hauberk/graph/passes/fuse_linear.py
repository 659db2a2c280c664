"""Two linear layers with nothing between them become one."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.linear import Layer, read_layer
from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass, producer, used_once
from hauberk.recipe import Close, Contract


class FuseLinear(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fuse-linear"):
    """Multiplies the weights of two consecutive Gemm or MatMul nodes.

        (x W₁ + b₁) W₂ + b₂  =  x (W₁ W₂) + (b₁ W₂ + b₂)

    So the margin of two logits, a product with (−1, 1), becomes part of the last layer.

    Legal when weights and biases are finite constants and nobody else uses the value between the two or either of the
    weights; a bias needs matrices. It pays when the product holds no more numbers than the two factors: a bottleneck is
    left alone. Close, not exact: sums are taken in another order, and where large logits cancel to a small margin the
    rounding of the logits no longer shows.
    """

    @property
    def contract(self) -> Contract:
        """Sums in another order."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Merge a layer with the one before it."""
        second = read_layer(node, "Gemm", "MatMul")
        first = read_layer(producer(node.inputs[0], "Gemm", "MatMul")) if second is not None else None
        if second is None or first is None:
            return None
        if not used_once(node.inputs[0]) or first.shared or second.shared:
            return Refusal("the value between the layers or their weights have another user")
        if first.dtype != second.dtype:
            return Refusal("their weights have two types")
        if first.inputs * second.outputs > first.weight.size + second.weight.size:
            return Refusal("the product of the weights is larger than both")
        bias = None if first.bias is None else first.bias @ second.weight
        if second.bias is not None:
            bias = second.bias if bias is None else bias + second.bias
        merged = Layer(second.node, first.weight @ second.weight, bias, second.dtype)
        return merged.written(editor, node.outputs[0], first.input)
