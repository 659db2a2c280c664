"""Thresholds and rates against brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import accuracy_score, recall_score

from hauberk.errors import ContractError, InputError
from hauberk.evaluate.quality import (
    Answers,
    alert_budget,
    choose_threshold,
    class_figures,
    detection_rate_measurement,
    measure_quality,
)

RECORDS = 40
targets_of_both_kinds = arrays.arrays(np.int64, RECORDS, elements=st.integers(0, 1)).filter(lambda y: 0 < y.sum() < 40)
margins_with_ties = arrays.arrays(
    np.float32, RECORDS, elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-(2.0**99), 2.0**99, width=32))
)
rates = st.floats(0.001, 0.999)


def scene(seed: int = 0, records: int = 2000) -> tuple[Answers, Answers, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, records)
    first = (2 * targets - 1 + generator.normal(size=records)).astype(np.float32)
    second = (first + 0.3 * generator.normal(size=records)).astype(np.float32)
    return Answers(first, 0.25), Answers(second, 0.5), targets


@given(margins_with_ties, targets_of_both_kinds, rates)
def test_the_threshold_raises_as_many_alerts_as_the_rate_allows(margins, targets, rate):
    threshold = np.float32(choose_threshold(margins, targets, rate))
    benign = margins[targets == 0]
    assert (benign >= threshold).mean() <= rate
    assert (benign >= benign[benign < threshold].max()).mean() > rate


def test_the_threshold_lies_midway_between_two_records():
    margins = np.array([0, 1, 2, 4, 8, 9], np.float32)
    targets = np.array([0, 0, 0, 0, 1, 1])
    assert choose_threshold(margins, targets, 0.25) == 3.0
    assert choose_threshold(margins, targets, 0.20) == 6.0


@given(margins_with_ties, targets_of_both_kinds, rates)
def test_the_threshold_survives_a_round_trip_through_python(margins, targets, rate):
    threshold = choose_threshold(margins, targets, rate)
    assert float(np.float32(threshold)) == threshold


def test_whole_numbers_of_alerts_are_not_lost_to_rounding():
    """0.29 * 100 is 28.999999999999996 in float64; 29 of 100 false alerts are allowed all the same."""
    margins = np.arange(101, dtype=np.float32)
    targets = np.array([0] * 100 + [1])
    threshold = choose_threshold(margins, targets, 0.29)
    assert (margins[:100] >= np.float32(threshold)).sum() == 29


def test_a_rate_that_rounds_to_every_record_spares_the_lowest():
    margins, targets = np.array([1, 2, 3], np.float32), np.zeros(3, np.int64)
    assert choose_threshold(margins, targets, 1 - 1e-12) == 1.5


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="between 0 and 1"):
        choose_threshold(np.zeros(4, np.float32), np.array([0, 1, 0, 1]), rate)


def test_no_benign_records_are_refused():
    with pytest.raises(InputError, match="needs benign records"):
        choose_threshold(np.zeros(4, np.float32), np.ones(4, np.int64), 0.1)


def test_a_model_that_answers_infinity_to_benign_records_has_no_threshold():
    margins = np.array([np.inf, np.inf, 0, 1], np.float32)
    with pytest.raises(InputError, match="infinity to 2 benign"):
        choose_threshold(margins, np.array([0, 0, 0, 1]), 0.3)


def test_nan_is_a_broken_contract_that_names_the_record():
    margins = np.array([0, 1, np.nan, np.nan], np.float32)
    with pytest.raises(ContractError, match="NaN to 2 of 4 records, first to record 2"):
        choose_threshold(margins, np.array([0, 1, 0, 1]), 0.1)
    with pytest.raises(ContractError, match="NaN"):
        Answers(margins, 0.0)


def test_margins_of_another_dtype_are_refused():
    with pytest.raises(InputError, match=r"float32 \[N\], not float64"):
        Answers(np.zeros(3), 0.0)


def test_an_alert_budget_is_a_rate():
    assert alert_budget(50, 1_000_000) == 5e-5


@pytest.mark.parametrize(("alerts", "records"), [(0, 10), (-1, 10), (10, 0), (10, 10), (1, float("inf"))])
def test_an_alert_budget_that_is_none_is_refused(alerts, records):
    with pytest.raises(InputError, match="alert budget"):
        alert_budget(alerts, records)


def test_rates_are_those_of_scikit_learn():
    answers, _, targets = scene()
    measured = measure_quality(answers, targets, false_positive_rate=0.01)
    labels = (answers.margins >= 0.25).astype(int)
    assert measured["accuracy"].value == pytest.approx(accuracy_score(targets, labels))
    assert measured["detection_rate@fpr=1%"].value == pytest.approx(recall_score(targets, labels))
    assert measured["false_positive_rate"].value == pytest.approx(1 - recall_score(targets, labels, pos_label=0))


def test_every_figure_of_a_candidate_has_an_interval_and_a_pair():
    baseline, candidate, targets = scene()
    measured = measure_quality(candidate, targets, false_positive_rate=0.01, baseline=baseline)
    for name, measurement in measured.items():
        assert measurement.low is not None
        assert measurement.high is not None
        assert measurement.low <= measurement.value <= measurement.high
        if name != "agreement":
            assert measurement.difference is not None
            assert measurement.ratio is not None
            assert measurement.difference.low <= measurement.difference.value <= measurement.difference.high


def test_differences_are_candidate_minus_baseline_at_each_ones_own_threshold():
    baseline, candidate, targets = scene()
    pair = measure_quality(candidate, targets, false_positive_rate=0.01, baseline=baseline)
    alone = measure_quality(baseline, targets, false_positive_rate=0.01)
    for name in ("accuracy", "detection_rate@fpr=1%", "false_positive_rate", "auroc"):
        assert pair[name].difference is not None
        assert pair[name].difference.value == pytest.approx(pair[name].value - alone[name].value)


def test_the_baseline_has_neither_difference_nor_ratio():
    answers, _, targets = scene()
    measured = measure_quality(answers, targets, false_positive_rate=0.01)
    assert all(measurement.difference is None and measurement.ratio is None for measurement in measured.values())
    assert measured["agreement"].value == 1


def test_agreement_is_the_share_of_equal_labels():
    baseline, candidate, targets = scene()
    agreement = measure_quality(candidate, targets, false_positive_rate=0.01, baseline=baseline)["agreement"]
    assert agreement.value == pytest.approx(((baseline.margins >= 0.25) == (candidate.margins >= 0.5)).mean())


def test_the_same_seed_gives_the_same_measurements():
    baseline, candidate, targets = scene()
    first, second = (
        measure_quality(candidate, targets, false_positive_rate=0.01, baseline=baseline, seed=3) for _ in range(2)
    )
    assert first == second


def test_a_detection_rate_says_what_it_costs_in_false_alerts():
    answers, _, targets = scene()
    measurement = detection_rate_measurement(answers, targets, false_positive_rate=0.005)
    false_positives = 100 * (answers.margins[targets == 0] >= 0.25).mean()
    assert measurement.name == "detection_rate@fpr=0.5%"
    assert f"{false_positives:.2f} %" in measurement.note


@pytest.mark.parametrize(
    ("targets", "message"),
    [(np.zeros(2000, np.int64), "benign"), (np.ones(1999, np.int64), "as many"), (np.arange(2000) % 3, "nothing else")],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    with pytest.raises(InputError, match=message):
        measure_quality(scene()[0], targets, false_positive_rate=0.01)


def test_classes_are_handled_right_when_attacks_alert_and_benign_records_do_not():
    figures = class_figures(
        np.array([0, 1, 1, 1, 0]),
        np.array([0, 0, 1, 1, 3]),
        ("normal", "probe", "worm", "flood"),
        benign="normal",
        seen=np.array([0, 1]),
    )
    assert [(f.name, f.attack, f.records, f.alerts, f.rate.value, f.seen) for f in figures] == [
        ("normal", False, 2, 1, 0.5, True),
        ("probe", True, 2, 2, 1.0, True),
        ("flood", True, 1, 0, 0.0, False),
    ]
