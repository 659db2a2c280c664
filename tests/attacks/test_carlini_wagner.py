"""Carlini-Wagner: no further from records than two other implementations, and at home on the edge of the box."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.attacks import FAB, CarliniWagner, FeatureThreat, WhiteBox
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
RADIUS = 1.0


def test_it_comes_as_near_as_foolbox(five_classes):
    from foolbox import PyTorchModel
    from foolbox.attacks import L2CarliniWagnerAttack

    inputs, labels = (torch.from_numpy(part[:150]) for part in (five_classes.features, five_classes.targets))
    other = L2CarliniWagnerAttack(binary_search_steps=6, steps=100, stepsize=0.02)
    found, _, success = other(
        PyTorchModel(five_classes.model.module, (0, 1), device="cpu"), inputs, labels, epsilons=None
    )
    length = np.where(success.numpy(), np.linalg.norm((found - inputs).numpy(), axis=1), np.inf)
    ours = five_classes.moved(CarliniWagner(), RADIUS, "l2")[:150]
    assert np.isfinite(length).mean() > 0.9
    for share in (0.25, 0.5, 0.75):
        assert np.quantile(ours, share) <= 1.01 * np.quantile(length, share)
    for radius in (0.05, 0.15, 0.3):
        assert (ours > radius).mean() <= (length > radius).mean() + 0.01


def test_it_agrees_with_fab(two_answers):
    """Two ways to the same number."""
    ours, other = (two_answers.moved(attack, RADIUS, "l2") for attack in (CarliniWagner(), FAB(restarts=2)))
    assert np.median(ours / other) == pytest.approx(1, abs=0.02)


def test_under_an_l_infinity_threat_it_uses_the_corners(two_answers):
    fallen = two_answers.survived(CarliniWagner(), 0.06)
    assert fallen <= two_answers.survived(FAB(), 0.06) + 0.03


def test_records_on_the_edge_of_the_box_are_not_stuck():
    """tanh has no slope there."""
    module = torch.nn.Linear(3, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0, -2.0, 2.0]]))
        module.bias.fill_(0.3)
    features = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    ball = FeatureThreat(2.0, np.zeros(3, np.float32), np.ones(3, np.float32), np.ones(3, np.bool_), norm="l2")
    model = WhiteBox(module, Decision(outputs=1))
    found = CarliniWagner().run(model, features, np.ones(2, np.int64), threat=ball)
    assert not found.survived.any()
    # From the first record the third column cannot go down, so that the other two have to do it.
    expected = 0.3 * np.array([1, 2, 0]) / 5
    np.testing.assert_allclose(found.adversarial[0], expected, atol=2e-3)
    assert np.linalg.norm(found.adversarial[1] - features[1]) == pytest.approx(2.3 / 3, rel=0.01)


def test_the_least_weight_is_looked_for(two_answers):
    one, many = (two_answers.moved(CarliniWagner(rounds=rounds), RADIUS, "l2") for rounds in (1, 6))
    assert many.mean() < one.mean() if np.isfinite(one).all() else np.isfinite(many).sum() > np.isfinite(one).sum()


@pytest.mark.parametrize("options", [{"steps": 0}, {"rounds": 0}, {"batch_size": 0}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=r"attack carlini-wagner: .* at least 1"):
        CarliniWagner(**options)
