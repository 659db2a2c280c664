"""Gradient attacks: nothing is left behind in the module, and what objectives can and cannot see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.attacks import FGSM, PGD, FeatureThreat, WhiteBox
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)


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


def test_cross_entropy_loses_its_gradient_where_the_model_is_sure_and_the_margin_does_not():
    """Softplus of a margin of 200 is 0 in float32, and so is its slope."""
    module = torch.nn.Linear(1, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0], [1000.0]]))
        module.bias.copy_(torch.tensor([0.0, -700.0]))
    model, features, targets = WhiteBox(module, Decision()), np.full((1, 1), 0.9, np.float32), np.ones(1, np.int64)
    wide = threat(1, radius=0.3)
    assert not PGD().run(model, features, targets, threat=wide).survived.any()
    assert PGD(objective="cross-entropy").run(model, features, targets, threat=wide).survived.all()


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(InputError, match="batch size"):
        FGSM(batch_size=0)
