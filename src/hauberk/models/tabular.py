"""The reference detector for records with columns: a multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from hauberk.errors import InputError
from hauberk.models.sizes import MAX_LAYERS, MAX_WIDTH


class TabularMLP(nn.Module):
    """Linear layers with ReLU between them: features float32 [N, inputs] to logits float32 [N, outputs].

    Args:
        inputs: D, the number of columns of the feature space.
        widths: Units of each hidden layer; empty for a linear model.
        outputs: K, the number of logits.

    Raises:
        InputError: A size that is not a whole number in 1..2**20, or more than 64 hidden layers.
    """

    def __init__(self, inputs: int, widths: Sequence[int] = (256, 128, 64), outputs: int = 2) -> None:
        super().__init__()
        sizes = [inputs, *widths, outputs]
        _check(sizes)
        self.record_shape = (inputs,)
        layers: list[nn.Module] = []
        for width, following in itertools.pairwise(sizes):
            layers += [nn.Linear(width, following), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits float32 [N, K] of features float32 [N, D]."""
        logits: torch.Tensor = self.layers(features)
        return logits


def _check(sizes: list[int]) -> None:
    if len(sizes) - 2 > MAX_LAYERS:
        raise InputError(f"tabular-mlp: {len(sizes) - 2} hidden layers; at most {MAX_LAYERS} are allowed")
    for size in sizes:
        if type(size) is not int or not 1 <= size <= MAX_WIDTH:  # a card may hold anything, True and 2.0 included
            raise InputError(f"tabular-mlp: {size!r} units in a layer; a whole number from 1 to {MAX_WIDTH} is needed")
