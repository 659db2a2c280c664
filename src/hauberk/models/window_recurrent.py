"""Recurrent networks over windows of records: LSTM and GRU."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from hauberk.errors import InputError
from hauberk.models.sizes import MAX_LAYERS, MAX_WINDOW, require_size


class _Recurrent(nn.Module):
    """A stack of recurrent layers and a linear layer on the last hidden state."""

    NAME: ClassVar[str]
    STACK: ClassVar[type[nn.LSTM | nn.GRU]]

    def __init__(
        self,
        inputs: int,
        window: int = 16,
        hidden: int = 64,
        layers: int = 1,
        bidirectional: bool = False,  # noqa: FBT001, FBT002 - model cards name it
        outputs: int = 2,
    ) -> None:
        super().__init__()
        require_size(self.NAME, "inputs", inputs)
        require_size(self.NAME, "window", window, MAX_WINDOW)
        require_size(self.NAME, "hidden", hidden)
        require_size(self.NAME, "layers", layers, MAX_LAYERS)
        require_size(self.NAME, "outputs", outputs)
        if type(bidirectional) is not bool:
            raise InputError(f"{self.NAME}: bidirectional is {bidirectional!r}; true or false is needed")
        self.record_shape = (window, inputs)
        self.recurrent = self.STACK(inputs, hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.directions = 2 if bidirectional else 1
        self.head = nn.Linear(hidden * self.directions, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits float32 [N, K] of windows float32 [N, T, D]."""
        _, state = self.recurrent(features)
        hidden = state[0] if isinstance(state, tuple) else state  # an LSTM's state is (hidden, cell)
        last = torch.cat([hidden[direction - self.directions] for direction in range(self.directions)], dim=1)
        logits: torch.Tensor = self.head(last)
        return logits


class WindowLSTM(_Recurrent):
    """Long short-term memory: features float32 [N, window, inputs] to logits float32 [N, outputs].

    The linear layer reads the hidden state of the last layer after the newest record; a bidirectional network adds the
    state of the way back after the oldest one. (Hochreiter & Schmidhuber 1997, gates as in torch and ONNX.)

    Args:
        inputs: D, features of a record.
        window: T, records of a window; the weights do not depend on it.
        hidden: Hidden units of a layer and direction.
        layers: Layers above one another.
        bidirectional: Read every window backwards too.
        outputs: K, the number of logits.

    Raises:
        InputError: A size out of its range.
    """

    NAME = "window-lstm"
    STACK = nn.LSTM


class WindowGRU(_Recurrent):
    """Gated recurrent units: features float32 [N, window, inputs] to logits float32 [N, outputs].

    Parameters and reading of the last state are those of `WindowLSTM`. (Cho et al. 2014, in the variant of torch, where
    the reset gate is applied after the recurrent product.)
    """

    NAME = "window-gru"
    STACK = nn.GRU
