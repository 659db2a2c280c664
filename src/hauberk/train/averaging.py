"""Averages of weights along a training, which lie in flatter places than the weights of any one step.

Exponential averages after Polyak and Juditsky 1992; the plain mean after Izmailov et al. 2018, "Averaging Weights Leads
to Wider Optima and Better Generalization" (arXiv:1803.05407). Under attack averages gain more than without: Gowal et
al. 2020, "Uncovering the Limits of Adversarial Training" (arXiv:2010.03593), section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of a module's weights over the steps so far, `sum_t d^(T-t) w_t / sum_t d^(T-t)`.

    Running statistics of normalisation are averaged likewise; what is no float is taken from the last step.

    Args:
        module: In training; its weights before the first step do not count.
        decay: d in (0, 1]; 1 is the plain mean of all steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self._mass = 0.0
        self._mean = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self) -> None:
        """Take note of the weights after a step."""
        # With S_T = 1 + d S_(T-1), the sum of the factors, the mean moves to the new weights by 1 / S_T.
        self._mass = 1.0 + self._decay * self._mass
        with torch.no_grad():
            for name, value in self._module.state_dict().items():
                if value.is_floating_point():
                    self._mean[name].lerp_(value, 1.0 / self._mass)
                else:
                    self._mean[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with the averaged weights for a while."""
        own = {name: value.detach().clone() for name, value in self._module.state_dict().items()}
        self._load(self._mean)
        try:
            yield
        finally:
            self._load(own)

    def _load(self, weights: dict[str, Tensor]) -> None:
        self._module.load_state_dict(weights)
