"""Two transpositions in a row become one, or none."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass, is_operator, producer, rank_of
from hauberk.recipe import Contract, Exact


class MergeTransposes(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="merge-transposes"):
    """Multiplies the orders of two transpositions.

        Transpose(Transpose(x, p), q)  =  Transpose(x, p ∘ q)        (p ∘ q)[i] = p[q[i]]

    Where p ∘ q is the order that there is, x takes the place of both. Legal always; where an order is not given it is
    the reverse one, which needs a known number of dimensions. Other users of the inner value keep it. Bits are only
    moved.
    """

    @property
    def contract(self) -> Contract:
        """The same bits in the same places."""
        return Exact()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Merge a transposition with the one before it."""
        inner = producer(node.inputs[0], "Transpose") if is_operator(node, "Transpose") else None
        if inner is None:
            return None
        first, second = order(inner), order(node)
        if first is None or second is None:
            return Refusal("the number of dimensions is not known")
        merged = [first[axis] for axis in second]
        if merged == sorted(merged):
            return Replacement((inner.inputs[0],))
        old = node.outputs[0]
        made = editor.node("Transpose", [inner.inputs[0]], f"{old.name}_merged", like=old, attributes={"perm": merged})
        return Replacement((made.outputs[0],), (made,))


def order(node: ir.Node) -> list[int] | None:
    """The order of axes of a Transpose."""
    if "perm" in node.attributes:
        return list(node.attributes.get_ints("perm"))
    rank = rank_of(node.inputs[0])
    return None if rank is None else list(range(rank))[::-1]
