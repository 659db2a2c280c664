"""A division by a constant becomes a multiplication, which costs a fraction of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.rewriting import Array, Editor, Refusal, Replacement, RewritePass, float_constant, is_operator
from hauberk.recipe import Close, Contract, Exact


class ReplaceDivision(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="replace-division"):
    """Multiplies by the reciprocal of a constant.

        x / c  =  x · (1 / c)

    Legal when c is a finite float constant without zeros, and 1 / c neither overflows nor falls below the normal
    numbers. Where every element of c is a power of two the reciprocal is exact, and so is the result, because both
    round the same number; otherwise the reciprocal is rounded first, and the result may be off by a unit in the last
    place.

    Attributes:
        exact: Only divide by powers of two, under an exact contract.
    """

    exact: bool = False

    @property
    def contract(self) -> Contract:
        """Exact where only powers of two are replaced."""
        return Exact() if self.exact else Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Replace one division."""
        divisor = float_constant(node.inputs[1]) if is_operator(node, "Div") else None
        if divisor is None:
            return None
        if not divisor.all():
            return Refusal("it divides by zero")
        if self.exact and not _powers_of_two(divisor):
            return Refusal("the divisor is no power of two")
        with np.errstate(over="ignore", under="ignore"):
            reciprocal = (1 / divisor.astype(np.float64)).astype(divisor.dtype)
        if not np.isfinite(reciprocal).all() or (np.abs(reciprocal) < np.finfo(divisor.dtype).smallest_normal).any():
            return Refusal("the reciprocal would overflow or underflow")
        old, name = node.outputs[0], getattr(node.inputs[1], "name", None)
        factor = editor.constant(reciprocal, f"{name or old.name}_reciprocal")
        made = editor.node("Mul", [node.inputs[0], factor], f"{old.name}_product", like=old)
        return Replacement((made.outputs[0],), (made,))


def _powers_of_two(values: Array) -> bool:
    mantissas, _ = np.frexp(np.abs(values))
    return bool((mantissas == 0.5).all())
