"""MergeCasts: a cast through a type that holds every value is skipped, a cast that loses something is not."""

from __future__ import annotations

import pytest

from hauberk.graph.passes import MergeCasts


@pytest.mark.parametrize(
    ("constants", "body", "left"),
    [
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Cast<to = 11>(features) j = Cast<to = 1>(i) logits = MatMul(j, w)",
            ["MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Cast<to = 7>(features) j = Cast<to = 1>(i) logits = MatMul(j, w)",
            ["Cast", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Cast<to = 10>(features) j = Cast<to = 1>(i) logits = MatMul(j, w)",
            ["Cast", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "i = Cast<to = 11>(features) j = Cast<to = 7>(i) k = Cast<to = 1>(j) logits = MatMul(k, w)",
            ["Cast", "Cast", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            "c = IsNaN(features) i = Cast<to = 7>(c) j = Cast<to = 1>(i) logits = MatMul(j, w)",
            ["IsNaN", "Cast", "MatMul"],
        ),
        (
            "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
            (
                "c = Cast<to = 6>(features) i = Cast<to = 1>(c) j = Cast<to = 11>(i) k = Cast<to = 1>(j) logits "
                "= MatMul(k, w)"
            ),
            ["Cast", "Cast", "MatMul"],
        ),
    ],
    ids=[
        "float32 through float64",
        "float32 through int64 truncates",
        "float32 through float16 rounds",
        "float64 to int64 keeps its range",
        "truth through int64",
        "int32 through float32 rounds",
    ],
)
def test_what_is_left(graph, rewritten, constants, body, left):
    assert rewritten(MergeCasts(), graph(body, f"<{constants}>", "records")) == left


@pytest.mark.parametrize(
    ("target", "left"),
    [(3, ["Cast", "Cast"]), (12, ["Cast", "Cast"]), (6, ["Cast"]), (9, ["Cast"])],
    ids=["int8 wraps or saturates", "uint32 holds no negative number", "int32 holds it", "not 0"],
)
def test_an_integer_through_a_float_ends_as_one_that_holds_it(graph_artifact, rewritten, target, left):
    text = f"g (int16[n] x) => (y) {{ i = Cast<to = 1>(x) y = Cast<to = {target}>(i) }}"
    kind = {3: "int8", 12: "uint32", 6: "int32", 9: "bool"}[target]
    text = text.replace("(y) {", f"({kind}[n] y) {{")
    assert rewritten(MergeCasts(), graph_artifact(f'<ir_version: 10, opset_import: ["" : 20]> {text}')) == left
