"""skops archives: judged at least as strictly as skops itself judges them."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from corpus.frameworks_skops import SKOPS_CASES
from corpus.frameworks_trees import TREE_CASES, estimator, mapping, node, plain, skops, tree
from skops import io as real

from hauberk.scan import scan_paths
from hauberk.scan.fitted.trees import LONGEST_FLAGS
from hauberk.scan.frameworks.skops_names import listed_types

# Types that skops makes its user approve and that hold data only (tests of their content are in the scan).
APPROVED = {
    "sklearn.tree._tree.Tree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.feature_selection._univariate_selection.f_classif",
}


def scanned(path):
    (result,) = scan_paths([path])
    return result


@pytest.mark.parametrize(
    "case", [case for case in (*TREE_CASES, *SKOPS_CASES) if case.name.startswith("skops")], ids=lambda case: case.name
)
def test_what_skops_would_not_load_is_never_safe(case, tmp_path):
    path = case.make(tmp_path)
    assert scanned(path).verdict != "safe"
    try:
        untrusted = real.get_untrusted_types(file=path)
    except Exception:  # noqa: BLE001 - any refusal will do
        return
    # What skops itself takes is refused for its content: indices of trees, arrays, numbers and forms of nodes.
    content = {"tree-bounds", "identity", "member", "node", "special", "unchecked-indices", "type"}
    assert set(untrusted) - APPROVED or {"pickle-code", "scan-polyglot", *(f"skops-{each}" for each in content)} & {
        finding.rule for finding in scanned(path).findings
    }


def test_an_honest_model_is_one_that_skops_loads_with_what_is_approved_here(tmp_path):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    real.dump(model, tmp_path / "model.skops")
    result = scanned(tmp_path / "model.skops")
    assert (result.format, result.verdict) == ("skops", "safe")
    assert not real.get_untrusted_types(file=tmp_path / "model.skops")
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert result.facts["nodes"] == archive.read("schema.json").count(b'"__loader__"')


def test_every_listed_name_is_there_and_holds_data():
    import importlib

    from sklearn.base import BaseEstimator

    names = {name for name in listed_types() if name.startswith("sklearn.")}
    assert len(names) > 200
    estimators = 0
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):  # of another version of scikit-learn
            continue
        estimators += isinstance(found, type) and issubclass(found, BaseEstimator)
    assert estimators > 150
    for forbidden in ("joblib", "sklearn.utils._joblib", "sklearn.datasets", "sklearn.externals", "builtins.eval"):
        assert not any(name.startswith(forbidden) for name in listed_types())


@pytest.mark.parametrize(
    ("children", "feature", "verdict"),
    [((1, 2), 0, "safe"), ((1, 2), 3, "safe"), ((1, 2), 4, "unsafe"), ((0, 2), 0, "unsafe"), ((1, 3), 0, "unsafe")],
)
def test_trees(children, feature, verdict, tmp_path):
    assert scanned(tree(children, feature)(tmp_path)).verdict == verdict


def test_a_function_of_an_old_protocol_is_what_it_would_call(tmp_path):
    called = node("FunctionNode", "system", "os", content={"module_path": "numpy", "function": "log1p"})
    assert scanned(skops(called, protocol=0)(tmp_path)).verdict == "safe"
    assert scanned(skops(called, protocol=2)(tmp_path)).verdict == "unsafe"


def test_findings_say_where(tmp_path):
    model = estimator(C=plain(1.0), solver=node("FunctionNode", "system", "os"))
    (finding,) = scanned(skops(model)(tmp_path)).findings
    assert finding.where == "schema.json:content.content.solver"
    assert finding.what == "os.system in a FunctionNode"


def test_a_schema_that_is_no_object_is_not_safe(tmp_path):
    path = tmp_path / "x.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", json.dumps([mapping()]))
    assert scanned(path).verdict == "unknown"


def changed(path, change):
    """The archive again, its schema changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    change(schema["content"]["content"])
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _fitted(name, **options):
    from sklearn import ensemble, tree

    numbers = np.random.default_rng(0).random((60, 4))
    model = {**vars(ensemble), **vars(tree)}[name](random_state=0, **options)
    return model.fit(numbers, (numbers[:, 3] > 0.5).astype(int))


@pytest.mark.parametrize(
    ("name", "options"), [("DecisionTreeClassifier", {}), ("HistGradientBoostingClassifier", {"max_iter": 2})]
)
def test_columns_that_an_estimator_does_not_make_sure_of(name, options, tmp_path):
    """Fewer columns than the tree asks for: scikit-learn would read beyond each record."""
    real.dump(_fitted(name, **options), tmp_path / "model.skops")
    assert scanned(tmp_path / "model.skops").verdict == "safe"
    path = changed(tmp_path / "model.skops", lambda state: state.update(n_features_in_=plain(2)))
    result = scanned(path)
    assert result.verdict == "unsafe"
    assert {finding.rule for finding in result.findings} == {"skops-tree-bounds"}


def test_a_tree_of_gradient_boosting_on_its_own_is_unknown(tmp_path):
    real.dump(_fitted("HistGradientBoostingClassifier", max_iter=2), tmp_path / "model.skops")
    path = changed(tmp_path / "model.skops", lambda state: state.pop("n_features_in_"))
    assert "skops-unchecked-indices" in {finding.rule for finding in scanned(path).findings}


