"""A one-dimensional convolutional network over windows of records."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hauberk.models.sizes import MAX_WINDOW, require_size, require_sizes


class WindowCNN(nn.Module):
    """Convolutions along time, then a linear layer.

    Maps features float32 [N, window, inputs] to logits float32 [N, outputs]. Each convolution spans three records and
    is followed by batch normalisation and ReLU; every one after the first halves the time axis. The linear layer sees
    which position a value came from, so that the newest record of the window can count for more than its predecessors.

    Args:
        inputs: D, features of a record.
        window: T, records of a window.
        channels: Channels of each convolution.
        outputs: K, the number of logits.

    Raises:
        InputError: A size out of its range.
    """

    def __init__(self, inputs: int, window: int = 16, channels: Sequence[int] = (64, 64), outputs: int = 2) -> None:
        super().__init__()
        require_size("window-cnn", "inputs", inputs)
        require_size("window-cnn", "window", window, MAX_WINDOW)
        require_sizes("window-cnn", "channels", channels)
        require_size("window-cnn", "outputs", outputs)
        self.record_shape = (window, inputs)
        layers: list[nn.Module] = []
        width, length = inputs, window
        for number, following in enumerate(channels):
            stride = 2 if number else 1
            convolution = nn.Conv1d(width, following, kernel_size=3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm1d(following), nn.ReLU()]
            width, length = following, (length - 1) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(width * length, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits float32 [N, K] of windows float32 [N, T, D]."""
        logits: torch.Tensor = self.head(self.convolutions(features.transpose(1, 2)).flatten(1))
        return logits
