"""FuseGelu: recognised in its usual forms, and not in others."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import FuseGelu


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float root = {1.41421356}, float inverse = "
                "{0.70710678}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3}, float c "
                "= {0.044715}, float q = {0.79788456}"
            ),
            (
                "d = Div(features, root) e = Erf(d) f = Add(e, one) m = Mul(features, f) g = Mul(m, half) logits "
                "= MatMul(g, w)"
            ),
            ["Gelu", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float root = {1.41421356}, float inverse = "
                "{0.70710678}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3}, float c "
                "= {0.044715}, float q = {0.79788456}"
            ),
            (
                "d = Mul(features, inverse) e = Erf(d) f = Add(one, e) h = Mul(features, half) g = Mul(h, f) "
                "logits = MatMul(g, w)"
            ),
            ["Gelu", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float root = {1.41421356}, float inverse = "
                "{0.70710678}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3}, float c "
                "= {0.044715}, float q = {0.79788456}"
            ),
            (
                "d = Div(features, root) e = Erf(d) f = Add(e, one) h = Div(f, two) g = Mul(features, h) logits "
                "= MatMul(g, w)"
            ),
            ["Gelu", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float root = {1.41421356}, float inverse = "
                "{0.70710678}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3}, float c "
                "= {0.044715}, float q = {0.79788456}"
            ),
            (
                "x3 = Pow(features, three) y = Mul(x3, c) z = Add(features, y) v = Mul(z, q) t = Tanh(v) f = "
                "Add(t, one) h = Mul(features, half) g = Mul(h, f) logits = MatMul(g, w)"
            ),
            ["Gelu", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float root = {1.41421356}, float inverse = "
                "{0.70710678}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3}, float c "
                "= {0.044715}, float q = {0.79788456}"
            ),
            (
                "o = Exp(features) d = Div(o, root) e = Erf(d) f = Add(e, one) m = Mul(features, f) g = Mul(m, "
                "half) logits = MatMul(g, w)"
            ),
            ["Exp", "Div", "Erf", "Add", "Mul", "Mul", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float root = {1.41421356}, float inverse = "
                "{0.70710678}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3}, float c "
                "= {0.044715}, float q = {0.79788456}"
            ),
            (
                "d = Div(features, two) e = Erf(d) f = Add(e, one) m = Mul(features, f) g = Mul(m, half) logits "
                "= MatMul(g, w)"
            ),
            ["Div", "Erf", "Add", "Mul", "Mul", "MatMul"],
        ),
    ],
    ids=[
        "half last",
        "half first",
        "half on the bracket, as a quotient",
        "tanh",
        "of another value",
        "another constant",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(FuseGelu(), graph(body, f"<{constants}>", "records")) == left


def test_a_constant_that_widens_the_value_is_no_gelu(graph, rewritten):
    constants = "<float r = {1.41421356}, float[1,1,1] one = {1}, float half = {0.5}, int64[1] axis = {0}>"
    body = "d = Div(features, r) e = Erf(d) f = Add(e, one) m = Mul(features, f) g = Mul(m, half) "
    left = ["Div", "Erf", "Add", "Mul", "Mul", "Squeeze"]
    assert rewritten(FuseGelu(), graph(body + "logits = Squeeze(g, axis)", constants, "records")) == left
