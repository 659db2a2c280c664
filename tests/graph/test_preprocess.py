"""The preprocessing graph against the numpy reference of the feature space."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.graph.check import check_model
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.schema.feature_space import FeatureSpace, Preprocessing, Scaling
from hauberk.schema.record import CategoricalFeature, NumericFeature, RecordSchema


def space_of(scalings, sizes) -> FeatureSpace:
    numbers = [NumericFeature(name=f"n{k}", low=0.0, high=1.0) for k in range(len(scalings))]
    categoricals = [
        CategoricalFeature(name=f"c{k}", categories=tuple(f"v{j}" for j in range(size))) for k, size in enumerate(sizes)
    ]
    return FeatureSpace(RecordSchema(features=(*numbers, *categoricals)), Preprocessing(tuple(scalings)))


def run(space: FeatureSpace, numeric, codes):
    session = onnxruntime.InferenceSession(preprocessing_graph(space).model)
    feeds = {"numeric": numeric, "codes": codes}
    return session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})[0]


def plain(offset=0.0, scale=1.0):
    return Scaling(logarithm=False, offset=offset, scale=scale)


LOGS = ("Abs", "Add", "Log", "Sign", "Mul")
LOGARITHM = Scaling(logarithm=True, offset=0.5, scale=3.0)

scalings = st.builds(
    Scaling,
    logarithm=st.booleans(),
    offset=st.floats(-100, 100, width=32),
    scale=st.floats(0.0625, 1000, width=32),
)


@settings(max_examples=60, deadline=None)
@given(
    scalings=st.lists(scalings, max_size=5),
    sizes=st.lists(st.integers(0, 6), max_size=4),
    records=st.sampled_from([1, 2, 257]),
    data=st.data(),
)
def test_features_equal_the_reference(scalings, sizes, records, data):
    if not scalings and not sizes:
        return
    space = space_of(scalings, sizes)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    spread = data.draw(st.sampled_from([1.0, 1e3, 1e9]))
    numeric = (random.normal(size=(records, len(scalings))) * spread).astype(np.float32)
    codes = np.stack([random.integers(0, size + 1, records) for size in sizes] or [np.zeros(records)], axis=1)
    codes = codes[:, : len(sizes)].astype(np.int64)
    expected = space.transform(numeric, codes)
    np.testing.assert_allclose(run(space, numeric, codes), expected, rtol=1e-5, atol=1e-5)


def test_plain_columns_and_categories_are_bit_exact():
    space = space_of([plain(0.1, 0.7), plain(3.3, 11.0), LOGARITHM], [3, 70])
    random = np.random.default_rng(0)
    numeric = random.normal(size=(1000, 3)).astype(np.float32) * 1e4
    codes = np.stack([random.integers(0, 4, 1000), random.integers(0, 71, 1000)], axis=1)
    difference = run(space, numeric, codes) != space.transform(numeric, codes)
    assert not np.delete(difference, 2, axis=1).any()


@pytest.mark.parametrize("records", [0, 1, 2, 257])
def test_the_batch_is_free(records):
    space = space_of([plain(1.0, 2.0), LOGARITHM], [2, 3])
    result = run(space, np.ones((records, 2), np.float32), np.zeros((records, 2), np.int64))
    assert result.shape == (records, space.width)


@pytest.mark.parametrize("sizes", [[3], [3, 5]])
@pytest.mark.parametrize("code", [-1, 6, 2**31, 2**62, -(2**63)])
def test_a_code_out_of_range_lights_no_column_and_breaks_nothing(sizes, code):
    space = space_of([plain()], sizes)
    codes = np.full((1, len(sizes)), code, np.int64)
    assert run(space, np.ones((1, 1), np.float32), codes)[0, 1:].sum() == 0


@pytest.mark.parametrize(
    ("scalings", "sizes", "inputs", "nodes"),
    [
        ([plain()], [], ["numeric"], ["Identity"]),
        ([plain(0.0, 2.0)], [], ["numeric"], ["Div", "Identity"]),
        ([plain(1.0)], [], ["numeric"], ["Sub", "Identity"]),
        ([], [3], ["codes"], ["Equal", "Cast", "Identity"]),
        ([], [3, 2], ["codes"], ["Cast", "MatMul", "Equal", "Cast", "Identity"]),
        ([LOGARITHM], [], ["numeric"], [*LOGS, "Sub", "Div", "Identity"]),
        (
            [plain(), LOGARITHM],
            [],
            ["numeric"],
            ["Abs", "Add", "Log", "Sign", "Mul", "Where", "Sub", "Div", "Identity"],
        ),
        ([plain()], [3], ["numeric", "codes"], ["Equal", "Cast", "Concat"]),
    ],
)
def test_only_what_the_feature_space_needs_is_computed(operators, scalings, sizes, inputs, nodes):
    graph = preprocessing_graph(space_of(scalings, sizes))
    assert [spec.name for spec in graph.signature.inputs] == inputs
    assert operators(graph) == nodes


def test_the_graph_passes_the_full_check():
    check_model(preprocessing_graph(space_of([plain(1.0, 2.0), LOGARITHM], [2, 3])).model)
