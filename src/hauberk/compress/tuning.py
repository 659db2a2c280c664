"""Training inside a step: the one place where a compressed model is brought back to what the detector knew.

A pruned graph, a quantized twin and a distilled student are trained alike: on the labels, on the answers of a teacher,
or on both. Soft targets are those of Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network"
(arXiv:1503.02531).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import run, session
from hauberk.recipe import Context, LabelledFeatures
from hauberk.train import Objective, TrainingOptions, TrainingResult, cross_entropy, train
from hauberk.train.objective import balanced_weights, class_balanced_weights, margin, softmax_cross_entropy

_STEPS_AN_EPOCH = 32
_FEWEST_A_STEP = 16
_MOST_RECORDS = 8192  # in one run of a graph …
_MOST_VALUES = 1 << 22  # … and numbers in them: 27 images of 3×224×224


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a step trains; a field of the steps that do.

    Attributes:
        epochs: The most epochs to train; training stops earlier by the validation records.
        batch_size: The most records a step of the optimiser; fewer where an epoch would have less than 32 steps.
        learning_rate: Of AdamW, above 0.
        alpha: Weight of a teacher's answers in [0, 1]; the rest is the weight of the labels.
        temperature: T > 0, by which logits are divided before they are compared; higher tells more of what the teacher
            thinks of the unlikely answer.
        patience: Epochs without a lower validation loss after which training stops.

    Raises:
        InputError: A value out of its range.
    """

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    alpha: float = 0.7
    temperature: float = 2.0
    patience: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"tuning: temperature is {self.temperature}; a number above 0 is needed")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"tuning: alpha is {self.alpha}; a number from 0 to 1 is needed")
        TrainingOptions(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate, patience=self.patience
        )


def tune(
    student: nn.Module,
    context: Context,
    tuning: Tuning,
    *,
    step: str,
    teacher: NDArray[np.float32] | None = None,
    objective: Objective | None = None,
) -> TrainingResult:
    """Train a module in place on the context's records and leave it with its best weights, in evaluation mode.

    The same seed, threads and records give the same weights bit for bit; torch's thread count and random state are as
    before afterwards.

    Args:
        student: Maps features float32 [N, *shape] to logits [N, K]; a `Twin`, say.
        context: Its training records are learned from, its validation records say when to stop.
        tuning: How.
        step: Who asks, for messages.
        teacher: Float32 [N, K], a teacher's logits of the training records, in their order. Without it the student
            learns from the labels alone.
        objective: What to minimise instead of either.

    Raises:
        InputError: There are no training or validation records, the teacher answered others, or training diverged.
    """
    training, validation = records(context, step)
    if teacher is not None and objective is None:
        objective = soft_targets(context, tuning, teacher, step=step)
    options = TrainingOptions(
        epochs=tuning.epochs,
        batch_size=_batch_size(tuning, len(training)),
        learning_rate=tuning.learning_rate,
        patience=tuning.patience,
        benign=context.benign,
        task=context.task,
        seed=context.seed,
        threads=context.threads,
    )
    try:
        return train(student, training, validation, options, objective=objective, progress=context.progress)
    except InputError as error:
        raise InputError(f"{step}: {error}") from error


