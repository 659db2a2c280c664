"""ShareInitializers: the same bytes are stored once."""

from __future__ import annotations

import pytest

from hauberk.graph.model import parse
from hauberk.graph.passes import ShareInitializers


@pytest.mark.parametrize(
    ("second", "left"),
    [
        ("float[2] b = {1, 0}", ["a", "w"]),
        ("float[2] b = {1, -0.0}", ["a", "b", "w"]),
        ("float[1,2] b = {1, 0}", ["a", "b", "w"]),
        ("double[2] b = {1, 0}", ["a", "b", "w"]),
    ],
    ids=["the same", "minus zero", "another shape", "another type"],
)
def test_which_are_left(graph, context_of, rewritten, second, left):
    weights = "float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}"
    body = "m = MatMul(features, w) n = Add(m, a) c = Cast<to = 1>(b) logits = Mul(n, c)"
    before = graph(body, f"<{weights}, float[2] a = {{1, 0}}, {second}>")
    assert rewritten(ShareInitializers(), before) == ["MatMul", "Add", "Cast", "Mul"]
    after = ShareInitializers().apply(before, context_of(4))
    assert sorted(tensor.name for tensor in parse(after.model).graph.initializer) == left
