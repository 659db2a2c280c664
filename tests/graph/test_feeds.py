"""Inputs for any graph: the right shapes and dtypes, every size, the range that samples show."""

from __future__ import annotations

import numpy as np
import pytest

from hauberk.errors import InputError
from hauberk.graph import feeds
from hauberk.graph.samples import Samples
from hauberk.tensors import Signature, TensorSpec


def signature(*specs: tuple[str, str, tuple[int | str, ...]]) -> Signature:
    return Signature(inputs=tuple(TensorSpec(*spec) for spec in specs), outputs=())


def drawn(of: Signature, samples: Samples | None = None, *, extremes: bool = False, fits=lambda _: True):
    return feeds.trials(of, fits, samples or Samples(), extremes=extremes, seed=0)


def test_dimensions_of_one_name_have_one_size_and_every_one_is_tried_at_0_and_1():
    trials = drawn(signature(("x", "float32", ("n", "t", 3)), ("m", "bool", ("n", "t"))))
    sizes = {trial.feeds["x"].shape[:2] for trial in trials}
    assert all(trial.feeds["x"].shape[:2] == trial.feeds["m"].shape for trial in trials)
    assert {(0, 0), (1, 1)} <= sizes
    assert any(n == 0 and t > 0 for n, t in sizes)
    assert any(n > 1 and t == 1 for n, t in sizes)


def test_unnamed_dimensions_are_each_their_own():
    trials = drawn(signature(("x", "float32", ("?", 2)), ("z", "float32", ("?", 2))))
    assert any(len(trial.feeds["x"]) != len(trial.feeds["z"]) for trial in trials)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "int8", "uint8", "int64", "bool"])
def test_inputs_have_their_dtype_and_extremes_are_those_of_it(dtype):
    trials = drawn(signature(("x", dtype, ("n", 4))), extremes=True)
    assert {trial.feeds["x"].dtype.name for trial in trials} == {dtype}
    if dtype.startswith("float"):
        values = np.concatenate([t.feeds["x"].ravel() for t in trials if t.family.startswith("extreme")])
        largest = np.finfo(dtype).max
        assert np.isnan(values).any()
        assert {np.inf, -np.inf, largest, -largest, np.finfo(dtype).smallest_subnormal} <= set(values.tolist())
        assert np.signbit(values[values == 0]).any()


def test_sizes_are_those_that_the_graph_takes():
    trials = drawn(
        signature(("x", "float32", ("n", 3, "h", "w"))),
        fits=lambda values: min(values["x"].shape[2:]) >= 30,
    )
    assert trials[0].feeds["x"].shape[2:] == (32, 32)


def test_floats_stay_within_what_samples_show():
    of = signature(("x", "float32", ("n", 4)))
    samples = Samples.of({"x": np.array([[0, 1, 2, 3], [0, 0.5, -0.25, 0]], np.float32)}, of)
    values = np.concatenate([trial.feeds["x"].ravel() for trial in drawn(of, samples)])
    assert (values.min(), values.max()) == (-0.25, 3)


def test_rows_are_records_where_the_first_dimension_is_free():
    of = signature(("x", "float32", ("n", 2)))
    samples = Samples.of({"x": np.arange(260, dtype=np.float32).reshape(130, 2)}, of)
    assert [len(call["x"]) for call in samples.calls] == [64, 64, 2]


def test_a_fixed_first_dimension_makes_an_array_one_call_or_several():
    of = signature(("x", "float32", (3, 2)))
    assert len(Samples.of({"x": np.zeros((3, 2), np.float32)}, of).calls) == 1
    assert len(Samples.of({"x": np.zeros((5, 3, 2), np.float32)}, of).calls) == 5


def test_inputs_with_different_numbers_of_records_are_refused():
    of = signature(("x", "float32", ("n", 2)), ("z", "float32", ("n", 2)))
    arrays = {"x": np.zeros((70, 2), np.float32), "z": np.zeros((3, 2), np.float32)}
    with pytest.raises(InputError, match="different numbers of records: x 70, z 3"):
        Samples.of(arrays, of)


def test_the_same_seed_draws_the_same():
    of = signature(("x", "float32", ("n", 2)))
    one, two = drawn(of), drawn(of)
    assert all(np.array_equal(a.feeds["x"], b.feeds["x"], equal_nan=True) for a, b in zip(one, two, strict=True))


