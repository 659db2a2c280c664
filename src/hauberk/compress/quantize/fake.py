"""The twin of a quantized graph in training: weights before rounding, scales that learn or follow, levels that move.

Everything hangs on the names that `qdq.write` gives: `NAME/weight/codes`, `NAME/weight/scale`, `TENSOR/scale`, …
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.twin import Twin

_MOMENTUM = 0.99  # of a tracked range: what training saw in about the last hundred batches


class FakeQuantized(nn.Module):
    """A twin with what is trained besides its weights.

    Args:
        twin: Of a graph with QuantizeLinear and DequantizeLinear.
    """

    def __init__(self, twin: Twin) -> None:
        super().__init__()
        self.twin = twin
        self._learned = nn.ModuleList()
        self._weights: list[str] = []
        self._biases: list[str] = []

    def forward(self, features: Tensor) -> Tensor:
        """Logits float32 [N, K] of features float32 [N, *shape], as the quantized graph gives them."""
        logits: Tensor = self.twin(features)
        return logits

    @property
    def coded(self) -> tuple[str, ...]:
        """The weights that are coded, by their names before "/codes"."""
        return tuple(self._weights)

    def learn_scale(self, name: str) -> None:
        """Learn a scale, as a factor on the one that it starts from.

        The factor is the exponential of what is learned: steps of an optimiser are then relative to the scale, whatever
        its size, and it stays above 0.
        """
        self._on(name, _Factor(self.twin.tensor(name)))

    def track(self, group: str, sources: Sequence[str]) -> None:
        """Let the codes of a group follow the range of its source tensors."""
        scale, zero_point = self.twin.tensor(f"{group}/scale"), self.twin.tensor(f"{group}/zero_point")
        tracker = _Tracker(scale, zero_point)
        for source in sources:
            self.twin.on_tensor[source] = tracker
        self.twin.on_tensor[f"{group}/scale"] = lambda held: tracker.scale()  # noqa: ARG005 - where it started from
        self.twin.on_tensor[f"{group}/zero_point"] = lambda held: tracker.zero_point()  # noqa: ARG005
        self._learned.append(tracker)

    def add_uniform_weight(self, name: str, weight: NDArray[np.float32], ends: tuple[int, int]) -> None:
        """A weight on a uniform grid of whole codes between two ends, with a learned scale a channel."""
        self._restore(name, weight)
        self.twin.on_tensor[f"{name}/codes"] = _Clamp(*ends)
        self.learn_scale(f"{name}/scale")
        self._weights.append(name)

    def add_codebook_weight(
        self, name: str, weight: NDArray[np.float32], levels: NDArray[np.float32], *, unit: int, trained: bool
    ) -> None:
        """A weight whose codes are the nearest of a few levels.

        Args:
            name: Of the weight.
            weight: Before rounding.
            levels: Float32 in [-1, 1], ascending; times `unit` they are codes.
            unit: What a level of 1 is in codes; no level becomes larger.
            trained: Whether levels move.
        """
        self._restore(name, weight)
        self._on(f"{name}/codes", _Nearest(torch.tensor(levels), unit, trained=trained))
        self._weights.append(name)

    def add_bias(self, name: str, bias: NDArray[np.float32] | None, scales: tuple[str, str]) -> None:
        """A bias in int32 whose scale is, as integer kernels take for granted, the product of two others."""
        if bias is None:
            raise InputError(f"quantize-aware: bias {name!r} is not a float32 constant")
        self._restore(name, bias)

        def product(held: Tensor) -> Tensor:  # noqa: ARG001 - what the graph holds is what training started from
            return (self._value(scales[0]) * self._value(scales[1])).detach()

        self.twin.on_tensor[f"{name}/scale"] = product
        self._biases.append(name)

    def to_artifact(self) -> OnnxArtifact:
        """The graph with what was learned: scales, zero points, and the codes that weights have under them."""
        held = {f"{name}/codes" for name in (*self._weights, *self._biases)}
        held |= {name for name in self.twin.on_tensor if name.endswith(("/scale", "/zero_point"))}
        self.twin.settle(held)
        return self.twin.to_artifact()

    def _restore(self, name: str, values: NDArray[np.float32]) -> None:
        """Put what was rounded when the graph was written back as it was."""
        held = self.twin.tensor(f"{name}/codes")
        if not held.is_floating_point():
            raise InputError(
                f"quantize-aware: the codes of {name!r} do not come back from their scale; it is too small"
            )
        with torch.no_grad():
            held.copy_(torch.tensor(values))

    def _on(self, name: str, module: nn.Module) -> None:
        self._learned.append(module)
        self.twin.on_tensor[name] = module

    def _value(self, name: str) -> Tensor:
        held = self.twin.tensor(name)
        return self.twin.on_tensor[name](held) if name in self.twin.on_tensor else held


class _Factor(nn.Module):
    """A tensor times the exponential of what is learned, one factor an element."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.zeros_like(start))

    def forward(self, held: Tensor) -> Tensor:
        """The scale as it is now."""
        return held * torch.exp(self.logarithm)


class _Clamp(nn.Module):
    """Codes kept between two ends; beyond them there is no gradient."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self._low, self._high = low, high

    def forward(self, codes: Tensor) -> Tensor:
        """The codes that there are."""
        return torch.clamp(codes, self._low, self._high)


class _Nearest(nn.Module):
    """Codes moved to the nearest of a few levels, which are whole codes themselves.

    A weight gets the gradient of its level straight through, a level the sum of those of its weights.
    """

    def __init__(self, levels: Tensor, unit: int, *, trained: bool) -> None:
        super().__init__()
        self._unit = unit
        if trained:
            self.levels = nn.Parameter(levels)
        else:
            self.register_buffer("levels", levels)

    def forward(self, codes: Tensor) -> Tensor:
        """The nearest levels."""
        levels = self.levels * self._unit
        whole = levels + (torch.clamp(torch.round(levels), -self._unit, self._unit) - levels).detach()
        ascending, _ = torch.sort(whole)
        middles = ((ascending[1:] + ascending[:-1]) / 2).detach()
        chosen = ascending[torch.bucketize(codes.detach(), middles)]
        return chosen + (codes - codes.detach())


class _Tracker(nn.Module):
    """Watches a tensor in training and keeps the moving average of its range."""

    low: Tensor
    high: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor) -> None:
        super().__init__()
        self._codes = (-128, 127) if zero_point.dtype == torch.int8 else (0, 255)
        offset = zero_point.to(scale.dtype)
        self.register_buffer("low", (scale * (self._codes[0] - offset)).reshape(()).clone())
        self.register_buffer("high", (scale * (self._codes[1] - offset)).reshape(()).clone())

    def forward(self, data: Tensor) -> Tensor:
        """The tensor as it is."""
        if self.training:
            with torch.no_grad():
                self.low.lerp_(data.amin().clamp(max=0), 1 - _MOMENTUM)
                self.high.lerp_(data.amax().clamp(min=0), 1 - _MOMENTUM)
        return data

    def scale(self) -> Tensor:
        """`(high - low) / 255`."""
        return torch.clamp((self.high - self.low) / 255, min=torch.finfo(torch.float32).tiny * 255)

    def zero_point(self) -> Tensor:
        """The code of zero, a whole number."""
        return torch.clamp(self._codes[0] + torch.round(-self.low / self.scale()), *self._codes)
