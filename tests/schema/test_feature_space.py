import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

from hauberk.errors import SchemaError
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Coder,
    FeatureSpace,
    IntegerFeature,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)

SCHEMA = RecordSchema(
    features=(
        CategoricalFeature(name="protocol", categories=("icmp", "tcp", "udp")),
        NumericFeature(name="duration", low=-3.0, high=100.0),
        IntegerFeature(name="bytes", low=0, high=10**6, mutable=False),
        CategoricalFeature(name="flag", categories=("S0", "SF")),
        BooleanFeature(name="land"),
    )
)
PLAIN = Scaling(logarithm=False, offset=0.0, scale=1.0)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_transform_equals_scikit_learn(seed, count):
    generator = np.random.default_rng(seed)
    protocol = generator.choice(["icmp", "tcp", "udp"], count)
    flag = generator.choice(["S0", "SF"], count)
    numbers = np.stack(
        [generator.uniform(-3, 100, count), generator.integers(0, 10**6, count), generator.integers(0, 2, count)],
        axis=1,
    )
    numbers[0], numbers[1] = (-3.0, 0, 0), (100.0, 10**6, 1)
    records = [
        {"protocol": p, "flag": f, "duration": d, "bytes": int(b), "land": bool(truth)}
        for p, f, (d, b, truth) in zip(protocol, flag, numbers, strict=True)
    ]
    coded = Coder(SCHEMA).code(records)

    scaler = MinMaxScaler().fit(numbers)
    low, span = scaler.data_min_, scaler.data_range_
    scalings = tuple(Scaling(logarithm=False, offset=float(o), scale=float(s)) for o, s in zip(low, span, strict=True))
    features = FeatureSpace(SCHEMA, Preprocessing(scalings)).transform(*coded)

    encoder = OneHotEncoder(categories=[["?", "icmp", "tcp", "udp"], ["?", "S0", "SF"]], sparse_output=False)
    one_hot = encoder.fit_transform(np.stack([protocol, flag], axis=1).astype(object))
    np.testing.assert_allclose(features[:, :3], scaler.transform(numbers), atol=1e-6)
    np.testing.assert_array_equal(features[:, 3:], one_hot)


def test_the_logarithm_keeps_the_sign():
    schema = RecordSchema(features=(NumericFeature(name="x", low=-8.0, high=8.0),))
    space = FeatureSpace(schema, Preprocessing((Scaling(logarithm=True, offset=0.5, scale=2.0),)))
    values = np.array([[-7.0], [0.0], [7.0]], dtype=np.float32)
    expected = (np.array([[-np.log(8)], [0.0], [np.log(8)]]) - 0.5) / 2
    np.testing.assert_allclose(space.transform(values, np.empty((3, 0), np.int64)), expected, rtol=1e-6)


def test_an_unknown_category_lights_the_first_slot_of_its_group():
    space = FeatureSpace(SCHEMA, Preprocessing((PLAIN,) * 3))
    record = {"protocol": "gre", "flag": "S0", "duration": 0, "bytes": 0, "land": False}
    features = space.transform(*Coder(SCHEMA).code(record))
    assert space.groups == (range(3, 7), range(7, 10))
    assert len(space.column_names) == space.width
    assert space.column_names[3].endswith("=(unknown)")
    assert [name.partition("=")[0] for name in space.column_names[3:]] == [space.schema.categoricals[0].name] * 4 + [
        space.schema.categoricals[1].name
    ] * 3
    assert features[0, 3:].tolist() == [1, 0, 0, 0, 0, 1, 0]


def test_only_mutable_numbers_may_be_moved():
    space = FeatureSpace(SCHEMA, Preprocessing((PLAIN,) * 3))
    assert np.flatnonzero(space.mutable).tolist() == [0, 2]
    assert space.width == 10


def test_bounds_are_the_scaled_training_ranges_even_for_a_negative_scale():
    scalings = (Scaling(logarithm=False, offset=0.0, scale=-1.0), PLAIN, PLAIN)
    low, high = FeatureSpace(SCHEMA, Preprocessing(scalings)).bounds
    assert low.tolist() == [-100.0, 0.0, 0.0] + [0.0] * 7
    assert high.tolist() == [3.0, 1e6, 1.0] + [1.0] * 7


@pytest.mark.parametrize(
    ("scalings", "complaint"),
    [
        ((PLAIN,), "1 scalings for 3 numbers"),
        ((PLAIN, Scaling(logarithm=False, offset=0.0, scale=0.0), PLAIN), "column 'bytes'.*scale not 0"),
        ((PLAIN, PLAIN, Scaling(logarithm=False, offset=float("nan"), scale=1.0)), "column 'land'"),
    ],
)
def test_a_preprocessing_that_does_not_fit_is_refused(scalings, complaint):
    with pytest.raises(SchemaError, match=complaint):
        FeatureSpace(SCHEMA, Preprocessing(scalings))
