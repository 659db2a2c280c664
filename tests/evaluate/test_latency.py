"""Ratios of work whose cost is known, with wide margins; no test says how long anything takes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.errors import InputError
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency, weighted_quantiles


def work(loops: int) -> Callable[[], object]:
    def call() -> int:
        total = 0
        for number in range(loops):
            total += number
        return total

    return call


@pytest.fixture(scope="module")
def result() -> LatencyResult:
    base, slow = Runner(work(300), work(3000)), Runner(work(900), work(9000))
    return measure_latency(
        {"base": base, "same": Runner(work(300), work(3000)), "slow": slow}, baseline="base", seconds=0.8, batch=16
    )


def test_a_known_ratio_of_cost_is_found(result):
    slow = result.measurements["slow"]
    assert slow["latency.p50"].ratio.value == pytest.approx(3, rel=0.25)
    assert slow["throughput"].ratio.value == pytest.approx(1 / 3, rel=0.25)


def test_intervals_enclose_their_figures(result):
    for measured in result.measurements.values():
        for measurement in measured.values():
            assert 0 < measurement.low <= measurement.value <= measurement.high


def test_the_slow_one_is_slower_beyond_noise_and_the_equal_one_hardly(result):
    assert result.measurements["slow"]["latency.p50"].ratio.low > 1 + result.noise
    assert result.measurements["same"]["latency.p50"].ratio.value == pytest.approx(1, abs=0.15)


def test_noise_is_the_reach_of_the_baseline_compared_with_itself(result):
    assert 0 <= result.noise < 0.5
    assert result.noise == max(result.noise_by_metric["latency.p50"], result.noise_by_metric["throughput"])


def test_a_baseline_whose_second_session_is_slower_shows_it_as_noise():
    uneven = measure_latency(
        {"base": Runner(work(300), work(300))}, baseline="base", again=Runner(work(600), work(300)), seconds=0.2
    )
    assert uneven.noise > 0.5


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

    def runner(name: str) -> Runner:
        return Runner(lambda: seen.append(name), lambda: None)

    measure_latency({"a": runner("a"), "b": runner("b"), "c": runner("c")}, baseline="a", seconds=0.05)
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
        measure_latency({"a": Runner(work(1), work(1))}, baseline="b")


def test_no_time_is_refused():
    with pytest.raises(InputError, match="above 0"):
        measure_latency({"a": Runner(work(1), work(1))}, baseline="a", seconds=0)


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
