"""FusePad: zeros around an image are padding of the convolution."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import FusePad


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "int64[8] q = {0, 0, 1, 0, 0, 0, 0, 2}, float[2,2,1,1] k = {1, -0.5, 0.25, 2}",
            ("x = Pad(features, q) y = Conv<pads = [0, 1, 1, 0]>(x, k) p = GlobalAveragePool(y) logits = Flatten(p)"),
            ["Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            "int64[2] q = {1, 2}, float z = {0}, int64[1] a = {-1}, float[2,2,1,1] k = {1, -0.5, 0.25, 2}",
            "x = Pad(features, q, z, a) y = Conv(x, k) p = GlobalAveragePool(y) logits = Flatten(p)",
            ["Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            "int64[8] q = {0, 0, 1, 1, 0, 0, 1, 1}, float o = {1}, float[2,2,1,1] k = {1, -0.5, 0.25, 2}",
            "x = Pad(features, q, o) y = Conv(x, k) p = GlobalAveragePool(y) logits = Flatten(p)",
            ["Pad", "Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            "int64[8] q = {0, 0, -1, 0, 0, 0, 0, 0}, float[2,2,1,1] k = {1, -0.5, 0.25, 2}",
            "x = Pad(features, q) y = Conv(x, k) p = GlobalAveragePool(y) logits = Flatten(p)",
            ["Pad", "Conv", "GlobalAveragePool", "Flatten"],
        ),
        (
            "int64[8] q = {0, 0, 1, 1, 0, 0, 1, 1}, float[2,2,1,1] k = {1, -0.5, 0.25, 2}",
            'x = Pad<mode = "reflect">(features, q) y = Conv(x, k) p = GlobalAveragePool(y) logits = Flatten(p)',
            ["Pad", "Conv", "GlobalAveragePool", "Flatten"],
        ),
    ],
    ids=["on top of its own", "named axes", "ones", "cropping", "mirrored"],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(FusePad(), graph(body, f"<{constants}>", "images")) == left
