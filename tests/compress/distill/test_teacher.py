"""Anything teaches: trees, modules, graphs and several of them at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from hauberk.compress import Distill
from hauberk.compress.distill import Ensemble, GraphTeacher, Hints, Itself, ModuleTeacher, Network, ProbabilityTeacher
from hauberk.compress.tuning import Tuning, answers
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.models import TabularMLP

LEARN = Distill(student=Itself(), tuning=Tuning(epochs=30, alpha=1.0, learning_rate=3e-3), agreement=0.0)


@pytest.fixture(scope="module")
def trees(spambase) -> HistGradientBoostingClassifier:
    training = spambase.context.training
    return HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(training.features, training.targets)


@pytest.fixture(scope="module")
def untaught(spambase):
    torch.manual_seed(0)
    return spambase.graph(TabularMLP(57, (32,)))


def share_alike(one: np.ndarray, other: np.ndarray) -> float:
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())


def test_a_network_learns_from_boosted_trees(trees, spambase, untaught):
    """The student never sees a label, and decides like the trees on records that neither has seen."""
    teacher = ProbabilityTeacher(trees)
    student = LEARN.apply(untaught, replace(spambase.context, teacher=teacher))
    answered = answers(student, spambase.test.features)
    assert share_alike(answered, teacher.predict(spambase.test.features)) > 0.93
    assert (answered.argmax(axis=1) == spambase.test.targets).mean() > 0.9


def test_a_network_learns_from_an_ensemble(trees, spambase, untaught, robust_detector):
    teacher = Ensemble([ProbabilityTeacher(trees), GraphTeacher(robust_detector)])
    student = LEARN.apply(untaught, replace(spambase.context, teacher=teacher))
    answered = answers(student, spambase.test.features)
    assert share_alike(answered, teacher.predict(spambase.test.features)) > 0.93


def test_probabilities_come_back_from_logits(trees, spambase):
    features = spambase.test.features
    logits = ProbabilityTeacher(trees, floor=1e-9).predict(features)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, trees.predict_proba(features), atol=1e-6)
    assert logits.dtype == np.float32


def test_columns_are_put_in_the_order_of_the_logits(trees, spambase):
    features = spambase.test.features[:10]
    straight, turned = (ProbabilityTeacher(trees, columns=columns).predict(features) for columns in (None, (1, 0)))
    np.testing.assert_array_equal(straight[:, ::-1], turned)


def test_an_ensemble_averages_probabilities(core, mlp):
    """A single logit counts as log-odds; weights as numpy weighs them."""
    features = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    single = mlp(20, 1, seed=3)
    ensemble = Ensemble([GraphTeacher(core), GraphTeacher(single)], weights=(1.0, 3.0))
    pair = np.exp(answers(core, features).astype(np.float64))
    odds = 1 / (1 + np.exp(-answers(single, features)[:, 0].astype(np.float64)))
    expected = (pair[:, 1] / pair.sum(axis=1) + 3 * odds) / 4
    got = np.exp(ensemble.predict(features))
    np.testing.assert_allclose(got[:, 1] / got.sum(axis=1), expected, atol=1e-5)


def test_a_module_answers_like_its_graph(core):
    features = np.random.default_rng(0).normal(size=(3000, 20)).astype(np.float32)
    np.testing.assert_allclose(ModuleTeacher(Twin(core)).predict(features), answers(core, features), atol=1e-5)


def test_what_answers_no_probabilities_is_refused():
    class Scores:
        def predict_proba(self, records: np.ndarray) -> np.ndarray:
            return np.ones((len(records), 2))

    with pytest.raises(InputError, match=r"Scores answers \[5, 2\] for 5 records; probabilities"):
        ProbabilityTeacher(Scores()).predict(np.zeros((5, 3), np.float32))


def test_members_that_tell_other_classes_are_refused(core, mlp):
    with pytest.raises(InputError, match="members of the ensemble answer"):
        Ensemble([GraphTeacher(core), GraphTeacher(mlp(20, 3))]).predict(np.zeros((4, 20), np.float32))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0)])
def test_weights_that_weigh_nothing_are_refused(weights, core):
    with pytest.raises(InputError, match="2 members need as many weights"):
        Ensemble([GraphTeacher(core), GraphTeacher(core)], weights=weights)


def test_an_ensemble_of_nobody_is_refused():
    with pytest.raises(InputError, match="at least one member"):
        Ensemble([])


def test_hints_need_a_graph_to_look_into(context, core):
    step = Distill(student=Network("tabular-mlp", {"widths": [8]}), hints=Hints())
    with pytest.raises(InputError, match="must be a graph and is a ModuleTeacher"):
        step.apply(core, replace(context, teacher=ModuleTeacher(Twin(core))))


def test_a_teacher_of_other_classes_is_refused(context, core, mlp):
    other = replace(context, task="classification", teacher=GraphTeacher(mlp(20, 3)))
    with pytest.raises(InputError, match="tells 3 classes apart, the model 2"):
        Distill(student=Network("tabular-mlp", {"widths": [8]})).apply(core, other)
