"""A power with a small constant exponent becomes a product, a root or a reciprocal."""

from __future__ import annotations

import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    is_float,
    is_operator,
    keeps_shape,
)
from hauberk.recipe import Close, Contract


class ReplacePower(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="replace-power"):
    """Writes powers by what they are.

        x²  =  x · x        x^½  =  √x        x⁻¹  =  1 / x        x^(−½)  =  1 / √x

    Legal when the exponent is one constant number that does not widen x, and x is float. Close: a power is computed by
    logarithms unless the runtime sees through it (ONNX Runtime does for 2 and 3); and √ differs from the power at −0
    (−0 for 0) and −∞ (NaN for ∞), where no schema reaches.
    """

    @property
    def contract(self) -> Contract:
        """Another implementation of the same function."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Replace one power."""
        if not is_operator(node, "Pow"):
            return None
        base, exponent = node.inputs[0], constant_of(node.inputs[1])
        if exponent is None or exponent.size != 1 or not is_float(base):
            return None
        if not keeps_shape(base, exponent):
            return Refusal("the exponent widens the base")
        operators = _BY_EXPONENT.get(float(exponent.reshape(())))
        if operators is None or base is None:
            return None
        old, nodes, value = node.outputs[0], [], base
        for operator in operators:
            inputs = [value, value] if operator == "Mul" else [value]
            nodes.append(editor.node(operator, inputs, f"{old.name}_{operator.lower()}", like=old))
            value = nodes[-1].outputs[0]
        return Replacement((value,), tuple(nodes))


_BY_EXPONENT = {2.0: ("Mul",), 0.5: ("Sqrt",), -1.0: ("Reciprocal",), -0.5: ("Sqrt", "Reciprocal")}
"""The operators, in order, that make each power."""
