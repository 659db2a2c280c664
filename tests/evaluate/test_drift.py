"""Disturbed records stay records of their schema, and the figures are those that a detector of one line must have."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.errors import InputError
from hauberk.evaluate.disturbances import (
    DISTURBANCES,
    Gauges,
    Missing,
    Noise,
    RareCategories,
    UnknownCategories,
    Usual,
    applicable,
)
from hauberk.evaluate.drift import DetectionByClass, DriftResult, detection_by_class, labelling, measure_drift
from hauberk.measurement import wilson
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Coded,
    Coder,
    Decision,
    FeatureSpace,
    IntegerFeature,
    Label,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)

SCHEMA = RecordSchema(
    features=(
        NumericFeature(name="rate", low=0.0, high=1.0, missing=0.25),
        IntegerFeature(name="bytes", low=0, high=1_000_000),
        BooleanFeature(name="inside"),
        NumericFeature(name="offset", low=-5.0, high=5.0),
        CategoricalFeature(name="service", categories=("web", "mail", "rare"), missing="mail"),
        CategoricalFeature(name="flag", categories=("S", "F")),
    )
)
SPACE = FeatureSpace(
    SCHEMA,
    Preprocessing(
        (Scaling(False, 0.0, 1.0), Scaling(True, 0.0, 14.0), Scaling(False, 0.0, 1.0), Scaling(False, 0.0, 1.0))
    ),
)


def records(count: int = 400, seed: int = 0) -> Coded:
    generator = np.random.default_rng(seed)
    numeric = np.stack(
        [
            generator.random(count),
            np.floor(np.exp(generator.uniform(0, 12, count))),
            generator.integers(0, 2, count),
            np.clip(generator.normal(size=count), -5, 5),
        ],
        axis=1,
    ).astype(np.float32)
    codes = np.stack([generator.choice([1, 2, 3], count, p=[0.6, 0.35, 0.05]), generator.integers(0, 3, count)], axis=1)
    return Coded(numeric, codes.astype(np.int64))


def disturb(disturbance, coded: Coded, seed: int = 0) -> tuple[Coded, np.ndarray]:
    return disturbance.apply(coded, Usual(SPACE, coded), np.random.default_rng(seed))


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=str)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_disturbed_records_are_records_of_the_schema(disturbance, seed):
    """The coder refuses what no sensor could report: fractions of whole numbers, truth values of 0.3, strange codes."""
    coded = records(60, seed)
    before = Coded(coded.numeric.copy(), coded.codes.copy())
    disturbed, rows = disturb(disturbance, coded, seed)
    Coder(SCHEMA).code(Coder(SCHEMA).check(disturbed))
    assert np.array_equal(np.rint(disturbed.numeric[:, 1]), disturbed.numeric[:, 1])
    assert np.array_equal(disturbed.numeric[:, 2] * (1 - disturbed.numeric[:, 2]), np.zeros(len(rows)))
    assert len(disturbed.numeric) == len(disturbed.codes) == len(rows)
    assert all(np.array_equal(now, then) for now, then in zip(coded, before, strict=True))


def test_noise_has_the_spread_that_is_asked_for():
    """In the middle of a wide range nothing is cut off, so that the standard deviation is the one of the definition."""
    coded = records(20_000)
    noisy, _ = disturb(Noise(spreads=0.1), coded)
    moved = noisy.numeric[:, 3] - coded.numeric[:, 3]
    assert moved.std() == pytest.approx(0.1 * coded.numeric[:, 3].std(), rel=0.03)
    logged = np.log1p(noisy.numeric[:, 1]) - np.log1p(coded.numeric[:, 1])
    inside = coded.numeric[:, 1] > 1000
    assert logged[inside].std() == pytest.approx(0.1 * np.log1p(coded.numeric[:, 1]).std(), rel=0.05)


def test_noise_keeps_within_the_range_of_the_schema_and_touches_no_category():
    coded = records()
    coded.numeric[0, 0] = 3.0  # outside already: may stay, may not go further
    noisy, _ = disturb(Noise(spreads=5.0), coded)
    assert noisy.numeric[0, 0] <= 3.0
    assert (noisy.numeric[1:, 0] <= 1).all()
    assert (noisy.numeric[:, 0] >= 0).all()
    assert np.array_equal(noisy.codes, coded.codes)
    assert np.array_equal(noisy.numeric[:, 2], coded.numeric[:, 2])


def test_what_is_missing_takes_what_the_schema_says():
    """Everything lost: `missing` where there is one, the median where there is none, unknown where there is no name."""
    coded = records()
    gone, _ = disturb(Missing(share=1.0), coded)
    assert (gone.numeric[:, 0] == np.float32(0.25)).all()
    assert set(np.unique(gone.numeric[:, 1])) == {np.sort(coded.numeric[:, 1])[199]}
    assert (gone.codes == [2, 0]).all()
    assert "3 of 4 numbers" in Missing(share=1.0).note(Usual(SPACE, coded))


def test_as_many_values_are_lost_as_asked_for():
    coded = records(20_000)
    gone, _ = disturb(Missing(share=0.3), coded)
    changed = (gone.numeric[:, 0] != coded.numeric[:, 0]).mean()
    assert wilson(int(0.3 * 20_000), 20_000).low - 0.005 < changed < wilson(int(0.3 * 20_000), 20_000).high + 0.005


def test_unknown_categories_fall_into_the_unknown_slot():
    coded = records(5000)
    strange, _ = disturb(UnknownCategories(share=1.0), coded)
    assert not strange.codes.any()
    assert np.array_equal(strange.numeric, coded.numeric)
    some, _ = disturb(UnknownCategories(share=0.5), coded)
    assert (some.codes[:, 0] == 0).mean() == pytest.approx(0.5, abs=0.03)


def test_rare_categories_become_frequent_and_records_stay_what_they_are():
    coded = records(8000)
    drawn, rows = disturb(RareCategories(tilt=1.0), coded)
    assert len(np.unique(rows)) == len(rows) == 2000
    assert np.array_equal(drawn.numeric, coded.numeric[rows])
    assert (drawn.codes[:, 0] == 3).mean() > 1.7 * (coded.codes[:, 0] == 3).mean()
    assert (drawn.codes[:, 0] == 1).mean() < (coded.codes[:, 0] == 1).mean()


def test_the_draw_without_replacement_has_the_weights_of_its_definition():
    """One record in four is drawn of four: its chances are the weights themselves."""
    coded = Coded(np.zeros((4, 4), np.float32), np.array([[1, 1], [1, 1], [1, 1], [3, 1]]))
    usual = Usual(SPACE, coded)
    weights = np.exp([np.mean([usual.rarity[0][a], usual.rarity[1][b]]) for a, b in coded.codes])
    generator = np.random.default_rng(0)
    drawn = [int(RareCategories(tilt=1.0).apply(coded, usual, generator)[1][0]) for _ in range(4000)]
    assert np.bincount(drawn, minlength=4) / 4000 == pytest.approx(weights / weights.sum(), abs=0.03)


def test_gauges_move_a_whole_column_by_one_factor():
    coded = records()
    moved, _ = disturb(Gauges(factor=2.0), coded)
    ratio = moved.numeric[:, 3] / coded.numeric[:, 3]
    assert np.ptp(ratio) == 0
    assert ratio[0] in (0.5, 2.0)
    assert np.array_equal(moved.numeric[:, 2], coded.numeric[:, 2])


def test_numbers_stay_finite_however_far_gauges_drift():
    coded = records()
    coded.numeric[:, 3] = 3e38
    moved, _ = disturb(Gauges(factor=1e6), coded)
    assert np.isfinite(moved.numeric).all()


def rate_above(threshold: float):
    """A detector of one line: an alert where the first number exceeds a threshold."""
    return lambda coded: (coded.numeric[:, 0] > threshold).astype(np.int64)


def test_figures_are_those_of_a_detector_that_can_be_counted_by_hand():
    coded = records(1000)
    targets = (coded.numeric[:, 0] > 0.5).astype(np.int64)
    models = {"exact": rate_above(0.5), "low": rate_above(0.4)}
    result = measure_drift(models, SPACE, coded, targets, baseline="exact", disturbances=(Missing(share=0.4),))
    assert [(row.disturbance, row.model) for row in result.figures] == [
        ("none", "exact"), ("none", "low"), ("missing", "exact"), ("missing", "low"),
    ]  # fmt: skip
    clean, low, gone, _ = result.figures
    assert clean.accuracy.value == clean.unchanged.value == clean.detection_rate.value == 1.0
    between = ((coded.numeric[:, 0] > 0.4) & (targets == 0)).sum()
    assert low.false_positive_rate.value == pytest.approx(between / (targets == 0).sum())
    assert low.accuracy.difference.value == pytest.approx(-between / 1000)
    # What is lost reads 0.25 and raises no alert: four of ten attacks, and not one benign record.
    assert gone.detection_rate.value == pytest.approx(0.6, abs=0.05)
    assert gone.false_positive_rate.value == 0
    alerts = round(gone.detection_rate.value * targets.sum())
    assert (gone.detection_rate.low, gone.detection_rate.high) == wilson_ends(alerts, int(targets.sum()))


def wilson_ends(successes: int, samples: int) -> tuple[float, float]:
    found = wilson(successes, samples)
    return found.low, found.high


def test_results_are_plain_data_and_the_same_for_the_same_seed():
    coded = records(200)
    targets = (coded.numeric[:, 0] > 0.5).astype(np.int64)
    first, second = (measure_drift({"m": rate_above(0.5)}, SPACE, coded, targets, baseline="m", seed=3) for _ in "12")
    assert first == second
    assert msgspec.json.decode(msgspec.json.encode(first), type=DriftResult) == first
    assert len(first.figures) == 1 + len(DISTURBANCES)


def test_leaving_a_disturbance_out_changes_no_other():
    coded = records(200)
    targets = (coded.numeric[:, 0] > 0.5).astype(np.int64)
    arguments = ({"m": rate_above(0.5)}, SPACE, coded, targets)
    every = measure_drift(*arguments, baseline="m")
    one = measure_drift(*arguments, baseline="m", disturbances=(Gauges(factor=2.0),))
    assert one.figures[1] in every.figures


def test_without_categories_their_drift_is_left_out():
    schema = RecordSchema(features=(NumericFeature(name="x", low=0.0, high=1.0),))
    space = FeatureSpace(schema, Preprocessing((Scaling(False, 0.0, 1.0),)))
    kept = {disturbance.name for disturbance in applicable(DISTURBANCES, space)}
    assert kept == {"noise", "missing", "gauges"}


def test_a_session_is_asked_in_feature_space_and_answers_at_its_own_threshold():
    class Session:
        def predict(self, batch: np.ndarray) -> np.ndarray:
            assert batch.shape[1] == SPACE.width
            margin = np.where(batch[:, 0] > 0.9, np.nan, 10 * batch[:, 0])
            return np.stack([np.zeros(len(batch)), margin], axis=1).astype(np.float32)

    coded = records(700)
    labels = labelling(Session(), Decision(threshold=5.0), SPACE)(coded)
    assert np.array_equal(labels, (coded.numeric[:, 0] >= 0.5).astype(np.int64))  # NaN raises an alert, too


LABEL = Label("kind", ("flood", "normal", "probe", "worm"), "normal")


def test_detection_by_class_counts_each_class_and_sums_up_the_unseen():
    coded = records(900)
    classes = np.repeat([0, 1, 3], [300, 400, 200])
    found = detection_by_class(
        {"float32": rate_above(0.5), "int8": rate_above(0.6)},
        coded,
        classes,
        LABEL,
        seen=np.array([0, 1, 2]),
        baseline="float32",
    )
    assert [(row.name, row.seen, row.records) for row in found.classes] == [
        ("worm", False, 200),
        ("flood", True, 300),
        ("normal", True, 400),
    ]
    alerts = coded.numeric[:, 0] > 0.5
    worm = found.classes[0].alerts
    assert worm["float32"].value == pytest.approx(alerts[classes == 3].mean())
    assert worm["int8"].difference.value == pytest.approx(worm["int8"].value - worm["float32"].value)
    assert (worm["float32"].low, worm["float32"].high) == wilson_ends(int(alerts[classes == 3].sum()), 200)
    assert [(row.name, row.attack, row.records) for row in found.together] == [
        ("unseen attacks", True, 200),
        ("seen attacks", True, 300),
        ("normal", False, 400),
    ]
    assert msgspec.json.decode(msgspec.json.encode(found), type=DetectionByClass) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "gone"}, "the baseline 'gone' must be among the models 'm'"),
        ({"targets": np.zeros(3, np.int64)}, "3 targets for 20 records"),
        ({"targets": np.full(20, 2)}, "0 for benign and 1 for attack"),
        ({"models": {"m": lambda coded: np.zeros(3)}}, "model 'm' answers 20 records with labels"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "models": {"m": rate_above(0.5)},
        "space": SPACE,
        "coded": records(20),
        "targets": np.zeros(20, np.int64),
        "baseline": "m",
    }
    with pytest.raises(InputError, match=message):
        measure_drift(**(arguments | change))


def test_a_class_out_of_range_is_refused():
    with pytest.raises(InputError, match="a record has a class outside 0 to 3"):
        detection_by_class(
            {"m": rate_above(0.5)}, records(2), np.array([0, 4]), LABEL, seen=np.array([0]), baseline="m"
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(spreads=0.0), "strength of noise must be a finite number above 0, not 0.0"),
        (lambda: Missing(share=1.2), "share of missing must be a finite number above 0 and at most 1, not 1.2"),
        (lambda: UnknownCategories(share=-1.0), "share of unknown-categories"),
        (lambda: RareCategories(tilt=float("nan")), "tilt of rare-categories"),
        (lambda: Gauges(factor=1.0), "factor of gauges must be a finite number above 1"),
    ],
)
def test_strengths_out_of_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
