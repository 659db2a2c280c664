"""Double precision: the exact answer where float32 has none, and rounding told from mistakes."""

from __future__ import annotations

import numpy as np
from onnx import parser

from hauberk.graph.compare import Tally
from hauberk.graph.precise import Yardstick, double_runner, rejudge, yardstick
from hauberk.graph.trials import Trial
from hauberk.recipe import Close

HEADER = '<ir_version: 10, opset_import: ["" : 20]> g (float[n] x) => (float[n] y) '


def model(nodes: str) -> bytes:
    return bytes(parser.parse_model(HEADER + nodes).SerializeToString())


def test_what_float32_loses_is_kept():
    run = double_runner(model("<float m = {1e6}> { a = Add(x, m) y = Sub(a, m) }"))
    x = np.array([0.001, 1 / 3], np.float32)
    (y,) = run({"x": x})
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, x, rtol=1e-6)


def test_casts_constants_and_branches_are_doubled_too():
    nodes = """<float one = {1}> {
        i = Cast<to = 7>(x) f = Cast<to = 1>(i) c = Constant<value_float = 0.1>() a = Add(f, c)
        s = ReduceSum<keepdims = 0>(x) p = Greater(s, one)
        y = If<then_branch = t () => (float[n] u) { k = Constant<value_float = 0.2>() u = Add(a, k) },
               else_branch = e () => (float[n] v) { v = Identity(a) }>(p) }"""
    (y,) = double_runner(model(nodes))({"x": np.array([2.7], np.float32)})
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, [2 + np.float32(0.1).item() + np.float32(0.2).item()], rtol=1e-12)


def judged(before: np.ndarray, after: np.ndarray, truth: np.ndarray, single: np.ndarray | None = None) -> Tally:
    """`single` is what the reference answers in single precision: by default the same as the first model."""
    trial = Trial("random", 0, {})
    tally = Tally(Close())
    tally.add("random", 0, ("y",), [before], [after])
    reference = Yardstick(lambda _: [truth], lambda _: [before if single is None else single])
    return rejudge(lambda: reference, [(trial, [before], [after])], ("y",), tally)


def test_a_result_that_is_no_farther_from_the_truth_is_excused():
    truth = np.array([1.0, 2.0])
    assert judged(np.array([1.01, 2], "f"), np.array([0.99, 2], "f"), truth).fault is None
    assert judged(np.array([1.01, 2], "f"), np.array([1.2, 2], "f"), truth).fault is not None
    assert judged(np.array([1.0, 2], "f"), np.array([1.01, 2], "f"), truth).fault is not None


def test_the_rounding_of_a_huge_number_excuses_no_small_one():
    truth = np.array([1e30, 2.0, 3.0, 4.0])
    before = np.array([1.00001e30, 2, 3, 4], "f")
    assert judged(before, np.array([0.9999e30, 2, 3, 4], "f"), truth).fault is None
    fault = judged(before, np.array([1.00001e30, 2, 3, 5], "f"), truth).fault
    assert (fault.before, fault.after) == (4, 5)


def test_what_the_reference_gets_wrong_in_both_precisions_is_no_rounding():
    truth = np.array([1.0, 2.0])
    before, after = np.array([1.5, 2.5], "f"), np.array([1.9, 2.9], "f")
    assert judged(before, after, truth).fault is None
    assert judged(before, after, truth, single=truth.astype("f")).fault is not None
    assert judged(np.array([3]), np.array([4]), np.array([5]), single=np.array([5])).fault is not None


def test_the_yardstick_tells_rounding_in_both_precisions():
    reference = yardstick(model("<float m = {1e6}> { a = Add(x, m) y = Sub(a, m) }"))
    x = np.array([0.3], np.float32)
    np.testing.assert_allclose(reference.double({"x": x})[0], x, rtol=1e-6)
    (single,) = reference.single({"x": x})
    assert single.dtype == np.float32
    assert single[0] == np.float32(1e6) + np.float32(0.3) - np.float32(1e6)


def test_a_value_that_is_no_longer_finite_is_never_excused():
    truth = np.array([1.0])
    assert judged(np.array([9.0], "f"), np.array([np.inf], "f"), truth).fault is not None


def test_a_label_is_excused_only_where_the_first_one_was_wrong():
    assert judged(np.array([3]), np.array([4]), np.array([4])).fault is None
    assert judged(np.array([3]), np.array([4]), np.array([3])).fault is not None
