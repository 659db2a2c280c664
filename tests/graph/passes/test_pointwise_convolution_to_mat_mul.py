"""PointwiseConvolutionToMatMul: a 1×1 convolution is a product over channels."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import PointwiseConvolutionToMatMul


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[2,2,1,1] k = {1, -0.5, 0.25, 2}, float[2] b = {0.5, -0.25}",
            "y = Conv(features, k, b) p = GlobalAveragePool(y) logits = Flatten(p)",
            ["Transpose", "MatMul", "Add", "Transpose", "GlobalAveragePool", "Flatten"],
        ),
        (
            "float[2,2,1,1] k = {1, -0.5, 0.25, 2}, float[2] b = {0.5, -0.25}",
            "x = GlobalAveragePool(features) y = Conv(x, k, b) logits = Flatten(y)",
            ["GlobalAveragePool", "Squeeze", "Gemm", "Unsqueeze", "Flatten"],
        ),
        (
            "float[2,2,1,1] k = {1, -0.5, 0.25, 2}",
            "y = Conv<strides = [2, 1]>(features, k) p = GlobalAveragePool(y) logits = Flatten(p)",
            ["Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            "float[2,2,1,2] k = {1, 2, 3, 4, 5, 6, 7, 8}",
            "y = Conv(features, k) p = GlobalAveragePool(y) logits = Flatten(p)",
            ["Conv", "GlobalAveragePool", "Flatten"],
        ),
    ],
    ids=["with a bias", "a single pixel", "with strides", "a larger kernel"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(PointwiseConvolutionToMatMul(), graph(body, f"<{constants}>", "images")) == left
