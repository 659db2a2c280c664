"""What training minimises.

An objective maps a batch to a scalar loss. It is handed the indices of the batch's records too, so that it can look up
what was computed for them beforehand (a teacher's logits, say).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hauberk.errors import InputError
from hauberk.train.options import TrainingOptions

Objective = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(module, features float32 [B, D], targets int64 [B], indices int64 [B]) to a scalar loss, all on one device."""


def balanced_weights(targets: NDArray[np.int64]) -> tuple[float, float]:
    """Weights of benign and attack records that make both classes count alike: `N / (2 * N_class)`.

    Args:
        targets: Int64 [N], 0 benign and 1 attack.

    Raises:
        InputError: Only one class occurs.
    """
    records, attacks = len(targets), int(np.count_nonzero(targets))
    if attacks in (0, records):
        present = "attacks" if attacks else "benign records"
        raise InputError(f"the training records are all {present}; a detector needs both classes to learn from")
    return records / (2 * (records - attacks)), records / (2 * attacks)


def class_balanced_weights(targets: NDArray[np.int64], classes: int) -> tuple[float, ...]:
    """Weights that make all classes count alike, `N / (K * N_class)`.

    Args:
        targets: Int64 [N], classes 0..K-1.
        classes: K.

    Raises:
        InputError: A class does not occur, or one occurs that the model has no logit for.
    """
    if targets.min() < 0 or targets.max() >= classes:
        raise InputError(
            f"the training records have classes {targets.min()} to {targets.max()}; the model has {classes} logits"
        )
    counts = np.bincount(targets, minlength=classes)
    if not counts.all():
        raise InputError(f"class {int(counts.argmin())} has no training record; every class needs some")
    return tuple(float(len(targets) / (classes * count)) for count in counts)


def weights_by_kind(kinds: NDArray[np.int64], targets: NDArray[np.int64], exponent: float) -> NDArray[np.float32]:
    """Weights of records that give rare kinds of attack more of a say; together the attacks weigh what they did.

    An attack record weighs `1 / n**exponent`, where n is how many records its kind has; benign records weigh 1.

    Args:
        kinds: Int64 [N], the label of each record.
        targets: Int64 [N], 0 benign and 1 attack.
        exponent: In [0, 1]: 0 leaves all alike, 1 makes all kinds of attack count the same.

    Returns:
        Float32 [N].

    Raises:
        InputError: The exponent is out of its range.
    """
    if not 0 <= exponent <= 1:
        raise InputError(f"weights by kind: the exponent is {exponent}; a number from 0 to 1 is needed")
    attacks = targets == 1
    _, kind, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    weights = np.where(attacks, counts[kind] ** -float(exponent), 1.0)
    if attacks.any():
        weights[attacks] /= weights[attacks].mean()
    return weights.astype(np.float32)


def class_weights(targets: NDArray[np.int64], options: TrainingOptions, outputs: int) -> tuple[float, ...]:
    """One weight a class, as the options ask: all classes alike in their sum, or every record.

    Args:
        targets: Int64 [N], of the training records.
        options: Task, and whether classes are weighed.
        outputs: K, of a classifier; a detector has two answers.

    Raises:
        InputError: A class does not occur.
    """
    if options.task == "detection":
        return balanced_weights(targets) if options.class_weights else (1.0, 1.0)
    weights = class_balanced_weights(targets, outputs)
    return weights if options.class_weights else (1.0,) * outputs


def softmax_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted softmax cross-entropy over K classes, in nats, averaged over the sum of weights.

    Args:
        logits: [N, K].
        targets: Int64 [N], 0..K-1.
        weights: [K].
    """
    return nn.functional.cross_entropy(logits, targets, weight=weights.to(logits.dtype))


def margin(logits: Tensor, benign: int) -> Tensor:
    """Log-odds of attack [N] of logits [N, K], as `hauberk.schema.Decision.margin` defines them."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    others = [column for column in range(logits.shape[1]) if column != benign]
    return torch.logsumexp(logits[:, others], dim=1) - logits[:, benign]


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, benign: int = 0) -> Tensor:
    """Weighted binary cross-entropy on the margin, in nats, averaged over the sum of weights.

    With two logits this is the weighted softmax cross-entropy; with K > 2 it asks only that some attack logit
    outweighs the benign one, which is what the decision looks at.

    Args:
        logits: [N, K].
        targets: Int64 [N], 0 benign and 1 attack.
        weights: [2], of benign and of attack.
        benign: Index of the benign logit.
    """
    attack = targets.to(logits.dtype)
    losses = nn.functional.binary_cross_entropy_with_logits(margin(logits, benign), attack, reduction="none")
    weight = weights[targets]
    return (weight * losses).sum() / weight.sum()
