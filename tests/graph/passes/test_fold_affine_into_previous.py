"""FoldAffineIntoPrevious: scale and shift of a result are in the weights."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import FoldAffineIntoPrevious


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float s = {3}, "
                "float[2] t = {1, 2}"
            ),
            "i = Gemm(features, w, b) j = Mul(s, i) k = Add(j, t) l = Div(k, s) logits = Sub(l, t)",
            ["Gemm"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float[2] t = {1, 2}",
            "i = Gemm(features, w, b) logits = Sub(t, i)",
            ["Gemm"],
        ),
        (
            "float[2,4] u = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] b = {0.5, -0.25}, float[2] t = {1, 2}",
            "i = Gemm<transB = 1, alpha = 0.5>(features, u, b) logits = Mul(i, t)",
            ["Gemm"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float[2] t = {1, 2}",
            "i = Gemm(features, w, b) logits = Div(t, i)",
            ["Gemm", "Div"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float[2] t = {1, 0}",
            "i = Gemm(features, w, b) j = Div(i, t) logits = Sign(j)",
            ["Gemm", "Div", "Sign"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float[2] t = "
                "{1e-20, 1e-30}"
            ),
            "i = Gemm(features, w, b) j = Mul(i, t) logits = Mul(j, t)",
            ["Gemm", "Mul"],
        ),
    ],
    ids=["all four", "subtracted from", "transposed weights", "a quotient by the result", "by zero", "too large"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(FoldAffineIntoPrevious(), graph(body, f"<{constants}>", "records")) == left
