"""DropZeroTerms: x + 0 is x, as a number."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import DropZeroTerms


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {0}",
            "i = Add(c, features) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {-0.0}",
            "i = Sub(features, c) logits = MatMul(i, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float c = {0}",
            "i = Sub(c, features) logits = MatMul(i, w)",
            ["Sub", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2,1,4] c = {0, 0, 0, 0, 0, 0, 0, 0}, "
                "int64[1] a = {0}"
            ),
            "i = Add(c, features) j = MatMul(i, w) logits = ReduceSum<keepdims = 0>(j, a)",
            ["Add", "MatMul", "ReduceSum"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[4] c = {0, 0, 0, 1}",
            "i = Add(c, features) logits = MatMul(i, w)",
            ["Add", "MatMul"],
        ),
    ],
    ids=["sum", "difference", "zero minus x", "zeros that widen", "not all zero"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(DropZeroTerms(), graph(body, f"<{constants}>", "records")) == left
