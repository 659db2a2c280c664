"""Which records verification tries."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hauberk.errors import InputError
from hauberk.graph.records import families
from hauberk.recipe import Context

LOW, HIGH = np.array([0, -1, 0], np.float32), np.array([1, 5, 0], np.float32)  # the third column cannot move
REAL = np.random.default_rng(0).uniform(0, 0.5, (10_000, 3)).astype(np.float32)
CONTEXT = Context(calibration=REAL, bounds=(LOW, HIGH))


def by_name(context=CONTEXT, *, extremes=True):
    return {family.name: family.records for family in families(context, (3,), extremes=extremes)}


def test_real_records_are_bounded_and_spread_over_the_whole_set():
    real = by_name()["real"]
    assert len(real) == 4096
    np.testing.assert_array_equal(real[[0, -1]], REAL[[0, -1]])


def test_the_boundary_has_both_corners_and_both_ends_of_every_column_that_moves():
    boundary = by_name()["boundary"]
    np.testing.assert_array_equal(boundary[0], LOW)
    np.testing.assert_array_equal(boundary[1], HIGH)
    assert len(boundary) == 2 + 2 * 2
    assert boundary[2, 0] == 0
    assert boundary[3, 0] == 1
    assert boundary[4, 1] == -1
    assert boundary[5, 1] == 5


def test_the_boundary_is_bounded_for_wide_records():
    wide = Context(calibration=np.zeros((2, 1000), np.float32), bounds=(np.zeros(1000, "f"), np.ones(1000, "f")))
    assert len(families(wide, (1000,), extremes=False)[1].records) == 2 + 2 * 128


def test_images_are_tried_too_only_fewer():
    shape = (3, 224, 224)
    images = Context(
        calibration=np.zeros((150, *shape), np.float32), bounds=(np.zeros(shape, "f"), np.ones(shape, "f"))
    )
    tried = {family.name: family.records for family in families(images, shape, extremes=True)}
    assert {records.shape[1:] for records in tried.values()} == {shape}
    assert 16 <= len(tried["real"]) < 150
    assert all(records.size <= 1 << 25 for records in tried.values())
    assert (tried["boundary"][2] == 0).all()
    assert (tried["boundary"][3] == 1).sum() == 1


def test_random_records_lie_within_the_bounds_and_repeat():
    random = by_name()["random"]
    assert ((random >= LOW) & (random <= HIGH)).all()
    np.testing.assert_array_equal(random, by_name()["random"])
    assert (random != by_name(dataclasses.replace(CONTEXT, seed=1))["random"]).any()


def test_extremes_are_there_only_when_asked_for():
    assert "extreme" not in by_name(extremes=False)
    extreme = by_name()["extreme"]
    assert np.isnan(extreme).any()
    assert np.isposinf(extreme).any()
    assert np.isneginf(extreme).any()
    assert (np.signbit(extreme) & (extreme == 0)).any()
    assert ((extreme != 0) & (np.abs(extreme) < np.finfo(np.float32).tiny)).any()
    assert (extreme == np.finfo(np.float32).max).any()


@pytest.mark.parametrize(
    "context",
    [
        dataclasses.replace(CONTEXT, calibration=np.zeros((0, 3), np.float32)),
        dataclasses.replace(CONTEXT, calibration=np.zeros((5, 2), np.float32)),
        dataclasses.replace(CONTEXT, bounds=(LOW[:2], HIGH[:2])),
    ],
)
def test_records_that_do_not_fit_are_refused(context):
    with pytest.raises(InputError, match="verification: "):
        families(context, (3,), extremes=False)
