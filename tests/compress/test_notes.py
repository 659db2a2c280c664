"""What a record says of layers that stay in float."""

from __future__ import annotations

from onnx import helper

from hauberk.compress.notes import stay_in_float

GRAPH = helper.make_graph(
    [
        helper.make_node("LSTM", ["features", "w", "r"], ["", "last", ""], name="layer_7", hidden_size=4),
        helper.make_node("Relu", ["last"], ["active"]),
        helper.make_node("Gemm", ["active", "m"], ["logits"]),
    ],
    "core",
    [],
    [],
)


def test_nodes_go_by_what_they_make_in_the_order_of_the_graph():
    """A layer of which only the last state is read has no first output."""
    reasons = {"Gemm": "too small", "LSTM": "no kernel"}
    assert stay_in_float(GRAPH, lambda node: reasons.get(node.op_type, "")) == (
        "LSTM 'last' stays in float: no kernel",
        "Gemm 'logits' stays in float: too small",
    )


def test_nothing_is_said_without_a_reason():
    assert stay_in_float(GRAPH, lambda _: "") == ()
