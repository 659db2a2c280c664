"""What is computed twice is computed once."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from hauberk.graph.model import RANDOM
from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass, is_operator
from hauberk.recipe import Contract, Exact

_KEPT = ("Identity", "Dropout")
"""Dropout draws random numbers when it is told to train; Identities are what this pass itself may leave."""


class ShareSubexpressions(
    RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="share-subexpressions"
):
    """Of two nodes with the same operator, attributes and inputs only the first stays.

    Legal when the operator is a standard one that draws no random numbers and holds no graph of its own. Attributes are
    the same when their bytes are: 0 and −0 are two numbers. (onnx-ir's pass compares them as numbers, and takes
    LeakyRelu with alpha −0 for LeakyRelu with alpha 0.) Two outputs of the graph that are the same value stay two: the
    second becomes an Identity of the first.
    """

    needs_shapes: ClassVar[bool] = False

    @property
    def contract(self) -> Contract:
        """The same nodes, run once."""
        return Exact()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Replace a node by an equal one further up."""
        graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        if node.domain not in ("", "ai.onnx") or is_operator(node, *_KEPT, *RANDOM):
            return None
        if any(attribute.type in graphs or attribute.is_ref() for attribute in node.attributes.values()):
            return None
        attributes = sorted(
            (name, ir.serde.serialize_attribute(value).SerializeToString(deterministic=True))
            for name, value in node.attributes.items()
        )
        key = (
            node.op_type,
            tuple(map(id, node.inputs)),
            tuple(attributes),
            tuple(bool(value.name) for value in node.outputs),
        )
        first = editor.memory.setdefault(key, node)
        return None if first is node else Replacement(tuple(first.outputs))
