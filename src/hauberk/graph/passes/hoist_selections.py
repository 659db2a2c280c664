"""A selection (Slice, Gather) goes ahead of the work whose result it selects from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.linear import read_layer
from hauberk.graph.passes.push_transposes import BINARY, UNARY
from hauberk.graph.passes.rewriting import (
    Array,
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    integer,
    is_operator,
    producer,
    rank_of,
    same_shape,
    size_of,
    used_once,
)
from hauberk.recipe import Close, Contract

_NORMALISATIONS = ("LayerNormalization", "Softmax", "LogSoftmax")


class HoistSelections(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="hoist-selections"):
    """Computes only what is selected: the last time step of a sequence, the first token, some columns.

        select(f(x))  =  f(select(x))
        select(x W + b)  =  select(x) W + b  (rows)        select(x W + b)  =  x select(W) + select(b)  (columns)

    Legal when:

    1. the selection is a Slice or Gather along one axis with constant bounds or indices, and selects less than
       there is;
    2. what it is moved ahead of is elementwise (of one value, of a value and a constant, or of two values of the same
       known shape), a MatMul or Gemm with constant weights, or a Softmax or LayerNormalization (scale and bias [D])
       along the last axis of a selection along another one;
    3. nobody else uses the value that is selected from.

    Close, not exact: a product with fewer rows may be computed by another kernel.
    """

    @property
    def contract(self) -> Contract:
        """Other kernels for other shapes."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:  # noqa: PLR0911 - one return a rule
        """Move one selection ahead of the node before it."""
        selection = _selection(node)
        work = node.inputs[0].producer() if selection is not None and node.inputs[0] is not None else None
        if selection is None or work is None or producer(node.inputs[0], work.op_type) is None:
            return None
        if not used_once(node.inputs[0]):
            return Refusal("what it selects from has another user")
        if is_operator(work, *UNARY, *BINARY):
            return _past_elementwise(selection, work, editor)
        if is_operator(work, "MatMul", "Gemm"):
            return _past_layer(selection, work, editor)
        if is_operator(work, *_NORMALISATIONS) and selection.axis < selection.rank - 1:
            if integer(work, "axis", -1) % selection.rank != selection.rank - 1:
                return None
            if any(value is not None and rank_of(value) not in (0, 1) for value in work.inputs[1:]):
                return Refusal("the scale or bias may differ along the axis that is selected from")
            return _on_inputs(selection, work, [selection.of(work.inputs[0], editor), *work.inputs[1:]], editor)
        return None


@dataclass(frozen=True)
class _Selection:
    """A Slice or Gather along one axis.

    Attributes:
        node: It.
        axis: Not negative.
        rank: Number of dimensions of what it selects from.
        drops: Whether the axis is gone from the result (a Gather of one index).
    """

    node: ir.Node
    axis: int
    rank: int
    drops: bool

    def of(self, value: ir.Value | None, editor: Editor) -> ir.Node:
        """The same selection from another value with as many dimensions."""
        attributes = {"axis": self.axis} if self.node.op_type == "Gather" else {}
        name = f"{value.name if value is not None else 'value'}_selected"
        return editor.node(self.node.op_type, [value, *self.node.inputs[1:]], name, attributes=attributes)

    def of_constant(self, array: Array) -> Array:
        """The same selection from a constant that broadcasts over what it selects from."""
        full = array.reshape((1,) * (self.rank - array.ndim) + array.shape)
        if full.shape[self.axis] == 1:
            return full.squeeze(self.axis) if self.drops else full
        return self.from_axis(full, self.axis)

    def from_axis(self, array: Array, axis: int) -> Array:
        """What it selects along an axis of a constant."""
        if self.node.op_type == "Gather":
            indices = constant_of(self.node.inputs[1])
            return np.take(array, np.asarray(indices), axis=axis)
        start, end, step = (int(value) for value in _slice_bounds(self.node) or (0, 0, 1))
        positions = range(array.shape[axis])[start:end:step]
        return np.take(array, list(positions), axis=axis)


