"""Features decode to raw numbers whose encoding they are, and to the very numbers where these are plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.attacks.decoding import Decoder
from hauberk.schema import FeatureSpace, IntegerFeature, NumericFeature, Preprocessing, RecordSchema, Scaling

SCALINGS = (
    Scaling(logarithm=True, offset=0.0, scale=12.5),
    Scaling(logarithm=True, offset=0.3, scale=-2.0),
    Scaling(logarithm=False, offset=17.0, scale=0.37),
    Scaling(logarithm=False, offset=-3.0, scale=-41.0),
)


def space(kind: type) -> FeatureSpace:
    features = tuple(kind(name=f"column {place}", low=0, high=1) for place in range(len(SCALINGS)))
    return FeatureSpace(RecordSchema(features=features), Preprocessing(SCALINGS))


def transformed(numbers: np.ndarray, kind: type = NumericFeature) -> np.ndarray:
    """The features [N, 4] of the same numbers in every column."""
    numeric = np.repeat(numbers.astype(np.float32)[:, None], len(SCALINGS), axis=1)
    return space(kind).transform(numeric, np.zeros((len(numeric), 0), np.int64))


def decoded(features: np.ndarray, kind: type) -> tuple[np.ndarray, np.ndarray]:
    whole = np.full(len(SCALINGS), kind is IntegerFeature)
    columns = np.tile(np.arange(len(SCALINGS)), len(features))
    found, exact = Decoder(space(kind), whole).decode(features.ravel(), columns)
    return found.reshape(features.shape), exact.reshape(features.shape)


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.float32, 5, elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_any_number_decodes_to_one_with_its_encoding(numbers):
    features = transformed(numbers)
    found, exact = decoded(features, NumericFeature)
    assert exact.all()
    assert (space(NumericFeature).transform(found, np.zeros((5, 0), np.int64)) == features).all()


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.int64, 5, elements=st.integers(-(2**31), 2**31)))
def test_any_whole_number_decodes_to_a_whole_one_with_its_encoding(numbers):
    features = transformed(numbers, IntegerFeature)
    found, exact = decoded(features, IntegerFeature)
    assert exact.all()
    assert (found == np.rint(found)).all()
    assert (space(IntegerFeature).transform(found, np.zeros((5, 0), np.int64)) == features).all()


def test_whole_numbers_up_to_a_hundred_thousand_are_the_very_ones():
    numbers = np.arange(100_000)
    found, _ = decoded(transformed(numbers, IntegerFeature), IntegerFeature)
    assert (found == numbers[:, None]).all()


def test_three_decimals_are_the_very_ones():
    numbers = (np.arange(100_000) / 1000).astype(np.float32)
    found, _ = decoded(transformed(numbers), NumericFeature)
    assert (found == numbers[:, None]).all()


def test_what_encodes_no_number_is_not_exact():
    features = np.full((1, len(SCALINGS)), np.nan, np.float32)
    assert not decoded(features, NumericFeature)[1].any()
    assert not decoded(np.full_like(features, np.inf), IntegerFeature)[1].any()
    between = transformed(np.array([2.5]), IntegerFeature)
    assert not decoded(between, IntegerFeature)[1].any()


@pytest.mark.parametrize("kind", [NumericFeature, IntegerFeature])
def test_what_the_resolution_tells_apart_is_told_apart(kind):
    decoder = Decoder(space(kind), np.zeros(len(SCALINGS), np.bool_))
    numbers = np.repeat(np.geomspace(1e-3, 1e9, 200)[:, None], len(SCALINGS), axis=1)
    columns = np.tile(np.arange(len(SCALINGS)), len(numbers))
    further = numbers.ravel() + decoder.resolution(numbers.ravel(), columns)
    one, other = (decoder.encode(n.astype(np.float32), columns) for n in (numbers.ravel(), further))
    assert (one != other).all()
