"""Smoothing against closed forms: scipy's beta quantiles, and a linear model, whose exact radii are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hauberk.attacks import Classes
from hauberk.errors import InputError
from hauberk.evaluate.robustness.certify.binomial import lowest_probability
from hauberk.evaluate.robustness.certify.smoothing import ABSTAINED, Smoothing, smooth
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

from .conftest import box

WEIGHT = np.array([3.0, -4.0, 0.0, 12.0], np.float32)  # of length 13, and 5 without the last


@dataclass(frozen=True)
class Linear:
    """A margin of `WEIGHT @ x + bias`, as one logit or as two."""

    bias: float = 0.0
    outputs: int = 1

    def predict(self, batch: np.ndarray) -> np.ndarray:
        margin = batch @ WEIGHT + np.float32(self.bias)
        return margin[:, None] if self.outputs == 1 else np.stack([-margin / 2, margin / 2], axis=1)


def records(count: int = 40, seed: int = 0) -> LabelledFeatures:
    features = np.random.default_rng(seed).normal(scale=0.1, size=(count, 4)).astype(np.float32)
    return LabelledFeatures(features, (features @ WEIGHT >= 0).astype(np.int64))


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 3000), share=st.floats(0, 1), risk=st.sampled_from([1e-6, 0.001, 0.05, 0.5, 0.9]))
def test_the_lower_bound_is_scipys_quantile_of_the_beta_distribution(trials, share, risk):
    successes = round(share * trials)
    exact = stats.beta.ppf(risk, successes, trials - successes + 1) if successes else 0.0
    found = lowest_probability(successes, trials, risk)
    assert found <= exact * (1 + 1e-12)
    assert found == pytest.approx(exact, rel=1e-5, abs=1e-15)


def test_the_bound_is_that_of_a_published_table():
    """Clopper-Pearson 95 % one-sided, 20 of 20: 0.05 ** (1 / 20)."""
    assert lowest_probability(20, 20, 0.05) == pytest.approx(0.05 ** (1 / 20), rel=1e-6)
    assert lowest_probability(100_000, 100_000, 0.001) == pytest.approx(0.001 ** (1 / 100_000), rel=1e-6)


@pytest.mark.parametrize(
    ("successes", "trials", "risk"), [(3, 2, 0.1), (-1, 2, 0.1), (0, 0, 0.1), (1, 2, 0.0), (1, 2, 1.0)]
)
def test_no_count_and_no_risk(successes, trials, risk):
    with pytest.raises(InputError, match="Clopper-Pearson"):
        lowest_probability(successes, trials, risk)


@pytest.mark.parametrize("outputs", [1, 2])
def test_radii_on_a_linear_model_are_at_most_the_exact_ones_and_near_them(outputs):
    """The distance to the plane, whatever the noise. With 40 certificates at 1e-6, one that is too far is a mistake."""
    given = records()
    exact = np.abs(given.features.astype(np.float64) @ WEIGHT) / 13.0
    smoothing = Smoothing(sigma=0.1, samples=20_000, risk=1e-6)
    found = smooth(Linear(outputs=outputs), Decision(outputs), given, box(0.02, 4, norm="l2"), smoothing)
    assert (found.radii <= exact).all()
    # Nearer, the first copies may favour the wrong side; farther than two sigma, hardly any copy is on it.
    near = (exact > 0.06) & (exact < 0.2)
    assert near.sum() > 15
    assert found.radii[near] == pytest.approx(exact[near], abs=0.02)
    decided = found.answers != ABSTAINED
    assert (found.answers[decided] == given.targets[decided]).all()
    assert (found.radii[~decided] == 0).all()
    assert (found.certified == (found.radii > 0.02)).all()


def test_columns_that_cannot_move_get_no_noise():
    """Then the distance is that along the others."""
    given = records()
    threat = box(0.02, 4, norm="l2", mutable=np.array([1, 1, 1, 0], np.bool_))
    exact = np.abs(given.features.astype(np.float64) @ WEIGHT) / 5.0
    found = smooth(Linear(), Decision(1), given, threat, Smoothing(sigma=0.3, samples=20_000, risk=1e-6))
    assert (found.radii <= exact).all()
    near = (exact > 0.15) & (exact < 0.6)
    assert found.radii[near] == pytest.approx(exact[near], abs=0.06)


def test_on_the_boundary_it_abstains_and_that_is_counted():
    on_it = LabelledFeatures(np.zeros((30, 4), np.float32), np.ones(30, np.int64))
    found = smooth(Linear(), Decision(1), on_it, box(0.0, 4, norm="l2"), Smoothing(sigma=0.1, samples=500))
    assert found.figures.abstained.value == (found.answers == ABSTAINED).mean() > 0.9
    assert not found.certified[found.answers == ABSTAINED].any()


def test_a_wrong_answer_is_never_certified():
    given = records()
    flipped = LabelledFeatures(given.features, 1 - given.targets)
    found = smooth(Linear(), Decision(1), flipped, box(0.0, 4, norm="l2"), Smoothing(sigma=0.05))
    assert (found.radii > 0).any()
    assert not found.certified.any()
    assert found.figures.accuracy.value == 0.0


def test_the_threshold_is_part_of_the_answer():
    given = records()
    moved, shifted = (
        smooth(Linear(bias), Decision(1, threshold=threshold), given, box(0.0, 4, norm="l2"), Smoothing(sigma=0.05))
        for bias, threshold in ((0.0, 0.5), (-0.5, 0.0))
    )
    assert moved.answers.tolist() == shifted.answers.tolist()


def test_classes_are_counted_and_a_nan_is_none_of_them():
    class Broken:
        def predict(self, batch: np.ndarray) -> np.ndarray:
            logits = np.stack([batch[:, 0], -batch[:, 0], np.full(len(batch), -9.0)], axis=1)
            logits[batch[:, 1] > 0] = np.nan
            return logits.astype(np.float32)

    features = np.array([[5, -5, 0, 0], [-5, -5, 0, 0], [5, 5, 0, 0]], np.float32)
    given = LabelledFeatures(features, np.array([0, 1, 0]))
    found = smooth(Broken(), Classes(3), given, box(0.1, 4, norm="l2"), Smoothing(sigma=0.1))
    assert found.answers.tolist() == [0, 1, ABSTAINED]
    assert found.certified.tolist() == [True, True, False]


def test_seed_and_place_decide_the_noise_and_the_batch_size_does_not():
    given, threat = records(), box(0.02, 4, norm="l2")
    first, again, in_parts, other = (
        smooth(Linear(), Decision(1), given, threat, Smoothing(sigma=0.1, batch_size=size), seed=seed).radii.tolist()
        for size, seed in ((4096, 1), (4096, 1), (64, 1), (4096, 2))
    )
    assert first == again == in_parts
    assert first != other
    part = LabelledFeatures(given.features[:7], given.targets[:7])
    assert smooth(Linear(), Decision(1), part, threat, Smoothing(sigma=0.1), seed=1).radii.tolist() == first[:7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat": box(0.1, 4)}, "norm of the threat model is 'linf'"),
        ({"threat": box(0.1, 5, norm="l2")}, "records of 5 numbers"),
        ({"judge": Classes(2, wanted=1)}, "leave the wanted class away"),
        ({"records": LabelledFeatures(np.zeros((2, 4), np.float32), np.array([0]))}, "1 targets for 2 records"),
        ({"records": LabelledFeatures(np.zeros((1, 4), np.float32), np.array([2]))}, "right is 0 for benign"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"judge": Decision(1), "records": records(3), "threat": box(0.1, 4, norm="l2"), **change}
    with pytest.raises(InputError, match=message):
        smooth(Linear(), given["judge"], given["records"], given["threat"], Smoothing(sigma=0.1))


@pytest.mark.parametrize(
    "options", [{"sigma": 0.0}, {"sigma": np.inf}, {"sigma": 1, "risk": 1.0}, {"sigma": 1, "samples": 0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="smoothing: "):
        Smoothing(**options)
