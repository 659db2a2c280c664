"""ReplacePower: powers are written by what they are."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import ReplacePower


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {2}",
            "i = Pow(features, c) logits = MatMul(i, w)",
            ["Mul", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {-0.5}, float z = {1}",
            "a = Abs(features) o = Add(a, z) i = Pow(o, c) logits = MatMul(i, w)",
            ["Abs", "Add", "Sqrt", "Reciprocal", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {-1}",
            "i = Pow(features, c) logits = MatMul(i, w)",
            ["Reciprocal", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {3}",
            "i = Pow(features, c) logits = MatMul(i, w)",
            ["Pow", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[4] c = {2, 2, 2, 2}",
            "i = Pow(features, c) logits = MatMul(i, w)",
            ["Pow", "MatMul"],
        ),
    ],
    ids=["square", "inverse root", "inverse", "another power", "an exponent for each column"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(ReplacePower(), graph(body, f"<{constants}>", "records")) == left
