"""`train_robust`: any model, any threat, any method, through the loop that trains everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hauberk.attacks import Classes, FeatureThreat, Judge
from hauberk.errors import InputError
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision
from hauberk.train.loop import TrainingResult, train
from hauberk.train.objective import class_weights
from hauberk.train.options import TrainingOptions
from hauberk.train.robust.examine import RobustExaminer
from hauberk.train.robust.free import Free
from hauberk.train.robust.losses import Losses
from hauberk.train.robust.method import RobustObjective, Setting
from hauberk.train.robust.multi_step import Mart, ProjectedGradient, Trades
from hauberk.train.robust.options import RobustOptions
from hauberk.train.robust.single_step import Fast

METHODS: Mapping[str, Callable[[Setting], RobustObjective]] = MappingProxyType(
    {"pgd": ProjectedGradient, "trades": Trades, "mart": Mart, "fast": Fast, "free": Free}
)
"""Every method of robust training, by name."""


def train_robust(
    module: nn.Module,
    training: LabelledFeatures,
    validation: LabelledFeatures,
    options: TrainingOptions,
    robust: RobustOptions,
    threat: FeatureThreat,
    *,
    weights: NDArray[np.float32] | None = None,
    progress: Progress = SILENT,
) -> TrainingResult:
    """Train a module in place on attacked records, and stop by how it answers attacked validation records.

    The result's history has the robust accuracy of every epoch beside the clean one, and the seconds that it all took.

    Args:
        module: Maps features float32 [N, *shape] to logits [N, K].
        training: Records [N, *shape]: of a table, windows or images; every class occurs.
        validation: Records to stop by.
        options: How to train; `task` says what the logits are for.
        robust: How to attack meanwhile.
        threat: How far the adversary can move a record, as a row [D]; any `FeatureThreat`.
        weights: Float32 [N], what each training record counts besides its class's weight (`weights_by_kind`, say);
            above 0. `None` for all alike.
        progress: Who follows.

    Raises:
        InputError: A split is empty or lacks a class, the threat is of another width, has nothing to move, or has no
            norm for a radius to be a multiple of, the device is missing, or the loss is no longer a number.
    """
    if not len(training) or not len(validation):
        raise InputError("training needs at least one training and one validation record")
    _check(threat, training, robust)
    if robust.method == "free" and options.accumulate > 1:
        raise InputError(
            "robust training: 'free' carries moves from one pass over a batch to the next; accumulate must be 1"
        )
    judge = _judge(module, training, options)
    of_classes = torch.tensor(class_weights(training.targets, options, judge.outputs), dtype=torch.float32)
    of_records = None if weights is None else _checked(weights, len(training))
    trained_on = threat if robust.radius == 1 else replace(threat, radius=robust.radius * threat.radius)
    losses = Losses(options, of_classes, of_records, smoothing=robust.label_smoothing)
    objective = METHODS[robust.method](Setting(robust, trained_on, judge, losses, options.seed))
    examiner = RobustExaminer(
        threat,
        judge,
        Losses(options, of_classes),
        steps=robust.validation_steps,
        attacked=robust.validation_records,
    )
    return train(
        module,
        training,
        validation,
        options,
        objective=objective,
        examiner=examiner,
        replays=objective.replays,
        progress=progress,
    )


def _check(threat: FeatureThreat, training: LabelledFeatures, robust: RobustOptions) -> None:
    width = training.features[0].size
    if threat.width != width:
        raise InputError(f"robust training: the threat model has {threat.width} columns, a record has {width}")
    lowest, highest = threat.limits(training.features[:256].reshape(-1, width))
    if not (lowest < highest).any():
        raise InputError(
            "robust training: the threat model moves nothing (a radius of 0, or no mutable column);"
            " train without it, or let something move"
        )
    if threat.norm == "none" and robust.radius != 1:
        raise InputError(f"robust training: radius is {robust.radius} times that of a threat model without a norm")


def _checked(weights: NDArray[np.float32], count: int) -> torch.Tensor:
    if weights.shape != (count,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise InputError(f"robust training: weights must be {count} finite numbers above 0, one a training record")
    return torch.tensor(weights, dtype=torch.float32)


def _judge(module: nn.Module, training: LabelledFeatures, options: TrainingOptions) -> Judge:
    with torch.inference_mode():
        outputs = int(module.eval()(torch.from_numpy(training.features[:1])).shape[1])
    if options.task == "classification":
        return Classes(outputs)
    return Decision(outputs=outputs, benign=options.benign)
