"""What a student is taught: a teacher's answers, and how far a student's are from them.

Soft targets are those of Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network"
(arXiv:1503.02531). Beside them stands the squared error of the logits, after Ba and Caruana 2014, "Do Deep Nets Really
Need to be Deep?" (arXiv:1312.6184): the divergence hardly sees how sure a teacher is of what it is sure of, and not at
all a shift that all logits share, and a lossy step is judged by both.

A teacher can be asked about more than there are records: made-up ones, too, as Buciluă, Caruana and Niculescu-Mizil
2006, "Model Compression" (KDD), taught their students. They keep a student from what no training record forbids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hauberk.artifact import OnnxArtifact
from hauberk.attacks import Classes, FeatureThreat, Judge
from hauberk.compress.tuning import Lesson, Robust, Tuning, answers, records
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, LabelledFeatures
from hauberk.schema import Decision
from hauberk.train import Objective, cross_entropy
from hauberk.train.objective import balanced_weights, class_balanced_weights, margin, softmax_cross_entropy
from hauberk.train.robust import Adversary, against

_COLUMNS_LAST = 3  # records [N, D] and windows [N, T, D]
_MOST_CROSSED = 0.5


def teachers_lesson(artifact: OnnxArtifact, context: Context, tuning: Tuning, *, step: str) -> Lesson:
    """To answer like the teacher: `context.teacher`, or the graph itself where there is none.

    Args:
        artifact: The graph that a step was given; the student has as many logits.
        context: Records, task, and the teacher.
        tuning: Temperature and weights.
        step: Who asks, for messages.

    Raises:
        InputError: Training or validation records are missing, the teacher cannot answer them, or, where the labels
            count too or records are attacked, a class has no record.
    """
    if tuning.robust is not None:
        return robust_lesson(artifact, context, tuning, tuning.robust, step=step)
    training, validation = records(context, step)
    outputs = int(artifact.signature.outputs[0].shape[-1])
    hard = hard_loss(context, class_weights(context, outputs, step)) if tuning.alpha < 1 else None
    # Made-up records have no labels: where the labels alone count, there is nothing to learn from them.
    imagined = crossed(training.features, round(tuning.made_up * len(training)) if tuning.alpha else 0, context.seed)
    features = np.concatenate([training.features, imagined])
    objective, judge = (
        distillation(
            teachers_answers(artifact, asked, context, step), tuning, hard=hard, labelled=count, benign=context.benign
        )
        for asked, count in ((features, len(training)), (validation.features, len(validation)))
    )
    targets = np.concatenate([training.targets, np.zeros(len(imagined), np.int64)])
    return Lesson(objective, judge, LabelledFeatures(features, targets))


def crossed(features: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Made-up records: one record with some columns of another, at most half of them on average.

    A window takes a column whole. Images have no columns that mean something by themselves: of them there are none.

    Args:
        features: Float32 [N, D] or [N, T, D].
        count: How many to make up.
        seed: Decides which.

    Returns:
        Float32 [count, *shape], none of images; every value is one that its column has somewhere.
    """
    if features.ndim > _COLUMNS_LAST:
        return features[:0]
    generator = np.random.default_rng(seed)
    one, other = generator.integers(len(features), size=(2, count))
    shares = generator.uniform(0, _MOST_CROSSED, size=(count, 1))
    taken = generator.uniform(size=(count, features.shape[-1])) < shares
    columns = taken.reshape(count, *(1,) * (features.ndim - 2), features.shape[-1])
    made: NDArray[np.float32] = np.where(columns, features[other], features[one])
    return made


