"""Adding zero goes."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    is_operator,
    keeps_shape,
)
from hauberk.recipe import Close, Contract


class DropZeroTerms(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="drop-zero-terms"):
    """Removes the addition of zero and the subtraction of minus zero.

        x + 0  =  x        x − (−0)  =  x

    Equal as numbers and not bit for bit: −0 + 0 is 0, and stays −0 without the addition, which a later division turns
    into another infinity. Hence a contract of no distance at all between finite numbers, but not `exact`. Legal when
    the zeros are constant and do not widen the value by broadcasting.
    """

    @property
    def contract(self) -> Contract:
        """Equal numbers; zeros may change their sign."""
        return Close(rtol=0.0, atol=0.0)

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:  # noqa: ARG002 - nothing is made
        """Hand on the other operand."""
        if not is_operator(node, "Add", "Sub"):
            return None
        pairs = [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]
        for value, other in pairs if node.op_type == "Add" else pairs[:1]:
            constant = constant_of(other)
            if value is not None and constant is not None and constant.size and not constant.any():
                return Replacement((value,)) if keeps_shape(value, constant) else Refusal("the zeros widen the value")
        return None
