import numpy as np
import pytest
from scipy.special import expit, logit, logsumexp

from hauberk.schema import Decision, sigmoid

LOGITS = np.random.default_rng(1).normal(scale=20, size=(50, 5)).astype(np.float32)


def test_margin_is_the_log_odds_of_any_attack():
    margin = Decision(outputs=5, benign=2).margin(LOGITS)
    probabilities = np.exp(LOGITS.astype(np.float64) - logsumexp(LOGITS.astype(np.float64), axis=1, keepdims=True))
    attack = np.delete(probabilities, 2, axis=1).sum(axis=1)
    np.testing.assert_allclose(margin, np.log(attack) - np.log(probabilities[:, 2]), rtol=1e-4, atol=1e-4)


def test_margin_of_two_outputs_is_their_difference():
    np.testing.assert_array_equal(Decision(benign=1).margin(LOGITS[:, :2]), LOGITS[:, 0] - LOGITS[:, 1])


def test_margin_of_one_output_is_that_output():
    np.testing.assert_array_equal(Decision(outputs=1).margin(LOGITS[:, :1]), LOGITS[:, 0])


def test_sigmoid_does_not_overflow():
    margin = np.array([-1e4, -30.0, 0.0, 2.5, 1e4])
    with np.errstate(all="raise"):
        np.testing.assert_allclose(sigmoid(margin), expit(margin), atol=1e-12)


@pytest.mark.parametrize("score", [0.001, 0.5, 0.93])
def test_the_threshold_is_the_log_odds_of_its_score(score):
    assert Decision(threshold=float(logit(score))).score_threshold == pytest.approx(score)
