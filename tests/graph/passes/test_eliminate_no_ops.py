"""EliminateNoOps: what hands on its input as it is goes, and nothing else does."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import CleanUp, EliminateNoOps


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[4] c = {1, 1, 1, 1}",
            "i = Mul(c, features) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[1,1,1] c = {1}, int64[1] q = {0}",
            "i = Mul(c, features) j = MatMul(i, w) logits = Squeeze(j, q)",
            ["Mul", "MatMul", "Squeeze"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {1}",
            "i = Div(features, c) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {1}",
            "i = Div(c, features) logits = MatMul(i, w)",
            ["Div", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {0}",
            "i = Sub(features, c) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {0}",
            "i = Sub(c, features) logits = MatMul(i, w)",
            ["Sub", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {0}",
            "i = Add(features, c) logits = MatMul(i, w)",
            ["Add", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {-0.0}",
            "i = Add(features, c) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "int64 c = {0}, float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Cast<to = 7>(features) j = Add(c, i) k = Cast<to = 1>(j) logits = MatMul(k, w)",
            ["Cast", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {1}",
            "i = Pow(features, c) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i, m = Dropout(features) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Cast<to = 1>(features) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Cast<to = 7>(features) j = Cast<to = 1>(i) logits = MatMul(j, w)",
            ["Cast", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Max(features) j = Concat<axis = 1>(i) k = Sum(j) logits = MatMul(k, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Transpose<perm = [0, 1]>(features) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] s = {0}, int64[1] e = "
                "{9223372036854775807}, int64[1] a = {1}"
            ),
            "i = Slice(features, s, e, a) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] s = {0}, int64[1] e = {3}, int64[1] "
                "a = {1}, float[3,2] u = {1, 2, 3, 4, 5, 6}"
            ),
            "i = Slice(features, s, e, a) logits = MatMul(i, u)",
            ["Slice", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[4] p = {0, 0, 0, 0}",
            "i = Pad(features, p) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Clip(features) logits = MatMul(i, w)",
            ["Clip", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "n = Cast<to = 7>(features) i = Clip(n) f = Cast<to = 1>(i) logits = MatMul(f, w)",
            ["Cast", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[0] none = {}",
            "i = Unsqueeze(features, none) j = MatMul(i, w) logits = Squeeze(j, none)",
            ["MatMul", "Squeeze"],
        ),
        ("float one = {1}", "logits = Mul(features, one)", ["Identity"]),
    ],
    ids=[
        "product with one",
        "product with a widening one",
        "quotient by one",
        "one over x",
        "minus zero",
        "zero minus x",
        "plus zero is another pass",
        "plus minus zero",
        "integers plus zero",
        "power of one",
        "dropout",
        "cast to the same type",
        "cast that truncates",
        "one of one",
        "transposition in order",
        "slice of everything",
        "slice of less",
        "pad of nothing",
        "clip without bounds, which an infinity does not pass",
        "clip of integers without bounds",
        "no axes",
        "only an output is left",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(EliminateNoOps(), graph(body, f"<{constants}>", "records")) == left


def test_of_bfloat16_zero_has_a_sign_too(graph_artifact, context_of, operators):
    """Unlike of integers: −0 + 0 is 0."""
    head = '<ir_version: 10, opset_import: ["" : 20]> g (bfloat16[n] x) => (bfloat16[n] y)'
    for zero, left in (("0", ["Cast", "Add", "Neg"]), ("-0.0", ["Neg"])):
        text = f"{head} <float z = {{{zero}}}> {{ c = Cast<to = 16>(z) a = Add(x, c) y = Neg(a) }}"
        folded = CleanUp().apply(graph_artifact(text), context_of(4))
        kept = operators(EliminateNoOps().apply(folded, context_of(4)))
        assert [operator for operator in left if operator != "Cast"] == kept
