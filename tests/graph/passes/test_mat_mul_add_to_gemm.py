"""MatMulAddToGemm: a product and an addition are a Gemm where the sum fits over the product."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import MatMulAddToGemm


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[1,2] c = {1, 2}",
            "m = MatMul(features, w) logits = Add(m, c)",
            ["Gemm"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {1}",
            "m = MatMul(features, w) logits = Add(c, m)",
            ["Gemm"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "m = MatMul(features, w) e = Exp(m) n = MatMul(features, w) logits = Add(n, e)",
            ["MatMul", "Exp", "Gemm"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2,1,2] c = {1, 2, 3, 4}, int64[1] a = {0}",
            "m = MatMul(features, w) n = Add(m, c) logits = ReduceSum<keepdims = 0>(n, a)",
            ["MatMul", "Add", "ReduceSum"],
        ),
        (
            "float[4,1] u = {1, 2, 3, 4}, float[2] c = {1, 2}",
            "m = MatMul(features, u) logits = Add(m, c)",
            ["MatMul", "Add"],
        ),
    ],
    ids=["one for each column", "one number", "two products", "three dimensions", "a column widened"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(MatMulAddToGemm(), graph(body, f"<{constants}>", "records")) == left
