"""HoistMeans: a mean of products is a product of the mean."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import HoistMeans


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}",
            "m = MatMul(features, w) logits = ReduceMean<keepdims = 0>(m, a)",
            ["ReduceMean", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] b = {0.5, -0.25}, int64[1] a = {-2}",
            "m = MatMul(features, w) n = Add(b, m) k = ReduceMean(n, a) logits = Squeeze(k, a)",
            ["ReduceMean", "MatMul", "Add", "Squeeze"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {2}",
            "m = MatMul(features, w) logits = ReduceMean<keepdims = 0>(m, a)",
            ["MatMul", "ReduceMean"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, int64[1] a = {1}",
            "m = MatMul(features, w) r = Relu(m) logits = ReduceMean<keepdims = 0>(r, a)",
            ["MatMul", "Relu", "ReduceMean"],
        ),
        (
            "float[2] b = {0.5, -0.25}, int64[1] a = {0}, float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "c = Add(b, b) m = ReduceMean(c, a) n = Add(features, m) logits = MatMul(n, w)",
            ["Add", "ReduceMean", "Add", "MatMul"],
        ),
    ],
    ids=["without a bias", "with axes kept", "over columns", "with something between", "of a vector added to itself"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(HoistMeans(), graph(body, f"<{constants}>", "windows")) == left


@pytest.mark.parametrize(
    ("attributes", "left"),
    [("", ["GlobalAveragePool", "Conv", "Flatten"]), ("<strides = [2, 2]>", ["Conv", "GlobalAveragePool", "Flatten"])],
)
def test_past_a_convolution(graph, rewritten, attributes, left):
    body = f"y = Conv{attributes}(features, k) p = GlobalAveragePool(y) logits = Flatten(p)"
    assert rewritten(HoistMeans(), graph(body, "<float[2,2,1,1] k = {1, -0.5, 0.25, 2}>", "images")) == left
