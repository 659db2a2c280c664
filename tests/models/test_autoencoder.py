"""The autoencoder: the logarithm of the reconstruction error, counted from its level."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.errors import InputError
from hauberk.models import Autoencoder


def test_the_logit_is_what_numpy_computes():
    torch.manual_seed(0)
    module = Autoencoder(inputs=7, widths=(5, 2))
    module.level.fill_(-1.5)
    features = torch.randn(6, 7)
    hidden = features.numpy().astype(np.float64)
    layers = [parameter.detach().numpy().astype(np.float64) for parameter in module.parameters()]
    for number, (weight, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
        hidden = hidden @ weight.T + bias
        hidden = np.maximum(hidden, 0) if number in (0, 2) else hidden  # bottleneck and output are linear
    error = ((features.numpy() - hidden) ** 2).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(module(features).detach().numpy(), np.log(error + 1e-6) + 1.5, rtol=1e-5)


def test_the_decoder_mirrors_the_encoder():
    shapes = [
        tuple(parameter.shape) for name, parameter in Autoencoder(9, (6, 3)).named_parameters() if "weight" in name
    ]
    assert shapes == [(6, 9), (3, 6), (6, 3), (9, 6)]


def test_a_perfect_reconstruction_is_a_finite_logit():
    module = Autoencoder(3, (2,))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert module(torch.zeros(1, 3)).item() == pytest.approx(np.log(1e-6))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"inputs": 0}, "autoencoder: inputs is 0"),
        ({"inputs": 3, "widths": ()}, "0 widths; 1 to 64"),
        ({"inputs": 3, "widths": (4, 2.0)}, "one of widths is 2.0"),
    ],
)
def test_impossible_sizes_are_refused(parameters, says):
    with pytest.raises(InputError, match=says):
        Autoencoder(**parameters)