def _selection(node: ir.Node) -> _Selection | None:
    rank = rank_of(node.inputs[0]) if is_operator(node, "Gather", "Slice") else None
    if rank is None or rank < 2:
        return None
    if node.op_type == "Gather":
        indices = constant_of(node.inputs[1])
        axis = integer(node, "axis") % rank
        size = size_of(node.inputs[0], axis)
        if indices is None or indices.ndim > 1 or size is None or indices.size >= size:
            return None
        return _Selection(node, axis, rank, drops=indices.ndim == 0)
    axes = constant_of(node.inputs[3]) if len(node.inputs) > 3 else None
    if axes is None or axes.size != 1 or _slice_bounds(node) is None:
        return None
    axis = int(axes.reshape(-1)[0]) % rank
    size, left = size_of(node.inputs[0], axis), size_of(node.outputs[0], axis)
    if size is None or left is None or left >= size:
        return None
    return _Selection(node, axis, rank, drops=False)


def _slice_bounds(node: ir.Node) -> tuple[int, int, int] | None:
    """Start, end and step of a Slice along one axis; steps forward only."""
    values = [constant_of(value) for value in node.inputs[1:3]]
    step = constant_of(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1)
    if step is None or any(value is None for value in values) or step.reshape(-1)[0] < 1:
        return None
    start, end = (int(value.reshape(-1)[0]) for value in values if value is not None)
    return start, end, int(step.reshape(-1)[0])


def _past_elementwise(selection: _Selection, work: ir.Node, editor: Editor) -> Replacement | Refusal | None:
    inputs: list[ir.Node | ir.Value | None] = []
    dynamic = [value for value in work.inputs if value is not None and constant_of(value) is None]
    if any(rank_of(value) != selection.rank for value in dynamic) or not dynamic:
        return Refusal("an operand has fewer dimensions than the result")
    if any(not same_shape(value, work.outputs[0]) for value in dynamic):
        return Refusal("an operand is widened")
    for value in work.inputs:
        constant = constant_of(value)
        if constant is None:
            inputs.append(selection.of(value, editor))
        else:
            inputs.append(editor.constant(selection.of_constant(constant), f"{getattr(value, 'name', None)}_selected"))
    return _on_inputs(selection, work, inputs, editor)


def _past_layer(selection: _Selection, work: ir.Node, editor: Editor) -> Replacement | Refusal | None:
    layer = read_layer(work, "MatMul", "Gemm")
    if layer is None:
        return None
    if selection.axis < selection.rank - 1:
        if selection.drops and (work.op_type == "Gemm" or selection.rank < 3):
            return Refusal("a row without its axis is no matrix")
        return _on_inputs(selection, work, [selection.of(work.inputs[0], editor), *work.inputs[1:]], editor)
    if selection.drops:
        return Refusal("a single column without its axis is no matrix")
    if layer.shared:
        return Refusal("the weights have another user")
    columns = selection.from_axis(np.arange(layer.outputs), 0)
    bias = None if layer.bias is None else layer.bias[columns]
    chosen = type(layer)(layer.node, layer.weight[:, columns], bias, layer.dtype)
    return chosen.written(editor, selection.node.outputs[0])


def _on_inputs(
    selection: _Selection, work: ir.Node, inputs: Iterable[ir.Node | ir.Value | None], editor: Editor
) -> Replacement:
    """The work on other inputs; those that are nodes are new selections."""
    nodes = [value for value in inputs if isinstance(value, ir.Node)]
    values = [value.outputs[0] if isinstance(value, ir.Node) else value for value in inputs]
    old = selection.node.outputs[0]
    attributes = dict(work.attributes)
    if is_operator(work, *_NORMALISATIONS):
        attributes["axis"] = ir.AttrInt64("axis", -1)
    made = editor.node(work.op_type, values, f"{old.name}_hoisted", like=old, attributes=attributes)
    return Replacement((made.outputs[0],), (*nodes, made))
