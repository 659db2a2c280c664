"""A small Transformer encoder over windows of records."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hauberk.errors import InputError
from hauberk.models.sizes import MAX_LAYERS, MAX_WINDOW, require_size

_WIDENING = 4  # hidden units of the feed-forward part, as a multiple of the width (Vaswani et al. 2017)


class Attention(nn.Module):
    """Multi-head self-attention: float32 [N, T, width] to the same shape, every position looks at every other one.

    `softmax(Q Kᵀ / sqrt(width / heads)) V` a head, the heads side by side, then a linear layer (Vaswani et al. 2017).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """What each position gathers from all positions."""
        query, key, value = (self._by_head(layer(hidden)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        gathered = torch.softmax(scores, dim=3) @ value
        result: Tensor = self.output(gathered.transpose(1, 2).flatten(2))
        return result

    def _by_head(self, hidden: Tensor) -> Tensor:
        """[N, T, width] as [N, heads, T, width / heads]."""
        batch, length, width = hidden.shape
        return hidden.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention and a feed-forward part with GELU, each behind its own layer normalisation and around a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, _WIDENING * width)
        self.activation = nn.GELU()
        self.narrow = nn.Linear(_WIDENING * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Float32 [N, T, width] to the same shape."""
        hidden = hidden + self.attention(self.attention_norm(hidden))
        result: Tensor = hidden + self.narrow(self.activation(self.widen(self.feed_forward_norm(hidden))))
        return result


class WindowTransformer(nn.Module):
    """A Transformer encoder: features float32 [N, window, inputs] to logits float32 [N, outputs].

    Records are embedded by a linear layer, positions by a learned vector each; after the encoder layers (pre-norm,
    Xiong et al. 2020) the newest record's position is read. The others have been looked at through attention.

    Args:
        inputs: D, features of a record.
        window: T, records of a window.
        width: Units of a position; a multiple of `heads`.
        heads: Attention heads.
        layers: Encoder layers.
        outputs: K, the number of logits.

    Raises:
        InputError: A size out of its range, or a width that the heads cannot share.
    """

    def __init__(
        self, inputs: int, window: int = 16, width: int = 64, heads: int = 4, layers: int = 2, outputs: int = 2
    ) -> None:
        super().__init__()
        require_size("window-transformer", "inputs", inputs)
        require_size("window-transformer", "window", window, MAX_WINDOW)
        require_size("window-transformer", "width", width)
        require_size("window-transformer", "heads", heads)
        require_size("window-transformer", "layers", layers, MAX_LAYERS)
        require_size("window-transformer", "outputs", outputs)
        if width % heads:
            raise InputError(f"window-transformer: {heads} heads cannot share a width of {width}; make it a multiple")
        self.record_shape = (window, inputs)
        self.embedding = nn.Linear(inputs, width)
        self.positions = nn.Parameter(torch.randn(window, width) / math.sqrt(width))
        self.encoder = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Logits float32 [N, K] of windows float32 [N, T, D]."""
        hidden = self.encoder(self.embedding(features) + self.positions)
        logits: Tensor = self.head(self.norm(hidden[:, -1]))
        return logits
