"""Transpositions with elementwise work between them meet and cancel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.merge_transposes import order
from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    is_operator,
    producer,
    rank_of,
    used_once,
)
from hauberk.recipe import Contract, Exact

UNARY = frozenset(
    [
        "Abs",
        "Cast",
        "Ceil",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
        "Sign",
        "Sqrt",
        "Tanh",
    ]
)
"""Elementwise operators of one input whose kernels in ONNX Runtime give an element the same bits wherever it stands.
Softplus, Log, Elu and Pow are not among them: their vectorised part rounds differently from the rest of it."""

BINARY = frozenset(["Add", "Sub", "Mul", "Div"])

_LONGEST = 8


class PushTransposes(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="push-transposes"):
    """Moves a transposition through elementwise work to the next one, where the two become one or none.

        Transpose(f(Transpose(x, p)), q)  =  Transpose(f(x), p ∘ q)
        f(Transpose(x, p), c)  =  Transpose(f(x, c'), p)

    where c' is the constant c with its axes in the order of x.

    Legal when:

    1. every operator between the two is elementwise, and gives an element the same bits wherever it stands;
    2. its other operand, where it has one, is a constant (transposed with it), or a value transposed in the same way;
    3. nobody else uses the values between;
    4. the number of dimensions is known, and a constant has no more.
    """

    @property
    def contract(self) -> Contract:
        """The same bits in other places, and back."""
        return Exact()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """From the last transposition back to the first."""
        if not is_operator(node, "Transpose") or producer(node.inputs[0], "Transpose") is not None:
            return None
        chain: list[ir.Node] = []
        value = node.inputs[0]
        while len(chain) < _LONGEST and (found := _elementwise(value)) is not None:
            if not used_once(value):
                return None
            chain.append(found)
            value = next((v for v in found.inputs if v is not None and constant_of(v) is None), None)
            if producer(value, "Transpose") is not None:
                return _moved(node, chain[::-1], editor)
        return None


def _elementwise(value: ir.Value | None) -> ir.Node | None:
    return producer(value, *UNARY, *BINARY)


def _moved(last: ir.Node, chain: list[ir.Node], editor: Editor) -> Replacement | Refusal:
    first = next(producer(v, "Transpose") for v in chain[0].inputs if producer(v, "Transpose") is not None)
    before, after = (order(node) if node is not None else None for node in (first, last))
    if first is None or before is None or after is None or len(before) != len(after):
        return Refusal("the number of dimensions is not known")
    nodes: list[ir.Node] = []
    moved: dict[ir.Value, ir.Value] = {}
    for node in chain:
        inputs = _untransposed(node.inputs, moved, before, editor)
        if inputs is None:
            return Refusal("another operand is not transposed in the same way")
        old = node.outputs[0]
        made = editor.node(node.op_type, inputs, f"{old.name}_moved", attributes=dict(node.attributes))
        made.outputs[0].type = old.type
        nodes.append(made)
        moved[old] = made.outputs[0]
    merged = [before[axis] for axis in after]
    result = nodes[-1].outputs[0]
    if merged != sorted(merged):
        old = last.outputs[0]
        nodes.append(editor.node("Transpose", [result], f"{old.name}_order", like=old, attributes={"perm": merged}))
        result = nodes[-1].outputs[0]
    return Replacement((result,), tuple(nodes))


def _untransposed(
    inputs: Iterable[ir.Value | None], moved: dict[ir.Value, ir.Value], before: list[int], editor: Editor
) -> list[ir.Value | None] | None:
    """The operands of an elementwise node as they are before the transposition by `before`."""
    result: list[ir.Value | None] = []
    for value in inputs:
        constant = constant_of(value)
        transpose = producer(value, "Transpose")
        if value in moved:
            result.append(moved[value])
        elif constant is not None and constant.size == 1 and constant.ndim <= len(before):
            result.append(editor.constant(constant.reshape(()), f"{getattr(value, 'name', None)}_number"))
        elif constant is not None and constant.ndim <= len(before):
            full = constant.reshape((1,) * (len(before) - constant.ndim) + constant.shape)
            array = full.transpose(np.argsort(before))
            result.append(editor.constant(array, f"{getattr(value, 'name', None)}_moved"))
        elif transpose is not None and order(transpose) == before and rank_of(value) == len(before):
            result.append(transpose.inputs[0])
        else:
            return None
    return result
