"""Losses and weights against closed forms, torch's own and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.utils.class_weight import compute_class_weight

from hauberk.errors import InputError
from hauberk.schema import Decision
from hauberk.train import balanced_weights, cross_entropy
from hauberk.train.objective import class_balanced_weights, margin, softmax_cross_entropy

TARGETS = hnp.arrays(np.int64, st.integers(2, 200), elements=st.integers(0, 1)).filter(lambda t: 0 < t.sum() < len(t))


@given(TARGETS)
def test_balanced_weights_are_scikit_learns(targets):
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=targets)
    np.testing.assert_allclose(balanced_weights(targets), expected, rtol=1e-12)


@given(TARGETS)
def test_with_balanced_weights_both_classes_weigh_the_same(targets):
    benign, attack = balanced_weights(targets)
    assert benign * np.sum(targets == 0) == pytest.approx(attack * np.sum(targets == 1))
    assert benign * np.sum(targets == 0) == pytest.approx(len(targets) / 2)


@pytest.mark.parametrize(("targets", "says"), [([0, 0], "all benign records"), ([1, 1, 1], "all attacks")])
def test_one_class_only_is_refused(targets, says):
    with pytest.raises(InputError, match=says):
        balanced_weights(np.array(targets, np.int64))


@pytest.mark.parametrize("benign", [0, 1])
def test_with_two_logits_it_is_the_weighted_softmax_cross_entropy(benign):
    torch.manual_seed(1)
    logits, targets = torch.randn(50, 2) * 5, torch.randint(0, 2, (50,))
    weights = torch.tensor([0.6, 3.0])
    column = targets if benign == 0 else 1 - targets
    by_column = weights if benign == 0 else weights.flip(0)
    expected = torch.nn.functional.cross_entropy(logits, column, weight=by_column)
    torch.testing.assert_close(cross_entropy(logits, targets, weights, benign), expected)


def test_with_one_logit_it_is_the_log_loss():
    logits, targets = torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 1])
    expected = np.mean(np.log1p(np.exp([-2.0, 1.0])))
    assert float(cross_entropy(logits, targets, torch.ones(2))) == pytest.approx(expected, rel=1e-6)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(-50, 50, width=32)),
    st.integers(0, 3),
)
def test_the_margin_is_that_of_the_decision(logits, benign):
    benign %= logits.shape[1]
    expected = Decision(outputs=logits.shape[1], benign=benign).margin(logits)
    np.testing.assert_allclose(margin(torch.tensor(logits), benign).numpy(), expected, rtol=1e-4, atol=1e-4)


@given(hnp.arrays(np.int64, st.integers(6, 200), elements=st.integers(0, 2)).filter(lambda t: len(set(t)) == 3))
def test_class_weights_are_those_of_scikit_learn(targets):
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    np.testing.assert_allclose(class_balanced_weights(targets, 3), expected)


@pytest.mark.parametrize(("targets", "says"), [([0, 1, 3], "has 3 logits"), ([0, 2, 2], "class 1 has no training")])
def test_classes_that_do_not_fit_the_logits_are_refused(targets, says):
    with pytest.raises(InputError, match=says):
        class_balanced_weights(np.array(targets, np.int64), 3)


def test_softmax_cross_entropy_is_the_closed_form():
    logits, targets, weights = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]), np.array([1, 0]), np.array([2.0, 1.0, 1.0])
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[[0, 1], targets]
    expected = (weights[targets] * losses).sum() / weights[targets].sum()
    tensors = torch.tensor(logits), torch.tensor(targets), torch.tensor(weights)
    assert float(softmax_cross_entropy(*tensors)) == pytest.approx(expected, rel=1e-6)
