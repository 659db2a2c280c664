"""scikit-learn's estimators: each graph is held to the estimator, on records that training saw and on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from hauberk.convert import convert
from hauberk.convert.admission import CONTAINED
from hauberk.convert.compare import Source, compare
from hauberk.convert.foreign import of_its_kind
from hauberk.convert.frameworks.estimator import Estimator, _trees_of
from hauberk.convert.modules import graph_of
from hauberk.errors import InputError
from hauberk.graph.check import check_model
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Trial
from hauberk.scan import Verdict, scan_content
from hauberk.scan.content import BytesContent

PARTS = [("a", LogisticRegression(max_iter=300)), ("b", DecisionTreeClassifier(max_depth=3, random_state=0))]

PIPELINES = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "stochastic gradient": lambda: make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
    "products": lambda: make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression()),
    "linear support vectors": lambda: make_pipeline(StandardScaler(), LinearSVC()),
    "support vectors": lambda: make_pipeline(StandardScaler(), SVC()),
    "perceptron": lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0)),
    "tree": lambda: DecisionTreeClassifier(max_depth=8, random_state=0),
    "forest": lambda: RandomForestClassifier(8, random_state=0),
    "extra trees": lambda: ExtraTreesClassifier(8, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=4),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=4),
    "scaled histogram boosting": lambda: make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3)),
    "adaptive boosting": lambda: AdaBoostClassifier(n_estimators=4, random_state=0),
    "bayes": lambda: make_pipeline(StandardScaler(), GaussianNB()),
    "neighbours": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "votes": lambda: VotingClassifier(PARTS, voting="soft"),
    "stacked": lambda: StackingClassifier(PARTS, cv=2),
    "regressor": lambda: GradientBoostingRegressor(n_estimators=5),
    "counts": lambda: HistGradientBoostingRegressor(max_iter=3, loss="poisson"),
    "outliers": lambda: IsolationForest(n_estimators=4, random_state=0),
}
ALIKE = {"regressor", "counts", "outliers"}
"""Those that do not look at classes."""


@pytest.fixture(scope="module")
def few(spam):
    """Ten columns of 300 records, a third column of whole numbers, and targets of two and three classes."""
    features = np.ascontiguousarray(spam.features[:300, 45:55])
    features[:, 2] = np.random.default_rng(5).integers(0, 6, 300)
    targets = spam.targets[:300]
    return features, {2: targets, 3: targets + (features[:, 2] > 3)}


def truth_of(estimator, features):
    """What the estimator says in the terms of the graph, computed here and not by the code under test."""
    if getattr(estimator, "decision_function", None) and not hasattr(estimator, "classes_"):
        return -estimator.decision_function(features)[:, None]
    if not hasattr(estimator, "classes_"):
        return estimator.predict(features)[:, None]
    if hasattr(estimator, "decision_function"):
        scores = estimator.decision_function(features)
        return scores[:, None] if scores.ndim == 1 else scores
    return estimator.predict_proba(features)


def converted(estimator):
    """The graph, admitted and checked, of what the scan calls safe or leaves to the isolated process."""
    content = skops.io.dumps(estimator)
    report = scan_content(BytesContent(content), path=Path("model.skops"))
    rules = {each.rule for each in report.findings}
    assert report.verdict is Verdict.SAFE or rules <= CONTAINED["skops"]
    graph, notes = Estimator(content).convert()
    check_model(graph)
    assert scan_content(BytesContent(graph), path=Path("model.onnx")).verdict is Verdict.SAFE
    return graph, notes


CASES = [(kind, classes) for kind in PIPELINES for classes in (2, 3) if classes == 2 or kind not in ALIKE]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "classes"), CASES)
def test_an_estimator_becomes_a_graph_with_one_output(few, runs, kind, classes):
    features, targets = few
    estimator = PIPELINES[kind]().fit(features, targets[classes])
    graph, notes = converted(estimator)
    answer = runs(graph, features)
    if "compared as probabilities" in notes[0]:
        answer = np.exp(answer)
    truth = truth_of(estimator, features)
    if answer.shape != truth.shape:  # probabilities, of an estimator that has scores, too
        truth = estimator.predict_proba(features)
    np.testing.assert_allclose(answer, truth, rtol=1e-4, atol=1e-4)
    if hasattr(estimator, "classes_"):
        labels = answer.argmax(axis=1) if answer.shape[1] > 1 else (answer[:, 0] > 0).astype(int)
        assert np.mean(labels == estimator.predict(features)) > 0.99


def test_scores_are_scores_where_the_estimator_has_probabilities_too(few, runs):
    features, targets = few
    estimator = SVC(probability=True, random_state=0).fit(features, targets[2])
    graph, _ = converted(estimator)
    np.testing.assert_allclose(runs(graph, features)[:, 0], estimator.decision_function(features), atol=1e-4)


def test_where_scores_come_out_wrong_probabilities_are_taken(few, runs):
    features, targets = few  # skl2onnx 1.20 halves these scores
    estimator = GradientBoostingClassifier(loss="exponential", n_estimators=4).fit(features, targets[2])
    graph, notes = converted(estimator)
    assert notes[0].endswith("compared as probabilities")
    np.testing.assert_allclose(np.exp(runs(graph, features)), estimator.predict_proba(features), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda: DecisionTreeClassifier(random_state=0),
        lambda: RandomForestClassifier(5, random_state=0),
        lambda: CalibratedClassifierCV(RandomForestClassifier(2, random_state=0), cv=2, method="isotonic"),
        lambda: HistGradientBoostingClassifier(max_iter=4),
        lambda: make_pipeline(SimpleImputer(), LogisticRegression()),
        lambda: IsolationForest(n_estimators=12, random_state=0),
    ],
)
def test_missing_values_go_where_scikit_learn_sends_them(few, runs, make):
    features, targets = few[0].copy(), few[1][2]
    features[np.random.default_rng(0).random(features.shape) < 0.2] = np.nan
    estimator = make().fit(features, targets)
    graph, notes = converted(estimator)
    assert len(notes) == 1
    answer = runs(graph, features)
    if "compared as probabilities" in notes[0]:
        answer = np.exp(answer)
    np.testing.assert_allclose(answer, truth_of(estimator, features), rtol=1e-4, atol=1e-4)


def trees():
    return HistGradientBoostingClassifier(max_iter=4)


def filled():
    return SimpleImputer(strategy="constant", fill_value=3)


NESTED = {
    "fills in": lambda: make_pipeline(StandardScaler(), make_pipeline(filled(), trees())),
    "multiplies": lambda: make_pipeline(StandardScaler(), make_pipeline(PolynomialFeatures(2), trees())),
    "three deep": lambda: make_pipeline(make_pipeline(filled(), make_pipeline(MinMaxScaler(), trees()))),
    "in the middle": lambda: make_pipeline(make_pipeline(filled(), StandardScaler()), "passthrough", trees()),
    "not of trees": lambda: make_pipeline(filled(), make_pipeline(MinMaxScaler(), LogisticRegression())),
}


@pytest.mark.parametrize("kind", NESTED)
def test_every_step_of_a_pipeline_in_a_pipeline_is_in_the_graph(few, runs, kind):
    features, targets = few[0].copy(), few[1][2]
    if kind != "multiplies":  # which takes no missing values
        features[np.random.default_rng(0).random(features.shape) < 0.3] = np.nan
    estimator = NESTED[kind]().fit(features, targets)
    answer = runs(converted(estimator)[0], features)[:, 0]
    np.testing.assert_allclose(answer, estimator.decision_function(features), rtol=1e-4, atol=1e-4)


def test_histograms_are_asked_for_once(few):
    estimator = Estimator(skops.io.dumps(trees().fit(few[0], few[1][2])))
    assert [way for way, _ in estimator._attempts()] == ["decision"]


def test_a_graph_may_miss_one_record_of_64_and_not_two(few):
    features, targets = few
    estimator = Estimator(skops.io.dumps(trees().fit(features, targets[2])))
    graph = onnx.load_from_string(estimator.convert()[0])
    feeds = {"features": np.resize(features, (64, features.shape[1]))}
    told = estimator.answer(feeds)[0]
    for wrong in (1, 2):
        estimator.answer = lambda _, wrong=wrong: [told + 0.01 * (np.arange(64) < wrong)[:, None]]
        if wrong == 1:
            estimator._require_like(graph, feeds)
            continue
        with pytest.raises(InputError, match="the graph of HistGradientBoostingClassifier answers 2 of 64 records"):
            estimator._require_like(graph, feeds)


def test_the_trees_of_an_estimator_are_found_in_the_order_of_its_graph(few):
    features, targets = few
    forest = RandomForestClassifier(2, random_state=0)
    votes = VotingClassifier([("a", forest), ("b", make_pipeline(StandardScaler(), PARTS[1][1]))])
    votes.fit(features, targets[2])
    first, second = votes.estimators_
    assert _trees_of(votes) == [*(each.tree_ for each in first.estimators_), second[-1].tree_]
    stacked = StackingClassifier(PARTS[1:], final_estimator=DecisionTreeClassifier(max_depth=2), cv=2)
    stacked.fit(features, targets[2])
    assert _trees_of(stacked) == [stacked.estimators_[0].tree_, stacked.final_estimator_.tree_]
    calibrated = CalibratedClassifierCV(forest, cv=2).fit(features, targets[2])
    folds = [each.estimator.estimators_ for each in calibrated.calibrated_classifiers_]
    assert _trees_of(calibrated) == [each.tree_ for fold in folds for each in fold]


def test_missing_values_are_judged_where_a_pipeline_takes_them(few, tmp_path):
    features, targets = few[0].copy(), few[1][2]
    features[::3, 1] = np.nan
    skops.io.dump(NESTED["fills in"]().fit(features, targets), tmp_path / "in.skops")
    done = convert(tmp_path / "in.skops", tmp_path / "out.onnx")
    (missing,) = (each for each in done.comparison.families if each.name == "missing")
    assert (missing.records, missing.skipped, missing.outside, missing.judged) == (256, 0, 0, True)
    assert done.comparison.holds


def test_a_graph_without_the_step_that_fills_in_does_not_hold(few):
    features, targets = few
    whole = NESTED["fills in"]().fit(features, targets[2])
    less = make_pipeline(whole[0], whole[-1][-1])
    source = Source(Estimator(skops.io.dumps(whole)).answer, "scikit-learn")
    model, _ = Estimator(skops.io.dumps(less)).convert()
    graph = graph_of(model, "0" * 64, "model.skops")
    trials = of_its_kind(graph, source, "skops", Samples.of({"features": features}, graph.signature), 0)
    assert {trial.family for trial in trials} == {"missing-0"}
    assert not compare(source, model, trials).holds
    assert compare(source, model, [Trial("real-0", 0, {"features": features})]).holds  # nothing else tells


def test_what_takes_no_missing_values_is_not_asked_for_them(few):
    features, targets = few
    content = skops.io.dumps(make_pipeline(StandardScaler(), LogisticRegression()).fit(features, targets[2]))
    graph = graph_of(Estimator(content).convert()[0], "0" * 64, "model.skops")
    assert of_its_kind(graph, Source(Estimator(content).answer, "scikit-learn"), "skops", Samples(), 0) == []


def test_thresholds_of_histograms_decide_every_float32_as_before(few, runs):
    features, targets = few
    estimator = HistGradientBoostingClassifier(max_iter=4).fit(features, targets[2])
    graph, _ = converted(estimator)
    nodes = np.concatenate([each.nodes for iteration in estimator._predictors for each in iteration])
    nodes = nodes[nodes["is_leaf"] == 0]
    at = nodes["num_threshold"].astype(np.float32)
    records = features[np.arange(3 * len(at)) % len(features)]
    tried = np.concatenate([at, *(np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf))])
    records[np.arange(len(records)), np.tile(nodes["feature_idx"], 3)] = tried
    np.testing.assert_allclose(runs(graph, records)[:, 0], estimator.decision_function(records), atol=1e-5)


def test_a_category_is_the_number_itself_and_not_what_is_left_of_it(few, runs):
    features, targets = few
    code = ColumnTransformer([("code", OneHotEncoder(handle_unknown="ignore"), [2])], remainder="passthrough")
    estimator = make_pipeline(code, LogisticRegression(max_iter=300)).fit(features, targets[2])
    graph, _ = converted(estimator)
    records = np.repeat(features[:1], 9, axis=0)
    records[:, 2] = [0, -0.0, 0.6, 1, 0.99999994, 5.4, 7, -1, 3e9]
    np.testing.assert_allclose(runs(graph, records)[:, 0], estimator.decision_function(records), rtol=1e-4, atol=1e-4)


def several_labels(features, targets):
    return RandomForestClassifier(2).fit(features, np.stack([targets, 1 - targets], axis=1))


def by_category(features, targets):
    return HistGradientBoostingClassifier(max_iter=2, categorical_features=[2]).fit(features, targets)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (several_labels, "2 labels; train and convert one model a label"),
        (by_category, "code them with OneHotEncoder"),
        (lambda x, y: KMeans(2, n_init=1).fit(x), "KMeans is no classifier, regressor or outlier detector"),
        (lambda x, y: StandardScaler().fit(x), "no fitted model that takes rows of numbers"),
        (lambda x, y: TransformedTargetRegressor(LinearRegression()).fit(x, y), "skl2onnx does not convert it"),
        (
            lambda x, y: make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["a buy", "or not"], [0, 1]),
            "no fitted model that takes rows of numbers",
        ),
    ],
)
def test_what_is_not_converted_is_named(few, make, says):
    content = skops.io.dumps(make(few[0], few[1][2]))
    with pytest.raises(InputError, match=says):
        Estimator(content).convert()
