"""OneHotToGather: the forms that exporters and our own preprocessing write, and codes that lie out of range."""

from __future__ import annotations

import numpy as np
import pytest

from hauberk.graph.passes import OneHotToGather

HEAD = (
    '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,2] x, int64[batch,{columns}] codes) => (float[batch,2] y)'
)
SPREAD = """float[2,5] s = {1, 1, 0, 0, 0, 0, 0, 1, 1, 1}, float[5] v = {0, 1, 0, 1, 2},
    float[5,2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, float[7,2] u = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14},
    float[2] b = {0.5, -0.5}, float[2,2] one = {1, 0, 0, 1}"""
COLUMNS = "f = Cast<to = 1>(codes) t = MatMul(f, s) e = Equal(t, v) h = Cast<to = 1>(e)"
TWO = ["Max", "Min", "Add", "Gather", "ReduceSum"]


@pytest.fixture(scope="module")
def build(graph_artifact):
    def of(body: str, constants: str, columns: int = 2):
        return graph_artifact(f"{HEAD.format(columns=columns)} <{constants}> {{ {body} }}")

    return of


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = MatMul(h, w)", TWO),
        ("y = Gemm(h, w, b)", TWO),
        ("y = Gemm(h, w, x)", [*TWO, "Add"]),
        ("c = Concat<axis = 1>(x, h) y = Gemm(c, u, b)", [*TWO, "Gemm"]),
        ("c = Concat<axis = -1>(h, x) y = MatMul(c, u)", [*TWO, "Gemm"]),
        ("n = Neg(h) y = MatMul(n, w)", ["Cast", "MatMul", "Equal", "Cast", "Neg", "MatMul"]),
    ],
    ids=["product", "bias", "a bias that is no constant", "beside numbers", "before numbers", "not as it is"],
)
def test_what_is_left(build, rewritten, body, left):
    assert rewritten(OneHotToGather(), build(f"{COLUMNS} {body}", SPREAD)) == left


def test_a_bias_of_one_number_for_each_record_is_left_alone(graph_artifact, rewritten):
    """[M, 1] has as many numbers as there are columns where M records come at a time."""
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (int64[2,1] codes) => (float[2,2] y)'
        " <int64[2] v = {0, 1}, float[2,2] w = {1, 2, 3, 4}, float[2,1] b = {10, 20}>"
        " { e = Equal(codes, v) h = Cast<to = 1>(e) y = Gemm(h, w, b) }"
    )
    assert rewritten(OneHotToGather(), graph_artifact(text)) == ["Equal", "Cast", "Gemm"]


def test_one_column_of_codes_and_values_with_gaps(build, rewritten):
    constants = "int64[3] v = {-5, 7, 7}, float[3,2] w = {1, 2, 3, 4, 5, 6}"
    before = build("e = Equal(codes, v) h = Cast<to = 1>(e) y = MatMul(h, w)", constants, columns=1)
    assert rewritten(OneHotToGather(), before) == ["Clip", "Add", "Gather", "Squeeze"]


def test_all_columns_compared_with_one_number_are_left_alone(build, rewritten):
    constants = "int64 v = {3}, float[2,2] w = {1, 2, 3, 4}"
    before = build("e = Equal(codes, v) h = Cast<to = 1>(e) y = MatMul(h, w)", constants)
    assert rewritten(OneHotToGather(), before) == ["Equal", "Cast", "MatMul"]


def test_a_table_many_times_as_large_as_the_weights_is_not_made(rewritten, graph_artifact):
    """Two rows of 64 numbers are half a kilobyte; the table of 60,003 rows would be fifteen megabytes."""
    for gap, left in ((5, ["Clip", "Add", "Gather", "Squeeze"]), (60_000, ["Equal", "Cast", "MatMul"])):
        head = HEAD.format(columns=1).replace("float[batch,2] y", "float[batch,64] y")
        weights = ", ".join(["1"] * 128)
        constants = f"int64[2] v = {{0, {gap}}}, float[2,64] w = {{{weights}}}"
        body = "e = Equal(codes, v) h = Cast<to = 1>(e) y = MatMul(h, w)"
        assert rewritten(OneHotToGather(), graph_artifact(f"{head} <{constants}> {{ {body} }}")) == left


@pytest.mark.parametrize("value", ["9223372036854775807", "-9223372036854775808"])
def test_values_at_the_end_of_their_type_make_no_table(build, rewritten, value):
    constants = f"int64[1] v = {{{value}}}, float[1,2] w = {{1, 2}}"
    before = build("e = Equal(codes, v) h = Cast<to = 1>(e) y = MatMul(h, w)", constants, columns=1)
    assert rewritten(OneHotToGather(), before) == ["Equal", "Cast", "MatMul"]


def test_values_far_apart_make_no_table(build, rewritten):
    constants = "int64[2] v = {0, 1000000000}, float[2,2] w = {1, 2, 3, 4}"
    before = build("e = Equal(codes, v) h = Cast<to = 1>(e) y = MatMul(h, w)", constants, columns=1)
    assert rewritten(OneHotToGather(), before) == ["Equal", "Cast", "MatMul"]


@pytest.mark.parametrize("spread", ["{1, 1, 0, 0, 0, 0, 0, 1, 1, 2}", "{1, 1, 0, 0, 1, 0, 0, 1, 1, 1}"])
def test_a_spread_of_something_else_is_left_alone(build, rewritten, spread):
    constants = SPREAD.replace("{1, 1, 0, 0, 0, 0, 0, 1, 1, 1}", spread)
    before = build(f"{COLUMNS} y = MatMul(h, w)", constants)
    assert rewritten(OneHotToGather(), before) == ["Cast", "MatMul", "Equal", "Cast", "MatMul"]


@pytest.mark.parametrize("code", [-1, 3, 1 << 24, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
def test_a_code_of_no_category_lights_no_column(build, context_of, run, code):
    before = build(f"{COLUMNS} y = Gemm(h, w, b)", SPREAD)
    after = OneHotToGather().apply(before, context_of(2))
    records = {"x": np.zeros((1, 2), np.float32), "codes": np.array([[code, code]])}
    np.testing.assert_array_equal(run(after, records)[0], [[0.5, -0.5]])
    np.testing.assert_array_equal(run(before, records)[0], [[0.5, -0.5]])


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("y = MatMul(h, w)", TWO),
        ("c = Concat<axis = 2>(x, h) y = MatMul(c, u)", [*TWO, "MatMul", "Add"]),
        ("c = Concat<axis = 1>(h, h) y = MatMul(c, w)", ["Cast", "MatMul", "Equal", "Cast", "Concat", "MatMul"]),
    ],
    ids=["alone", "beside numbers", "joined along time"],
)
def test_windows(graph_artifact, rewritten, context_of, run, feeds, body, left):
    head = "g (float[batch,3,2] x, int64[batch,3,2] codes) => (float[batch,a,2] y)"
    text = f'<ir_version: 10, opset_import: ["" : 20]> {head} <{SPREAD}> {{ {COLUMNS} {body} }}'
    before = graph_artifact(text)
    assert rewritten(OneHotToGather(), before) == left
    after = OneHotToGather().apply(before, context_of(2))
    assert run(after, feeds(before, 0))[0].shape == run(before, feeds(before, 0))[0].shape
