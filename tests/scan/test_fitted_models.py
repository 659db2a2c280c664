"""Fitted models of scikit-learn are judged alike, whatever they were saved with."""

from __future__ import annotations

import contextlib
import io
import pickle
from collections import deque
from pathlib import Path
from unittest import SkipTest

import joblib
import numpy as np
import pytest
from corpus.fitted_models import ASTRAY, by_skops, histogram, table
from sklearn.ensemble import BaggingRegressor
from sklearn.impute._iterative import _ImputerTriplet
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import all_estimators, get_tags
from sklearn.utils._test_common.instance_generator import _construct_instances
from skops.io import dump
from skops.io.exceptions import UnsupportedTypeException

from hauberk.scan import scan_paths
from hauberk.scan.report import Verdict

# A pickle that puts something in a method's place is refused before its figures are looked at.
MODELS = {name: make for name, make, _, reference in ASTRAY if not reference.endswith("/915.html")}


def _verdict(content, folder):
    (folder / "model.pkl").write_bytes(content)
    (report,) = scan_paths([folder / "model.pkl"])
    return report.verdict, {finding.what for finding in report.findings}


@pytest.mark.parametrize("name", MODELS)
def test_pickles_and_skops_archives_are_judged_alike(name, tmp_path):
    make = MODELS[name]
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(make(), 5))
    pickled, archived = scan_paths([tmp_path / "model.pkl", by_skops(make)(tmp_path)])
    assert pickled.verdict == archived.verdict != Verdict.SAFE
    assert {finding.what.removeprefix("at its end: ") for finding in pickled.findings} == {
        finding.what for finding in archived.findings
    }


def test_a_tree_that_joins_a_list_after_the_estimator_that_holds_it(tmp_path):
    """The list is empty when the pipeline is given it, and is not what the pickle gives in the end."""
    model = Pipeline([])
    steps = [model, DecisionTreeRegressor().fit(*table()).tree_]
    model.steps = steps
    both = pickle.dumps((steps, model), 3)
    assert both[-4:-2] == b"\x86q"  # a pair, and its number
    content = both[:-4] + b"."
    assert pickle.loads(content).steps[1].node_count > 1
    assert _verdict(content, tmp_path) == (
        Verdict.UNKNOWN,
        {"at its end: a tree on its own, which lets in records of any length"},
    )


@pytest.mark.parametrize("protocol", [0, 2, 3, 5])
@pytest.mark.parametrize("hold", [list, tuple, set, frozenset, deque, dict.fromkeys], ids=lambda hold: hold.__name__)
def test_no_container_hides_a_tree(hold, protocol, tmp_path):
    model = BaggingRegressor()
    model.estimators_ = hold([(1, DecisionTreeRegressor().fit(*table()).tree_)])
    verdict, found = _verdict(pickle.dumps(model, protocol), tmp_path)
    assert verdict != Verdict.SAFE
    assert "at its end: a tree on its own, which lets in records of any length" in found


def test_no_named_tuple_hides_a_tree(tmp_path):
    model = BaggingRegressor()
    model.imputation_sequence_ = [_ImputerTriplet(0, [1], DecisionTreeRegressor().fit(*table()).tree_)]
    verdict, found = _verdict(pickle.dumps(model, 4), tmp_path)
    assert (verdict, found) == (
        Verdict.UNKNOWN,
        {"at its end: a tree on its own, which lets in records of any length"},
    )


def test_an_estimators_state_that_stands_elsewhere_too(tmp_path):
    tree = DecisionTreeRegressor().fit(*table())
    out = io.BytesIO()
    joblib.dump([tree, vars(tree)], out)
    assert _verdict(out.getvalue(), tmp_path)[0] == Verdict.UNKNOWN
    assert _verdict(pickle.dumps([tree, tree]), tmp_path)[0] == Verdict.SAFE


def _histograms(**attributes):
    model = histogram()()
    vars(model).update({name: each(model) for name, each in attributes.items()})
    return pickle.dumps(model)


def test_histograms_keep_one_method_of_their_own(tmp_path):
    content = _histograms(_raw_predict=lambda model: model._raw_predict)
    assert b"getattr" in content
    assert _verdict(content, tmp_path)[0] == Verdict.SAFE
    assert pickle.loads(content).predict(table()[0]).shape == (12,)


@pytest.mark.parametrize(
    "attributes",
    [
        {"predict": lambda model: model._raw_predict},
        {"_raw_predict": lambda model: model._preprocess_X},
        {"_raw_predict": lambda model: model._bin_mapper.transform},
        {"others": lambda _: [getattr]},
        {"others": lambda _: {1: (getattr,)}},
        {"others": lambda _: deque([getattr])},
        {"others": lambda _: frozenset([getattr])},
        {"_raw_predict": lambda _: getattr},
        {"scorer_": lambda _: {"a": getattr}},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_no_other_method_is_kept_and_what_looks_them_up_is_not(attributes, tmp_path):
    assert _verdict(_histograms(**attributes), tmp_path)[0] == Verdict.UNSAFE


_OF_SCIPY = {"SparseRandomProjection", "SpectralEmbedding", "SplineTransformer"}
_ROUTED = {"TunedThresholdClassifierCV"}
_GAUSSIAN = {"GaussianProcessClassifier", "GaussianProcessRegressor"}
_NEIGHBOURS = {
    "Isomap", "KNeighborsClassifier", "KNeighborsRegressor", "KNeighborsTransformer", "KernelDensity",
    "LocallyLinearEmbedding", "NearestNeighbors", "RadiusNeighborsClassifier", "RadiusNeighborsRegressor",
    "RadiusNeighborsTransformer",
}  # fmt: skip
_LEFT_OUT = {
    "pickle": {"unsafe": _GAUSSIAN | _OF_SCIPY | _ROUTED},
    "skops": {"unknown": _NEIGHBOURS | _OF_SCIPY, "unsafe": _ROUTED},
}
"""What the documentation names as not safe."""


def _all_fitted():
    """Each estimator that needs nothing but a small table, with the settings that scikit-learn's own tests give it."""
    numbers = np.random.default_rng(0)
    records = numbers.random((40, 4)) + 0.1
    for name, kind in all_estimators():
        with contextlib.suppress(TypeError, ValueError, AttributeError, IndexError, SkipTest):
            model = next(iter(_construct_instances(kind)))
            target = records[:, 0] if get_tags(model).estimator_type == "regressor" else np.arange(40) % 2
            yield name, model.fit(records, target)


@pytest.mark.filterwarnings("ignore")
def test_estimators_are_safe_but_those_that_the_documentation_names(tmp_path):
    found = {"pickle": {}, "skops": {}}
    fitted = list(_all_fitted())
    assert len(fitted) > 150
    for name, model in fitted:
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(model))
        with contextlib.suppress(UnsupportedTypeException):
            dump(model, tmp_path / f"{name}.skops")
    for report in scan_paths([tmp_path]):
        if report.verdict != Verdict.SAFE:
            written = "skops" if report.path.endswith(".skops") else "pickle"
            found[written].setdefault(report.verdict.value, set()).add(Path(report.path).stem)
    assert found == _LEFT_OUT
