"""Robust distillation: the student gives the teacher's answers where an adversary has moved the records, too.

After Goldblum, Fowl, Feizi and Goldstein 2020, "Adversarially Robust Distillation" (arXiv:1905.09747), equation 2: the
student's answer to an attacked record is drawn to the teacher's answer to the untouched one. The teacher is asked once
and needs no gradients, so that it may be anything.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from hauberk.artifact import OnnxArtifact
from hauberk.attacks import PGD, Classes, FeatureThreat, WhiteBox
from hauberk.compress.teaching import Distance, class_weights, hard_loss, teachers_answers
from hauberk.compress.tuning import Lesson, Tuning, records
from hauberk.errors import InputError
from hauberk.recipe import Context
from hauberk.schema import Decision
from hauberk.train import Objective


class Robust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How records are attacked while the student learns: projected gradient descent through the student as it is.

    Attributes:
        radius: How far a feature may be moved, L-infinity, in feature space; within the context's bounds and only
            where `Context.mutable` allows.
        steps: Gradient steps of each attack, from a random start. Training takes about this many times as long.
    """

    radius: float = 0.05
    steps: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise InputError(f"robust: radius is {self.radius}; a number above 0 is needed")
        if self.steps < 1:
            raise InputError(f"robust: steps is {self.steps}; a whole number of at least 1 is needed")


def robust_lesson(artifact: OnnxArtifact, context: Context, tuning: Tuning, robust: Robust, *, step: str) -> Lesson:
    """To answer attacked records as the teacher answers the untouched ones; training stops by the labels.

    Args:
        artifact: The graph that the step was given; the teacher where `context.teacher` is None.
        context: Records, bounds, task, seed and what is mutable.
        tuning: Temperature and weights.
        robust: The attack.
        step: Who asks, for messages.

    Raises:
        InputError: There are no training records, or a teacher that cannot answer them.
    """
    training, _ = records(context, step)
    teacher = teachers_answers(artifact, training.features, context, step)
    outputs = int(artifact.signature.outputs[0].shape[-1])
    return Lesson(robust_distillation(context, tuning, robust, teacher, outputs, step=step))


def robust_distillation(
    context: Context, tuning: Tuning, robust: Robust, teacher: Tensor, outputs: int, *, step: str
) -> Objective:
    """The objective `alpha * far(t(x), s(x')) + (1 - alpha) * H(y, s(x))`, see `hauberk.compress.teaching.Distance`.

    `x'` is the record attacked, `s` and `t` are the logits of student and teacher, `H` is the class-weighted
    cross-entropy.

    Args:
        context: Bounds, task, seed and what is mutable.
        tuning: alpha, T and the weight of the squared error.
        robust: The attack.
        teacher: Float32 [N, K], the teacher's logits of the training records.
        outputs: K of the student.
        step: Who asks, for messages.
    """
    adversary = _Adversary(context, robust, outputs)
    far = Distance(teacher, tuning, context.benign)
    hard = hard_loss(context, class_weights(context, outputs, step)) if tuning.alpha < 1 else None

    def objective(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        attacked = adversary.attack(module, features, targets)
        loss = tuning.alpha * far(module(attacked), teacher[indices])
        return loss if hard is None else loss + (1 - tuning.alpha) * hard(module(features), targets)

    return objective


class _Adversary:
    """Attacks batches of records of any shape through the module in training."""

    def __init__(self, context: Context, robust: Robust, outputs: int) -> None:
        low, high = context.bounds
        mutable = np.ones(low.shape, dtype=np.bool_) if context.mutable is None else context.mutable
        self._threat = FeatureThreat(robust.radius, low.ravel(), high.ravel(), mutable.ravel())
        self._attack = PGD(steps=robust.steps, random_start=True, early_stopping=False, batch_size=1 << 31)
        classes = context.task == "classification"
        self._judge = Classes(outputs) if classes else Decision(outputs=outputs, benign=context.benign)
        self._seeds = np.random.default_rng(context.seed)

    def attack(self, module: nn.Module, features: Tensor, targets: Tensor) -> Tensor:
        """The records as an adversary who knows the module would move them, of the same shape."""
        was_training = module.training
        module.eval()
        found = self._attack.run(
            WhiteBox(_OfRows(module, features.shape[1:]), self._judge),
            features.flatten(1).numpy(),
            targets.numpy(),
            threat=self._threat,
            seed=int(self._seeds.integers(1 << 31)),
        )
        module.train(was_training)
        return torch.from_numpy(found.adversarial).view_as(features)


class _OfRows(nn.Module):
    """A module on records [N, *shape] as one on rows [N, D], which is what attacks move."""

    def __init__(self, module: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self._module, self._shape = module, shape

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self._module(rows.reshape(-1, *self._shape))
        return logits
