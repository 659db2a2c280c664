"""Intervals against independent truths: published figures, simulation, direct resampling, scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import roc_auc_score

from hauberk.evaluate.intervals import delong, paired_areas, paired_rates, roc_curve_area
from hauberk.measurement import wilson


def test_paired_bootstrap_agrees_with_resampling_the_records_one_by_one():
    generator = np.random.default_rng(0)
    baseline = generator.random(400) < 0.8
    candidate = np.where(generator.random(400) < 0.1, ~baseline, baseline)
    rows = np.random.default_rng(1).integers(0, 400, size=(4000, 400))
    first, second = candidate[rows].mean(axis=1), baseline[rows].mean(axis=1)
    paired = paired_rates(candidate, baseline, seed=0)
    assert paired.difference.value == pytest.approx(candidate.mean() - baseline.mean())
    assert (paired.difference.low, paired.difference.high) == pytest.approx(
        np.percentile(first - second, [2.5, 97.5]), abs=0.004
    )
    assert paired.ratio is not None
    assert (paired.ratio.low, paired.ratio.high) == pytest.approx(np.percentile(first / second, [2.5, 97.5]), abs=0.005)


def test_a_pair_is_compared_more_sharply_than_two_strangers():
    generator = np.random.default_rng(0)
    baseline = generator.random(1000) < 0.5
    candidate = baseline.copy()
    candidate[:5] = ~candidate[:5]
    difference = paired_rates(candidate, baseline, seed=0).difference
    alone = wilson(int(candidate.sum()), 1000)
    assert difference.high - difference.low < 0.2 * (alone.high - alone.low)


def test_the_same_answers_differ_by_nothing():
    answers = np.array([True, False, True])
    paired = paired_rates(answers, answers, seed=0)
    assert (paired.difference.low, paired.difference.value, paired.difference.high) == (0, 0, 0)
    assert paired.ratio is not None
    assert paired.ratio.value == 1


def test_a_baseline_at_zero_has_no_ratio():
    assert paired_rates(np.array([True, False]), np.array([False, False]), seed=0).ratio is None


def test_no_records_leave_the_difference_open():
    nothing = np.zeros(0, np.bool_)
    difference = paired_rates(nothing, nothing, seed=0).difference
    assert (difference.low, difference.high) == (-1, 1)


targets_of_both_kinds = arrays.arrays(np.int64, 30, elements=st.integers(0, 1)).filter(lambda y: 0 < y.sum() < 30)
# Few distinct values, so that ties are the rule.
tied_margins = arrays.arrays(np.float32, 30, elements=st.integers(-3, 3).map(float))


@given(tied_margins, targets_of_both_kinds)
def test_the_area_is_the_one_of_scikit_learn_ties_included(margins, targets):
    assert roc_curve_area(margins, targets).area == pytest.approx(roc_auc_score(targets, margins), abs=1e-12)


@given(tied_margins, targets_of_both_kinds)
def test_the_interval_of_an_area_encloses_it_within_0_and_1(margins, targets):
    estimate = delong(roc_curve_area(margins, targets))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def simulated(generator: np.random.Generator, records: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins of two related models for records whose areas are known: Phi(1 / sqrt(2)) = 0.760250 and 0.5."""
    targets = (np.arange(records) % 2).astype(np.int64)
    shared = generator.normal(size=records)
    good = (targets + shared).astype(np.float32)
    poor = (0.6 * shared + 0.8 * generator.normal(size=records)).astype(np.float32)
    return good, poor, targets


def test_delong_covers_the_true_area_in_95_of_100_experiments():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        good, _, targets = simulated(generator)
        estimate = delong(roc_curve_area(good, targets))
        covered += estimate.low <= 0.7602499389 <= estimate.high
    # Four standard errors of a binomial rate around 0.95.
    assert covered / 600 == pytest.approx(0.95, abs=0.036)


def test_the_paired_difference_of_areas_covers_the_true_one():
    generator = np.random.default_rng(1)
    covered = covered_ratio = 0
    for _ in range(600):
        good, poor, targets = simulated(generator)
        paired = paired_areas(roc_curve_area(good, targets), roc_curve_area(poor, targets))
        covered += paired.difference.low <= 0.2602499389 <= paired.difference.high
        assert paired.ratio is not None
        covered_ratio += paired.ratio.low <= 1.5204998778 <= paired.ratio.high
    assert covered / 600 == pytest.approx(0.95, abs=0.036)
    assert covered_ratio / 600 == pytest.approx(0.95, abs=0.036)


def test_a_perfect_ranking_is_not_certain_to_stay_perfect():
    targets = np.repeat([0, 1], [50, 20])
    estimate = delong(roc_curve_area(np.arange(70, dtype=np.float32), targets))
    assert estimate.value == estimate.high == 1
    assert estimate.low == pytest.approx(wilson(20, 20).low)
