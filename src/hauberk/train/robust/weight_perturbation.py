"""Adversarial weight perturbation: learn with weights that were moved against the model, too.

Wu, Xia and Wang 2020, "Adversarial Weight Perturbation Helps Robust Generalization" (arXiv:2004.05884): where the loss
stays low around the weights, robustness carries over to records that were not trained on. The move is one step of
gradient ascent, in each weight tensor as long as a share of the tensor's own norm (equation 10 with K1 = K2 = 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_MATRIX = 2  # biases and the scales of normalisation have one axis, and are left alone


def shifted(module: nn.Module, loss: Callable[[nn.Module], Tensor], share: float) -> nn.Module:
    """The module with weights moved up the slope of a loss.

    What is learned from its loss goes to the module's own weights: the gradient at the moved weights.

    Args:
        module: The module in training; its weights stay as they are.
        loss: A scalar of a module.
        share: Length of each weight tensor's move as a share of its norm, at least 0.
    """
    weights = {
        name: weight for name, weight in module.named_parameters() if weight.requires_grad and weight.ndim >= _MATRIX
    }
    with torch.enable_grad():
        slopes = torch.autograd.grad(loss(module), list(weights.values()), allow_unused=True, materialize_grads=True)
    moves = {}
    for (name, weight), slope in zip(weights.items(), slopes, strict=True):
        length = share * weight.detach().norm() / slope.norm().clamp_min(torch.finfo(torch.float32).tiny)
        moves[name] = length * slope
    return _Shifted(module, moves)


class _Shifted(nn.Module):
    """A module as if its weights were moved by constants."""

    def __init__(self, module: nn.Module, moves: dict[str, Tensor]) -> None:
        super().__init__()
        self._module = module
        self._moves = moves

    def forward(self, features: Tensor) -> Tensor:
        weights = {name: weight for name, weight in self._module.named_parameters() if name in self._moves}
        moved = {name: weight + self._moves[name] for name, weight in weights.items()}
        logits: Tensor = torch.func.functional_call(self._module, moved, (features,))
        return logits
