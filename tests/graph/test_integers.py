"""Which integer inputs may hold any number: none that a size, a count or a division depends on."""

from __future__ import annotations

import pytest

from hauberk.graph.integers import unbounded
from hauberk.graph.model import parse

HEADER = '<ir_version: 10, opset_import: ["" : 20]> g (int64[n] i, float[k,4] x) => '


@pytest.fixture
def of(graph_artifact):
    return lambda text: {"i"} & unbounded(parse(graph_artifact(HEADER + text).model))


@pytest.mark.parametrize(
    "text",
    [
        "(float[p,4] y) { y = Gather(x, i) }",
        "(int64[n] y) <int64 two = {2}> { y = Mul(i, two) }",
        "(int64[m] y) { y = Shape(i) }",
        "(float[p,q] y) { s = Shape(i) y = Expand(x, s) }",
        "(float[n] y) <float k = {255}> { f = Cast<to = 1>(i) y = Div(f, k) }",
    ],
    ids=["index", "number", "shape", "size-of-the-shape", "division-of-floats"],
)
def test_an_index_and_a_number_may_be_anything(of, text):
    assert of(text)


@pytest.mark.parametrize(
    "text",
    [
        "(float[p,q] y) { y = Expand(x, i) }",
        "(float[p,q] y) { f = Cast<to = 1>(i) r = Ceil(f) s = Cast<to = 7>(r) y = Tile(x, s) }",
        "(float[p] y) <int64[1] axis = {0}> { m = ReduceMax(i, axis) y = ConstantOfShape(m) }",
        "(int64[n] y) <int64 less = {-1}> { y = Div(i, less) }",
        "(int64[n] y) <int64 less = {-1}> { f = Cast<to = 1>(i) c = Cast<to = 7>(f) y = Div(c, less) }",
        "(int64[n] y) <int64 less = {-1}> { f = Cast<to = 1>(i) c = CastLike(f, less) y = Div(c, less) }",
        (
            "(float[k,4] y) <bool on = {1}> { s = Squeeze(i) y = Loop(s, on, x)"
            " <body = b (int64 k, bool c, float[p,4] v) => (bool d, float[p,4] w) { d = Identity(c) w = Relu(v) }> }"
        ),
        (
            "(float[p,q] y) <bool on = {1}> { y = If(on) <then_branch = t () => (float[p,q] a) { a = Expand(x, i) },"
            " else_branch = e () => (float[p,q] b) { b = Identity(x) }> }"
        ),
    ],
    ids=[
        "size",
        "repeats-through-floats",
        "shape",
        "division",
        "division-after-floats",
        "division-after-floats-like-another",
        "trips",
        "size-in-a-branch",
    ],
)
def test_what_decides_how_much_is_computed_may_not(of, text):
    assert not of(text)


def test_an_input_must_be_free_in_every_graph(graph_artifact):
    free, size = (
        parse(graph_artifact(HEADER + f"(float[p,q] y) {{ y = {node}(x, i) }}").model) for node in ("Gather", "Expand")
    )
    assert "i" in unbounded(free)
    assert "i" not in unbounded(free, size)
