"""Options of robust training: what is out of range or would have no effect is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauberk.attacks import FeatureThreat
from hauberk.errors import InputError
from hauberk.train import TrainingOptions, weights_by_kind
from hauberk.train.robust import RobustOptions, of_windows


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"radius": 0.0}, "radius is 0.0; a number above 0"),
        ({"step_size": float("inf")}, "step_size is inf"),
        ({"steps": 0}, "steps is 0; a whole number"),
        ({"validation_records": 0}, "validation_records is 0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; a number from 0 to below 1"),
        ({"weight_perturbation": -1.0}, "weight_perturbation is -1.0; a number from 0"),
        ({"beta": 2.0}, "beta is for trades and mart; the method is pgd"),
        ({"start": "record"}, "start is for fast; the method is pgd"),
        ({"alignment": 0.1, "method": "free"}, "alignment is for fast"),
        ({"clean": 0.1, "method": "trades"}, "clean is for pgd and fast"),
        ({"weight_perturbation": 0.1, "method": "free"}, "weight_perturbation is for pgd and trades and mart and fast"),
    ],
)
def test_values_out_of_range_or_without_effect_are_refused(parameters, says):
    with pytest.raises(InputError, match=says):
        RobustOptions(**parameters)


def test_values_that_a_method_decides():
    assert RobustOptions(method="trades").weight_of_divergence == 6
    assert RobustOptions(method="mart").weight_of_divergence == 5
    assert RobustOptions(method="mart", beta=0.0).weight_of_divergence == 0
    assert RobustOptions(steps=10).length == 0.25
    assert RobustOptions(method="fast").length == 1
    assert RobustOptions(method="fast", start="random").length == 1.25
    assert RobustOptions(step_size=0.5).length == 0.5


@pytest.mark.parametrize("parameters", [{"accumulate": 0}, {"averaging": 1.1}, {"averaging": -0.1}])
def test_training_options_out_of_range_are_refused(parameters):
    with pytest.raises(InputError, match=f"training option {next(iter(parameters))} is"):
        TrainingOptions(**parameters)


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.floats(0, 1))
def test_attacks_weigh_together_what_they_did(kinds, exponent):
    kinds = np.array(kinds)
    targets = (kinds > 0).astype(np.int64)
    weights = weights_by_kind(kinds, targets, exponent)
    assert (weights[targets == 0] == 1).all()
    assert weights[targets == 1].sum() == pytest.approx(targets.sum(), rel=1e-5)


def test_with_an_exponent_of_one_all_kinds_weigh_the_same():
    kinds = np.repeat([0, 1, 2, 3], [50, 30, 5, 1])
    weights = weights_by_kind(kinds, (kinds > 0).astype(np.int64), 1.0)
    assert [float(weights[kinds == kind].sum()) for kind in (1, 2, 3)] == pytest.approx([12.0] * 3)


def test_an_exponent_out_of_range_is_refused():
    with pytest.raises(InputError, match="the exponent is -1"):
        weights_by_kind(np.zeros(3, np.int64), np.zeros(3, np.int64), -1)


def test_a_window_moves_as_each_of_its_records_does():
    low, high, mutable = np.array([0, -1], np.float32), np.array([1, 2], np.float32), np.array([True, False])
    windows = of_windows(FeatureThreat(0.1, low, high, mutable), 3)
    assert windows.shape == (3, 2)
    assert windows.low.tolist() == [0, -1, 0, -1, 0, -1]
    assert windows.mutable.tolist() == [True, False] * 3

    class More(FeatureThreat):
        pass

    with pytest.raises(InputError, match="windows are trained against a norm and a radius"):
        of_windows(More(0.1, low, high, mutable), 3)
