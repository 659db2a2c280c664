import pytest

from hauberk.artifact import StepRecord
from hauberk.measurement import Estimate, Measurement
from hauberk.report import wording


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("latency.p50", "Latency, median"),
        ("detection_rate@fpr=0.1%", "Detection rate at 0.1 % false positives"),
        ("something.new", "something.new"),
    ],
)
def test_metrics_have_names_in_words(metric, words):
    assert wording.title(metric) == words


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (7.42e-6, "s", "7.42 µs"),
        (0.9312, "fraction", "93.12 %"),
        (302_113, "bytes", "302 kB"),
        (1_500_059, "records/s", "1.50 M/s"),
        (52_300, "records/s", "52.3 k/s"),
        (812, "records/s", "812 records/s"),
        (1234, "count", "1,234"),
    ],
)
def test_figures_have_their_unit(value, unit, words):
    assert wording.figure(value, unit) == words


@pytest.mark.parametrize(
    ("low", "high", "unit", "words"),
    [
        (7.2e-6, 7.6e-6, "s", "7.20 – 7.60 µs"),
        (9.5e-4, 1.1e-3, "s", "950 µs – 1.10 ms"),
        (0.5, 0.75, "fraction", "50.00 – 75.00 %"),
        (3, 4, "count", "3 – 4"),
    ],
)
def test_a_unit_that_both_ends_have_is_said_once(low, high, unit, words):
    assert wording.span(low, high, unit) == words


def measurement(unit, **comparison):
    return Measurement("x", 0.5, unit, 10, **comparison)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (measurement("fraction", difference=Estimate(-0.01, -0.02, 0.005)), "−1.00 pt (−2.00 to +0.50)"),
        (measurement("s", ratio=Estimate(0.69, 0.68, 0.7)), "0.69 × baseline (0.68 – 0.70)"),
        (measurement("bytes", ratio=Estimate(0.25, 0.25, 0.25)), "0.25 × baseline"),
        (measurement("s", difference=Estimate(-1e-6, -2e-6, -5e-7)), "−1.00 µs (−2.00 µs to −0.500 µs)"),
        (measurement("s"), ""),
    ],
)
def test_comparisons_are_differences_of_rates_and_ratios_of_the_rest(found, words):
    assert wording.against_baseline(found) == words


def record(contract):
    return StepRecord("s", {}, contract, "a", "b", kept=True, verdict=None, seconds=0.1)


@pytest.mark.parametrize(
    ("contract", "words"),
    [
        ({"contract": "exact"}, "exact: bit for bit the same"),
        ({"contract": "close", "rtol": 1e-4, "atol": 1e-5}, "close: within 0.0001 relative and 1e-05 absolute"),
        ({"contract": "lossy", "agreement": 0.99, "rms": None}, "lossy: agrees on at least 99 % of real records"),
        (
            {"contract": "lossy", "agreement": 0.99, "rms": 0.05},
            "lossy: agrees on at least 99 % of real records, logits within 5 % (rms)",
        ),
        ("admission", "admission"),
        ({"contract": "later"}, '{"contract": "later"}'),
    ],
)
def test_contracts_are_sentences(contract, words):
    assert wording.contract(record(contract)) == words


@pytest.mark.parametrize(("seconds", "words"), [(0, "none"), (0.004, "4.00 ms"), (31.4, "31.4 s"), (161.4, "2.7 min")])
def test_time_spans(seconds, words):
    assert wording.duration(seconds) == words
