"""Training inside a step: the one place where a compressed model is brought back to what the detector knew.

A pruned graph, a quantized twin and a distilled student are trained alike: on the labels, on the answers of a teacher,
or on both. What is minimised there is in `hauberk.compress.teaching`.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import run, session
from hauberk.recipe import Context, LabelledFeatures
from hauberk.train import Objective, Schedule, TrainingOptions, TrainingResult, train

_STEPS_AN_EPOCH = 32
_FEWEST_A_STEP = 16
_MOST_RECORDS = 8192  # in one run of a graph …
_MOST_VALUES = 1 << 22  # … and numbers in them: 27 images of 3×224×224


class Robust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How records are attacked while a student learns: projected gradient descent through the student as it is.

    Attributes:
        radius: How far a feature may be moved, L-infinity, in feature space; within the context's bounds and only
            where `Context.mutable` allows.
        steps: Gradient steps of each attack, from a random start. Training takes about this many times as long.
        answers: What a student learns to give to an attacked record: the teacher's answer to the "untouched" record,
            which makes it harder to evade than its teacher was, or that to the "attacked" record itself, which keeps
            what a robust teacher has. Only in the latter case can records be made up (`Tuning.made_up`).
    """

    radius: float = 0.05
    steps: int = 5
    answers: Literal["untouched", "attacked"] = "untouched"

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise InputError(f"robust: radius is {self.radius}; a number above 0 is needed")
        if self.steps < 1:
            raise InputError(f"robust: steps is {self.steps}; a whole number of at least 1 is needed")


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a step trains; a field of the steps that do.

    Attributes:
        epochs: The most epochs to train; training stops earlier by the validation records.
        batch_size: The most records a step of the optimiser; fewer where an epoch would have less than 32 steps.
        learning_rate: Of AdamW, above 0, at the beginning.
        schedule: Whether the learning rate stays ("constant") or falls to 0 along half a cosine over all epochs.
        alpha: Weight of a teacher's answers in [0, 1]; the rest is the weight of the labels.
        temperature: T > 0, by which logits are divided before they are compared; higher tells more of what the teacher
            thinks of the unlikely answer.
        logits: Weight, at least 0, of the squared error of the logits beside their divergence. It is taken as a part of
            the teacher's mean square.
        made_up: Records that are made up for every training record, at least 0, for a teacher to answer; none where
            alpha is 0. See `hauberk.compress.teaching.crossed`.
        patience: Epochs without a better answer to the validation records after which training stops.
        robust: Attack the records meanwhile, those that are learned from and those that it stops by; records are not
            made up then, because an attack needs to know what is right.

    Raises:
        InputError: A value out of its range.
    """

    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 2e-3
    schedule: Schedule = "cosine"
    alpha: float = 1.0
    temperature: float = 2.0
    logits: float = 1.0
    made_up: float = 1.0
    patience: int = 10
    robust: Robust | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"tuning: temperature is {self.temperature}; a number above 0 is needed")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"tuning: alpha is {self.alpha}; a number from 0 to 1 is needed")
        for name in ("logits", "made_up"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"tuning: {name} is {getattr(self, name)}; a number from 0 is needed")
        if self.robust is not None and self.robust.answers == "attacked" and self.alpha < 1:
            raise InputError(
                f"tuning: alpha is {self.alpha}; where answers to attacked records are learned it is 1, because these"
                " have no label of their own"
            )
        TrainingOptions(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            patience=self.patience,
        )


class Lesson(NamedTuple):
    """What a student is to learn.

    Attributes:
        objective: To minimise on the training records.
        judge: To stop by on the validation records; by default the class-weighted cross-entropy of their labels.
        records: To learn from instead of the context's training records.
    """

    objective: Objective
    judge: Objective | None = None
    records: LabelledFeatures | None = None


def tune(
    student: nn.Module, context: Context, tuning: Tuning, *, step: str, lesson: Lesson | None = None
) -> TrainingResult:
    """Train a module in place on the context's records and leave it with its best weights, in evaluation mode.

    The same seed, threads and records give the same weights bit for bit; torch's thread count and random state are as
    before afterwards.

    Args:
        student: Maps features float32 [N, *shape] to logits [N, K]; a `Twin`, say.
        context: Its training records are learned from, its validation records say when to stop.
        tuning: How.
        step: Who asks, for messages.
        lesson: What is learned; without one, the labels.

    Raises:
        InputError: There are no training or validation records, or training diverged.
    """
    training, validation = records(context, step)
    options = TrainingOptions(
        epochs=tuning.epochs,
        batch_size=_batch_size(tuning, len(training)),
        learning_rate=tuning.learning_rate,
        schedule=tuning.schedule,
        patience=tuning.patience,
        benign=context.benign,
        task=context.task,
        seed=context.seed,
        threads=context.threads,
    )
    try:
        return train(
            student,
            training if lesson is None or lesson.records is None else lesson.records,
            validation,
            options,
            objective=lesson.objective if lesson else None,
            judge=lesson.judge if lesson else None,
            progress=context.progress,
        )
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
