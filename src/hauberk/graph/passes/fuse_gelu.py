"""The nodes of a GELU become Gelu."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    is_float,
    is_operator,
    producer,
    rank_of,
    used_once,
)
from hauberk.recipe import Close, Contract

_OPSET = 20
_TOLERANCE = 1e-6
"""How far a constant may be from its formula, relatively: a few units in the last place of float32."""


class FuseGelu(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fuse-gelu"):
    """Recognises the Gaussian error linear unit, exact or in its tanh approximation (Hendrycks and Gimpel, 2016).

        0.5 · x · (1 + erf(x / √2))                          =  Gelu(x)
        0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))   =  Gelu(x, approximate="tanh")

    The three factors may be multiplied in any order, and 0.5 may be a division by 2.

    Legal when the graph is of opset 20 or newer, x is float, the constants are those of the formula within a millionth
    and have no more dimensions than x, and the products between are used once.
    Close, not exact; at −∞ the nodes give NaN (infinity times zero).
    """

    @property
    def contract(self) -> Contract:
        """Another implementation of the same function."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Recognise the last product."""
        if editor.opset < _OPSET or not is_operator(node, "Mul", "Div"):
            return None
        factors, number = _factors(node)
        if len(factors) != 2 or abs(number - 0.5) > _TOLERANCE:
            return None
        for source, other in (factors, factors[::-1]):
            approximate = _bracket(other, source)
            if approximate is not None and is_float(source):
                if rank_of(source) is None or rank_of(source) != rank_of(node.outputs[0]):
                    return Refusal("a constant widens the value, or its number of dimensions is not known")
                name = f"{node.outputs[0].name}_gelu"
                attributes = {"approximate": approximate}
                made = editor.node("Gelu", [source], name, like=node.outputs[0], attributes=attributes)
                return Replacement((made.outputs[0],), (made,))
        return None


def _number(value: ir.Value | None) -> float | None:
    constant = constant_of(value)
    return float(constant.reshape(())) if constant is not None and constant.size == 1 else None


def _factors(node: ir.Node) -> tuple[list[ir.Value], float]:
    """The product that a node computes: its factors that are no constants, and the product of those that are."""
    factors: list[ir.Value] = []
    number = 1.0
    pending: list[ir.Value] = [value for value in node.inputs if value is not None]
    if node.op_type == "Div":
        divisor = _number(node.inputs[1])
        if not divisor:
            return [], number
        number, pending = 1 / divisor, pending[:1]
    while pending:
        value = pending.pop()
        constant = _number(value)
        inner = producer(value, "Mul", "Div")
        if constant is not None:
            number *= constant
        elif inner is not None and used_once(value) and len(factors) + len(pending) < 3:
            more, factor = _factors(inner)
            number *= factor
            if not more:
                return [], number
            factors.extend(more)
        else:
            factors.append(value)
    return factors, number


def _bracket(value: ir.Value, source: ir.Value) -> str | None:
    """Which approximation makes `value` the bracket of the formula for `source`, if any."""
    addition = producer(value, "Add")
    if addition is None or not used_once(value):
        return None
    for one, function in ((addition.inputs[0], addition.inputs[1]), (addition.inputs[1], addition.inputs[0])):
        node = producer(function, "Erf", "Tanh")
        if node is None or _number(one) != 1 or not used_once(function):
            continue
        scaled = producer(node.inputs[0], "Mul", "Div")
        if scaled is None:
            return None
        factors, number = _factors(scaled)
        if node.op_type == "Erf":
            return "none" if factors == [source] and np.isclose(number, math.sqrt(0.5), rtol=_TOLERANCE) else None
        fits = len(factors) == 1 and np.isclose(number, math.sqrt(2 / math.pi), rtol=_TOLERANCE)
        return "tanh" if fits and _is_cubic(factors[0], source) else None
    return None


def _is_cubic(value: ir.Value, source: ir.Value) -> bool:
    """Whether `value` is x + 0.044715 · x³."""
    addition = producer(value, "Add")
    if addition is None or source not in addition.inputs:
        return False
    other = addition.inputs[1] if addition.inputs[0] is source else addition.inputs[0]
    product = producer(other, "Mul")
    if product is None:
        return False
    factors, number = _factors(product)
    if not np.isclose(number, 0.044715, rtol=_TOLERANCE):
        return False
    if len(factors) == 1:
        power = producer(factors[0], "Pow")
        return power is not None and power.inputs[0] is source and _number(power.inputs[1]) == 3
    return factors == [source] * 3
