"""Architectures by name."""

from __future__ import annotations

import pytest

from hauberk.errors import InputError
from hauberk.models import ARCHITECTURES, TabularMLP, build


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
