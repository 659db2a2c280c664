"""One-class training: an autoencoder learns what benign records look like, and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hauberk.errors import InputError
from hauberk.models import Autoencoder
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.train.loop import TrainingResult, train
from hauberk.train.options import TrainingOptions

FALSE_POSITIVE_RATE = 0.01
"""Of benign validation records, where nobody asks for another."""


def train_autoencoder(
    module: Autoencoder,
    training: LabelledFeatures,
    validation: LabelledFeatures,
    options: TrainingOptions,
    *,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    progress: Progress = SILENT,
) -> TrainingResult:
    """Train an autoencoder in place on the benign records and set its level.

    It minimises the mean squared error of reconstruction and stops by that of benign validation records. Then the
    level is set so that this share of the benign validation records lies above a margin of 0. Attacks are not looked
    at, neither in training nor for the level.

    Args:
        module: The autoencoder.
        training: Records float32 [N, D]; targets tell the benign ones (0).
        validation: Records to stop by and to set the level by.
        options: How to train; `class_weights`, `benign` and `task` mean nothing here.
        false_positive_rate: Above 0 and below 1.
        progress: Who follows.

    Returns:
        How it went; losses are mean squared errors.

    Raises:
        InputError: No benign record in a split, a rate out of its range, or the training diverged.
    """
    if not 0 < false_positive_rate < 1:
        raise InputError(f"the false positive rate is {false_positive_rate}; a number between 0 and 1 is needed")
    ordinary, known = _benign(training, "training"), _benign(validation, "validation")

    def reconstruction(_module: nn.Module, features: Tensor, _targets: Tensor, _indices: Tensor) -> Tensor:
        return nn.functional.mse_loss(module.reconstruct(features), features)

    with torch.no_grad():
        module.level.zero_()
    result = train(module, ordinary, known, options, objective=reconstruction, judge=reconstruction, progress=progress)
    with torch.inference_mode():
        logits = module(torch.tensor(known.features))[:, 0].numpy()
    level = np.quantile(logits, 1 - false_positive_rate, method="higher")
    with torch.no_grad():
        module.level.fill_(float(np.nextafter(level, np.float32(np.inf), dtype=np.float32)))
    return result


def _benign(records: LabelledFeatures, name: str) -> LabelledFeatures:
    rows = np.flatnonzero(records.targets == 0)
    if not len(rows):
        raise InputError(f"no benign record in the {name} split; an autoencoder learns from benign records")
    return LabelledFeatures(records.features[rows], records.targets[rows])
