"""A mean over rows goes ahead of the layer whose result it averages."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.linear import read_layer
from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    axes_of,
    float_constant,
    integer,
    is_operator,
    producer,
    rank_of,
    used_once,
)
from hauberk.recipe import Close, Contract


class HoistMeans(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="hoist-means"):
    """Averages before a linear layer instead of after it: one product instead of one for every row.

        mean over rows (x W + b)  =  (mean over rows x) W + b
        GlobalAveragePool(Conv₁ₓ₁(x) + b)  =  Conv₁ₓ₁(GlobalAveragePool(x)) + b

    Legal when:

    1. the layer is a MatMul with constant weights, alone or with a constant bias [out] added, and the mean is taken
       over constant axes that are not the last one; or it is a 1×1 Conv without padding or stride;
    2. nobody else uses the layer's result;
    3. the mean leaves at least two dimensions, so that a product of matrices is left.

    Close, not exact: sums are taken in another order.
    """

    @property
    def contract(self) -> Contract:
        """Sums in another order."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:  # noqa: PLR0911 - one return a rule
        """Move one mean."""
        if is_operator(node, "GlobalAveragePool"):
            return _past_convolution(node, editor)
        if not is_operator(node, "ReduceMean"):
            return None
        biased = producer(node.inputs[0], "Add")
        bias = next((v for v in biased.inputs if _is_vector(v)), None) if biased is not None else None
        value = node.inputs[0] if bias is None else next((v for v in biased.inputs if v is not bias), None)  # type: ignore[union-attr]
        layer = read_layer(producer(value, "MatMul"))
        axes, rank = axes_of(node), rank_of(node.inputs[0])
        if layer is None or axes is None or rank is None:
            return None
        if not used_once(node.inputs[0]) or not used_once(value):
            return Refusal("the layer's result has another user")
        if rank_of(layer.input) != rank or any(axis % rank == rank - 1 for axis in axes) or not axes:
            return Refusal("the mean is taken over columns")
        if not integer(node, "keepdims", 1) and rank - len(axes) < 2:
            return Refusal("the mean leaves no matrix")
        old = node.outputs[0]
        mean = editor.node(
            "ReduceMean", [layer.input, *node.inputs[1:]], f"{old.name}_mean", attributes=node.attributes
        )
        product = editor.node("MatMul", [mean.outputs[0], layer.node.inputs[1]], f"{old.name}_product", like=old)
        nodes = [mean, product]
        if bias is not None:
            nodes.append(editor.node("Add", [product.outputs[0], bias], f"{old.name}_biased", like=old))
        return Replacement((nodes[-1].outputs[0],), tuple(nodes))


def _is_vector(value: ir.Value | None) -> bool:
    constant = float_constant(value)
    return constant is not None and constant.ndim <= 1


def _past_convolution(node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
    layer = read_layer(producer(node.inputs[0], "Conv"))
    if layer is None or any(size != 1 for size in layer.weight.shape[2:]):
        return None
    strides = layer.node.attributes.get_ints("strides", [1])
    if layer.padded or any(stride != 1 for stride in strides):
        return Refusal("the convolution pads or strides")
    if not used_once(node.inputs[0]):
        return Refusal("the layer's result has another user")
    old = node.outputs[0]
    pool = editor.node("GlobalAveragePool", [layer.input], f"{old.name}_pool")
    inputs = [pool.outputs[0], *layer.node.inputs[1:]]
    made = editor.node("Conv", inputs, f"{old.name}_conv", like=old, attributes=dict(layer.node.attributes))
    return Replacement((made.outputs[0],), (pool, made))
