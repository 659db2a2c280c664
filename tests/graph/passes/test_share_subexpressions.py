"""ShareSubexpressions: what is computed twice is computed once."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import ShareSubexpressions


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "p = Exp(features) q = Exp(features) r = MatMul(p, w) s = MatMul(q, w) logits = Sub(r, s)",
            ["Exp", "MatMul", "Sub"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "p = Elu<alpha = 0.5>(features) q = Elu<alpha = 1.0>(features) r = Add(p, q) logits = MatMul(r, w)",
            ["Elu", "Elu", "Add", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            (
                "p = LeakyRelu<alpha = 0.0>(features) q = LeakyRelu<alpha = -0.0>(features) r = Add(p, q) logits "
                "= MatMul(r, w)"
            ),
            ["LeakyRelu", "LeakyRelu", "Add", "MatMul"],
        ),
    ],
    ids=["a chain", "other attributes", "minus zero is not zero"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(ShareSubexpressions(), graph(body, f"<{constants}>", "records")) == left
