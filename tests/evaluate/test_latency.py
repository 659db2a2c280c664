"""A clock that we turn ourselves: what every call costs is known, drift and disturbances included.

Real time is never asserted on. One test runs real sessions, and looks at nothing but the shape of the result.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from hauberk.backends import Session
from hauberk.errors import InputError
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency, weighted_quantiles

READING = 40
"""Nanoseconds that our clock takes to be read."""


class Machine:
    """A machine on which time passes only when the clock is read or a model is called.

    Args:
        drift: Nanoseconds in which its clock speed swings by a half; 0 for never.
        jitter: Standard deviation of the time of a call, as a fraction.
        hiccup: Share of calls that take ten times as long.
    """

    def __init__(self, *, drift: float = 0.0, jitter: float = 0.0, hiccup: float = 0.0) -> None:
        self.now = 0.0
        self.drift, self.jitter, self.hiccup = drift, jitter, hiccup
        self.generator = np.random.default_rng(0)

    def clock(self) -> int:
        self.now += READING
        return round(self.now)

    def model(self, one: float, many: float) -> Runner:
        return Runner(self._call(one), self._call(many))

    def _call(self, nanoseconds: float) -> Callable[[], object]:
        def call() -> None:
            pace = 1.0 + (0.5 * np.sin(self.now / self.drift) if self.drift else 0.0)
            if self.jitter:
                pace *= 1 + self.jitter * abs(self.generator.normal())
            if self.hiccup and self.generator.random() < self.hiccup:
                pace *= 10
            self.now += nanoseconds * pace

        return call


def compare(machine: Machine, seconds: float = 0.2) -> LatencyResult:
    """A baseline, an equal, one that is 3 times as slow, and one that is 2 % slower."""
    models = {
        "base": machine.model(5_000, 80_000),
        "same": machine.model(5_000, 80_000),
        "slow": machine.model(15_000, 240_000),
        "close": machine.model(5_100, 81_600),
    }
    return measure_latency(models, baseline="base", seconds=seconds, batch=16, clock=machine.clock)


@pytest.fixture(scope="module")
def result() -> LatencyResult:
    return compare(Machine(drift=3e7, jitter=0.01, hiccup=0.005))


def test_on_a_quiet_machine_figures_are_exact_and_reading_the_clock_is_free():
    quiet = compare(Machine())
    slow = quiet.measurements["slow"]
    assert slow["latency.p50"].value == pytest.approx(15e-6)
    assert slow["latency.p99"].value == pytest.approx(15e-6)
    assert slow["throughput"].value == pytest.approx(16 / 240e-6)
    assert slow["latency.p50"].ratio.value == pytest.approx(3)
    assert slow["latency.p50"].difference.value == pytest.approx(10e-6)
    assert quiet.timer == pytest.approx(READING * 1e-9)
    assert quiet.noise == pytest.approx(0, abs=1e-9)


def test_a_clock_speed_that_swings_by_a_half_cancels_in_ratios(result):
    assert result.measurements["base"]["latency.p50"].high > 1.2 * result.measurements["base"]["latency.p50"].low
    slow = result.measurements["slow"]
    assert slow["latency.p50"].ratio.value == pytest.approx(3, rel=0.03)
    assert slow["throughput"].ratio.value == pytest.approx(1 / 3, rel=0.03)


def test_intervals_enclose_their_figures(result):
    for measured in result.measurements.values():
        for measurement in measured.values():
            assert 0 < measurement.low <= measurement.value <= measurement.high


def test_two_percent_are_told_from_noise_on_a_steady_machine():
    steady = compare(Machine(jitter=0.02, hiccup=0.005), seconds=1.0)
    assert steady.measurements["close"]["latency.p50"].ratio.low > 1 + steady.noise
    assert steady.measurements["same"]["latency.p50"].ratio.low < 1 + steady.noise


def test_the_slow_one_is_slower_beyond_noise_and_the_equal_one_is_not(result):
    assert result.measurements["slow"]["latency.p50"].ratio.low > 1 + result.noise
    assert result.measurements["same"]["latency.p50"].ratio.low < 1 + result.noise


def test_rare_hiccups_show_in_the_99th_percentile_and_not_in_the_median():
    machine = Machine(hiccup=0.02)
    measured = compare(machine).measurements["base"]
    assert measured["latency.p50"].value == pytest.approx(5e-6)
    assert measured["latency.p99"].value == pytest.approx(50e-6)


def test_noise_is_the_reach_of_the_baseline_compared_with_itself(result):
    assert 0 < result.noise < 0.1
    assert result.noise == max(result.noise_by_metric["latency.p50"], result.noise_by_metric["throughput"])


def test_a_baseline_whose_second_session_is_slower_shows_it_as_noise():
    machine = Machine()
    uneven = measure_latency(
        {"base": machine.model(5_000, 80_000)},
        baseline="base",
        again=machine.model(5_500, 80_000),
        seconds=0.05,
        clock=machine.clock,
    )
    assert uneven.noise == pytest.approx(0.1)


def test_the_time_is_kept_and_ten_rounds_are_timed_however_long_they_take():
    machine = Machine()
    measure_latency({"a": machine.model(5_000, 80_000)}, baseline="a", seconds=0.3, clock=machine.clock)
    assert machine.now == pytest.approx(0.3e9, rel=0.05)
    glacial = Machine()
    slow = measure_latency({"a": glacial.model(1e9, 2e9)}, baseline="a", seconds=0.3, clock=glacial.clock)
    assert slow.rounds == 10


def test_real_sessions_are_timed():
    body = helper.make_graph(
        [helper.make_node("Relu", ["features"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    session = Session(model)
    one, many = np.zeros((1, 4), np.float32), np.zeros((256, 4), np.float32)
    runner = Runner(lambda: session.predict(one), lambda: session.predict(many))
    measured = measure_latency({"relu": runner}, baseline="relu", seconds=0.2).measurements["relu"]
    assert 0 < measured["latency.p50"].value <= measured["latency.p99"].value
    assert measured["throughput"].value > 0


def test_the_median_is_below_the_99th_percentile(result):
    for measured in result.measurements.values():
        assert measured["latency.p50"].value <= measured["latency.p99"].value


def test_the_baseline_has_no_ratio(result):
    assert all(measurement.ratio is None for measurement in result.measurements["base"].values())


def test_throughput_counts_records_and_not_calls(result):
    throughput = result.measurements["base"]["throughput"]
    assert throughput.unit == "records/s"
    assert throughput.note == "16 records a call"


def test_calls_are_interleaved_and_rounds_reordered():
    seen: list[str] = []
    machine = Machine()

    def runner(name: str) -> Runner:
        timed = machine.model(5_000, 5_000)
        return Runner(lambda: (seen.append(name), timed.one()), timed.many)

    models = {name: runner(name) for name in "abc"}
    measure_latency(models, baseline="a", seconds=0.01, clock=machine.clock)
    blocks = [name for name, previous in zip(seen, [None, *seen], strict=False) if name != previous]
    followers = set(pairwise(blocks))
    assert len(followers) == 6, "every model follows every other one at some time"


def test_garbage_collection_is_off_while_timing_and_on_afterwards():
    states: list[bool] = []
    measure_latency({"a": Runner(lambda: states.append(gc.isenabled()), lambda: None)}, baseline="a", seconds=0.02)
    assert not any(states)
    assert gc.isenabled()


def test_garbage_collection_is_on_again_after_a_failure():
    def fail() -> None:
        raise RuntimeError("broken model")

    with pytest.raises(RuntimeError, match="broken model"):
        measure_latency({"a": Runner(fail, fail)}, baseline="a", seconds=0.02)
    assert gc.isenabled()


def test_an_unknown_baseline_is_refused():
    with pytest.raises(InputError, match="baseline 'b' is not among the models: a"):
        measure_latency({"a": Machine().model(1, 1)}, baseline="b")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(InputError, match="above 0 and finite"):
        measure_latency({"a": Machine().model(1, 1)}, baseline="a", seconds=seconds)


@given(
    arrays.arrays(np.float64, (5, 4), elements=st.integers(0, 6).map(float)),
    arrays.arrays(np.int64, (3, 5), elements=st.integers(0, 4)),
    st.floats(0.01, 1),
)
def test_quantiles_of_resampled_rounds_are_those_of_the_rounds_written_out(values, drawn, share):
    weights = np.stack([np.bincount(row, minlength=5) for row in drawn]).astype(np.int32)
    (quantiles,) = weighted_quantiles(values, weights, (share,))
    for row, quantile in zip(drawn, quantiles, strict=True):
        assert quantile == np.quantile(values[row], share, method="inverted_cdf")
