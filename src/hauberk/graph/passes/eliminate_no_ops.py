"""Nodes that hand on their input as it is go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Array,
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    axes_of,
    constant_of,
    integer,
    is_operator,
    keeps_shape,
    rank_of,
    same_shape,
    size_of,
)
from hauberk.recipe import Contract, Exact


class EliminateNoOps(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="eliminate-no-ops"):
    """Removes a node whose result is its input, bit for bit, whatever the input.

    1. `x · 1`, `x / 1`, `x ** 1` and `x − 0`; `x + (−0)` for floats, and `x + 0` for integers. (`x + 0` for floats is
       none of them: −0 + 0 is 0. `drop-zero-terms` removes it under a contract of its own.)
    2. Identity, and Dropout outside training; a Cast to the type that the value has; a Clip of whole numbers without
       bounds (of floats, it makes the largest number of an infinity); Concat, Sum, Max, Min and Mean of one value.
    3. Transpose in the order that there is; Reshape, Expand and Flatten to the shape that there is; Unsqueeze of no
       axes (Squeeze of no axes takes every axis of size 1 in ONNX Runtime); a Pad of nothing; a Slice of everything.

    Legal when the constant does not widen the value by broadcasting, and the shapes compared are known; free dimensions
    count as known where they have a name. An output of the graph that has no other node to come from keeps an Identity.
    """

    @property
    def contract(self) -> Contract:
        """The same bits."""
        return Exact()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:  # noqa: ARG002 - nothing is made
        """Hand on the input."""
        if not node.inputs or not is_operator(node, *_HANDED_ON):
            return None
        source = _HANDED_ON[node.op_type](node)
        if source is None or any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
            return None
        return Replacement((source, *[None] * (len(node.outputs) - 1)))


def _neutral(node: ir.Node, accepts: Callable[[Array, bool], bool], *, commutes: bool) -> ir.Value | None:
    """The operand that an arithmetic node hands on because the other one is neutral."""
    pairs = [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]
    for value, other in pairs if commutes else pairs[:1]:
        constant = constant_of(other)
        if value is None or constant is None or not constant.size or not keeps_shape(value, constant):
            continue
        if accepts(constant, value.dtype is None or value.dtype.is_floating_point()):
            return value
    return None


def _one(constant: Array, _: bool) -> bool:  # noqa: FBT001 - the same signature as the others
    return bool((constant == 1).all())


def _zero(constant: Array, _: bool) -> bool:  # noqa: FBT001 - the same signature as the others
    return bool((constant == 0).all())


def _positive_zero(constant: Array, floats: bool) -> bool:  # noqa: FBT001 - the same signature as the others
    return _zero(constant, floats) and not (floats and np.signbit(constant).any())


def _negative_zero(constant: Array, floats: bool) -> bool:  # noqa: FBT001 - the same signature as the others
    return _zero(constant, floats) and (not floats or bool(np.signbit(constant).all()))


def _dropout(node: ir.Node) -> ir.Value | None:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    constant = constant_of(training)
    return node.inputs[0] if training is None or (constant is not None and not constant.any()) else None


def _cast(node: ir.Node) -> ir.Value | None:
    value = node.inputs[0]
    return value if value is not None and value.dtype == integer(node, "to") else None


def _transpose(node: ir.Node) -> ir.Value | None:
    rank = rank_of(node.inputs[0])
    if rank is None:
        return None
    order = list(node.attributes.get_ints("perm", list(range(rank))[::-1]))
    return node.inputs[0] if order == list(range(rank)) else None


def _same_shape(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if same_shape(node.inputs[0], node.outputs[0]) else None


def _no_axes(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) > 1 and axes_of(node) == () else None


def _pad(node: ir.Node) -> ir.Value | None:
    widths = constant_of(node.inputs[1])
    return node.inputs[0] if widths is not None and not widths.any() else None


def _slice(node: ir.Node) -> ir.Value | None:
    values = [constant_of(value) for value in node.inputs[1:]]
    if len(values) < 3 or any(value is None for value in values):
        return None
    starts, ends, axes, *steps = (value.tolist() for value in values if value is not None)
    for position, (start, end, axis) in enumerate(zip(starts, ends, axes, strict=True)):
        size = size_of(node.inputs[0], axis)
        reaches = end >= np.iinfo(np.int32).max if size is None else end >= size
        if start != 0 or not reaches or (steps and steps[0][position] != 1):
            return None
    return node.inputs[0]


def _single(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _clip(node: ir.Node) -> ir.Value | None:
    value = node.inputs[0]
    if value is None or value.dtype is None or value.dtype.is_floating_point():
        return None
    return value if all(bound is None for bound in node.inputs[1:]) else None


_HANDED_ON: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Mul": lambda node: _neutral(node, _one, commutes=True),
    "Div": lambda node: _neutral(node, _one, commutes=False),
    "Pow": lambda node: _neutral(node, _one, commutes=False),
    "Sub": lambda node: _neutral(node, _positive_zero, commutes=False),
    "Add": lambda node: _neutral(node, _negative_zero, commutes=True),
    "Identity": lambda node: node.inputs[0],
    "Dropout": _dropout,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _single,
    "Sum": _single,
    "Max": _single,
    "Min": _single,
    "Mean": _single,
    "Transpose": _transpose,
    "Reshape": _same_shape,
    "Expand": _same_shape,
    "Flatten": _same_shape,
    "Unsqueeze": _no_axes,
    "Pad": _pad,
    "Slice": _slice,
}
"""By operator: the input that a node hands on, where it does nothing else."""
