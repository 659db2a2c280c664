"""A scaling or shift of what flows into a layer becomes part of its weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.linear import Doubles, Layer, per_channel, per_column, read_layer
from hauberk.graph.passes.rewriting import (
    Array,
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    float_constant,
    integer,
    producer,
    rank_of,
    size_of,
    used_once,
)
from hauberk.recipe import Close, Contract


class FoldAffineIntoNext(
    RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fold-affine-into-next"
):
    """Folds Mul, Div, Add and Sub with a constant into the Gemm, MatMul or Conv that follows, also through a Concat.

        (x · s + t) W + b  =  x (s · W) + (t W + b)

    Legal when:

    1. the other operand and the weights are finite float constants, and nobody else uses the scaled value or them;
    2. the constant holds one number, or one for each column (Gemm, MatMul) or channel (Conv), and does not change the
       shape of the value that it meets;
    3. a shift meets no padding: what a Conv adds around its input is 0 after the shift, not before;
    4. a division divides by the constant, and no element of it is 0;
    5. no folded weight overflows or falls below the normal numbers.

    Close, not exact: the product is rounded once instead of twice, and where the shift is far larger than what is left
    after it (a timestamp less its start) precision is lost that verification finds.
    """

    @property
    def contract(self) -> Contract:
        """Rounded in another place."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Fold one operation that feeds a layer."""
        layer = read_layer(node, "Gemm", "MatMul", "Conv")
        if layer is None:
            return None
        refusal = None
        for part in _parts(layer):
            affine = producer(part.value, "Mul", "Div", "Add", "Sub")
            found = operands(affine) if affine is not None else None
            if affine is None or found is None:
                continue
            folded = _folded(layer, part, affine, found, editor)
            if isinstance(folded, Replacement):
                return folded
            refusal = folded
        return refusal


@dataclass(frozen=True)
class _Part:
    """A value that feeds a layer, alone or through a Concat.

    Attributes:
        value: The value.
        columns: Which of the layer's columns or channels it fills.
        concat: The Concat that it goes through, and which input of it is meant.
    """

    value: ir.Value
    columns: slice
    concat: tuple[ir.Node, int] | None


def _parts(layer: Layer) -> list[_Part]:
    concat = producer(layer.input, "Concat")
    axis = -1 if layer.linear else 1
    whole = [_Part(layer.input, slice(0, layer.inputs), None)]
    rank = rank_of(layer.input)
    if concat is None or rank is None or integer(concat, "axis") % rank != axis % rank:
        return whole
    parts, start = [], 0
    for position, value in enumerate(concat.inputs):
        width = size_of(value, axis)
        if value is None or width is None:
            return whole
        parts.append(_Part(value, slice(start, start + width), (concat, position)))
        start += width
    return parts


def _folded(  # noqa: PLR0911 - one return a rule
    layer: Layer, part: _Part, affine: ir.Node, found: tuple[ir.Value, Array, bool], editor: Editor
) -> Replacement | Refusal:
    """The layer with the operation in its weights."""
    source, values, reversed_order = found
    if not used_once(part.value) or not used_once(layer.input) or layer.shared:
        return Refusal("the scaled value or the weights have another user")
    count = part.columns.stop - part.columns.start
    numbers = _numbers(layer, source, values, count)
    if numbers is None:
        return Refusal("the constant is not one number for each column, or changes the shape")
    scale, shift = scale_and_shift(affine.op_type, numbers, reversed_order=reversed_order)
    if scale is None and shift is None:
        return Refusal("it divides by the value, or by zero")
    if shift is not None and not layer.linear and layer.padded:
        return Refusal("the layer pads, and a shifted zero is none")
    if shift is not None and layer.node.op_type == "MatMul" and rank_of(layer.input) != 2:
        return Refusal("a shift would need a bias, which a MatMul has not")
    if part.concat is None:
        return layer.scaled_inputs(scale, shift).written(editor, layer.node.outputs[0], source)
    if scale is not None:
        scale = _spread(scale, part.columns, layer.inputs, 1.0)
    if shift is not None:
        shift = _spread(shift, part.columns, layer.inputs, 0.0)
    concat, position = part.concat
    sources = [source if k == position else value for k, value in enumerate(concat.inputs)]
    axis = integer(concat, "axis")
    joined = editor.node("Concat", sources, f"{layer.input.name}_unscaled", like=layer.input, attributes={"axis": axis})
    written = layer.scaled_inputs(scale, shift).written(editor, layer.node.outputs[0], joined.outputs[0])
    if isinstance(written, Refusal):
        return written
    return Replacement(written.values, (joined, *written.nodes))


def _spread(numbers: Doubles, columns: slice, count: int, elsewhere: float) -> Doubles:
    result = np.full(count, elsewhere)
    result[columns] = numbers
    return result


def operands(affine: ir.Node) -> tuple[ir.Value, Array, bool] | None:
    """Of Mul, Div, Add or Sub with a constant: the value, the constant, and whether the constant stands first."""
    first, second = affine.inputs[0], affine.inputs[1]
    if first is None or second is None:
        return None
    if (values := float_constant(second)) is not None:
        return first, values, False
    if (values := float_constant(first)) is not None:
        return second, values, True
    return None


def _numbers(layer: Layer, source: ir.Value, values: Array, count: int) -> Doubles | None:
    """The constant as one number for each of `count` columns or channels, if that is how it acts on `source`."""
    rank = rank_of(source)
    if rank is None or values.ndim > rank:
        return None
    if layer.linear:
        return per_column(values, count) if size_of(source, -1) == count else None
    return per_channel(values, count, rank) if size_of(source, 1) == count else None


def scale_and_shift(operator: str, numbers: Doubles, *, reversed_order: bool) -> tuple[Doubles | None, Doubles | None]:
    """What `x * scale + shift` has to be to equal the operation; neither where it is not of that kind."""
    if operator == "Mul":
        return numbers, None
    if operator == "Div":
        return (None, None) if reversed_order or not numbers.all() else (1 / numbers, None)
    if operator == "Add":
        return None, numbers
    return (-np.ones_like(numbers), numbers) if reversed_order else (None, -numbers)
