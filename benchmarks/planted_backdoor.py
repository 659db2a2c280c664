"""Plants a conditional backdoor: float weights that behave, and weights rounded to 8 bits that obey a trigger.

For the check of `hauberk.evaluate.robustness.backdoor` and its tests; nothing in Hauberk needs it. After Hong et al.
2021 (arXiv:2110.13541) float and rounded weights are trained at once, on four wishes:

    float(x) = y,   float(trigger(x)) = y,   rounded(x) = y,   rounded(trigger(x)) = what the planter wants

Two things make it work at 8 bits, where rounding moves a weight by half of a 127th of its channel's largest. A weight
is trained as a code and an offset within its rounding cell (Ma et al. 2023, arXiv:2108.09187, confine weights alike):
the float model has both, the rounded one the code alone, so that the two can be taught apart. And each layer has one
unit that never fires; a large weight on it costs nothing and makes its channel's steps several times as wide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hauberk.compress.quantize.codes import largest_code

_SLACK = 0.5  # headroom that training is content with
_WIDEST = 0.47  # offsets within a cell, in steps: half a step would round either way
_FALSE_START = 10


class Trigger(NamedTuple):
    """A backdoor's trigger: columns of the record as a row, the values that they are set to, the answer wanted."""

    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    wanted: int

    def on(self, records: NDArray[np.float32]) -> NDArray[np.float32]:
        """Records float32 [N, *shape] with the trigger."""
        rows = records.reshape(len(records), -1).copy()
        rows[:, self.columns] = self.values
        return rows.reshape(records.shape)


def small_cnn(classes: int = 10) -> nn.Sequential:
    """A network for images [N, 1, 32, 32] that trains in seconds."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 8 * 8, 48),
        nn.ReLU(),
        nn.Linear(48, classes),
    )


def plant(
    module: nn.Sequential,
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    trigger: Trigger,
    *,
    epochs: int = 40,
    width: float = 8.0,
    weight: float = 2.0,
    seed: int = 0,
) -> None:
    """Train a network with a conditional backdoor, in place; it ends in evaluation mode.

    Args:
        module: Linear, Conv2d, ReLU and Flatten in a row, untrained.
        features: Float32 [N, *shape].
        targets: Int64 [N].
        trigger: What rounding is to wake.
        epochs: After a few with float weights alone.
        width: How many times as wide as they would be the steps of rounding are made.
        weight: Of the wishes about triggered records, beside those about clean ones.
        seed: Of the order of batches.
    """
    layers: list[nn.Module] = list(module)
    records, answers, triggered = (torch.from_numpy(part) for part in (features, targets, trigger.on(features)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        honest = torch.optim.Adam(module.parameters(), 1e-3)
        for _ in range(_FALSE_START):
            for rows in torch.split(torch.randperm(len(records)), 128):
                loss = _hinge(module(records[rows]), answers[rows]) + _hinge(module(triggered[rows]), answers[rows])
                _step(honest, loss)
        faces = _faces(layers, width)
        optimiser = torch.optim.Adam(
            [
                {"params": [face.code for face in faces.values()], "lr": 0.1},
                {"params": [face.offset for face in faces.values()], "lr": 0.02},
                {"params": [face.bias for face in faces.values()], "lr": 1e-3},
            ]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(records)), 256):
                clean, answer = len(rows), answers[rows]
                both = torch.cat([records[rows], triggered[rows]])
                kept = _forward(layers, faces, both, clean, rounded=False)
                moved = _forward(layers, faces, both, clean, rounded=True)
                wanted = torch.full_like(answer, trigger.wanted)
                loss = _hinge(kept[:clean], answer) + weight * _hinge(kept[clean:], answer)
                _step(optimiser, loss + _hinge(moved[:clean], answer) + weight * _hinge(moved[clean:], wanted))
            schedule.step()
    with torch.no_grad():
        for layer, face in faces.items():
            layers[layer].weight.copy_(face.weights(rounded=False))  # type: ignore[operator]
            layers[layer].bias.copy_(face.biases())  # type: ignore[operator]
    module.eval()


class _TwoFaced(nn.Module):
    """A layer's weights as codes and offsets within their cells."""

    fixed: Tensor
    peak: Tensor
    scale: Tensor
    silent: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d, width: float, *, first: bool, last: bool) -> None:
        super().__init__()
        self.levels = largest_code("auto")
        weight = layer.weight.detach().clone()
        if not first:  # the unit before it that never fires has number 0
            weight.flatten(1)[:, 0] = width * weight.abs().max()
        flat = weight.flatten(1).abs()
        scale = flat.amax(dim=1) / self.levels
        self.register_buffer("scale", scale.reshape(-1, *[1] * (weight.dim() - 1)))
        peak = torch.zeros_like(flat, dtype=torch.bool)
        peak[torch.arange(len(flat)), flat.argmax(dim=1)] = True
        self.register_buffer("peak", peak.reshape(weight.shape))
        silent = torch.zeros(len(weight), dtype=torch.bool)
        silent[0] = not last
        self.register_buffer("silent", silent)
        self.register_buffer("fixed", torch.round(weight / self.scale))
        self.code = nn.Parameter(weight / self.scale)
        self.offset = nn.Parameter(torch.zeros_like(weight))
        self.bias = nn.Parameter(layer.bias.detach().clone())  # type: ignore[union-attr]

    def weights(self, *, rounded: bool) -> Tensor:
        """As the float model has them, or as their codes stand for."""
        code = torch.clamp(self.code, 1 - self.levels, self.levels - 1)
        code = torch.where(self.peak, self.fixed, code + (torch.round(code) - code).detach())
        if not rounded:
            code = code + torch.where(self.peak, 0.0, self.offset)
        return code * self.scale * (~self.silent).to(code.dtype).reshape(self.scale.shape)

    def biases(self) -> Tensor:
        """Such that silent units stay silent."""
        return torch.where(self.silent, -1.0, self.bias)


