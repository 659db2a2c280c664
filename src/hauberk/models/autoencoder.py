"""An autoencoder that has seen benign records only: what it cannot reconstruct is suspicious."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hauberk.models.sizes import require_size, require_sizes

_FLOOR = 1e-6  # of the error: keeps the logarithm finite, and its slope bounded, where reconstruction is perfect


class Autoencoder(nn.Module):
    """Features float32 [N, inputs] to one logit float32 [N, 1]: the logarithm of how badly a record is reconstructed.

    `logit = log(mean((x - decode(encode(x)))²) + 1e-6) - level`

    The level is the logarithm of the error e₀ from which on a record counts as an attack; training sets it on benign
    validation records, so that a margin of 0 is where the alarm begins and the score is `e / (e + e₀)`.

    Args:
        inputs: D, features of a record.
        widths: Units of the encoder's layers, the last one is the bottleneck (linear, so that codes may be negative);
            the decoder mirrors them.

    Raises:
        InputError: A size out of its range.
    """

    def __init__(self, inputs: int, widths: Sequence[int] = (64, 16)) -> None:
        super().__init__()
        require_size("autoencoder", "inputs", inputs)
        require_sizes("autoencoder", "widths", widths)
        self.record_shape = (inputs,)
        self.encoder = nn.Sequential(*_layers([inputs, *widths]))
        self.decoder = nn.Sequential(*_layers([*reversed(widths), inputs]))
        self.level: Tensor
        self.register_buffer("level", torch.zeros(1))

    def reconstruct(self, features: Tensor) -> Tensor:
        """What the network takes features float32 [N, D] for; the same shape."""
        reconstruction: Tensor = self.decoder(self.encoder(features))
        return reconstruction

    def forward(self, features: Tensor) -> Tensor:
        """One logit float32 [N, 1] of features float32 [N, D]."""
        difference = features - self.reconstruct(features)
        error = (difference * difference).mean(dim=1, keepdim=True)
        return torch.log(error + _FLOOR) - self.level


def _layers(sizes: Sequence[int]) -> list[nn.Module]:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(sizes):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return layers[:-1]
