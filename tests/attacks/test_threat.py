"""The threat model is exact: no attack result may be judged by a tolerance."""

from __future__ import annotations

from dataclasses import replace
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
    norm = draw(st.sampled_from(["linf", "l2", "none"]))
    return FeatureThreat(
        radius=0.0 if norm == "none" else draw(st.floats(0, 1e4)),
        low=ends.min(axis=0),
        high=ends.max(axis=0),
        mutable=draw(arrays.arrays(np.bool_, COLUMNS)),
        norm=norm,
    )


def move(here: np.float32, there: np.float32) -> Fraction:
    """How far a column moved: fractions are exact, so this is the distance itself and not somebody's rounding of it."""
    return abs(Fraction(float(there)) - Fraction(float(here)))


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
            assert threat.norm != "linf" or move(here, there) <= Fraction(threat.radius)
            assert min(here, threat.low[column]) <= there <= max(here, threat.high[column])
        else:
            assert there.tobytes() == here.tobytes()
    if threat.norm == "l2":
        for before, after in zip(records, projected, strict=True):
            assert sum(move(*pair) ** 2 for pair in zip(before, after, strict=True)) <= Fraction(threat.radius) ** 2
    assert not threat.violations(projected, records).any()
    assert threat.project(projected, records).tobytes() == projected.tobytes()


@given(threats(), matrices, matrices)
def test_violations_are_those_of_the_real_numbers(threat, records, adversarial):
    found, radius = threat.violations(adversarial, records), Fraction(threat.radius)
    for row, (before, after) in enumerate(zip(records, adversarial, strict=True)):
        moves = [move(*pair) if free else 0 for *pair, free in zip(before, after, threat.mutable, strict=True)]
        for column, (here, there) in enumerate(zip(before, after, strict=True)):
            if not threat.mutable[column]:
                wrong = here.tobytes() != there.tobytes()
            else:
                wrong = not min(here, threat.low[column]) <= there <= max(here, threat.high[column])
                wrong |= threat.norm == "linf" and moves[column] > radius
                wrong |= (
                    threat.norm == "l2" and here != there and sum(m**2 for m in moves) > Fraction(threat.radius) ** 2
                )
            assert found[row, column] == wrong


@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.01, 3))
def test_the_l2_projection_is_the_nearest_point(seed, radius):
    """No feasible point is nearer, by the variational inequality of projections on convex sets."""
    generator = np.random.default_rng(seed)
    records = generator.uniform(0, 1, (20, 6)).astype(np.float32)
    wanted = (records + generator.normal(0, 2, records.shape)).astype(np.float32)
    threat = replace(box(radius, 6), norm="l2")
    nearest = threat.project(wanted, records).astype(np.float64)
    for _ in range(20):
        other = threat.project((records + generator.normal(0, 2, records.shape)).astype(np.float32), records)
        assert (np.sum((wanted - nearest) * (other - nearest), axis=1) <= 1e-5).all()


def test_the_edge_of_the_l2_ball_belongs_to_it():
    threat = replace(box(5.0, 2), norm="l2", low=np.full(2, -9, np.float32), high=np.full(2, 9, np.float32))
    record = np.zeros((1, 2), np.float32)
    edge = np.array([[3.0, 4.0]], np.float32)
    assert not threat.violations(edge, record).any()
    assert threat.project(edge, record).tobytes() == edge.tobytes()
    assert threat.violations(np.nextafter(edge, np.float32(9)), record).all()


@given(threats(), matrices, st.integers(0, COLUMNS - 1))
def test_limits_are_the_last_float32_numbers_inside(threat, records, column):
    """Of one column, when it moves alone: under the L2 norm, all together may not go so far."""
    for limit, outwards in zip(threat.limits(records), (-np.inf, np.inf), strict=True):
        inside = records.copy()
        inside[:, column] = limit[:, column]
        assert not threat.violations(inside, records).any()
        inside[:, column] = np.nextafter(limit[:, column], np.float32(outwards))
        assert threat.violations(inside, records)[:, column].all()


def test_without_a_norm_a_radius_is_refused():
    with pytest.raises(InputError, match="without a norm, the radius must be 0"):
        replace(box(0.1), norm="none")


def test_a_norm_that_is_none_is_refused():
    with pytest.raises(InputError, match="one of linf, l2, none, not 'l1'"):
        replace(box(0.1), norm="l1")


def test_a_shape_must_have_as_many_columns():
    assert replace(box(0.1, 12), shape=(3, 2, 2)).shape == (3, 2, 2)
    with pytest.raises(InputError, match=r"shape \[2, 2\] do not have 12 columns"):
        replace(box(0.1, 12), shape=(2, 2))


@pytest.mark.parametrize(("norm", "words"), [("linf", "L-infinity"), ("l2", "together"), ("none", "as far as")])
def test_the_sentence_names_the_norm(norm, words):
    assert words in replace(box(0.0), norm=norm).describe()


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