def _batch_size(tuning: Tuning, count: int) -> int:
    """As asked, unless so few records are left for an epoch's steps that the most epochs would be over in no time."""
    return max(min(tuning.batch_size, _FEWEST_A_STEP), min(tuning.batch_size, count // _STEPS_AN_EPOCH))


def records(context: Context, step: str) -> tuple[LabelledFeatures, LabelledFeatures]:
    """The context's training and validation records.

    Raises:
        InputError: It lacks one of them; the message names `step`.
    """
    if context.training is None or context.validation is None:
        raise InputError(f"{step}: needs training and validation records, got none")
    return context.training, context.validation


def answers(artifact: OnnxArtifact, features: NDArray[np.float32], *, most: int = _MOST_RECORDS) -> NDArray[np.float32]:
    """A graph's logits, computed by ONNX Runtime in chunks that bound the memory.

    Args:
        artifact: A core.
        features: Float32 [N, *shape], N at least 1.
        most: Records that are answered at once, at least 1; what dynamic INT8 answers to one depends on the others.

    Returns:
        Float32 [N, K].

    Raises:
        InputError: ONNX Runtime refuses the graph or cannot run it on these records.
    """
    loaded, name = session(artifact.model), artifact.signature.inputs[0].name
    chunk = max(1, min(most, _MOST_VALUES // max(1, features[0].size)))
    logits = [run(loaded, {name: features[start : start + chunk]})[0] for start in range(0, len(features), chunk)]
    return np.concatenate(logits).astype(np.float32, copy=False)


def soft_targets(context: Context, tuning: Tuning, teacher: NDArray[np.float32], *, step: str) -> Objective:
    """The objective by which a student learns a teacher's answers to the context's training records, and their labels.

    Args:
        context: Its training records and task.
        tuning: Temperature and weight of the teacher.
        teacher: Float32 [N, K], the teacher's logits of the training records, in their order.
        step: Who asks, for messages.

    Raises:
        InputError: There are no training records, the answers do not fit them, or a class has no record.
    """
    return distillation(
        checked(teacher, context, step),
        temperature=tuning.temperature,
        alpha=tuning.alpha,
        hard=hard_loss(context, class_weights(context, teacher.shape[1], step)),
        benign=context.benign,
    )


def teachers_answers(artifact: OnnxArtifact, context: Context, step: str) -> NDArray[np.float32]:
    """What is taught: the logits float32 [N, K] that the teacher gives to the training records, in their order.

    The teacher is `context.teacher`, or the graph itself where there is none.

    Raises:
        InputError: There are no training records, or the teacher cannot answer them.
    """
    training, _ = records(context, step)
    if context.teacher is None:
        return answers(artifact, training.features)
    return context.teacher.predict(training.features)


def checked(teacher: NDArray[np.float32], context: Context, step: str) -> Tensor:
    """A teacher's answers to the training records as a tensor [N, K].

    Raises:
        InputError: They are of another shape, or not finite.
    """
    training, _ = records(context, step)
    if teacher.ndim != 2 or len(teacher) != len(training):
        raise InputError(
            f"{step}: the teacher's answers are {list(teacher.shape)}, not [{len(training)}, logits] as the training"
            " records need"
        )
    if not np.isfinite(teacher).all():
        row = int(np.argwhere(~np.isfinite(teacher))[0][0])
        raise InputError(f"{step}: the teacher's answer to training record {row} is not finite")
    return torch.tensor(teacher, dtype=torch.float32)


def class_weights(context: Context, outputs: int, step: str) -> Tensor:
    """Weights under which all classes of the training records count alike: float32 [2], or [K] in classification.

    Raises:
        InputError: There are no training records, or a class has none.
    """
    training, _ = records(context, step)
    try:
        if context.task == "classification":
            return torch.tensor(class_balanced_weights(training.targets, outputs))
        return torch.tensor(balanced_weights(training.targets))
    except InputError as error:
        raise InputError(f"{step}: {error}") from error


def hard_loss(context: Context, weights: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """`H(y, s)`: the cross-entropy that training minimises otherwise, of logits [B, K] and targets int64 [B], in nats.

    Args:
        context: What the logits are for, and which one is benign.
        weights: As `class_weights` gives them.
    """
    if context.task == "classification":
        return lambda logits, targets: softmax_cross_entropy(logits, targets, weights)
    return lambda logits, targets: cross_entropy(logits, targets, weights, context.benign)


def distillation(
    teacher: Tensor, *, temperature: float, alpha: float, hard: Callable[[Tensor, Tensor], Tensor], benign: int = 0
) -> Objective:
    """The objective `alpha * T² * KL(softmax(t / T) || softmax(s / T)) + (1 - alpha) * H(y, s)`, in nats a record.

    `t` and `s` are the logits of teacher and student, `H` the class-weighted cross-entropy that training minimises
    otherwise. T² keeps the two gradients in proportion when T changes (section 2 of the paper).

    Args:
        teacher: The teacher's logits [N, K] for all training records, looked up by index.
        temperature: T.
        alpha: Weight of the teacher.
        hard: `H`, see `hard_loss`.
        benign: Index of the benign logit.
    """

    def objective(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        logits = module(features)
        soft = divergence(logits, teacher[indices], temperature, benign)
        return alpha * temperature**2 * soft + (1 - alpha) * hard(logits, targets)

    return objective


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, benign: int = 0) -> Tensor:
    """`KL(softmax(t / T) || softmax(s / T))` in nats, the mean over records, of logits [B, K].

    A single logit, the log-odds of attack, counts as the pair [0, logit]. Where teacher and student have different
    numbers of logits, both are reduced to that.
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = (margin(logits, benign)[:, None] for logits in (student, teacher))
    if student.shape[1] == 1:
        student, teacher = (functional.pad(logits, (1, 0)) for logits in (student, teacher))
    return functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )
