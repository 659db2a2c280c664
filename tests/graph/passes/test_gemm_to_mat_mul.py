"""GemmToMatMul: a Gemm is a product and an addition."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import GemmToMatMul


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[2,4] u = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] b = {0.5, -0.25}",
            "logits = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(features, u, b)",
            ["MatMul", "Add"],
        ),
        ("float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}", "logits = Gemm(features, w)", ["MatMul"]),
        ("float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}", "u = Exp(w) logits = Gemm(features, u)", ["Exp", "Gemm"]),
    ],
    ids=["with a bias", "without", "weights that are no constants"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(GemmToMatMul(), graph(body, f"<{constants}>", "records")) == left
