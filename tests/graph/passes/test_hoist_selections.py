"""HoistSelections: only what is selected is computed."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import HoistSelections


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, int64 last = {-1}",
            "m = MatMul(features, w) n = Add(m, b) logits = Gather<axis = 1>(n, last)",
            ["Gather", "MatMul", "Add"],
        ),
        (
            ("float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {1}"),
            "m = MatMul(features, w) r = Relu(m) t = Slice(r, s, e, a) logits = ReduceSum<keepdims = 0>(t, a)",
            ["Slice", "MatMul", "Relu", "ReduceSum"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64 one = {1}, float[3,4] c = {1, 2, 3, 4, "
                "5, 6, 7, 8, 9, 10, 11, 12}"
            ),
            "x = Add(features, c) y = Gather<axis = 1>(x, one) logits = MatMul(y, w)",
            ["Gather", "Add", "MatMul"],
        ),
        (
            "float[4,3] u = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, int64[2] c = {2, 0}, int64[1] a = {1}",
            "m = MatMul(features, u) s = Gather<axis = 2>(m, c) logits = ReduceSum<keepdims = 0>(s, a)",
            ["MatMul", "ReduceSum"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64 zero = {0}, float[4] g = {1, 2, 3, 4}",
            "n = LayerNormalization(features, g) s = Gather<axis = 1>(n, zero) logits = MatMul(s, w)",
            ["Gather", "LayerNormalization", "MatMul"],
        ),
        (
            (
                "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64 zero = {0},"
                " float[3,4] g = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}"
            ),
            "n = LayerNormalization(features, g) s = Gather<axis = 1>(n, zero) logits = MatMul(s, w)",
            ["LayerNormalization", "Gather", "MatMul"],
        ),
        (
            "int64[2] c = {0, 2}, int64[1] a = {1}",
            "n = Softmax(features) s = Gather<axis = 2>(n, c) logits = ReduceSum<keepdims = 0>(s, a)",
            ["Softmax", "Gather", "ReduceSum"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[3] c = {2, 1, 0}, int64[1] a = {1}",
            "m = MatMul(features, w) s = Gather<axis = 1>(m, c) logits = ReduceMax<keepdims = 0>(s, a)",
            ["MatMul", "Gather", "ReduceMax"],
        ),
    ],
    ids=[
        "the last step of a layer",
        "a slice of steps",
        "a constant for every step",
        "columns",
        "past a normalisation",
        "a scale for every step",
        "not along what is normalised",
        "a selection of as much as there is",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(HoistSelections(), graph(body, f"<{constants}>", "windows")) == left
