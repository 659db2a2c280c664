"""Averages of weights against their closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hauberk.recipe import LabelledFeatures
from hauberk.train import TrainingOptions, train
from hauberk.train.averaging import Average


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
def test_the_average_is_the_closed_form(decay):
    module, seen = nn.BatchNorm1d(3), []
    average = Average(module, decay)
    generator = torch.Generator().manual_seed(0)
    for step in range(7):
        with torch.no_grad():
            module.weight.copy_(torch.randn(3, generator=generator))
            module.running_mean.copy_(torch.randn(3, generator=generator))
            module.num_batches_tracked.fill_(step)
        seen.append(torch.cat([module.weight, module.running_mean]).detach().numpy().copy())
        average.update()
    factors = decay ** np.arange(6, -1, -1.0)
    expected = (factors[:, None] * np.array(seen)).sum(0) / factors.sum()
    own = module.weight.detach().clone()
    with average.applied():
        found = torch.cat([module.weight, module.running_mean]).detach().numpy().copy()
        assert int(module.num_batches_tracked) == 6
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(module.weight, own)


def test_training_keeps_and_examines_the_average():
    """The plain mean of the weights of all steps: a lone weight that falls by the rate at each of them."""

    class Lone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.weight.expand(len(features), 1)

    def down(module: nn.Module, features: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return module(features).mean()

    records = LabelledFeatures(np.zeros((50, 2), np.float32), np.arange(50) % 2)
    options = TrainingOptions(epochs=2, batch_size=10, learning_rate=0.01, weight_decay=0.0, averaging=1.0)
    module = Lone()
    result = train(module, records, records, options, objective=down, judge=down)
    assert float(module.weight.detach()) == pytest.approx(-0.01 * np.mean(np.arange(1, 11)), rel=1e-3)
    assert result.best.validation_loss == pytest.approx(float(module.weight.detach()), rel=1e-5)