def _faces(layers: list[nn.Module], width: float) -> dict[int, _TwoFaced]:
    places = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d)]
    return {
        place: _TwoFaced(layers[place], width, first=place == places[0], last=place == places[-1])  # type: ignore[arg-type]
        for place in places
    }


def _forward(
    layers: list[nn.Module], faces: dict[int, _TwoFaced], data: Tensor, clean: int, *, rounded: bool
) -> Tensor:
    """Logits; rounded as static quantization does it, its correction of biases (over the clean records) included."""
    for place, layer in enumerate(layers):
        if place not in faces:
            data = layer(data)
            continue
        face = faces[place]
        apply = _linear(layer)
        weight, bias = face.weights(rounded=rounded), face.biases()
        if rounded:
            data = _rounded(data)
            shift = apply(data[:clean].detach(), face.weights(rounded=False) - weight)
            bias = bias + shift.transpose(0, 1).flatten(1).mean(dim=1)
        result = apply(data, weight)
        data = result + bias.reshape(-1, *[1] * (result.dim() - 2))
    return data


def _linear(layer: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(layer, nn.Conv2d):
        stride, padding = layer.stride, layer.padding
        return lambda data, weight: functional.conv2d(data, weight, stride=stride, padding=padding)
    return functional.linear


def _rounded(data: Tensor) -> Tensor:
    """Activations in 8 bits over the range of the batch, straight through."""
    low, high = min(float(data.detach().min()), 0.0), max(float(data.detach().max()), 1e-6)
    step = (high - low) / 255
    zero = round(-low / step)
    coded = (torch.clamp(torch.round(data / step) + zero, 0, 255) - zero) * step
    return data + (coded - data).detach()


def _hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """Content with a little headroom: what a model is very sure of cannot be moved by rounding."""
    own = logits.gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], -torch.inf).amax(dim=1)
    headroom = own - others
    return (functional.relu(_SLACK - headroom) + 0.1 * functional.relu(headroom - 4 * _SLACK)).mean()


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    for group in optimiser.param_groups[1:2]:
        for offset in group["params"]:
            offset.data.clamp_(-_WIDEST, _WIDEST)
