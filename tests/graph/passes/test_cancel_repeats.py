"""CancelRepeats: what undoes or repeats the node before it goes."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import CancelRepeats


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Neg(features) j = Neg(i) logits = MatMul(j, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Neg(features) j = Neg(i) k = Neg(j) logits = MatMul(k, w)",
            ["Neg", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = IsNaN(features) j = Not(i) k = Not(j) l = Cast<to = 1>(k) logits = MatMul(l, w)",
            ["IsNaN", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Relu(features) j = Relu(i) logits = MatMul(j, w)",
            ["Relu", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Neg(features) j = Abs(i) logits = MatMul(j, w)",
            ["Abs", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Abs(features) j = Neg(i) logits = MatMul(j, w)",
            ["Abs", "Neg", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float a = {-1}, float b = {1}, float c = "
                "{0}, float d = {2}"
            ),
            "i = Clip(features, a, b) j = Clip(i, c, d) logits = MatMul(j, w)",
            ["Clip", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float a = {-2}, float b = {-1}, float c = "
                "{1}, float d = {2}"
            ),
            "i = Clip(features, a, b) j = Clip(i, c, d) logits = MatMul(j, w)",
            ["Clip", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float a = {2}, float b = {1}, float c = {0}, "
                "float d = {3}"
            ),
            "i = Clip(features, a, b) j = Clip(i, c, d) logits = MatMul(j, w)",
            ["Clip", "Clip", "MatMul"],
        ),
    ],
    ids=[
        "negations",
        "three negations",
        "not not",
        "relus",
        "abs of neg",
        "neg of abs stays",
        "clips that meet",
        "clips that do not meet",
        "bounds in the wrong order",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(CancelRepeats(), graph(body, f"<{constants}>", "records")) == left
