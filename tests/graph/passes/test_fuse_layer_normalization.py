"""FuseLayerNormalization: recognised in its usual forms, and not in others."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import FuseLayerNormalization


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float e = {0.01}, float two = {2}, int64[1] "
                "a = {-1}, float[4] s = {1, 2, 3, 4}, float[4] t = {4, 3, 2, 1}"
            ),
            (
                "m = ReduceMean(features, a) d = Sub(features, m) q = Mul(d, d) v = ReduceMean(q, a) u = Add(v, "
                "e) r = Sqrt(u) n = Div(d, r) logits = MatMul(n, w)"
            ),
            ["LayerNormalization", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float e = {0.01}, float two = {2}, int64[1] "
                "a = {-1}, float[4] s = {1, 2, 3, 4}, float[4] t = {4, 3, 2, 1}"
            ),
            (
                "m = ReduceMean(features, a) d = Sub(features, m) q = Pow(d, two) v = ReduceMean(q, a) u = "
                "Add(v, e) r = Sqrt(u) i = Reciprocal(r) n = Mul(i, d) o = Mul(s, n) p = Add(t, o) logits = "
                "MatMul(p, w)"
            ),
            ["LayerNormalization", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float e = {0.01}, float two = {2}, int64[1] "
                "a = {-1}, float[4] s = {1, 2, 3, 4}, float[4] t = {4, 3, 2, 1}"
            ),
            (
                "m = ReduceMean(features, a) d = Sub(features, m) q = Mul(d, d) v = ReduceMean(q, a) u = Add(v, "
                "e) r = Sqrt(u) n = Div(d, r) o = Mul(n, s) logits = MatMul(o, w)"
            ),
            ["LayerNormalization", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float e = {0.01}, float two = {2}, int64[1] "
                "a = {-1}, float[4] s = {1, 2, 3, 4}, float[4] t = {4, 3, 2, 1}"
            ),
            (
                "m = ReduceMean(features, a) d = Sub(features, m) q = Mul(d, features) v = ReduceMean(q, a) u = "
                "Add(v, e) r = Sqrt(u) n = Div(d, r) logits = MatMul(n, w)"
            ),
            ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float e = {0.01}, float two = {2}, int64[1] "
                "a = {-1}, float[4] s = {1, 2, 3, 4}, float[4] t = {4, 3, 2, 1}"
            ),
            (
                "m = ReduceMean(features, a) d = Sub(features, m) q = Mul(d, d) v = ReduceMean(q, a) u = Add(v, "
                "e) r = Sqrt(u) n = Div(d, r) o = Mul(n, s) p = Mul(o, t) logits = MatMul(p, w)"
            ),
            ["LayerNormalization", "Mul", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[1,1,1] e = {0.01}, int64[1] a = {-1},"
                " int64[1] first = {0}"
            ),
            (
                "m = ReduceMean(features, a) d = Sub(features, m) q = Mul(d, d) v = ReduceMean(q, a) u = Add(v, "
                "e) r = Sqrt(u) n = Div(d, r) p = MatMul(n, w) logits = ReduceMax<keepdims = 0>(p, first)"
            ),
            ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "MatMul", "ReduceMax"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float e = {0.01}, float[1,1,1] two = {2}, int64[1] "
                "a = {-1}, int64[1] first = {0}"
            ),
            (
                "m = ReduceMean(features, a) d = Sub(features, m) q = Pow(d, two) v = ReduceMean(q, a) u = Add(v, "
                "e) r = Sqrt(u) n = Div(d, r) p = MatMul(n, w) logits = ReduceMax<keepdims = 0>(p, first)"
            ),
            ["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "MatMul", "ReduceMax"],
        ),
    ],
    ids=[
        "a quotient",
        "a reciprocal and a power",
        "a scale without a bias",
        "another square",
        "two scales",
        "an epsilon that widens",
        "an exponent that widens",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(FuseLayerNormalization(), graph(body, f"<{constants}>", "records")) == left
