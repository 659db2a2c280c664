"""Operations that undo the one before them, or repeat it without effect, go."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Array,
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    is_operator,
    producer,
)
from hauberk.recipe import Contract, Exact

_INVERSES = ("Neg", "Not")
_IDEMPOTENT = ("Abs", "Relu", "Sign", "Floor", "Ceil", "Round")


class CancelRepeats(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="cancel-repeats"):
    """Removes one of two operations that the other makes pointless, bit for bit.

    1. Neg(Neg(x)) and Not(Not(x)) are x.
    2. f(f(x)) is f(x) for Abs, Relu, Sign, Floor, Ceil and Round; Abs(Neg(x)) is Abs(x).
    3. Clip(Clip(x, a, b), c, d) is Clip(x, clip(a), clip(b)), where clip limits to c … d, for constant bounds with
       a ≤ b and c ≤ d. (onnxscript's rule takes the larger of a and c and the smaller of b and d, which is another
       interval, an empty one, where the two do not meet.)

    Other users of the inner value keep it.
    """

    @property
    def contract(self) -> Contract:
        """The same bits."""
        return Exact()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Look at a node and the one before it."""
        if is_operator(node, *_INVERSES):
            inner = producer(node.inputs[0], node.op_type)
            return None if inner is None else Replacement((inner.inputs[0],))
        if is_operator(node, *_IDEMPOTENT):
            if producer(node.inputs[0], node.op_type) is not None:
                return Replacement((node.inputs[0],))
            negation = producer(node.inputs[0], "Neg") if node.op_type == "Abs" else None
            if negation is None:
                return None
            made = editor.node("Abs", [negation.inputs[0]], f"{node.outputs[0].name}_abs", like=node.outputs[0])
            return Replacement((made.outputs[0],), (made,))
        return _clips(node, editor) if is_operator(node, "Clip") else None


def _clips(node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
    inner = producer(node.inputs[0], "Clip")
    if inner is None:
        return None
    bounds = [_bounds(clip) for clip in (inner, node)]
    if any(pair is None or pair[0] > pair[1] for pair in bounds):
        return Refusal("the bounds are not constant, or in the wrong order")
    (low, high), limits = (pair for pair in bounds if pair is not None)
    values = [np.clip(np.asarray(bound), *limits) for bound in (low, high)]
    old = node.outputs[0]
    constants = [editor.constant(value.astype(limits[0].dtype), f"{old.name}_bound") for value in values]
    made = editor.node("Clip", [inner.inputs[0], *constants], f"{old.name}_clipped", like=old)
    return Replacement((made.outputs[0],), (made,))


def _bounds(clip: ir.Node) -> tuple[Array, Array] | None:
    """Lower and upper bound, 0-dimensional, where both are given as constants and no NaN."""
    if len(clip.inputs) < 3:
        return None
    low, high = (constant_of(value) for value in clip.inputs[1:3])
    if low is None or high is None or low.size != 1 or high.size != 1:
        return None
    low, high = low.reshape(()), high.reshape(())
    return None if low != low or high != high else (low, high)  # noqa: PLR0124 - NaN is not itself