def test_integers_stay_within_what_samples_show():
    of = signature(("x", "int64", ("n", 2)))
    samples = Samples.of({"x": np.array([[5, 2**40], [7, 9]])}, of)
    trials = feeds.trials(of, lambda _: True, samples, extremes=False, seed=0, unbounded={"x"})
    families = ("random", "uniform", "boundary")  # the samples themselves hold what they show
    values = np.concatenate([trial.feeds["x"].ravel() for trial in trials if trial.family.startswith(families)])
    assert values.min() >= 5
    assert values.max() <= 2**40
    assert values.max() > 2**33


def test_integers_that_decide_sizes_stay_near_0_as_far_as_samples_allow():
    of = signature(("x", "float32", ("n", 3, 1, 1)), ("to", "int64", (4,)), ("m", "int64", (2,)))
    arrays = {"x": np.zeros((1, 3, 1, 1), "f"), "to": np.array([1, 3, 224, 224]), "m": np.array([-90, 2])}
    samples = Samples.of(arrays, of)
    trials = [trial for trial in drawn(of, samples, extremes=True) if not trial.family.startswith(("real", "single"))]
    to, m = (np.concatenate([trial.feeds[name].ravel() for trial in trials]) for name in ("to", "m"))
    assert (to.min(), to.max()) == (1, 9)
    assert (m.min(), m.max()) == (-3, 2)


def test_far_numbers_are_tried_of_the_first_six_integer_inputs_however_many_floats_come_before():
    floats = [(f"f{number}", "float32", ("n", 1)) for number in range(7)]
    whole = [(f"i{number}", "int64", ("n", 1)) for number in range(7)]
    of = signature(*floats, *whole)
    names = {name for name, *_ in whole}
    trials = feeds.trials(of, lambda _: True, Samples(), extremes=True, seed=0, unbounded=names)
    for family, value in (("integers", 2**32 + 1), ("extreme", 2**63 - 1)):
        chosen = [trial.feeds for trial in trials if trial.family.startswith(family)]
        far = [name for name, *_ in whole if any((values[name] == value).any() for values in chosen)]
        assert far == [f"i{number}" for number in range(6)], family


def test_bounds_that_span_more_than_float32_holds_are_drawn_between():
    of = signature(("x", "float32", ("n", 8)))
    largest = np.full(8, np.finfo(np.float32).max)
    with np.errstate(over="raise", invalid="raise"):
        trials = drawn(of, Samples(low={"x": -largest}, high={"x": largest}))
    values = np.concatenate([trial.feeds["x"].ravel() for trial in trials if trial.family.startswith("uniform")])
    assert np.isfinite(values).all()
    assert (values < 0).any()
    assert (values > 0).any()


def test_integers_that_decide_no_size_are_tried_far_out():
    of = signature(("x", "int64", ("n", 2)), ("z", "int64", ("n", 2)))
    trials = feeds.trials(of, lambda _: True, Samples(), extremes=False, seed=0, unbounded={"x"})
    x, z = (np.concatenate([trial.feeds[name].ravel() for trial in trials]) for name in "xz")
    assert set(feeds.FAR) <= set(x.tolist())
    assert np.abs(z).max() < 10


def test_the_ends_of_an_integer_type_are_extremes_whatever_samples_show():
    of = signature(("x", "int32", ("n", 2)))
    samples = Samples.of({"x": np.array([[1, 2]], np.int32)}, of)
    trials = feeds.trials(of, lambda _: True, samples, extremes=True, seed=0, unbounded={"x"})
    extreme = np.concatenate([trial.feeds["x"].ravel() for trial in trials if trial.family.startswith("extreme")])
    others = np.concatenate([trial.feeds["x"].ravel() for trial in trials if not trial.family.startswith("extreme")])
    assert {-(2**31), 2**31 - 1} <= set(extreme.tolist())
    assert set(others.tolist()) == {1, 2}


@pytest.mark.parametrize(("dtype", "ends"), [("uint8", (0, 255)), ("int8", (-128, 127))])
def test_of_8_bits_the_whole_range_is_drawn(dtype, ends):
    of = signature(("x", dtype, ("n", 400)))
    trials = feeds.trials(of, lambda _: True, Samples(), extremes=False, seed=0, unbounded={"x"})
    uniform = np.concatenate([trial.feeds["x"].ravel() for trial in trials if trial.family.startswith("uniform")])
    assert (uniform.min(), uniform.max()) == ends
