"""ReplaceDivision: a division by a constant is a multiplication."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import ReplaceDivision


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {3}",
            "i = Div(features, c) logits = MatMul(i, w)",
            ["Mul", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[4] c = {3, 0, 1, 1}",
            "i = Div(features, c) s = Sign(i) logits = MatMul(s, w)",
            ["Div", "Sign", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {3e38}",
            "i = Div(features, c) logits = MatMul(i, w)",
            ["Div", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {3}",
            "i = Div(c, features) logits = MatMul(i, w)",
            ["Div", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64 c = {3}",
            "i = Cast<to = 7>(features) j = Div(i, c) k = Cast<to = 1>(j) logits = MatMul(k, w)",
            ["Cast", "Div", "Cast", "MatMul"],
        ),
    ],
    ids=["a number", "by zero", "a reciprocal below the normal numbers", "of a constant", "of integers"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(ReplaceDivision(), graph(body, f"<{constants}>", "records")) == left


@pytest.mark.parametrize(("divisor", "operator"), [("8", "Mul"), ("-0.25", "Mul"), ("3", "Div")])
def test_the_exact_form_takes_powers_of_two_only(graph, rewritten, operator, divisor):
    body, constants = "logits = Div(features, c)", f"<float c = {{{divisor}}}>"
    assert rewritten(ReplaceDivision(exact=True), graph(body, constants), rtol=0) == [operator]
