"""Training on records that were attacked in several steps: PGD training, TRADES and MART."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hauberk.train.robust.adversary import Adversary, Aim, against, evaluated
from hauberk.train.robust.losses import boosted_cross_entropy, divergence, weighted
from hauberk.train.robust.method import Batch, RobustObjective, Setting

_NUDGE = 0.02  # of the ball: beside the record, where the divergence has a slope


class ProjectedGradient(RobustObjective):
    """The cross-entropy of records moved to where it is highest, as far as projected gradient descent finds it.

    Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks" (arXiv:1706.06083), equation 2.
    What is driven down is the headroom, whose slope has the sign of the cross-entropy's in detection and does not
    underflow.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._adversary = _adversary(setting)

    def moved(self, module: nn.Module, batch: Batch) -> Tensor:
        """Against the right answer, from a random start."""
        return self._adversary.attack(module, batch.features, against(self.setting.judge, batch.targets))

    def loss(self, module: nn.Module, batch: Batch, attacked: Tensor) -> Tensor:
        """`(1 - clean) * H(y, p(x')) + clean * H(y, p(x))`."""
        return self.cross_entropy(module, batch, attacked)


class Trades(RobustObjective):
    """`H(y, p(x)) + beta * KL(p(x) || p(x'))`, where `x'` is the record moved to where the divergence is highest.

    Zhang et al. 2019, "Theoretically Principled Trade-off between Robustness and Accuracy" (arXiv:1901.08573),
    equation 5. At the record itself the divergence has no slope, so that the attack starts beside it.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._adversary = _adversary(setting, spread=_NUDGE)

    def moved(self, module: nn.Module, batch: Batch) -> Tensor:
        """Away from the answer to the record itself, whatever is right."""
        return self._adversary.attack(module, batch.features, self._apart(module, batch.features))

    def loss(self, module: nn.Module, batch: Batch, attacked: Tensor) -> Tensor:
        """See the class."""
        answers, moved = (self.answers(module, each) for each in (batch.features, attacked))
        beta = self.setting.options.weight_of_divergence
        lost = self.losses.cross_entropy(answers, batch.targets) + beta * divergence(answers, moved)
        return weighted(lost, batch.weights)

    def _apart(self, module: nn.Module, features: Tensor) -> Aim:
        with torch.no_grad(), evaluated(module):
            answers = self.answers(module, features)
        return lambda logits: -divergence(answers, self.losses.log_probabilities(logits))


class Mart(ProjectedGradient):
    """`B(y, p(x')) + beta * KL(p(x) || p(x')) * (1 - p_y(x))`, with the boosted cross-entropy B.

    Wang et al. 2020, "Improving Adversarial Robustness Requires Revisiting Misclassified Examples" (ICLR), equation 11:
    what is answered wrong even unattacked is drawn most to a steady answer.
    """

    def loss(self, module: nn.Module, batch: Batch, attacked: Tensor) -> Tensor:
        """See the class; label smoothing adds its share of the mean cross-entropy of all answers."""
        answers, moved = (self.answers(module, each) for each in (batch.features, attacked))
        right = batch.targets[:, None]
        doubt = 1 - answers.gather(1, right)[:, 0].exp()
        smoothed = self.losses.cross_entropy(moved, batch.targets) + moved.gather(1, right)[:, 0]
        beta = self.setting.options.weight_of_divergence
        lost = boosted_cross_entropy(moved, batch.targets) + smoothed + beta * divergence(answers, moved) * doubt
        return weighted(lost, batch.weights)


def _adversary(setting: Setting, *, spread: float = 1.0) -> Adversary:
    options = setting.options
    return Adversary(
        setting.threat,
        steps=options.steps,
        length=options.length,
        spread=spread,
        seed=setting.seed,
    )
