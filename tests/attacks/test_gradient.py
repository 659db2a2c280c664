"""Gradient attacks: nothing is left behind in the module, and what objectives can and cannot see."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from hauberk.attacks import ATTACKS, FGSM, PGD, Classes, Ensemble, FeatureThreat, WhiteBox
from hauberk.attacks.gradient import zero_gradient_share
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
WITH_GRADIENTS = [kind for kind in ATTACKS.values() if kind.knowledge == "white-box" and kind is not Ensemble]
"""What an ensemble runs."""


def threat(columns: int, radius: float = 0.1) -> FeatureThreat:
    return FeatureThreat(
        radius, np.zeros(columns, np.float32), np.ones(columns, np.float32), np.ones(columns, np.bool_)
    )


def test_attacking_leaves_no_gradient_in_the_parameters():
    module = torch.nn.Linear(4, 2)
    features = np.full((3, 4), 0.5, np.float32)
    PGD().run(WhiteBox(module, Decision()), features, np.ones(3, np.int64), threat=threat(4))
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_model_without_gradients_survives_and_is_not_an_error():
    """That is what masking looks like from inside; the protocol has to find it out, not the attack."""

    class Step(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return (features > 0.5).float()[:, :2]

    features = np.full((3, 4), 0.55, np.float32)
    found = FGSM().run(WhiteBox(Step(), Decision(threshold=-1)), features, np.ones(3, np.int64), threat=threat(4))
    assert found.survived.all()
    assert found.adversarial.tobytes() == features.tobytes()


@pytest.mark.parametrize("objective", ["margin", "cross-entropy"])
def test_a_model_that_is_sure_of_itself_has_a_gradient_all_the_same(objective):
    """Softplus of a margin of 200 is 0 in float32, and so is its slope; its log-odds are not."""
    module = torch.nn.Linear(1, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0], [1000.0]]))
        module.bias.copy_(torch.tensor([0.0, -700.0]))
    model, targets = WhiteBox(module, Decision()), np.ones(1, np.int64)
    features, wide = np.full((1, 1), 0.9, np.float32), threat(1, radius=0.3)
    assert not FGSM(objective=objective).run(model, features, targets, threat=wide).survived.any()
    assert zero_gradient_share(model, features, targets) == 0


class Scaled(torch.nn.Module):
    def __init__(self, module: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.factor * self.module(features)


@pytest.mark.parametrize("attack", [kind() for kind in WITH_GRADIENTS], ids=str)
@pytest.mark.parametrize("objective", ["margin", "cross-entropy", "dlr"])
def test_no_attack_minds_how_large_logits_are(attack, objective):
    """Powers of two are exact, so that nothing but an underflow could tell the models apart."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(6, 24), torch.nn.ReLU(), torch.nn.Linear(24, 4)).eval()
    features = np.random.default_rng(0).random((60, 6), dtype=np.float32)
    targets = WhiteBox(layers, Classes(4)).logits(features).argmax(axis=1)
    other = attack
    if "objective" in {field.name for field in fields(attack)}:
        # A soft maximum turns hard as logits grow, and cross-entropy into the margin.
        attack, other = (
            replace(attack, objective=one) for one in (objective, objective.replace("cross-entropy", "margin"))
        )
    elif objective != "margin":
        pytest.skip("it has one objective")
    plain, sure = (
        one.run(WhiteBox(Scaled(layers, factor), Classes(4)), features, targets, threat=threat(6)).survived
        for one, factor in ((other, 2.0**-14), (attack, 2.0**14))
    )
    assert sum(plain) < 48
    assert plain.tolist() == sure.tolist()


def test_a_step_function_has_no_gradient_anywhere_and_attacks_with_steps_search_it_at_random():
    """Rounding without a slope: one step stands still, many go on from random points of the threat model."""

    class Rounded(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            fine = torch.round(features * 64) / 64
            return torch.stack([0 * fine[:, 0], fine.sum(dim=1) - 2.0], dim=1)

    features = np.full((50, 4), 0.505, np.float32)
    model, targets = WhiteBox(Rounded(), Decision()), np.ones(50, np.int64)
    assert zero_gradient_share(model, features, targets) == 1
    assert FGSM().run(model, features, targets, threat=threat(4)).survived.all()
    assert PGD().run(model, features, targets, threat=threat(4)).survived.mean() < 0.1


def test_the_share_without_a_gradient_is_counted_record_by_record():
    class Clamped(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return torch.cat([0 * features, features.clamp(0.25, 0.75)], dim=1)

    features = np.linspace(0.01, 0.99, 100, dtype=np.float32)[:, None]
    inside = ((features >= 0.25) & (features <= 0.75)).mean()
    model = WhiteBox(Clamped(), Decision(threshold=-1))
    assert zero_gradient_share(model, features, np.ones(100, np.int64), batch_size=7) == pytest.approx(1 - inside)
    with pytest.raises(InputError, match="there must be a record"):
        zero_gradient_share(model, features[:0], np.ones(0, np.int64))


def test_records_on_the_edge_of_the_box_keep_their_gradient():
    """Most columns of flow records are 0. A clamp inside the differentiated function would pin them there."""
    module = torch.nn.Linear(4, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0] * 4, [-1.0] * 4]))
        module.bias.copy_(torch.tensor([0.0, 0.1]))
    model, features, targets = WhiteBox(module, Decision()), np.zeros((1, 4), np.float32), np.ones(1, np.int64)
    for attack in (kind() for kind in WITH_GRADIENTS):
        assert not attack.run(model, features, targets, threat=threat(4, radius=0.03)).survived.any(), attack


@pytest.mark.parametrize("attack", [FGSM(), PGD(), PGD(step_size=0.05)], ids=str)
def test_an_l2_ball_is_used_to_its_edge(attack):
    """On a linear model the worst point lies a radius away, straight against the weights."""
    weight = np.array([0.3, -2.0, 1.0, 0.7], np.float32)
    module = torch.nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight[None]))
    model = WhiteBox(module, Decision(outputs=1, threshold=-100))
    low, high = np.full(4, -9, np.float32), np.full(4, 9, np.float32)
    ball = FeatureThreat(0.5, low, high, np.array([True, True, True, False]), norm="l2")
    features = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    found = attack.run(model, features, np.ones(5, np.int64), threat=ball).adversarial
    moving = np.where(ball.mutable, weight, 0)
    expected = features - 0.5 * moving / np.linalg.norm(moving)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_a_norm_the_box_is_used_to_its_corners():
    module = torch.nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -1.0, 0.01]]))
    model = WhiteBox(module, Decision(outputs=1, threshold=-100))
    free = FeatureThreat(
        0.0, np.zeros(3, np.float32), np.array([1, 50, 2], np.float32), np.ones(3, np.bool_), norm="none"
    )
    features = np.array([[0.5, 3.0, 1.0]], np.float32)
    for attack in (FGSM(), PGD()):
        assert attack.run(model, features, np.ones(1, np.int64), threat=free).adversarial.tolist() == [[0.0, 50.0, 0.0]]


def test_an_objective_without_a_meaning_is_refused():
    features = np.full((2, 3), 0.5, np.float32)
    model, targets = WhiteBox(torch.nn.Linear(3, 2), Decision()), np.ones(2, np.int64)
    with pytest.raises(InputError, match="attack pgd: the objective dlr needs three classes or more"):
        PGD(objective="dlr").run(model, features, targets, threat=threat(3))
    with pytest.raises(InputError, match="the objective must be one of margin, cross-entropy, dlr"):
        PGD(objective="hinge").run(model, features, targets, threat=threat(3))


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(InputError, match="batch size"):
        FGSM(batch_size=0)
