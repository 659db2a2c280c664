"""The nodes of a layer normalisation become LayerNormalization."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    axes_of,
    constant_of,
    float_constant,
    integer,
    is_operator,
    producer,
    rank_of,
    size_of,
    used_once,
)
from hauberk.recipe import Close, Contract

_OPSET = 17


class FuseLayerNormalization(
    RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fuse-layer-normalization"
):
    """Recognises a normalisation over the last axis, and then its scale and its bias.

        d = x − mean(x)        (d / sqrt(mean(d · d) + epsilon)) · scale + bias  =  LayerNormalization(x, scale, bias)

    The three are found one by one: the normalised value (as a quotient, or as a product with a reciprocal), a product
    of it with a scale, a sum of that with a bias.

    Legal when:

    1. the graph is of opset 17 or newer and x is float32 (half precision would be computed in float32 inside);
    2. both means are taken over the last axis alone, whose size is known, and kept as an axis of size 1;
    3. epsilon is one constant number, of no more dimensions than x; the square is `d · d` or `Pow(d, 2)`;
    4. scale and bias are constants [D]; nobody else uses the value before them.

    Close, not exact. onnxscript's rule is not used: it takes any scale, and of one that widens the value it makes a
    graph that does not run.
    """

    @property
    def contract(self) -> Contract:
        """Another implementation of the same sums."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Recognise one of the three."""
        if editor.opset < _OPSET:
            return None
        if is_operator(node, "Div") or (
            is_operator(node, "Mul") and any(producer(v, "Reciprocal") for v in node.inputs)
        ):
            return _normalised(node, editor)
        if is_operator(node, "Mul", "Add"):
            return _with_parameter(node, editor)
        return None


def _normalised(node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
    deviation, root = _quotient(node)
    summed = producer(root.inputs[0], "Add") if root is not None else None
    centred = producer(deviation, "Sub")
    if centred is None or summed is None or deviation is None:
        return None
    source = centred.inputs[0]
    if not _is_mean(centred.inputs[1], source):
        return None
    epsilon = next((c for v in summed.inputs if (c := constant_of(v)) is not None), None)
    variance = next((v for v in summed.inputs if constant_of(v) is None), None)
    if epsilon is None or epsilon.size != 1 or not _is_mean_square(variance, deviation):
        return None
    width = size_of(source, -1)
    if source is None or source.dtype != ir.DataType.FLOAT or width is None:
        return Refusal("the value is not float32, or its last axis has no known size")
    if rank_of(node.outputs[0]) != rank_of(source):
        return Refusal("epsilon or the exponent has more dimensions than the value, and widens it")
    ones = editor.constant(np.ones(width, dtype=np.float32), f"{node.outputs[0].name}_scale")
    attributes = {"axis": -1, "epsilon": float(epsilon.reshape(()))}
    old = node.outputs[0]
    made = editor.node("LayerNormalization", [source, ones], f"{old.name}_normalised", like=old, attributes=attributes)
    return Replacement((made.outputs[0],), (made,))


def _quotient(node: ir.Node) -> tuple[ir.Value | None, ir.Node | None]:
    """Numerator and square root of d / sqrt(…) or d · reciprocal(sqrt(…))."""
    if node.op_type == "Div":
        return node.inputs[0], producer(node.inputs[1], "Sqrt")
    for first, second in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        reciprocal = producer(second, "Reciprocal")
        if reciprocal is not None:
            return first, producer(reciprocal.inputs[0], "Sqrt")
    return None, None


def _is_mean(value: ir.Value | None, source: ir.Value | None) -> bool:
    """Whether a value is the mean of `source` over its last axis, kept."""
    node = producer(value, "ReduceMean")
    rank = rank_of(source)
    if node is None or rank is None or node.inputs[0] is not source or not integer(node, "keepdims", 1):
        return False
    axes = axes_of(node)
    return axes is not None and len(axes) == 1 and axes[0] % rank == rank - 1


def _is_mean_square(value: ir.Value | None, deviation: ir.Value) -> bool:
    node = producer(value, "ReduceMean")
    square = producer(node.inputs[0], "Mul", "Pow") if node is not None else None
    if square is None or square.inputs[0] is not deviation or not _is_mean(value, square.outputs[0]):
        return False
    if square.op_type == "Mul":
        return square.inputs[1] is deviation
    power = constant_of(square.inputs[1])
    return power is not None and power.size == 1 and power.reshape(()) == 2


def _with_parameter(node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
    """LayerNormalization · scale where its scale is 1, or LayerNormalization + bias where it has none."""
    for value, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        norm = producer(value, "LayerNormalization")
        if norm is None or value is None:
            continue
        scale, given = float_constant(norm.inputs[1]), float_constant(other)
        if len(norm.inputs) > 2 or (node.op_type == "Mul" and (scale is None or (scale != 1).any())):
            return None
        if scale is None or given is None or given.shape != scale.shape or given.dtype != scale.dtype:
            return Refusal("scale or bias is not one constant number for each column")
        if not used_once(value):
            return Refusal("the normalised value has another user")
        inputs = [norm.inputs[0], other] if node.op_type == "Mul" else [norm.inputs[0], norm.inputs[1], other]
        old = node.outputs[0]
        name = f"{old.name}_normalised"
        made = editor.node("LayerNormalization", inputs, name, like=old, attributes=dict(norm.attributes))
        return Replacement((made.outputs[0],), (made,))
    return None
