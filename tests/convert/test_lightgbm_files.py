"""LightGBM's files, read by our own code: the graph answers as the library does, thresholds above all."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.convert.trees.edges import edges
from hauberk.convert.trees.ensemble import downwards, evaluate, split_values
from hauberk.convert.trees.graph import tree_graph
from hauberk.convert.trees.lightgbm import read_lightgbm
from hauberk.errors import InputError, RefusedModelError
from hauberk.graph.check import check_model
from hauberk.graph.samples import Samples
from hauberk.scan import Verdict, scan_content
from hauberk.scan.content import BytesContent

VARIANTS = (
    {"objective": "binary"},
    {"objective": "binary", "sigmoid": 2.5},
    {"objective": "binary", "use_missing": False},
    {"objective": "binary", "zero_as_missing": True},
    {"objective": "binary", "boosting": "dart"},
    {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    {"objective": "cross_entropy"},
    {"objective": "multiclass", "num_class": 3},
    {"objective": "regression"},
    {"objective": "quantile"},
    {"objective": "poisson"},
    {"objective": "tweedie"},
)


def train(parameters, features, targets, *, rounds=6):
    settings_of = {"verbose": -1, "num_leaves": 12, "num_threads": 1, "min_data_per_group": 5, **parameters}
    data = lightgbm.Dataset(features.astype(np.float64), targets, categorical_feature=[2])
    text = lightgbm.train(settings_of, data, rounds).model_to_string()
    return lightgbm.Booster(model_str=text), text.encode()


def answers(booster, ensemble, parameters, records):
    """What the library predicts, on the graph's scale: probabilities are taken back through their link."""
    predicted = booster.predict(records)
    if ensemble.meaning == "log-odds":
        return np.log(predicted / (1 - predicted))
    return np.log(predicted) if ensemble.meaning == "class logits" else predicted


@pytest.mark.parametrize("parameters", VARIANTS, ids=lambda parameters: "-".join(map(str, parameters.values())))
def test_the_graph_answers_as_the_library_does(gapped, runs, parameters):
    targets = gapped.targets + (gapped.features[:, 3] > 0) if "num_class" in parameters else gapped.targets
    booster, text = train(parameters, gapped.features, targets)
    ensemble = read_lightgbm(text, "model.txt")
    graph = tree_graph(ensemble)
    check_model(graph)
    made = [trial.feeds["features"] for trial in edges(split_values(ensemble), 5, Samples(), 0)]
    records = np.concatenate([gapped.features, np.zeros_like(gapped.features[:1]), *made])
    found = runs(graph, records)
    for content in (text, graph):
        assert scan_content(BytesContent(content), path=Path("model")).verdict is Verdict.SAFE
    truth = answers(booster, ensemble, parameters, records).reshape(found.shape)
    if ensemble.meaning == "class logits":  # known up to a constant a record
        found = found - np.log(np.exp(found.astype(np.float64)).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=5e-6)


def test_in_double_precision_the_sums_are_the_library_s_own_to_the_last_bits(gapped):
    booster, text = train({"objective": "binary"}, gapped.features, gapped.targets, rounds=20)
    ensemble = read_lightgbm(text, "model.txt")
    truth = booster.predict(gapped.features, raw_score=True)
    np.testing.assert_allclose(evaluate(ensemble, gapped.features)[:, 0], truth, rtol=1e-14, atol=1e-14)


@settings(max_examples=300, deadline=None)
@given(threshold=st.floats(allow_nan=False), steps=st.integers(-2, 2))
def test_a_threshold_rounded_downwards_decides_every_float32_as_before(threshold, steps):
    rounded = downwards(np.array([threshold]))[0]
    value = rounded
    for _ in range(abs(steps)):
        with np.errstate(over="ignore"):
            value = np.nextafter(value, np.float32(np.copysign(np.inf, steps)))
    assert (value <= rounded) == (float(value) <= threshold)


def test_rounding_to_the_nearest_would_not_do():
    threshold = 0.1  # the nearest float32 lies above it
    assert float(np.float32(threshold)) > threshold
    value = np.float32(threshold)
    assert not float(value) <= threshold
    assert value <= np.float32(threshold)  # what a plain cast decides
    assert not value <= downwards(np.array([threshold]))[0]


