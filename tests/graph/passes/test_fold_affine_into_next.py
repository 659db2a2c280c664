"""FoldAffineIntoNext: scale and shift of an input are in the weights."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import FoldAffineIntoNext


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, float[4] s = {3, "
                "2, 1, 0.5}, float t = {1}"
            ),
            "i = Sub(features, t) j = Div(i, s) k = Add(j, s) l = Mul(k, t) logits = Gemm(l, w, b)",
            ["Gemm"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[4] s = {3, 2, 1, 0.5}",
            "i = Div(features, s) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[4] s = {3, 2, 1, 0.5}",
            "i = Sub(s, features) logits = MatMul(i, w)",
            ["Gemm"],
        ),
        (
            "float[8,2] u = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, float[4] s = {3, 2, 1, 0.5}",
            "e = Exp(features) i = Div(features, s) j = Sub(i, s) c = Concat<axis = 1>(e, j) logits = Gemm(c, u)",
            ["Exp", "Concat", "Gemm"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2,4] s = {1, 2, 3, 4, 5, 6, 7, 8}, "
                "float[1,4] o = {1, 1, 1, 1}"
            ),
            "m = ReduceMax(features) n = Mul(m, o) i = Mul(n, s) logits = MatMul(i, w)",
            ["ReduceMax", "Mul", "Mul", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float s = {3}",
            "i = Mul(features, s) m = MatMul(i, w) x = ReduceMax<keepdims = 1>(i) logits = Add(m, x)",
            ["Mul", "MatMul", "ReduceMax", "Add"],
        ),
    ],
    ids=[
        "scale and shift",
        "a product without a bias",
        "a shift makes a bias",
        "through a Concat",
        "one record would become two",
        "used twice",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(FoldAffineIntoNext(), graph(body, f"<{constants}>", "records")) == left


@pytest.mark.parametrize(
    ("operator", "attributes", "left"),
    [
        ("Mul", "<pads = [1, 1, 1, 1]>", ["Conv", "GlobalAveragePool", "Flatten"]),
        ("Add", "", ["Conv", "GlobalAveragePool", "Flatten"]),
        ("Add", "<pads = [1, 1, 1, 1]>", ["Add", "Conv", "GlobalAveragePool", "Flatten"]),
        ("Add", '<auto_pad = "SAME_UPPER">', ["Add", "Conv", "GlobalAveragePool", "Flatten"]),
    ],
)
def test_a_shift_must_not_meet_padding(graph, rewritten, operator, attributes, left):
    constants = "<float[2,2,2,2] k = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}, float[2,1,1] c = {2, 3}>"
    body = f"x = {operator}(features, c) y = Conv{attributes}(x, k) p = GlobalAveragePool(y) logits = Flatten(p)"
    assert rewritten(FoldAffineIntoNext(), graph(body, constants, "images")) == left
