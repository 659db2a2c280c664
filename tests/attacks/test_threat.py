"""The threat model is exact: no attack result may be judged by a tolerance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.attacks import FeatureThreat
from hauberk.errors import InputError
from hauberk.schema import CategoricalFeature, FeatureSpace, NumericFeature, Preprocessing, RecordSchema, Scaling

COLUMNS = 4
values = st.floats(-1e6, 1e6, width=32)
matrices = arrays.arrays(np.float32, (3, COLUMNS), elements=values)
anything = arrays.arrays(np.float32, (3, COLUMNS), elements=st.floats(width=32))


@st.composite
def threats(draw: st.DrawFn) -> FeatureThreat:
    ends = draw(arrays.arrays(np.float32, (2, COLUMNS), elements=values))
    return FeatureThreat(
        radius=draw(st.floats(0, 1e4)),
        low=ends.min(axis=0),
        high=ends.max(axis=0),
        mutable=draw(arrays.arrays(np.bool_, COLUMNS)),
    )


def box(radius: float, columns: int = 3) -> FeatureThreat:
    return FeatureThreat(
        radius=radius,
        low=np.zeros(columns, np.float32),
        high=np.ones(columns, np.float32),
        mutable=np.ones(columns, np.bool_),
    )


@given(threats(), matrices, anything)
def test_what_is_projected_satisfies_the_threat_model_exactly(threat, records, adversarial):
    projected = threat.project(adversarial, records)
    for row, column in np.ndindex(projected.shape):
        here, there = records[row, column], projected[row, column]
        if threat.mutable[column]:
            # Fractions are exact, so this is the ball itself and not somebody's rounding of it.
            assert abs(Fraction(float(there)) - Fraction(float(here))) <= Fraction(threat.radius)
            assert min(here, threat.low[column]) <= there <= max(here, threat.high[column])
        else:
            assert there.tobytes() == here.tobytes()
    assert not threat.violations(projected, records).any()


@given(threats(), matrices)
def test_limits_are_the_last_float32_numbers_inside(threat, records):
    lowest, highest = threat.limits(records)
    beyond = np.nextafter(highest, np.float32(np.inf))
    assert threat.violations(beyond, records)[:, threat.mutable].all()
    beyond = np.nextafter(lowest, np.float32(-np.inf))
    assert threat.violations(beyond, records)[:, threat.mutable].all()
    assert not threat.violations(np.where(threat.mutable, lowest, records), records).any()


@given(threats(), matrices)
def test_what_is_inside_is_left_alone(threat, records):
    assert threat.project(records, records).tobytes() == records.tobytes()


def test_a_record_outside_the_box_keeps_its_own_value_as_limit():
    record = np.array([[1.5, -0.25, 0.5]], np.float32)
    lowest, highest = box(0.5).limits(record)
    assert highest.tolist() == [[1.5, 0.25, 1.0]]
    assert lowest.tolist() == [[1.0, -0.25, 0.0]]


def test_a_move_in_an_immutable_column_is_a_violation_even_for_the_sign_of_a_zero():
    threat = FeatureThreat(0.1, np.zeros(1, np.float32), np.ones(1, np.float32), np.zeros(1, np.bool_))
    zero, negative_zero = np.array([[0.0]], np.float32), np.array([[-0.0]], np.float32)
    assert threat.violations(negative_zero, zero).all()


def test_a_nan_falls_back_to_the_record():
    record = np.array([[0.25, 0.5, 0.75]], np.float32)
    projected = box(0.1).project(np.full_like(record, np.nan), record)
    assert projected.tobytes() == record.tobytes()


def test_the_default_threat_moves_mutable_numbers_only():
    schema = RecordSchema(
        features=(
            NumericFeature(name="size", low=0.0, high=10.0),
            CategoricalFeature(name="protocol", categories=("tcp", "udp")),
            NumericFeature(name="port", low=0.0, high=100.0, mutable=False),
        )
    )
    scaling = Scaling(logarithm=False, offset=0.0, scale=10.0)
    threat = FeatureThreat.from_space(FeatureSpace(schema, Preprocessing((scaling, scaling))), radius=0.05)
    assert threat.mutable.tolist() == [True, False, False, False, False]
    assert threat.high[0] == 1.0
    assert "1 of 5 columns" in threat.describe()


@pytest.mark.parametrize("radius", [-0.1, float("nan"), float("inf")])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(InputError, match="radius"):
        box(radius)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="mutable must be bool"):
        FeatureThreat(0.1, np.zeros(3, np.float32), np.ones(3, np.float32), np.ones(2, np.bool_))


def test_a_range_upside_down_is_refused():
    with pytest.raises(InputError, match="column 1"):
        FeatureThreat(0.1, np.array([0, 2], np.float32), np.ones(2, np.float32), np.ones(2, np.bool_))