@pytest.mark.parametrize("missing", [{}, {"use_missing": False}, {"zero_as_missing": True}], ids=str)
def test_what_lies_beside_zero_goes_where_the_library_sends_zero(runs, missing):
    values = np.random.default_rng(2).choice(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), (400, 2))
    targets = (values[:, 0] < 0) ^ (values[:, 1] > 0)
    settings_of = {"objective": "binary", "verbose": -1, "num_threads": 1, **missing}
    booster = lightgbm.train(settings_of, lightgbm.Dataset(values, targets), 3)
    text = booster.model_to_string()
    assert missing.get("zero_as_missing") or "-1.0000000180025095e-35" in text
    edge = np.float32(1e-35)
    inner, outer = np.nextafter(edge, np.float32(0)), np.nextafter(edge, np.float32(1))
    beside = np.array([0.0, 1e-45, 1e-38, inner, edge, outer, 1.0], np.float32)
    records = np.array(np.meshgrid([*beside, *-beside], [*beside, *-beside]), np.float32).reshape(2, -1).T
    found = runs(tree_graph(read_lightgbm(text.encode(), "model.txt")), np.ascontiguousarray(records))
    np.testing.assert_allclose(found[:, 0], booster.predict(records, raw_score=True), rtol=1e-5, atol=2e-6)


def test_missing_values_against_all_others_are_a_threshold_without_end(runs):
    values = np.where(np.arange(200) % 2, np.nan, np.linspace(-1, 1, 200))[:, None]
    targets = np.isnan(values[:, 0])
    settings_of = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings_of, lightgbm.Dataset(values, targets), 2)
    text = booster.model_to_string()
    assert "threshold=inf" in text
    assert scan_content(BytesContent(text.encode()), path=Path("model")).verdict is Verdict.SAFE
    records = np.array([[np.nan], [0.0], [3e38], [-np.inf], [np.inf]], np.float32)
    found = runs(tree_graph(read_lightgbm(text.encode(), "model.txt")), records)[:, 0]
    assert found[0] > 0
    np.testing.assert_allclose(found, booster.predict(records, raw_score=True), rtol=1e-5)


@pytest.fixture(scope="module")
def small(gapped):
    return train({"objective": "binary"}, gapped.features, gapped.targets)


@settings(max_examples=25, deadline=None)
@given(
    records=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.just(5)),
        elements=st.floats(width=32, min_value=-1e9, max_value=1e9) | st.just(float("nan")),
    )
)
def test_any_record_at_all(small, runs, records):
    booster, text = small
    truth = booster.predict(records, raw_score=True)
    graph = tree_graph(read_lightgbm(text, "model.txt"))
    np.testing.assert_allclose(runs(graph, records)[:, 0], truth, rtol=1e-5, atol=2e-6)


def changed(text: bytes, name: str, value: str) -> bytes:
    """The first line of that name with another value."""
    lines = text.decode().splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith(f"{name}="))
    lines[place] = f"{name}={value}"
    return "\n".join(lines).encode()


def first_value(text: bytes, name: str, value: str) -> bytes:
    """The first number of the first line of that name replaced."""
    old = next(line for line in text.decode().splitlines() if line.startswith(f"{name}=")).partition("=")[2].split()
    return changed(text, name, " ".join([value, *old[1:]]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: first_value(text, "left_child", "0"), "two ways|not there|circle"),
        (lambda text: first_value(text, "left_child", "99"), "not there"),
        (lambda text: first_value(text, "right_child", "-99"), "not there"),
        (lambda text: first_value(text, "split_feature", "5"), "not among 5"),
        (lambda text: first_value(text, "threshold", "nan"), "not a number|set that is not there"),
        (lambda text: first_value(text, "leaf_value", "inf"), "not a number"),
        (lambda text: first_value(text, "leaf_value", "x"), "no number"),
        (lambda text: first_value(text, "decision_type", "12"), "unknown decision type"),
        (lambda text: changed(text, "num_leaves", "100000000"), "100000000 are needed"),
        (lambda text: changed(text, "num_leaves", "-1"), "values; -1 are needed|without leaves"),
        (lambda text: changed(text, "max_feature_idx", "99999999"), "at most"),
        (lambda text: changed(text, "num_tree_per_iteration", "4"), "trees over"),
        (lambda text: b"trees" + text[4:], "does not begin"),
        (lambda text: text[:200], "0 trees"),
        (lambda text: b"tree\n\xff\xfe", "not text"),
    ],
)
def test_a_file_that_is_no_model_is_refused(small, change, says):
    with pytest.raises(RefusedModelError, match=says):
        read_lightgbm(change(small[1]), "model.txt")


@pytest.mark.parametrize(
    "objective", ["multiclassova num_class:3 sigmoid:1", "regression sqrt", "cross_entropy_lambda"]
)
def test_objectives_that_mean_something_else_are_named(small, objective):
    with pytest.raises(InputError, match="is not converted"):
        read_lightgbm(changed(small[1], "objective", objective), "model.txt")


def test_linear_leaves_are_named(gapped):
    _, text = train({"objective": "regression", "linear_tree": True}, np.nan_to_num(gapped.features), gapped.targets)
    with pytest.raises(InputError, match="linear models"):
        read_lightgbm(text, "model.txt")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_text_is_refused_and_nothing_else_happens(small, data):
    whole = bytearray(small[1])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_lightgbm(bytes(whole), "model.txt")
    except InputError as refusal:
        said = str(refusal)
    else:
        said = ""
    assert "\n" not in said
