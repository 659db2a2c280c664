"""XGBoost's files, read by our own code: the graph answers as the library does, and no damaged file gets through."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.convert.trees.edges import edges
from hauberk.convert.trees.ensemble import MOST_LEVELS, evaluate, split_values
from hauberk.convert.trees.graph import tree_graph
from hauberk.convert.trees.ubjson import decode
from hauberk.convert.trees.xgboost import read_xgboost
from hauberk.errors import InputError, RefusedModelError
from hauberk.graph.check import check_model
from hauberk.graph.samples import Samples
from hauberk.scan import Verdict, scan_content
from hauberk.scan.content import BytesContent

OBJECTIVES = (
    "binary:logistic",
    "binary:logitraw",
    "reg:logistic",
    "multi:softprob",
    "multi:softmax",
    "reg:squarederror",
    "reg:absoluteerror",
    "reg:quantileerror",
    "rank:pairwise",
    "count:poisson",
    "reg:gamma",
    "reg:tweedie",
)


def train(objective, features, targets, *, rounds=6, types=None, **parameters):
    settings_of = {"objective": objective, "max_depth": 4, "nthread": 1, **parameters}
    if objective.startswith("multi"):
        settings_of["num_class"] = 3
    if objective == "reg:quantileerror":
        settings_of["quantile_alpha"] = [0.3]
    matrix = xgboost.DMatrix(features, targets, feature_types=types, enable_categorical=types is not None)
    if objective.startswith("rank"):
        matrix.set_group([len(features)])
    return xgboost.train(settings_of, matrix, rounds)


def raw(booster, form):
    return bytes(booster.save_raw(form))


def tried(ensemble, features):
    """Real records, and everything at a threshold or missing."""
    made = [trial.feeds["features"] for trial in edges(split_values(ensemble), features.shape[1], Samples(), 0)]
    return np.concatenate([features, np.zeros_like(features[:1]), *made])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("booster", ["gbtree", "dart"])
def test_the_graph_answers_as_the_library_does(gapped, runs, objective, booster):
    targets = gapped.targets + (gapped.features[:, 3] > 0) if objective.startswith("multi") else gapped.targets
    drops = {"rate_drop": 0.4} if booster == "dart" else {}
    model = train(objective, gapped.features, targets + (objective == "reg:gamma"), booster=booster, **drops)
    for form in ("json", "ubj"):
        ensemble = read_xgboost(raw(model, form), "model")
        graph = tree_graph(ensemble)
        check_model(graph)
        records = tried(ensemble, gapped.features)
        margins = ensemble.meaning in ("log-odds", "class logits")
        truth = model.predict(xgboost.DMatrix(records), output_margin=margins).reshape(len(records), -1)
        np.testing.assert_allclose(runs(graph, records), truth, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("base_score", [0.05, 0.5, 0.93])
@pytest.mark.parametrize("objective", ["binary:logistic", "binary:logitraw", "count:poisson", "reg:squarederror"])
def test_a_base_score_is_on_the_scale_that_the_objective_gives_it(gapped, runs, objective, base_score):
    model = train(objective, gapped.features, gapped.targets, base_score=base_score, rounds=2)
    ensemble = read_xgboost(raw(model, "json"), "model")
    margins = ensemble.meaning == "log-odds"
    truth = model.predict(xgboost.DMatrix(gapped.features), output_margin=margins)
    np.testing.assert_allclose(runs(tree_graph(ensemble), gapped.features)[:, 0], truth, rtol=1e-5, atol=2e-6)


def test_categories_go_where_the_library_sends_them(gapped, runs):
    types = ["float", "float", "c", "float", "float"]
    model = train("binary:logistic", gapped.features, gapped.targets, types=types, max_cat_to_onehot=3)
    ensemble = read_xgboost(raw(model, "json"), "model")
    assert len(ensemble.derived) > 3
    records = gapped.features.copy()
    records[:45, 2] = np.arange(45)  # among them categories that training never saw
    matrix = xgboost.DMatrix(records, feature_types=types, enable_categorical=True)
    truth = model.predict(matrix, output_margin=True)
    np.testing.assert_allclose(runs(tree_graph(ensemble), records)[:, 0], truth, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(evaluate(ensemble, records)[:, 0], truth, rtol=1e-5, atol=2e-6)


@pytest.fixture(scope="module")
def small(gapped):
    model = train("binary:logistic", gapped.features, gapped.targets, rounds=5)
    return model, read_xgboost(raw(model, "json"), "model")


@settings(max_examples=25, deadline=None)
@given(
    records=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.just(5)),
        elements=st.floats(width=32, allow_infinity=False) | st.just(float("nan")),
    )
)
def test_any_record_at_all(small, runs, records):
    model, ensemble = small
    truth = model.predict(xgboost.DMatrix(records), output_margin=True)
    np.testing.assert_allclose(runs(tree_graph(ensemble), records)[:, 0], truth, rtol=1e-5, atol=2e-6)


def test_trees_grown_side_by_side_add_up(gapped, runs):
    model = train("binary:logistic", gapped.features, gapped.targets, num_parallel_tree=3, subsample=0.7, rounds=2)
    ensemble = read_xgboost(raw(model, "ubj"), "model")
    assert len(ensemble.trees) == 6
    truth = model.predict(xgboost.DMatrix(gapped.features), output_margin=True)
    np.testing.assert_allclose(runs(tree_graph(ensemble), gapped.features)[:, 0], truth, rtol=1e-5, atol=2e-6)


def test_nodes_that_pruning_left_behind_are_left_out(gapped, runs):
    model = train("binary:logistic", gapped.features, gapped.targets, tree_method="exact", gamma=4.0)
    document = json.loads(raw(model, "json"))
    deleted = [int(tree["tree_param"]["num_deleted"]) for tree in document_trees(document)]
    ensemble = read_xgboost(raw(model, "json"), "model")
    sizes = [len(tree["left_children"]) for tree in document_trees(document)]
    assert [len(tree.feature) for tree in ensemble.trees] == [a - b for a, b in zip(sizes, deleted, strict=True)]
    truth = model.predict(xgboost.DMatrix(gapped.features), output_margin=True)
    np.testing.assert_allclose(runs(tree_graph(ensemble), gapped.features)[:, 0], truth, rtol=1e-5, atol=2e-6)


def test_early_stopping_is_told(gapped):
    matrix = xgboost.DMatrix(gapped.features, gapped.targets)
    noise = xgboost.DMatrix(gapped.features, np.random.default_rng(0).permutation(gapped.targets))
    model = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, matrix, 30, evals=[(noise, "e")], early_stopping_rounds=3,
        verbose_eval=False,
    )  # fmt: skip
    ensemble = read_xgboost(raw(model, "json"), "model")
    assert len(ensemble.trees) > model.best_iteration + 1
    assert any("stopped early" in note for note in ensemble.notes)


def test_a_model_that_training_never_began_is_named(gapped):
    model = train("binary:logistic", gapped.features, gapped.targets, rounds=0)
    for form in ("json", "ubj"):
        with pytest.raises(InputError, match="without trees"):
            read_xgboost(raw(model, form), "model")


def test_labels_that_do_not_exclude_each_other_are_no_classes(gapped):
    labels = np.stack([gapped.targets, gapped.features[:, 3] > 0], axis=1)
    model = train("binary:logistic", gapped.features, labels, rounds=1)
    with pytest.raises(InputError, match="2 labels that do not exclude each other"):
        read_xgboost(raw(model, "json"), "model")


def test_several_targets_of_a_regression_are_several_outputs(gapped, runs):
    targets = np.stack([gapped.targets, np.nan_to_num(gapped.features[:, 3])], axis=1)
    model = train("reg:squarederror", gapped.features, targets, rounds=2)
    truth = model.predict(xgboost.DMatrix(gapped.features))
    graph = tree_graph(read_xgboost(raw(model, "ubj"), "model"))
    np.testing.assert_allclose(runs(graph, gapped.features), truth, rtol=1e-5, atol=2e-6)


def test_json_of_older_versions_writes_nan_for_the_thresholds_of_sets(gapped):
    types = ["float", "float", "c", "float", "float"]
    model = train("binary:logistic", gapped.features, gapped.targets, types=types, max_cat_to_onehot=3)
    document = json.loads(raw(model, "json"))
    for tree in document_trees(document):
        tree["split_conditions"] = [
            float("nan") if kind == 1 and left != -1 else condition
            for kind, left, condition in zip(
                tree["split_type"], tree["left_children"], tree["split_conditions"], strict=True
            )
        ]
    older = json.dumps(document, separators=(",", ":")).encode()
    assert b",NaN" in older
    assert tree_graph(read_xgboost(older, "model")) == tree_graph(read_xgboost(raw(model, "json"), "model"))


def test_a_tree_that_is_too_deep_for_the_runtime_is_never_run(small):
    for levels, fits in ((MOST_LEVELS, True), (MOST_LEVELS + 1, False)):
        document = json.loads(raw(small[0], "json"))
        chain = levels - 1
        inner = [2 * node for node in range(chain)]
        left, right, parents = (np.full(2 * chain + 1, end) for end in (-1, -1, 2147483647))
        left[inner], right[inner] = np.array(inner) + 1, np.array(inner) + 2
        parents[left[inner]] = parents[right[inner]] = inner
        tree = document_trees(document)[0]
        tree |= {"left_children": left.tolist(), "right_children": right.tolist(), "parents": parents.tolist()}
        for name in ("split_indices", "split_conditions", "default_left", "split_type"):
            tree[name] = [0] * len(left)
        changed = json.dumps(document).encode()
        if fits:
            graph = tree_graph(read_xgboost(changed, "deep.json"))
            assert scan_content(BytesContent(graph), path=Path("model")).verdict is Verdict.SAFE
        else:
            with pytest.raises(InputError, match=r"deep\.json: tree 0: more than 1000 levels"):
                read_xgboost(changed, "deep.json")


def document_trees(document):
    return document["learner"]["gradient_booster"]["model"]["trees"]


def set_in(path, value):
    def change(tree):
        tree[path[0]][path[1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_in(("left_children", 0), 0), "two ways lead to one"),
        (set_in(("left_children", 1), 2), "two ways lead to one"),
        (set_in(("right_children", 0), 10_000), "not there"),
        (set_in(("right_children", 0), -7), "not there"),
        (set_in(("split_indices", 0), 5), "not among 5"),
        (set_in(("split_indices", 0), -1), "not among 5"),
        (set_in(("split_conditions", 0), None), "no numbers"),
        (set_in(("default_left", 0), "yes"), "no whole numbers|no numbers"),
        (lambda tree: tree["left_children"].pop(), "unlike numbers"),
        (lambda tree: tree["split_conditions"].__setitem__(0, [1.0]), "no numbers|no list"),
    ],
)
def test_a_tree_that_is_none_is_refused(small, change, says):
    document = json.loads(raw(small[0], "json"))
    change(document_trees(document)[0])
    with pytest.raises(RefusedModelError, match=says):
        read_xgboost(json.dumps(document).encode(), "model.json")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objective": {"name": "binary:hinge"}}, "objective 'binary:hinge' is not converted"),
        ({"gradient_booster": {"name": "gblinear", "model": {"weights": []}}}, "linear booster"),
        ({"gradient_booster": {"name": "forest"}}, "gbtree and dart are converted"),
    ],
)
def test_other_kinds_of_model_are_named(small, changes, says):
    document = json.loads(raw(small[0], "json"))
    document["learner"].update(changes)
    with pytest.raises(InputError, match=says):
        read_xgboost(json.dumps(document).encode(), "model.json")


@pytest.mark.parametrize("score", ["nan", "[1E0]", "[0E0]", "five", "[5E-1,5E-1]"])
def test_a_base_score_that_is_no_probability_is_refused(small, score):
    document = json.loads(raw(small[0], "json"))
    document["learner"]["learner_model_param"]["base_score"] = score
    with pytest.raises(RefusedModelError, match="base_score"):
        read_xgboost(json.dumps(document).encode(), "model.json")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_ubjson_is_refused_and_nothing_else_happens(small, data):
    whole = bytearray(raw(small[0], "ubj"))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for damaged in (bytes(whole), bytes(whole[:cut])):
        try:
            read_xgboost(damaged, "model.ubj")
        except InputError as refusal:
            said = str(refusal)
        else:
            said = ""
        assert "\n" not in said


def test_ubjson_reads_what_the_library_reads_as_json(small):
    from_json = json.loads(raw(small[0], "json"))["learner"]
    from_ubj = decode(raw(small[0], "ubj"), "model")["learner"]
    assert from_ubj["learner_model_param"] == from_json["learner_model_param"]
    trees = zip(
        from_ubj["gradient_booster"]["model"]["trees"], from_json["gradient_booster"]["model"]["trees"], strict=True
    )
    for ours, theirs in trees:
        assert ours["left_children"].tolist() == theirs["left_children"]
        np.testing.assert_array_equal(ours["split_conditions"], np.array(theirs["split_conditions"], np.float32))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "ends"),
        (b"[[" * 100, "too deeply|ends"),
        (b"[$U#L\x7f\xff\xff\xff\xff\xff\xff\xff", "more than is left"),
        (b"{i\x01aZi\x01aZ}", "twice"),
        (b"{i\x01aZ}Z", "follows"),
        (b"[$Ui\x01", "not their number"),
        (b"{i\x01\xffZ}", "UTF-8"),
        (b"q", "no value begins"),
        (b"{L\xff\xff\xff\xff\xff\xff\xff\xff", "a length of -1"),
    ],
)
def test_ubjson_that_lies_about_itself_is_refused(data, says):
    with pytest.raises(RefusedModelError, match=says):
        decode(data, "file")
