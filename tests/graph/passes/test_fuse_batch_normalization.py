"""FuseBatchNormalization: it goes into the layer beside it."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import FuseBatchNormalization


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            (
                "float[2,2,1,1] k = {1, -0.5, 0.25, 2}, float[2] g = {1, 2}, float[2] h = {0.5, 1}, float[2] m = "
                "{0.1, 0.2}, float[2] v = {0.5, 2}, float[2] c = {1, 2}"
            ),
            (
                "x = Conv(features, k, c) y = BatchNormalization(x, g, h, m, v) p = GlobalAveragePool(y) logits "
                "= Flatten(p)"
            ),
            ["Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            (
                "float[2,1,2,2] d = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] g = {1, 2}, float[2] h = {0.5, 1}, "
                "float[2] m = {0.1, 0.2}, float[2] v = {0.5, 2}"
            ),
            (
                "x = Conv<group = 2>(features, d) y = BatchNormalization(x, g, h, m, v) p = GlobalAveragePool(y) "
                "logits = Flatten(p)"
            ),
            ["Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            (
                "float[2,1,2,2] d = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] g = {1, 2}, float[2] h = {0.5, 1}, "
                "float[2] m = {0.1, 0.2}, float[2] v = {0.5, 2}"
            ),
            (
                "x = ConvTranspose<group = 2>(features, d) y = BatchNormalization(x, g, h, m, v) p = "
                "GlobalAveragePool(y) logits = Flatten(p)"
            ),
            ["ConvTranspose", "GlobalAveragePool", "Flatten"],
        ),
        (
            (
                "float[2,2,1,1] k = {1, -0.5, 0.25, 2}, float[2] g = {1, 2}, float[2] h = {0.5, 1}, float[2] m = "
                "{0.1, 0.2}, float[2] v = {0.5, 2}"
            ),
            (
                "x = BatchNormalization(features, g, h, m, v) y = Conv(x, k) p = GlobalAveragePool(y) logits = "
                "Flatten(p)"
            ),
            ["Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            (
                "float[2,2,1,1] k = {1, -0.5, 0.25, 2}, float[2] g = {1, 2}, float[2] h = {0.5, 1}, float[2] m = "
                "{0.1, 0.2}, float[2] v = {0.5, 2}"
            ),
            (
                "x = BatchNormalization(features, g, h, m, v) y = Conv<pads = [1, 1, 1, 1]>(x, k) p = "
                "GlobalAveragePool(y) logits = Flatten(p)"
            ),
            ["BatchNormalization", "Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            (
                "float[2,2,1,1] k = {1, -0.5, 0.25, 2}, float[2] g = {1, 2}, float[2] h = {0.5, 1}, float[2] m = "
                "{0.1, 0.2}, float[2] v = {0.5, 2}"
            ),
            (
                "x = Conv(features, k) r = Relu(x) y = BatchNormalization(r, g, h, m, v) p = "
                "GlobalAveragePool(y) logits = Flatten(p)"
            ),
            ["Conv", "Relu", "BatchNormalization", "GlobalAveragePool", "Flatten"],
        ),
    ],
    ids=[
        "a convolution with a bias",
        "a grouped one",
        "a transposed one",
        "before a convolution",
        "before a padded convolution",
        "an activation between",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(FuseBatchNormalization(), graph(body, f"<{constants}>", "images")) == left


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("x = Gemm(features, w) logits = BatchNormalization(x, g, h, m, v)", ["Gemm"]),
        ("x = MatMul(features, w) logits = BatchNormalization(x, g, h, m, v)", ["Gemm"]),
        ("x = Gemm<alpha = 2.0, beta = 3.0>(features, w, h) logits = BatchNormalization(x, g, h, m, v)", ["Gemm"]),
    ],
)
def test_matrices(graph, rewritten, body, left):
    constants = """<float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}, float[2] g = {1, 2}, float[2] h = {0.5, 1},
        float[2] m = {0.1, 0.2}, float[2] v = {0.5, 2}>"""
    assert rewritten(FuseBatchNormalization(), graph(body, constants)) == left
