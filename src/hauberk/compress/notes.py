"""What the record of a step says of layers that it leaves in float: one sentence each, with the reason."""

from __future__ import annotations

from collections.abc import Callable

import onnx


def stay_in_float(graph: onnx.GraphProto, why: Callable[[onnx.NodeProto], str]) -> tuple[str, ...]:
    """Name the nodes of a graph that stay in float, in its order.

    Args:
        graph: As the step finds it.
        why: The reason, for a node that stays in float; nothing for every other.
    """
    reasons = ((node, why(node)) for node in graph.node)
    return tuple(f"{node.op_type} {_name(node)!r} stays in float: {reason}" for node, reason in reasons if reason)


def _name(node: onnx.NodeProto) -> str:
    """A node goes by the first tensor that it makes; a recurrent layer often makes its last state alone."""
    return next(filter(None, node.output), node.name)