def test_splits_by_categories_that_are_too_many_to_look_at_are_unknown(tmp_path):
    """One column more than a row of flags is read of."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    numbers = np.zeros((80, LONGEST_FLAGS + 1))
    numbers[:, 0] = np.arange(80) % 5
    model = HistGradientBoostingClassifier(max_iter=1, categorical_features=[0], min_samples_leaf=2)
    real.dump(model.fit(numbers, numbers[:, 0] % 2), tmp_path / "model.skops")
    assert {finding.rule for finding in scanned(tmp_path / "model.skops").findings} == {"skops-unchecked-indices"}


def test_a_tree_whose_columns_nobody_makes_sure_of_is_unknown(tmp_path):
    real.dump(_fitted("DecisionTreeClassifier"), tmp_path / "model.skops")
    path = changed(tmp_path / "model.skops", lambda state: state.update(other=state.pop("n_features_in_")))
    assert "skops-unchecked-indices" in {finding.rule for finding in scanned(path).findings}


def test_columns_must_be_a_plain_number(tmp_path):
    """An array node with a text beside it: the text is not what skops loads."""
    real.dump(_fitted("DecisionTreeClassifier"), tmp_path / "model.skops")
    path = changed(tmp_path / "model.skops", lambda state: state["n_features_in_"].update(__loader__="SliceNode"))
    assert scanned(path).verdict != "safe"


def test_gradient_boosting_makes_sure_of_the_columns_of_its_first_tree_only(tmp_path):
    real.dump(_fitted("GradientBoostingClassifier", n_estimators=2), tmp_path / "model.skops")
    assert scanned(tmp_path / "model.skops").verdict == "safe"

    def widen(state):
        second = state["estimators_"]["content"][1]["content"][0]["content"]["content"]
        second["n_features_in_"]["content"] = "9"
        second["n_features_in_"]["__id__"] = 1

    path = changed(tmp_path / "model.skops", widen)
    assert {finding.rule for finding in scanned(path).findings} == {"skops-tree-bounds"}


def test_gradient_boosting_has_room_for_the_trees_of_a_step(tmp_path):
    """scikit-learn writes a result for each tree of a step, 400 where there is room for one."""
    real.dump(_fitted("GradientBoostingClassifier", n_estimators=1), tmp_path / "model.skops")

    def widen(state):
        trees = anonymous(state["estimators_"])
        trees["content"][0]["content"] *= 400
        trees["shape"]["content"][1]["content"] = "400"
        state["estimators_"] = trees

    result = scanned(changed(tmp_path / "model.skops", widen))
    assert [finding.rule for finding in result.findings] == ["skops-unchecked-indices"]


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_an_array_of_trees_has_as_many_as_its_shape_says(steps, tmp_path):
    """skops makes an array of what is there, whatever the shape says; nobody honest writes two figures."""
    real.dump(_fitted("GradientBoostingClassifier", n_estimators=2), tmp_path / "model.skops")

    def resize(state):
        state["estimators_"] = anonymous(state["estimators_"])
        state["estimators_"]["shape"]["content"][0]["content"] = str(steps)

    result = scanned(changed(tmp_path / "model.skops", resize))
    assert {finding.rule for finding in result.findings} == {"skops-node", "skops-unchecked-indices"}


def anonymous(value):
    """Nodes without their numbers."""
    if isinstance(value, list):
        return [anonymous(each) for each in value]
    if isinstance(value, dict):
        return {key: anonymous(each) for key, each in value.items() if key != "__id__"}
    return value


@pytest.mark.parametrize("options", [{}, {"init": "zero"}, {"loss": "exponential"}])
def test_gradient_boosting_as_people_have_it_is_safe(options, tmp_path):
    from sklearn.ensemble import GradientBoostingClassifier

    numbers = np.random.default_rng(0).random((60, 4))
    classes = (numbers[:, 0] * (2 if options.get("loss") else 3)).astype(int)
    real.dump(GradientBoostingClassifier(n_estimators=2, **options).fit(numbers, classes), tmp_path / "model.skops")
    assert scanned(tmp_path / "model.skops").verdict == "safe"


def test_random_generators_as_people_have_them_are_safe(tmp_path):
    held = {f"g{seed}": np.random.default_rng(seed) for seed in (None, 7, np.int64(5), (1, 2), 1 << 200)}
    real.dump({**held, "state": np.random.RandomState(0)}, tmp_path / "model.skops")
    assert scanned(tmp_path / "model.skops").verdict == "safe"


def test_a_model_of_histograms_that_says_it_is_being_fitted(tmp_path):
    model = _fitted("HistGradientBoostingClassifier", max_iter=2)
    model._in_fit = True
    real.dump(model, tmp_path / "model.skops")
    assert {finding.rule for finding in scanned(tmp_path / "model.skops").findings} == {"skops-tree-bounds"}


def test_what_prepares_columns_of_gradient_boosting_is_unknown(tmp_path):
    real.dump(_fitted("HistGradientBoostingClassifier", max_iter=2), tmp_path / "model.skops")
    path = changed(tmp_path / "model.skops", lambda state: state.update(_preprocessor=estimator()))
    assert "skops-unchecked-indices" in {finding.rule for finding in scanned(path).findings}


def test_search_with_its_folds_and_scorer_is_safe(tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold

    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=KFold(2))
    numbers = np.random.default_rng(0).random((40, 3))
    real.dump(search.fit(numbers, numbers[:, 0] > 0.5), tmp_path / "model.skops")
    assert scanned(tmp_path / "model.skops").verdict == "safe"
