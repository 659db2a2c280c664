"""Two changes of shape in a row become one, or none."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    integer,
    is_operator,
    producer,
    same_shape,
)
from hauberk.recipe import Contract, Exact

_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class MergeReshapes(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="merge-reshapes"):
    """Of two Reshape, Flatten, Squeeze or Unsqueeze in a row only the shape of the last result counts.

        view₂(view₁(x))  =  Reshape(x, shape of the result)

    Legal when that shape is known:

    1. it equals the shape of x, and x takes the place of both; or
    2. at most one of its dimensions is free and none is 0: that one is written as −1; or
    3. the last one is a Reshape to constant sizes that do not speak of its own input: no 0 that copies a dimension of
       the value between (Reshape to [6, 2], then to [0, −1], is [6, 2] and not what copying from x would give).

    Other users of the value between keep it.
    """

    @property
    def contract(self) -> Contract:
        """The same bits in the same places."""
        return Exact()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Merge a change of shape with the one before it."""
        inner = producer(node.inputs[0], *_VIEWS) if is_operator(node, *_VIEWS) else None
        if inner is None:
            return None
        source, old = inner.inputs[0], node.outputs[0]
        if same_shape(source, old) or _same_but_for_names(source, old):
            return Replacement((source,))
        sizes = _known(old) or _written(node)
        if sizes is None:
            return Refusal("the shape of the result depends on the value between the two")
        shape = editor.constant(np.array(sizes, dtype=np.int64), f"{old.name}_shape")
        made = editor.node("Reshape", [source, shape], f"{old.name}_reshaped", like=old)
        return Replacement((made.outputs[0],), (made,))


def _same_but_for_names(source: ir.Value | None, result: ir.Value) -> bool:
    """Whether two values of as many elements agree in all dimensions but one: then they agree in that one too."""
    shapes = [None if value is None or value.shape is None else _known(value) for value in (source, result)]
    return None not in shapes and shapes[0] == shapes[1]


def _known(value: ir.Value) -> list[int] | None:
    """A shape with at most one free dimension, as Reshape takes it."""
    if value.shape is None:
        return None
    sizes = [size if isinstance(size, int) else -1 for size in value.shape]
    return None if 0 in sizes or sizes.count(-1) > 1 else sizes


def _written(node: ir.Node) -> list[int] | None:
    """The sizes that a Reshape names, where they do not refer to its input."""
    if node.op_type != "Reshape":
        return None
    constant = constant_of(node.inputs[1])
    if constant is None or (not constant.all() and not integer(node, "allowzero")):
        return None
    return None if not constant.all() else [int(size) for size in constant]
