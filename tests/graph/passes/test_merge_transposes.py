"""MergeTransposes: two transpositions are one, or none."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import MergeTransposes


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}",
            (
                "x = Exp(features) i = Transpose<perm = [2, 0, 1]>(x) j = Transpose<perm = [1, 2, 0]>(i) m = "
                "ReduceSum<keepdims = 0>(j, a) logits = MatMul(m, w)"
            ),
            ["Exp", "ReduceSum", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}",
            (
                "x = Exp(features) i = Transpose(x) j = Transpose(i) m = ReduceSum<keepdims = 0>(j, a) logits = "
                "MatMul(m, w)"
            ),
            ["Exp", "ReduceSum", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {2}",
            (
                "x = Exp(features) i = Transpose<perm = [1, 0, 2]>(x) j = Transpose<perm = [1, 0, 2]>(i) k = "
                "Transpose<perm = [0, 2, 1]>(j) m = ReduceSum<keepdims = 0>(k, a) logits = MatMul(m, w)"
            ),
            ["Exp", "Transpose", "ReduceSum", "MatMul"],
        ),
    ],
    ids=["inverse", "without an order", "three"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(MergeTransposes(), graph(body, f"<{constants}>", "windows")) == left
