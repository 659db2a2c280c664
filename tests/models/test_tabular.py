"""TabularMLP: the layers that its parameters say, and no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.errors import InputError
from hauberk.models import TabularMLP


def test_the_network_is_what_numpy_computes():
    torch.manual_seed(0)
    module = TabularMLP(inputs=5, widths=(4, 3), outputs=2)
    features = torch.randn(7, 5)
    weights = [parameter.detach().numpy() for parameter in module.parameters()]
    hidden = np.maximum(features.numpy() @ weights[0].T + weights[1], 0)
    hidden = np.maximum(hidden @ weights[2].T + weights[3], 0)
    expected = hidden @ weights[4].T + weights[5]
    np.testing.assert_allclose(module(features).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_no_widths_make_a_linear_model():
    assert [tuple(parameter.shape) for parameter in TabularMLP(5, ()).parameters()] == [(2, 5), (2,)]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"inputs": 0}, "0 units in a layer"),
        ({"inputs": 3, "widths": (8, -1)}, "-1 units"),
        ({"inputs": 3, "widths": (2.0,)}, "2.0 units"),
        ({"inputs": True}, "True units"),
        ({"inputs": 3, "widths": (1 << 21,)}, "at most|a whole number from 1 to"),
        ({"inputs": 3, "widths": (1,) * 65}, "65 hidden layers; at most 64"),
    ],
)
def test_impossible_sizes_are_refused(parameters, says):
    with pytest.raises(InputError, match=says):
        TabularMLP(**parameters)
