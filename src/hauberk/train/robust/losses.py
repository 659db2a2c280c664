"""What robust training minimises, in log-probabilities: the same formulas for detection and for classification.

A detector's two answers, benign and attack, have the log-probabilities `log sigmoid(-margin)` and `log sigmoid(margin)`
of `hauberk.schema.Decision.margin`; a classifier's K answers have `log softmax(logits)`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hauberk.train.objective import margin
from hauberk.train.options import TrainingOptions

_SMALLEST = 1e-6  # of a probability whose logarithm is taken: float32 cannot tell 1 - 1e-8 from 1


class Losses:
    """Losses of one training, each a number a record [B], and what records weigh.

    Args:
        options: Task and benign logit.
        weights: Float32 [C], of the answers: 2 in detection, K in classification.
        records: Float32 [N], what each training record weighs besides; `None` for all alike.
        smoothing: Share of the right answer's weight that all answers share, in [0, 1).
    """

    def __init__(
        self, options: TrainingOptions, weights: Tensor, records: Tensor | None = None, *, smoothing: float = 0.0
    ) -> None:
        self._options = options
        self._weights = weights
        self._records = records
        self._smoothing = smoothing

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Of the answers, float32 [B, C], of logits [B, K]."""
        logits = logits.float()
        if self._options.task == "classification":
            return functional.log_softmax(logits, dim=1)
        margins = margin(logits, self._options.benign)
        return torch.stack([functional.logsigmoid(-margins), functional.logsigmoid(margins)], dim=1)

    def cross_entropy(self, answers: Tensor, targets: Tensor) -> Tensor:
        """`-sum_c q_c log p_c`, in nats, where q is 1 at the target and smoothed.

        Args:
            answers: Log-probabilities [B, C].
            targets: Int64 [B].
        """
        right = answers.gather(1, targets[:, None])[:, 0]
        return -(1 - self._smoothing) * right - self._smoothing * answers.mean(dim=1)

    def weights_of(self, targets: Tensor, indices: Tensor | None = None) -> Tensor:
        """What records weigh: their classes' weights, times their own where they have some.

        Args:
            targets: Int64 [B].
            indices: Int64 [B], of training records; `None` for records without weights of their own.

        Returns:
            Float32 [B].
        """
        weights = self._weights = self._weights.to(targets.device)
        if indices is None or self._records is None:
            return weights[targets]
        records = self._records = self._records.to(targets.device)
        return weights[targets] * records[indices]


def weighted(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of losses [B] over the sum of their weights [B]."""
    return (weights * losses).sum() / weights.sum()


def divergence(answers: Tensor, others: Tensor) -> Tensor:
    """`KL(p || p')` in nats a record [B], of log-probabilities [B, C] of both."""
    return (answers.exp() * (answers - others)).sum(dim=1)


def boosted_cross_entropy(answers: Tensor, targets: Tensor) -> Tensor:
    """`-log p_y - log(1 - max over c != y of p_c)`, a number a record [B]: equation 7 of Wang et al. 2020 (MART).

    Args:
        answers: Log-probabilities [B, C].
        targets: Int64 [B].
    """
    right = answers.gather(1, targets[:, None])[:, 0]
    others = answers.scatter(1, targets[:, None], -torch.inf).amax(dim=1)
    return -right - torch.log1p(-others.exp().clamp_max(1 - _SMALLEST))
