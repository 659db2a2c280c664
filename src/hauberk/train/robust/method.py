"""What every method of robust training is: it moves the records of a batch, then says what is lost on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from hauberk.attacks import FeatureThreat, Judge
from hauberk.train.robust.losses import Losses, weighted
from hauberk.train.robust.options import RobustOptions
from hauberk.train.robust.weight_perturbation import shifted


class Setting(NamedTuple):
    """What a method is made from.

    Attributes:
        options: What was chosen.
        threat: How far records are moved in training.
        judge: What makes an answer of logits.
        losses: Of the task.
        seed: Of everything random in the attacks.
    """

    options: RobustOptions
    threat: FeatureThreat
    judge: Judge
    losses: Losses
    seed: int


class Batch(NamedTuple):
    """Some training records.

    Attributes:
        features: Float32 [B, *shape].
        targets: Int64 [B].
        weights: Float32 [B], what each counts.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor


class RobustObjective(ABC):
    """An objective of `hauberk.train.train` that learns from attacked records.

    Args:
        setting: Attack, losses and task.
    """

    replays = 1
    """Steps of the optimiser on one batch."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.losses = setting.losses

    def __call__(self, module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        """The loss of a batch, a scalar."""
        batch = Batch(features, targets, self.losses.weights_of(targets, indices))
        attacked = self.moved(module, batch)
        share = self.setting.options.weight_perturbation
        if share:
            module = shifted(module, lambda module: self.loss(module, batch, attacked), share)
        return self.loss(module, batch, attacked)

    def weight_of(self, targets: Tensor, indices: Tensor) -> Tensor:
        """What a part of a batch weighs in the whole: the sum over its records."""
        return self.losses.weights_of(targets, indices).sum()

    @abstractmethod
    def moved(self, module: nn.Module, batch: Batch) -> Tensor:
        """The records [B, *shape] as the adversary of this method moves them."""

    @abstractmethod
    def loss(self, module: nn.Module, batch: Batch, attacked: Tensor) -> Tensor:
        """What is lost on a batch and on the same batch attacked, a scalar."""

    def answers(self, module: nn.Module, features: Tensor) -> Tensor:
        """Log-probabilities [B, C] of the answers to records [B, *shape]."""
        return self.losses.log_probabilities(module(features))

    def cross_entropy(self, module: nn.Module, batch: Batch, attacked: Tensor) -> Tensor:
        """`(1 - clean) * H(y, p(x')) + clean * H(y, p(x))`, a scalar."""
        clean = self.setting.options.clean
        lost = self.losses.cross_entropy(self.answers(module, attacked), batch.targets)
        if clean:
            unmoved = self.losses.cross_entropy(self.answers(module, batch.features), batch.targets)
            lost = (1 - clean) * lost + clean * unmoved
        return weighted(lost, batch.weights)
