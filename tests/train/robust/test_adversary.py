"""The adversary of training: the worst case of linear models, within any threat, in torch or by the threat itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hauberk.attacks import PGD, FeatureThreat, WhiteBox
from hauberk.schema import Decision
from hauberk.train.robust import Adversary, against
from hauberk.train.robust.adversary import Chance, TensorThreat, evaluated

COLUMNS = 6


def scene(seed: int, norm: str = "linf") -> tuple[torch.Tensor, torch.Tensor, FeatureThreat]:
    """Records in [0, 1], a few outside, and one column that never moves."""
    generator = np.random.default_rng(seed)
    features = generator.uniform(-0.1, 1.1, (40, COLUMNS)).astype(np.float32)
    mutable = np.ones(COLUMNS, np.bool_)
    mutable[0] = False
    radius = 0.0 if norm == "none" else 0.2
    threat = FeatureThreat(radius, np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32), mutable, norm=norm)
    return torch.from_numpy(features), torch.from_numpy(generator.integers(0, 2, 40)), threat


def linear(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(COLUMNS, 2)


class Asked(FeatureThreat):
    """The same threat, but a subclass: it is asked itself."""


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), norm=st.sampled_from(["linf", "l2", "none"]), asked=st.booleans())
def test_what_it_finds_lies_in_the_threat_model(seed, norm, asked):
    features, targets, threat = scene(seed, norm)
    if asked:
        threat = Asked(threat.radius, threat.low, threat.high, threat.mutable, norm=norm)
    found = Adversary(threat, steps=3, seed=seed).attack(linear(seed), features, against(Decision(), targets))
    legal = threat.project(found.numpy(), features.numpy())
    np.testing.assert_allclose(found.numpy(), legal, atol=2e-6)  # the edge of the ball is rounded, not exact
    assert torch.equal(found[:, 0], features[:, 0])


@pytest.mark.parametrize("norm", ["linf", "none"])
def test_on_a_linear_model_it_finds_the_worst_case(norm):
    features, targets, threat = scene(1, norm)
    module = linear(1)
    found = Adversary(threat, steps=5).attack(module, features, against(Decision(), targets))
    lowest, highest = threat.limits(features.numpy())
    weight = (module.weight[1] - module.weight[0]).detach().numpy()
    side = np.where(targets.numpy() == 1, 1, -1)[:, None]
    np.testing.assert_allclose(found.numpy(), np.where(side * weight > 0, lowest, highest), atol=1e-6)


def test_under_the_l2_norm_it_goes_straight_down_the_slope():
    features, targets, threat = scene(2, "l2")
    inside = replace(threat, low=np.full(COLUMNS, -5, np.float32), high=np.full(COLUMNS, 5, np.float32))
    module = linear(2)
    found = Adversary(inside, steps=10, spread=0.0).attack(module, features, against(Decision(), targets))
    weight = (module.weight[1] - module.weight[0]).detach()
    weight[0] = 0
    side = torch.where(targets == 1, 1.0, -1.0)[:, None]
    torch.testing.assert_close(found - features, -0.2 * side * weight / weight.norm(), atol=1e-5, rtol=0)


def test_it_is_as_strong_as_the_attack_that_judges(mails):
    module = mails.network()
    features, targets = (torch.from_numpy(part) for part in (mails.test.features, mails.test.targets))
    found = Adversary(mails.threat, steps=10, spread=0.0).attack(module, features, against(Decision(), targets))
    model = WhiteBox(module, Decision())
    ours = float(model.headroom(found.numpy(), mails.test.targets).mean())
    judged = PGD(steps=10, early_stopping=False).run(
        model, mails.test.features, mails.test.targets, threat=mails.threat
    )
    theirs = float(model.headroom(judged.adversarial, mails.test.targets).mean())
    assert ours == pytest.approx(theirs, abs=0.02 * abs(theirs))


def test_a_threat_with_more_to_say_has_the_last_word():
    """Whole tenths, which no step of the attack would reach by itself."""

    class Tenths(FeatureThreat):
        @property
        def constrained(self) -> bool:
            return True

        def project(self, adversarial, records):
            return np.where(self.mutable, np.round(np.clip(adversarial, *self.limits(records)), 1), records)

    features, targets, threat = scene(3)
    tenths = Tenths(threat.radius, threat.low, threat.high, threat.mutable)
    found = Adversary(tenths, steps=20).attack(linear(3), features, against(Decision(), targets))
    assert torch.equal(found[:, 1:], torch.round(found[:, 1:], decimals=1))
    assert not torch.equal(found, features)


def test_records_of_any_shape_keep_it():
    features, targets, threat = scene(4)
    windows = features.view(40, 2, 3)
    module = nn.Sequential(nn.Flatten(), linear(4))
    found = Adversary(threat, steps=2, seed=9).attack(module, windows, against(Decision(), targets))
    flat = Adversary(threat, steps=2, seed=9).attack(linear(4), features, against(Decision(), targets))
    assert torch.equal(found, flat.view(40, 2, 3))


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(COLUMNS, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    module[1].eval()
    before = [part.training for part in module.modules()]
    statistics = module[1].running_mean.clone()
    features, targets, threat = scene(5)
    Adversary(threat, steps=2).attack(module, features, against(Decision(), targets))
    assert [part.training for part in module.modules()] == before
    assert torch.equal(module[1].running_mean, statistics)
    assert all(parameter.grad is None for parameter in module.parameters())
    with pytest.raises(RuntimeError), evaluated(module):
        raise RuntimeError
    assert [part.training for part in module.modules()] == before


def test_a_model_without_a_slope_moves_nothing_from_the_record():
    features, targets, threat = scene(6)

    class Constant(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(rows), 2)

    class Zero(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 0.0 * rows[:, :2]

    for module in (Constant(), Zero()):
        found = Adversary(threat, steps=2, spread=0.0).attack(module, features, against(Decision(), targets))
        assert torch.equal(found, features)


def test_noise_has_the_length_that_was_asked_for():
    for norm in ("linf", "l2"):
        features, _, threat = scene(7, norm)
        noise = TensorThreat(threat).around(features).noisy(2.0, Chance(0).of(features.device)) - features
        lengths = noise.abs().amax(1) if norm == "linf" else noise.norm(dim=1)
        assert float(lengths.max()) == pytest.approx(0.4, rel=0.05)
        assert not noise[:, 0].any()