def teachers_answers(artifact: OnnxArtifact, features: NDArray[np.float32], context: Context, step: str) -> Tensor:
    """The teacher's logits float32 [N, K] of records [N, *shape], in their order.

    Raises:
        InputError: The teacher cannot answer them, or its answers are of another shape, not finite, or, where classes
            are told apart, not as many as the graph's.
    """
    outputs = int(artifact.signature.outputs[0].shape[-1])
    given = answers(artifact, features) if context.teacher is None else context.teacher.predict(features)
    if given.ndim != 2 or len(given) != len(features):
        raise InputError(
            f"{step}: the teacher answers {list(given.shape)} for {len(features)} records, not [N, logits]"
        )
    if not np.isfinite(given).all():
        row = int(np.argwhere(~np.isfinite(given))[0][0])
        raise InputError(f"{step}: the teacher's answer to record {row} of {len(features)} is not finite")
    if context.task == "classification" and given.shape[1] != outputs:
        raise InputError(f"{step}: the teacher tells {given.shape[1]} classes apart, the model {outputs}")
    return torch.tensor(given, dtype=torch.float32)


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
    teacher: Tensor,
    tuning: Tuning,
    *,
    hard: Callable[[Tensor, Tensor], Tensor] | None = None,
    labelled: int | None = None,
    benign: int = 0,
) -> Objective:
    """The objective `alpha * far(t, s) + (1 - alpha) * H(y, s)`, in nats a record; see `Distance` for `far`.

    `t` and `s` are the logits of teacher and student, `H` the class-weighted cross-entropy that training minimises
    otherwise.

    Args:
        teacher: The teacher's logits [N, K] for all records, looked up by index.
        tuning: alpha, temperature and the weight of the squared error.
        hard: `H`, see `hard_loss`; needed where alpha is below 1.
        labelled: How many records, the first ones, have a label; all of them where `None`.
        benign: Index of the benign logit.
    """
    far = Distance(teacher, tuning, benign)

    def objective(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        logits = module(features)
        loss = tuning.alpha * far(logits, teacher[indices])
        if hard is None:
            return loss
        known = indices < (len(teacher) if labelled is None else labelled)
        return loss + (1 - tuning.alpha) * hard(logits[known], targets[known]) if known.any() else loss

    return objective


def robust_lesson(artifact: OnnxArtifact, context: Context, tuning: Tuning, robust: Robust, *, step: str) -> Lesson:
    """To answer attacked records as the teacher answers the untouched ones; training stops by attacked records, too.

    Args:
        artifact: The graph that the step was given; the teacher where `context.teacher` is None.
        context: Records, bounds, task, seed and what is mutable.
        tuning: Temperature and weights.
        robust: The attack.
        step: Who asks, for messages.

    Raises:
        InputError: There are no training records, a class has none, or a teacher cannot answer them.
    """
    if robust.answers == "attacked":
        return _copying_lesson(artifact, context, tuning, robust, step=step)
    training, _ = records(context, step)
    teacher = teachers_answers(artifact, training.features, context, step)
    outputs = int(artifact.signature.outputs[0].shape[-1])
    hard = hard_loss(context, class_weights(context, outputs, step))
    adversary, rule = Adversary(_threat(context, robust), steps=robust.steps, spread=0.0), _judge(context, outputs)

    def judge(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:  # noqa: ARG001
        return hard(module(adversary.attack(module, features, against(rule, targets))), targets)

    return Lesson(robust_distillation(context, tuning, robust, teacher, outputs, step=step), judge)


def robust_distillation(
    context: Context, tuning: Tuning, robust: Robust, teacher: Tensor, outputs: int, *, step: str
) -> Objective:
    """The objective `alpha * far(t(x), s(x')) + (1 - alpha) * H(y, s(x))`, see `Distance`.

    `x'` is the record attacked, `s` and `t` are the logits of student and teacher, `H` is the class-weighted
    cross-entropy. The teacher is asked once and needs no gradients, so that it may be anything. After Goldblum, Fowl,
    Feizi and Goldstein 2020, "Adversarially Robust Distillation" (arXiv:1905.09747), equation 2.

    Args:
        context: Bounds, task, seed and what is mutable.
        tuning: alpha, T and the weight of the squared error.
        robust: The attack.
        teacher: Float32 [N, K], the teacher's logits of the training records.
        outputs: K of the student.
        step: Who asks, for messages.
    """
    adversary = Adversary(_threat(context, robust), steps=robust.steps, seed=context.seed)
    rule = _judge(context, outputs)
    far = Distance(teacher, tuning, context.benign)
    hard = hard_loss(context, class_weights(context, outputs, step)) if tuning.alpha < 1 else None

    def objective(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        attacked = adversary.attack(module, features, against(rule, targets))
        loss = tuning.alpha * far(module(attacked), teacher[indices])
        return loss if hard is None else loss + (1 - tuning.alpha) * hard(module(features), targets)

    return objective


def _copying_lesson(artifact: OnnxArtifact, context: Context, tuning: Tuning, robust: Robust, *, step: str) -> Lesson:
    """To answer attacked records, made-up ones among them, as the teacher answers these very records.

    The adversary wants the student's answer to differ from what the teacher names the untouched record; no label is
    needed for that. The teacher is asked at every step of training.
    """
    training, validation = records(context, step)
    imagined = crossed(training.features, round(tuning.made_up * len(training)), context.seed)
    features = np.concatenate([training.features, imagined])
    teacher = teachers_answers(artifact, features, context, step)
    rule, far = _judge(context, teacher.shape[1]), Distance(teacher, tuning, context.benign)
    ask = _asking(artifact, context, step)

    def objective(adversary: Adversary, answered: Tensor) -> Objective:
        def of_batch(module: nn.Module, batch: Tensor, targets: Tensor, indices: Tensor) -> Tensor:  # noqa: ARG001
            attacked = adversary.attack(module, batch, against(rule, _named(rule, answered[indices])))
            return far(module(attacked), ask(attacked))

        return of_batch

    threat = _threat(context, robust)
    learnt = objective(Adversary(threat, steps=robust.steps, seed=context.seed), teacher)
    judged = objective(
        Adversary(threat, steps=robust.steps, spread=0.0),
        teachers_answers(artifact, validation.features, context, step),
    )
    targets = np.concatenate([training.targets, np.zeros(len(imagined), np.int64)])
    return Lesson(learnt, judged, LabelledFeatures(features, targets))


def _asking(artifact: OnnxArtifact, context: Context, step: str) -> Callable[[Tensor], Tensor]:
    """The teacher as a function of tensors [B, *shape]; without gradients."""
    if context.teacher is not None:
        return lambda batch: teachers_answers(artifact, batch.detach().numpy(), context, step)
    twin = Twin(artifact).eval()

    def ask(batch: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = twin(batch)
        return logits

    return ask


def _named(rule: Judge, logits: Tensor) -> Tensor:
    """Int64 [B]: the answer that logits [B, K] stand for."""
    if isinstance(rule, Classes):
        return logits.argmax(dim=1)
    return (margin(logits, rule.benign) >= rule.threshold).to(torch.int64)


def _threat(context: Context, robust: Robust) -> FeatureThreat:
    low, high = context.bounds
    mutable = np.ones(low.shape, dtype=np.bool_) if context.mutable is None else context.mutable
    return FeatureThreat(robust.radius, low.ravel(), high.ravel(), mutable.ravel())


def _judge(context: Context, outputs: int) -> Judge:
    if context.task == "classification":
        return Classes(outputs)
    return Decision(outputs=outputs, benign=context.benign)


class Distance:
    """How far answers are from a teacher's: `T² * KL(softmax(t / T) || softmax(s / T)) + logits * mean((t - s)²) / t²`.

    T² keeps the gradients in proportion when T changes (section 2 of Hinton et al.); `t²` is the mean square of all
    that the teacher answers, so that the second term is a share. Where teacher and student have different numbers of
    logits, both are reduced to the log-odds of attack.

    Args:
        teacher: All of its logits [N, K].
        tuning: T and the weight of the squared error.
        benign: Index of the benign logit.
    """

    def __init__(self, teacher: Tensor, tuning: Tuning, benign: int = 0) -> None:
        self._tuning, self._benign = tuning, benign
        least = torch.finfo(torch.float32).tiny
        self._squares = [logits.square().mean().clamp_min(least) for logits in (teacher, margin(teacher, benign))]

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar, the mean over records, of logits [B, K] each."""
        return self.of_each(student, teacher).mean()

    def of_each(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One number a record [B], of logits [B, K] each."""
        reduced = student.shape[1] != teacher.shape[1]
        if reduced:
            student, teacher = (margin(logits, self._benign)[:, None] for logits in (student, teacher))
        square = self._squares[reduced].to(student.device)
        temperature = self._tuning.temperature
        soft = temperature**2 * divergence(student, teacher, temperature)
        return soft + self._tuning.logits * (student - teacher).square().mean(dim=1) / square


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """`KL(softmax(t / T) || softmax(s / T))` in nats a record [B], of logits [B, K] of the same shape.

    A single logit, the log-odds of attack, counts as the pair [0, logit].
    """
    if student.shape[1] == 1:
        student, teacher = (functional.pad(logits, (1, 0)) for logits in (student, teacher))
    return functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        log_target=True,
        reduction="none",
    ).sum(dim=1)
