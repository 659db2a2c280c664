"""MergeReshapes: of two changes of shape the last result counts."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import MergeReshapes


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[2] r = {-1, 4}, int64[1] a = {1}",
            "x = Exp(features) i = Unsqueeze(x, a) j = Squeeze(i, a) logits = MatMul(j, w)",
            ["Exp", "MatMul"],
        ),
        (
            "int64[3] r = {-1, 2, 2}, int64[2] s = {-1, 2}",
            "i = Reshape(features, r) logits = Reshape(i, s)",
            ["Reshape"],
        ),
        (
            "int64[2] r = {-1, 2}, int64[3] s = {0, -1, 1}, int64[1] a = {2}",
            "i = Reshape(features, r) j = Reshape(i, s) e = Exp(j) logits = Squeeze(e, a)",
            ["Reshape", "Exp", "Squeeze"],
        ),
    ],
    ids=["there and back", "two reshapes", "a zero that copies a size known from between"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(MergeReshapes(), graph(body, f"<{constants}>", "records")) == left
