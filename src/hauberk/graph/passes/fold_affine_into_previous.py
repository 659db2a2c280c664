"""A scaling or shift of what flows out of a layer becomes part of its weights."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.fold_affine_into_next import operands, scale_and_shift
from hauberk.graph.passes.linear import per_channel, per_column, read_layer
from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass, is_operator, rank_of, used_once
from hauberk.recipe import Close, Contract


class FoldAffineIntoPrevious(
    RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fold-affine-into-previous"
):
    """Folds Mul, Div, Add and Sub with a constant into the Gemm, MatMul, Conv or ConvTranspose before it.

        (x W + b) · s + t  =  x (W · s) + (b · s + t)

    Legal when:

    1. the other operand, the weights and the bias are finite float constants;
    2. nobody else uses the layer's result or its weights;
    3. the constant holds one number, or one for each column (Gemm, MatMul) or channel (convolutions) that flows out,
       and has no more dimensions than the result;
    4. a division divides by the constant, and no element of it is 0;
    5. a MatMul of anything but matrices takes a scaling only, because it has no bias;
    6. no folded weight overflows or falls below the normal numbers.

    Close, not exact: the product is rounded once instead of twice.
    """

    @property
    def contract(self) -> Contract:
        """Rounded in another place."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:  # noqa: PLR0911 - one return a rule
        """Fold one operation that follows a layer."""
        found = operands(node) if is_operator(node, "Mul", "Div", "Add", "Sub") else None
        if found is None:
            return None
        result, values, reversed_order = found
        layer = read_layer(result.producer())
        if layer is None:
            return None
        if not used_once(result) or layer.shared:
            return Refusal("the layer's result or its weights have another user")
        rank = rank_of(result)
        if rank is None or values.ndim > rank:
            return Refusal("the constant changes the shape, or the shape is not known")
        numbers = per_column(values, layer.outputs) if layer.linear else per_channel(values, layer.outputs, rank)
        if numbers is None:
            return Refusal("the constant is not one number for each column")
        scale, shift = scale_and_shift(node.op_type, numbers, reversed_order=reversed_order)
        if scale is None and shift is None:
            return Refusal("it divides by the value, or by zero")
        if shift is not None and layer.node.op_type == "MatMul" and rank_of(layer.input) != 2:
            return Refusal("a shift would need a bias, which a MatMul has not")
        return layer.scaled_outputs(scale, shift).written(editor, node.outputs[0])
