"""RemoveDeadCode: what reaches no output goes, weights included."""

from __future__ import annotations

from hauberk.graph.model import parse
from hauberk.graph.passes import RemoveDeadCode


def test_dead_chains_and_their_weights_go(graph, context_of, operators):
    body = "d = MatMul(features, v) e = Exp(d) logits = MatMul(features, w)"
    before = graph(body, "<float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[4,1] v = {1, 2, 3, 4}>")
    after = RemoveDeadCode().apply(before, context_of(4))
    assert operators(after) == ["MatMul"]
    assert [tensor.name for tensor in parse(after.model).graph.initializer] == ["w"]


def test_an_unused_input_stays(graph_artifact, context_of):
    head = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,2] features, float[batch,2] unused)'
    before = graph_artifact(f"{head} => (float[batch,2] logits) {{ d = Exp(unused) logits = Neg(features) }}")
    after = RemoveDeadCode().apply(before, context_of(2))
    assert [value.name for value in parse(after.model).graph.input] == ["features", "unused"]
