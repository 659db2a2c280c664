"""FuseLinear: two layers without anything between are one."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import FuseLinear


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            ("float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float[2,1] u = {-1, 1}"),
            "i = Gemm(features, w, b) logits = MatMul(i, u)",
            ["Gemm"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float[2,2] u = "
                "{-1, 1, 2, 3}"
            ),
            "i = Gemm(features, w, b) logits = Gemm<transB = 1>(i, u, b)",
            ["Gemm"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2,2] u = {-1, 1, 2, 3}, float[2,2] v = "
                "{1, 1, 2, 3}"
            ),
            "i = MatMul(features, w) j = MatMul(i, u) logits = MatMul(j, v)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2,2] u = {-1, 1, 2, 3}",
            "i = MatMul(features, w) j = MatMul(i, u) logits = MatMul(j, u)",
            ["MatMul", "MatMul", "MatMul"],
        ),
        (
            "float[4,1] u = {1, 2, 3, 4}, float[1,4] v = {1, 2, 3, 4}",
            "i = MatMul(features, u) logits = MatMul(i, v)",
            ["MatMul", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2,2] u = {-1, 1, 2, 3}",
            "i = MatMul(features, w) r = Relu(i) logits = MatMul(r, u)",
            ["MatMul", "Relu", "MatMul"],
        ),
    ],
    ids=["a margin", "two biases", "three products", "shared weights", "a bottleneck", "an activation between"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(FuseLinear(), graph(body, f"<{constants}>", "records")) == left
