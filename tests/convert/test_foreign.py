"""Models of other frameworks: each converted graph is held to its framework, in the isolated process as in this one."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import skops.io
import torch
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from hauberk.convert import convert, isolated
from hauberk.convert.frameworks.estimator import Estimator
from hauberk.convert.isolated import Isolated, require
from hauberk.convert.messages import Array, Setup, packed, unpacked
from hauberk.errors import InputError, LimitError, MissingExtraError, RefusedModelError

PIPELINES = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "linear support vectors": lambda: make_pipeline(StandardScaler(), LinearSVC()),
    "support vectors": lambda: make_pipeline(StandardScaler(), SVC()),
    "perceptron": lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0)),
    "tree": lambda: DecisionTreeClassifier(max_depth=8, random_state=0),
    "forest": lambda: RandomForestClassifier(8, random_state=0),
    "extra trees": lambda: ExtraTreesClassifier(8, random_state=0),
    "bayes": lambda: make_pipeline(StandardScaler(), GaussianNB()),
    "regressor": lambda: GradientBoostingRegressor(n_estimators=5),
    "outliers": lambda: IsolationForest(n_estimators=8, random_state=0),
}


def truth_of(estimator, features):
    """What the estimator says in the terms of the graph, computed here and not by the code under test."""
    if isinstance(estimator, IsolationForest):
        return -estimator.decision_function(features)[:, None]
    if not hasattr(estimator, "classes_"):
        return estimator.predict(features)[:, None]
    if hasattr(estimator, "decision_function"):
        scores = estimator.decision_function(features)
        return scores[:, None] if scores.ndim == 1 else scores
    return estimator.predict_proba(features)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", PIPELINES)
def test_an_estimator_becomes_a_graph_with_one_output(spam, runs, kind, classes):
    targets = spam.targets if classes == 2 else spam.targets + (spam.features[:, 10] > 0)
    estimator = PIPELINES[kind]().fit(spam.features[:400], targets[:400])
    model = Estimator(skops.io.dumps(estimator))
    graph, notes = model.convert()
    answer = runs(graph, spam.features)
    np.testing.assert_allclose(answer, model.answer({"features": spam.features})[0], rtol=1e-3, atol=1e-3)
    truth = truth_of(estimator, spam.features)
    if "compared as probabilities" in notes[0]:
        answer = np.exp(answer)
    np.testing.assert_allclose(answer, truth, rtol=1e-4, atol=1e-4)
    if hasattr(estimator, "classes_"):
        labels = answer.argmax(axis=1) if answer.shape[1] > 1 else (answer[:, 0] > 0).astype(int)
        assert np.mean(labels == estimator.predict(spam.features)) > 0.997


def test_missing_values_go_where_scikit_learn_s_trees_send_them(spam, runs):
    features = spam.features.copy()
    features[np.random.default_rng(0).random(features.shape) < 0.2] = np.nan
    for estimator in (DecisionTreeClassifier(random_state=0), RandomForestClassifier(5, random_state=0)):
        estimator.fit(features, spam.targets)
        graph, _ = Estimator(skops.io.dumps(estimator)).convert()
        np.testing.assert_allclose(np.exp(runs(graph, features)), estimator.predict_proba(features), atol=1e-6)


def test_a_pipeline_goes_through_its_isolated_process(spam, tmp_path):
    forest = RandomForestClassifier(5, random_state=0).fit(spam.features, spam.targets)
    skops.io.dump(forest, tmp_path / "forest.skops")
    done = convert(tmp_path / "forest.skops", tmp_path / "forest.onnx")
    assert (done.verdict, done.source.format, done.comparison.holds) == ("safe", "skops", True)
    assert done.comparison.framework.startswith("scikit-learn ")
    assert next(family for family in done.comparison.families if family.name == "thresholds").records > 100


def test_a_type_that_is_not_listed_is_refused_before_skops_sees_it(tmp_path, spam):
    model = skops.io.dumps(LogisticRegression().fit(spam.features, spam.targets))
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(model)) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"sklearn.linear_model._logistic", b"subprocess"))
    (tmp_path / "in.skops").write_bytes(changed.getvalue())
    with pytest.raises(RefusedModelError, match="the scan says"):
        convert(tmp_path / "in.skops", tmp_path / "out.onnx")
    with pytest.raises((RefusedModelError, InputError)):
        Estimator(changed.getvalue())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


def test_torchscript_is_converted_in_its_isolated_process_only(network, tmp_path, runs):
    torch.jit.script(network).save(tmp_path / "program.pt")
    done = convert(tmp_path / "program.pt", tmp_path / "program.onnx")
    assert (done.verdict, done.source.format, done.comparison.holds) == ("unknown", "torchscript", True)
    assert any("isolated process only" in note for note in done.notes)
    features = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    with torch.no_grad():
        truth = network(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(runs((tmp_path / "program.onnx").read_bytes(), features), truth, rtol=1e-5, atol=1e-6)


class Endless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        while bool((features == features).all()):
            features = features + 0.0
        return self.linear(features)


def test_a_program_that_never_ends_is_stopped_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "_CONVERT_SECONDS", 1.0)
    torch.jit.script(Endless()).save(tmp_path / "program.pt")
    with pytest.raises(
        LimitError, match=r"program\.pt: in its isolated process: no answer within the time limit of 1 s"
    ):
        convert(tmp_path / "program.pt", tmp_path / "program.onnx")
    assert not (tmp_path / "program.onnx").exists()


def test_an_exported_program_keeps_its_free_batch(network, tmp_path, runs):
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(network, (torch.zeros(2, 6),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "program.pt2")
    done = convert(tmp_path / "program.pt2", tmp_path / "program.onnx")
    assert (done.verdict, done.source.format, done.comparison.holds) == ("safe", "pt2", True)
    features = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    with torch.no_grad():
        truth = network(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(runs((tmp_path / "program.onnx").read_bytes(), features), truth, rtol=1e-5, atol=1e-6)


def test_a_missing_framework_is_named_with_its_extra():
    with pytest.raises(MissingExtraError, match=r"needs no_such_library, .* pip install 'hauberk\[trees\]'"):
        require("no_such_library", "trees", "model.txt: comparing")


def test_what_a_library_does_not_read_is_an_error_of_ours():
    with pytest.raises(InputError, match=r"broken\.txt: lightgbm does not read it"):
        Isolated(Setup("lightgbm", b"tree\nno model at all\n"), "broken.txt").close()


@pytest.mark.parametrize(
    "array",
    [
        Array("<f4", (2, 3), b"\0" * 23),
        Array("<f4", (-1,), b""),
        Array("O", (1,), b"\0" * 8),
        Array("no dtype", (1,), b"\0"),
        Array("<f4", (1,) * 9, b"\0" * 4),
        Array("V4", (1,), b"\0" * 4),
    ],
)
def test_an_array_that_lies_about_itself_is_refused(array):
    with pytest.raises(InputError, match="isolated process"):
        unpacked(array)


def test_arrays_come_through_unchanged():
    for array in (np.arange(6.0).reshape(2, 3).T, np.array(True), np.zeros((0, 4), np.int8)):
        back = unpacked(packed(array))
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert np.array_equal(back, array)
