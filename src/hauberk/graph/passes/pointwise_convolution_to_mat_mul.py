"""A 1×1 convolution becomes a product over channels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.linear import read_layer
from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass, rank_of, size_of
from hauberk.recipe import Close, Contract


class PointwiseConvolutionToMatMul(
    RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="pointwise-convolution-to-mat-mul"
):
    """Conv₁ₓ₁(x) = channels first (channels last (x) W), a plain Gemm where the image is a single pixel.

    Legal when weights and bias are finite constants, every kernel size and stride is 1, and there is one group and no
    padding. The transpositions may meet those of another layer and cancel (`push-transposes`): so a network that was
    written with channels last gets its layout back.

    Off by default: on its own it is no faster in ONNX Runtime, whose 1×1 convolution is a product already (measured:
    1.02 to 1.33 times as long; 0.97 for a single pixel). `choose-fastest` tries it.
    """

    @property
    def contract(self) -> Contract:
        """Sums in another order."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Replace one convolution."""
        layer = read_layer(node, "Conv")
        rank = rank_of(layer.input) if layer is not None else None
        if layer is None or rank is None or any(size != 1 for size in layer.weight.shape[2:]):
            return None
        if layer.group != 1 or layer.padded or any(stride != 1 for stride in node.attributes.get_ints("strides", [1])):
            return Refusal("it has groups, padding or strides")
        old = node.outputs[0]
        weight, bias = layer.constants()
        if weight is None or (layer.bias is not None and bias is None):
            return Refusal("its constants have no finite values")
        matrix = editor.constant(weight.reshape(weight.shape[:2]).T, f"{old.name}_weight")
        added = None if bias is None else editor.constant(bias, f"{old.name}_bias")
        if all(size_of(layer.input, axis) == 1 for axis in range(2, rank)):
            return _single_pixel(layer.input, matrix, added, old, rank, editor)
        last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
        nodes = [editor.node("Transpose", [layer.input], f"{old.name}_last", attributes={"perm": last})]
        nodes.append(editor.node("MatMul", [nodes[-1].outputs[0], matrix], f"{old.name}_product"))
        if added is not None:
            nodes.append(editor.node("Add", [nodes[-1].outputs[0], added], f"{old.name}_biased"))
        back = {"perm": first}
        nodes.append(editor.node("Transpose", [nodes[-1].outputs[0]], f"{old.name}_first", like=old, attributes=back))
        return Replacement((nodes[-1].outputs[0],), tuple(nodes))


def _single_pixel(
    source: ir.Value, matrix: ir.Value, bias: ir.Value | None, old: ir.Value, rank: int, editor: Editor
) -> Replacement:
    """Flatten, Gemm, and the axes of the image again."""
    axes = editor.constant(np.arange(2, rank, dtype=np.int64), f"{old.name}_axes")
    flat = editor.node("Squeeze", [source, axes], f"{old.name}_flat")
    inputs = [flat.outputs[0], matrix, *([bias] if bias is not None else [])]
    product = editor.node("Gemm", inputs, f"{old.name}_product")
    again = editor.node("Unsqueeze", [product.outputs[0], axes], f"{old.name}_image", like=old)
    return Replacement((again.outputs[0],), (flat, product, again))
