"""Trees of each library on NSL-KDD, where it is: real traffic, categories as one-hot codes, all of its test file."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.ensemble import HistGradientBoostingClassifier

from hauberk.convert import RealInputs, Wanted, convert
from hauberk.data import load_splits
from hauberk.data.load import KNOWN
from hauberk.schema import FeatureSpace
from hauberk.train import fit_preprocessing, labelled

FOLDER = KNOWN["nsl-kdd"].folder()
pytestmark = pytest.mark.skipif(
    FOLDER is None or not FOLDER.is_dir(), reason="NSL-KDD is not here; set HAUBERK_DATA (see docs/how-to/data.md)"
)


@pytest.fixture(scope="module")
def traffic():
    """Features of every fifth record to train on, targets, and features of all records that are tested on."""
    splits = load_splits("nsl-kdd")
    fitted = fit_preprocessing(splits.training.schema, splits.training.coded.numeric, "none")
    space = FeatureSpace(splits.training.schema, fitted)
    training, test = labelled(space, splits.training), labelled(space, splits.test)
    return training.features[::5], training.targets[::5], test.features


def scores_of_xgboost(features, targets, test, path):
    settings = {"objective": "multi:softprob", "num_class": int(targets.max()) + 1, "nthread": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(features, targets), 5)
    booster.save_model(path)
    return booster.predict(xgboost.DMatrix(test), output_margin=True)


def scores_of_lightgbm(features, targets, test, path):
    settings = {"objective": "multiclass", "num_class": int(targets.max()) + 1, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(features, targets), 5)
    booster.save_model(path)
    return booster.predict(test, raw_score=True)


def scores_of_scikit_learn(features, targets, test, path):
    estimator = HistGradientBoostingClassifier(max_iter=5, early_stopping=False).fit(features, targets)
    skops.io.dump(estimator, path)
    return estimator.decision_function(test)


def labels_of(scores):
    return scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)


@pytest.mark.parametrize(
    ("name", "scores_of"),
    [("trees.ubj", scores_of_xgboost), ("trees.txt", scores_of_lightgbm), ("trees.skops", scores_of_scikit_learn)],
)
def test_trees_of_real_traffic_answer_as_their_library_does(traffic, runs, tmp_path, name, scores_of):
    features, targets, test = traffic
    expected = scores_of(features, targets, test, tmp_path / name)
    done = convert(tmp_path / name, tmp_path / "trees.onnx", Wanted(real=RealInputs(data="nsl-kdd")))
    assert (done.verdict, done.comparison.holds) == ("safe", True)
    assert {"real", "thresholds", "missing"} <= {family.name for family in done.comparison.families}
    answers = runs((tmp_path / "trees.onnx").read_bytes(), test)
    expected = expected.reshape(len(test), -1)
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    assert len(test) > 20_000
    assert np.array_equal(labels_of(answers), labels_of(expected))
