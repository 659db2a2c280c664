"""Requirements: what can be written, what it means, and how it is judged."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import InputError
from hauberk.measurement import Estimate, Measurement
from hauberk.requirements import detection_rate, false_positive_rate, parse_requirement, show, show_difference


@pytest.mark.parametrize(
    ("text", "metric", "operator", "relative", "value"),
    [
        ("latency.p99 <= 50us", "latency.p99", "<=", None, 50e-6),
        ("latency.p99<=0.05ms", "latency.p99", "<=", None, 50e-6),
        ("training_time <= 2min", "training_time", "<=", None, 120.0),
        ("size <= 64 KiB", "size", "<=", None, 65536.0),
        ("size <= 40% of baseline", "size", "<=", "ratio", 0.4),
        ("latency.p50 <= baseline - 10%", "latency.p50", "<=", "ratio", 0.9),
        ("latency.p50 <= baseline", "latency.p50", "<=", "difference", 0.0),
        ("robust_accuracy >= baseline - 1pt", "robust_accuracy", ">=", "difference", -0.01),
        ("accuracy >= 97%", "accuracy", ">=", None, 0.97),
        ("accuracy >= 0.97", "accuracy", ">=", None, 0.97),
        ("detection_rate@fpr=1% >= 95%", "detection_rate@fpr=1%", ">=", None, 0.95),
        ("detection_rate@fpr=0.001 >= baseline - 0.5pt", "detection_rate@fpr=0.1%", ">=", "difference", -0.005),
        ("throughput >= 1e6/s", "throughput", ">=", None, 1e6),
    ],
)
def test_reads(text, metric, operator, relative, value):
    requirement = parse_requirement(text)
    assert (requirement.metric, requirement.operator, requirement.relative) == (metric, operator, relative)
    assert requirement.value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("latency.p99 < 50us", "expected METRIC <= VALUE"),
        ("latency <= 50us", "unknown metric 'latency'"),
        ("latency.p99 <= 50", "unit '' does not fit"),
        ("latency.p99 <= 50MB", "unit 'MB' does not fit"),
        ("accuracy >= baseline - 1", "percentage points"),
        ("accuracy >= high", "cannot read 'high'"),
        ("latency.p99 <= 1e999us", "cannot read '1e999us'"),
        ("agreement >= baseline - 1pt", "agreement with the baseline already; give agreement an absolute bound"),
        ("training_time <= baseline + 1min", "takes no training"),
        ("training_time <= 50% of baseline", "takes no training"),
        ("detection_rate@fpr=0% >= 1%", "between 0 and 100 %"),
        ("detection_rate@fpr=150% >= 1%", "between 0 and 100 %"),
        ("", "expected METRIC <= VALUE"),
    ],
)
def test_refuses_with_a_reason(text, says):
    with pytest.raises(InputError) as error:
        parse_requirement(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        parse_requirement(text)
    except InputError as error:
        assert text == "" or repr(text) in str(error)  # noqa: PT017 - either outcome is right


def accuracy(value: float, *, low: float, high: float, difference: Estimate | None = None) -> dict[str, Measurement]:
    return {"accuracy": Measurement("accuracy", value, "fraction", 100, low, high, difference)}


def test_an_absolute_rate_holds_only_when_its_lower_bound_does():
    requirement = parse_requirement("accuracy >= 95%")
    assert not requirement.judge(accuracy(0.96, low=0.94, high=0.98)).holds
    assert requirement.judge(accuracy(0.97, low=0.951, high=0.98)).holds


def test_a_relative_rate_is_judged_on_the_paired_interval():
    requirement = parse_requirement("accuracy >= baseline - 1pt")
    assert requirement.judge(accuracy(0.5, low=0.4, high=0.6, difference=Estimate(-0.005, -0.009, 0.0))).holds
    outcome = requirement.judge(accuracy(0.5, low=0.4, high=0.6, difference=Estimate(-0.005, -0.011, 0.0)))
    assert not outcome.holds
    assert outcome.reason == ("accuracy minus baseline is -0.50 pt (95 % bound -1.10 pt), required >= -1.00 pt")


def test_the_baseline_meets_every_requirement_that_allows_no_change():
    assert parse_requirement("accuracy >= baseline").judge(accuracy(0.5, low=0.4, high=0.6)).holds
    assert not parse_requirement("accuracy >= baseline + 1pt").judge(accuracy(0.5, low=0.4, high=0.6)).holds


def test_nothing_is_relative_to_a_baseline_of_zero():
    measured = accuracy(0.5, low=0.4, high=0.6, difference=Estimate(0.5, 0.4, 0.6))
    outcome = parse_requirement("accuracy >= 90% of baseline").judge(measured)
    assert not outcome.holds
    assert "baseline is 0" in outcome.reason


def test_an_upper_bound_uses_the_upper_end():
    measured = {"latency.p99": Measurement("latency.p99", 49e-6, "s", 100, 47e-6, 51e-6)}
    assert not parse_requirement("latency.p99 <= 50us").judge(measured).holds


def test_what_was_not_measured_is_missed():
    outcome = parse_requirement("size <= 1MB").judge({})
    assert not outcome.holds
    assert outcome.reason == "size was not measured"


def test_a_rate_in_per_cent_is_the_float_that_a_division_gives():
    """7 * 0.01 is another number, and another number would get a threshold and a figure of its own."""
    assert false_positive_rate("detection_rate@fpr=7%") == 7 / 100


@given(st.floats(1e-12, 0.9999))
def test_detection_rate_names_round_trip(rate):
    name = detection_rate(rate)
    assert false_positive_rate(name) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (7.12e-6, "s", "7.12 µs"),
        (0.0123, "s", "12.3 ms"),
        (3.0, "s", "3.00 s"),
        (999.7e-6, "s", "1.00 ms"),
        (0.0, "s", "0.00 µs"),
        (1500.0, "s", "1500 s"),
        (45500, "bytes", "45.5 kB"),
        (12, "bytes", "12 B"),
        (0.9731, "fraction", "97.31 %"),
        (1234567.0, "records/s", "1,234,567 records/s"),
        (0.5, "", "0.500"),
    ],
)
def test_shows_figures_as_people_read_them(value, unit, shown):
    assert show(value, unit) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (-0.012, "fraction", "-1.20 pt"),
        (0.0, "fraction", "+0.00 pt"),
        (0.0012, "s", "+1.20 ms"),
        (-5e4, "bytes", "-50.0 kB"),
    ],
)
def test_differences_have_their_sign_and_those_of_rates_are_points(value, unit, shown):
    assert show_difference(value, unit) == shown


def test_only_what_is_measured_can_be_required_where_less_than_all_is():
    assert parse_requirement("size <= 1MB", ("size", "accuracy")).metric == "size"
    for text, says in (
        ("auroc >= 90%", "auroc is not measured here; measured are size, accuracy"),
        ("detection_rate@fpr=1% >= 90%", "detection_rate@fpr=1% is not measured here"),
        ("speed >= 3", "unknown metric 'speed'; measured are size, accuracy"),
    ):
        with pytest.raises(InputError, match=re.escape(says)):
            parse_requirement(text, ("size", "accuracy"))
