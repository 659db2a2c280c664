"""Architectures by name."""

from __future__ import annotations

import pytest
import torch

from hauberk.errors import InputError
from hauberk.models import ARCHITECTURES, TabularMLP, build, fresh


def test_the_reference_detector_has_a_name():
    module = build("tabular-mlp", {"inputs": 3, "widths": [4], "outputs": 2})
    assert isinstance(module, TabularMLP)
    assert ARCHITECTURES["tabular-mlp"] is TabularMLP


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        InputError, match=r"unknown architecture 'resnet'; known are autoencoder, .*tabular-mlp, .*--arch"
    ):
        build("resnet", {})


@pytest.mark.parametrize("parameters", [{}, {"inputs": 3, "depth": 2}, {"inputs": 3, "widths": 4}])
def test_parameters_that_do_not_fit_are_named(parameters):
    with pytest.raises(InputError, match="architecture 'tabular-mlp' does not take"):
        build("tabular-mlp", parameters)


def test_a_misspelt_parameter_is_answered_with_those_there_are():
    with pytest.raises(InputError, match=r"'tabular-mlp' does not take 'wdths'; it takes inputs, widths, outputs$"):
        build("tabular-mlp", {"inputs": 3, "wdths": [4]})


def test_fresh_weights_follow_the_seed_alone():
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (fresh("tabular-mlp", {"inputs": 3, "widths": [4]}, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), undisturbed), "torch's random state has moved"
    first, again, different = (module.state_dict() for module in (one, same, other))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], different[name]) for name in first)
