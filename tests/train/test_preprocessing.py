"""Preprocessing fitted to data, against scikit-learn's scalers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from hauberk.errors import InputError
from hauberk.schema import BooleanFeature, FeatureSpace, IntegerFeature, NumericFeature, RecordSchema
from hauberk.train import fit_preprocessing

SCHEMA = RecordSchema(
    features=(
        IntegerFeature(name="bytes", low=0, high=1_000_000),
        NumericFeature(name="offset", low=-50.0, high=50.0),
        BooleanFeature(name="land"),
    )
)
NO_CODES = np.zeros((200, 0), np.int64)


@pytest.fixture(scope="module")
def numbers():
    random = np.random.default_rng(0)
    columns = [random.integers(0, 1_000_000, 200), random.uniform(-50, 50, 200), random.integers(0, 2, 200)]
    return np.stack(columns, axis=1).astype(np.float32)


def transform(numbers, kind):
    space = FeatureSpace(SCHEMA, fit_preprocessing(SCHEMA, numbers, kind))
    return space.transform(numbers, NO_CODES[: len(numbers)])


@pytest.mark.parametrize(("kind", "scaler"), [("minmax", MinMaxScaler()), ("standard", StandardScaler())])
def test_linear_kinds_are_scikit_learns(numbers, kind, scaler):
    np.testing.assert_allclose(transform(numbers, kind), scaler.fit_transform(numbers), rtol=1e-4, atol=1e-5)


def test_log_minmax_takes_the_logarithm_of_numbers_that_are_never_negative(numbers):
    expected = MinMaxScaler().fit_transform(np.column_stack([np.log1p(numbers[:, 0]), numbers[:, 1:]]))
    np.testing.assert_allclose(transform(numbers, "log-minmax"), expected, rtol=1e-4, atol=1e-5)


def test_none_leaves_numbers_as_they_are(numbers):
    np.testing.assert_array_equal(transform(numbers, "none"), numbers)


@pytest.mark.parametrize("kind", ["log-minmax", "minmax", "standard"])
def test_a_constant_column_becomes_zero_and_keeps_its_unit(kind):
    constant = np.tile(np.array([[7, 3.5, 1]], np.float32), (5, 1))
    np.testing.assert_allclose(transform(constant, kind), 0, atol=1e-6)
    assert all(scaling.scale == 1.0 for scaling in fit_preprocessing(SCHEMA, constant, kind).scalings)


@given(
    hnp.arrays(np.float32, (6, 3), elements=st.floats(0, 2.0**100, width=32)), st.sampled_from(["log-minmax", "minmax"])
)
def test_training_records_fill_the_unit_interval(numbers, kind):
    features = transform(numbers, kind)
    assert np.isfinite(features).all()
    assert features.min() >= -1e-3
    assert features.max() <= 1 + 1e-3


def test_a_range_beyond_float32_is_refused():
    extreme = np.array([[0, -3e38, 0], [0, 3e38, 0]], np.float32)
    with pytest.raises(InputError, match=r"column 'offset' spans 6e\+38"):
        fit_preprocessing(SCHEMA, extreme, "minmax")


def test_an_unknown_kind_is_refused(numbers):
    with pytest.raises(InputError, match="unknown preprocessing 'robust'; use one of log-minmax, minmax"):
        fit_preprocessing(SCHEMA, numbers, "robust")


def test_no_records_are_refused():
    with pytest.raises(InputError, match="no records"):
        fit_preprocessing(SCHEMA, np.zeros((0, 3), np.float32))
