"""FGSM takes one step, to the corner."""

from __future__ import annotations

import numpy as np
import torch

from hauberk.attacks import FGSM, FeatureThreat, WhiteBox
from hauberk.schema import Decision


def test_every_column_goes_to_the_end_that_its_gradient_points_away_from():
    module = torch.nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [2.0, -1.0, 0.0]]))
    threat = FeatureThreat(0.25, np.zeros(3, np.float32), np.ones(3, np.float32), np.ones(3, np.bool_))
    features = np.array([[0.5, 0.875, 0.5]], np.float32)
    model = WhiteBox(module, Decision())
    lowered = FGSM().run(model, features, np.array([1]), threat=threat).adversarial
    raised = FGSM().run(model, features, np.array([0]), threat=threat).adversarial
    assert lowered.tolist() == [[0.25, 1.0, 0.5]]
    # The benign record is labelled wrong from the start and is pushed deeper.
    assert raised.tolist() == [[0.75, 0.625, 0.5]]
