"""Robust validation figures: what training stops by where records are attacked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hauberk.attacks import FeatureThreat, Judge
from hauberk.attacks.judge import right
from hauberk.train.loop import Judgement, at_once
from hauberk.train.robust.adversary import Adversary, against
from hauberk.train.robust.losses import Losses


class RobustExaminer:
    """Attacks validation records after every epoch, by projected gradient descent from the records themselves.

    The loss is the class-weighted cross-entropy under attack; training stops by it. The attack is a short one: it tells
    epochs apart and says nothing about how robust a model is in the end.

    Args:
        threat: The threat model that is asked about, whatever radius training attacks with.
        judge: What makes an answer of logits.
        losses: Of the task, without label smoothing.
        steps: Gradient steps.
        attacked: How many of the validation records are attacked: evenly spread ones.
    """

    def __init__(self, threat: FeatureThreat, judge: Judge, losses: Losses, *, steps: int, attacked: int) -> None:
        self._adversary = Adversary(threat, steps=steps, spread=0.0)
        self._judge = judge
        self._losses = losses
        self._attacked = attacked

    def __call__(self, module: nn.Module, features: Tensor, targets: Tensor) -> Judgement:
        """Accuracy on all records; loss and robust accuracy on the attacked ones.

        A record counts as robust where it is answered right both as it is and attacked.
        """
        logits = torch.cat([module(part).float() for part in torch.split(features, at_once(features))])
        hits = right(self._judge, logits, targets)
        rows = spread(len(features), self._attacked, features.device)
        lost, weight, robust = 0.0, 0.0, 0
        for part in torch.split(rows, at_once(features)):
            attacked = self._adversary.attack(module, features[part], against(self._judge, targets[part]))
            answers = module(attacked).float()
            shares = self._losses.weights_of(targets[part])
            losses = self._losses.cross_entropy(self._losses.log_probabilities(answers), targets[part])
            lost, weight = lost + float((shares * losses).sum()), weight + float(shares.sum())
            robust += int((right(self._judge, answers, targets[part]) & hits[part]).sum())
        return Judgement(lost / weight, float(hits.float().mean()), robust / len(rows))


def spread(count: int, most: int, device: torch.device) -> Tensor:
    """At most so many of a count of rows, evenly spread, int64 [min(count, most)]."""
    kept = min(count, most)
    return (torch.arange(kept, device=device) * count) // kept
