"""Losses of robust training against torch's own, NumPy and what the papers' formulas say of special cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hauberk.attacks import FeatureThreat
from hauberk.schema import Decision
from hauberk.train import TrainingOptions
from hauberk.train.robust import METHODS, RobustOptions
from hauberk.train.robust.losses import Losses, boosted_cross_entropy, divergence, weighted
from hauberk.train.robust.method import Batch, Setting
from hauberk.train.robust.weight_perturbation import shifted

TORCH = torch.Generator().manual_seed(0)
LOGITS = 4 * torch.randn(30, 2, generator=TORCH)
OTHERS = 4 * torch.randn(30, 2, generator=TORCH)
TARGETS = torch.randint(0, 2, (30,), generator=TORCH)
WEIGHTS = torch.tensor([0.5, 2.0])


def losses(task: str = "detection", smoothing: float = 0.0, benign: int = 0) -> Losses:
    return Losses(TrainingOptions(task=task, benign=benign), WEIGHTS, smoothing=smoothing)


@pytest.mark.parametrize("task", ["detection", "classification"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_cross_entropy_is_torchs_smoothed(task, smoothing):
    rule = losses(task, smoothing)
    found = rule.cross_entropy(rule.log_probabilities(LOGITS), TARGETS)
    expected = functional.cross_entropy(LOGITS, TARGETS, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(found, expected)


def test_one_logit_is_the_log_odds_of_attack():
    answers = losses().log_probabilities(LOGITS[:, :1])
    torch.testing.assert_close(answers.exp().sum(1), torch.ones(30))
    torch.testing.assert_close(answers[:, 1].exp(), torch.sigmoid(LOGITS[:, 0]))


def test_the_benign_logit_may_stand_anywhere():
    swapped = losses(benign=1).log_probabilities(LOGITS.flip(1))
    torch.testing.assert_close(swapped, losses().log_probabilities(LOGITS))


def test_the_divergence_is_torchs():
    one, other = (functional.log_softmax(logits, dim=1) for logits in (LOGITS, OTHERS))
    expected = functional.kl_div(other, one, log_target=True, reduction="none").sum(1)
    torch.testing.assert_close(divergence(one, other), expected)


def test_the_boosted_cross_entropy_is_the_papers():
    logits = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(30) % 5
    shares = torch.softmax(logits.double(), dim=1).numpy()
    right = shares[np.arange(30), targets.numpy()]
    others = shares.copy()
    others[np.arange(30), targets.numpy()] = 0
    expected = -np.log(right) - np.log(1 - others.max(1))
    found = boosted_cross_entropy(torch.log_softmax(logits, 1), targets)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_the_boosted_cross_entropy_of_a_hopeless_answer_is_finite():
    answers = torch.log_softmax(torch.tensor([[0.0, 80.0]]), dim=1)
    assert float(boosted_cross_entropy(answers, torch.tensor([0]))) == pytest.approx(80 - np.log(1e-6), rel=0.01)


def test_records_weigh_what_their_class_and_they_themselves_do():
    rule = Losses(TrainingOptions(), WEIGHTS, torch.arange(1.0, 31.0))
    rows = torch.tensor([4, 7, 2])
    expected = WEIGHTS[TARGETS[rows]] * torch.tensor([5.0, 8.0, 3.0])
    torch.testing.assert_close(rule.weights_of(TARGETS[rows], rows), expected)
    torch.testing.assert_close(rule.weights_of(TARGETS), WEIGHTS[TARGETS])
    assert float(weighted(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))) == 1.75


def objective(method: str, **options: object):
    threat = FeatureThreat(0.1, np.zeros(3, np.float32), np.ones(3, np.float32), np.ones(3, np.bool_))
    return METHODS[method](Setting(RobustOptions(method=method, **options), threat, Decision(), losses(), 0))


def test_methods_say_what_their_formulas_say():
    """TRADES and MART on records and attacked records that are handed in: equations 5 and 11, in NumPy's words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
    features, attacked = torch.rand(30, 3), torch.rand(30, 3)
    batch = Batch(features, TARGETS, WEIGHTS[TARGETS])
    with torch.no_grad():
        clean, moved = (torch.softmax(module(each).double(), 1).numpy() for each in (features, attacked))
    rows, right, weights = np.arange(30), TARGETS.numpy(), WEIGHTS[TARGETS].numpy()
    apart = (clean * np.log(clean / moved)).sum(1)
    trades = -np.log(clean[rows, right]) + 3 * apart
    mart = -np.log(moved[rows, right]) - np.log(1 - moved[rows, 1 - right]) + 3 * apart * (1 - clean[rows, right])
    for method, expected in (("trades", trades), ("mart", mart)):
        found = objective(method, beta=3.0).loss(module, batch, attacked)
        assert found.item() == pytest.approx((weights * expected).sum() / weights.sum(), rel=1e-5)
    mixed = -0.7 * np.log(moved[rows, right]) - 0.3 * np.log(clean[rows, right])
    found = objective("pgd", clean=0.3).loss(module, batch, attacked)
    assert found.item() == pytest.approx((weights * mixed).sum() / weights.sum(), rel=1e-5)


def test_the_moves_of_free_training_follow_the_slope_of_the_pass_before():
    """On a linear model every pass moves each column by a radius against the answer, and no further than that."""
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0, 0, 0], [1.0, -1.0, 0.5]]))
    free, features = objective("free"), torch.full((4, 3), 0.5)
    batch = Batch(features, torch.ones(4, dtype=torch.int64), torch.ones(4))
    first = free.moved(module, batch)
    assert torch.equal(first, features)
    free.loss(module, batch, first).backward()
    second = free.moved(module, batch)
    torch.testing.assert_close(second, features + torch.tensor([-0.1, 0.1, -0.1]))
    fewer = Batch(features[:2], batch.targets[:2], batch.weights[:2])
    free.loss(module, batch, second).backward()
    assert free.moved(module, fewer).shape == (2, 3)


def test_perturbed_weights_are_those_of_the_formula_and_go_away_again():
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone()
    features = torch.rand(8, 3)

    def loss(module: nn.Module) -> torch.Tensor:
        return module(features).square().mean()

    (slope,) = torch.autograd.grad(loss(module), [module.weight])
    moved = (before + 0.1 * before.norm() * slope / slope.norm()).requires_grad_()
    expected = (features @ moved.T + module.bias).square().mean()
    worse = loss(shifted(module, loss, 0.1))
    assert float(worse) == pytest.approx(float(expected), rel=1e-5)
    assert float(worse) > float(loss(module))
    worse.backward()
    expected.backward()
    torch.testing.assert_close(module.weight.grad, moved.grad)
    assert torch.equal(module.weight, before)
