"""PushTransposes: transpositions meet through elementwise work."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import PushTransposes


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}",
            (
                "i = Transpose<perm = [0, 2, 1]>(features) j = Tanh(i) k = Transpose<perm = [0, 2, 1]>(j) m = "
                "ReduceSum<keepdims = 0>(k, a) logits = MatMul(m, w)"
            ),
            ["Tanh", "ReduceSum", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}, float[1,4,1] c = {1, 2, 3, 4}",
            (
                "i = Transpose<perm = [0, 2, 1]>(features) j = Add(c, i) r = Relu(j) k = Transpose<perm = [0, 2, "
                "1]>(r) m = ReduceSum<keepdims = 0>(k, a) logits = MatMul(m, w)"
            ),
            ["Add", "Relu", "ReduceSum", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}",
            (
                "e = Exp(features) i = Transpose<perm = [0, 2, 1]>(features) j = Transpose<perm = [0, 2, 1]>(e) "
                "s = Add(i, j) k = Transpose<perm = [0, 2, 1]>(s) m = ReduceSum<keepdims = 0>(k, a) logits = "
                "MatMul(m, w)"
            ),
            ["Exp", "Add", "ReduceSum", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}, float[4,3] o = {1, 2, 3, "
                "4, 5, 6, 7, 8, 9, 10, 11, 12}"
            ),
            (
                "z = Exp(o) i = Transpose<perm = [0, 2, 1]>(features) s = Add(i, z) k = Transpose<perm = [0, 2, "
                "1]>(s) m = ReduceSum<keepdims = 0>(k, a) logits = MatMul(m, w)"
            ),
            ["Exp", "Transpose", "Add", "Transpose", "ReduceSum", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}",
            (
                "i = Transpose<perm = [0, 2, 1]>(features) j = Softplus(i) k = Transpose<perm = [0, 2, 1]>(j) m "
                "= ReduceSum<keepdims = 0>(k, a) logits = MatMul(m, w)"
            ),
            ["Transpose", "Softplus", "Transpose", "ReduceSum", "MatMul"],
        ),
    ],
    ids=[
        "through an activation",
        "through two",
        "two transposed values",
        "a value that is not transposed",
        "a kernel whose bits depend on the place",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(PushTransposes(), graph(body, f"<{constants}>", "windows")) == left
