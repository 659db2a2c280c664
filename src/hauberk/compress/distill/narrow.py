"""Distillation into a narrower network: the student learns the teacher's answers, not only the labels.

After Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hauberk.artifact import Artifact, OnnxArtifact, TorchArtifact
from hauberk.compress.core import Core, read_core
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.model import run, session
from hauberk.models import TabularMLP
from hauberk.recipe import Context, Contract, LabelledFeatures, Lossy, Step
from hauberk.train import Objective, TrainingOptions, balanced_weights, cross_entropy, train

_CHUNK = 8192  # records in one run of the teacher


class Distill(Step, frozen=True, kw_only=True, tag="distill"):
    """Train a `TabularMLP` of the given widths on the graph's own answers and put it in the graph's place.

    The seconds that the step's record shows are those of the training and the export.

    Attributes:
        widths: Units of each hidden layer of the student.
        temperature: T > 0, by which logits are divided before they are compared; higher tells more of what the teacher
            thinks of the unlikely answer.
        alpha: Weight of the teacher's answers in [0, 1]; the rest is the weight of the labels.
        epochs: The most epochs to train; training stops earlier by the validation records.
        batch_size: Records a step of the optimiser.
        learning_rate: Of the optimiser.
    """

    widths: tuple[int, ...]
    temperature: float = 2.0
    alpha: float = 0.7
    epochs: int = 80
    batch_size: int = 256
    learning_rate: float = 1e-3

    trains: ClassVar[bool] = True
    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.9)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"{self.name}: temperature is {self.temperature}; a number above 0 is needed")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"{self.name}: alpha is {self.alpha}; a number from 0 to 1 is needed")

    @property
    def contract(self) -> Contract:
        """Decisions agree on 90 % of real records; logits are the student's own."""
        return self.CONTRACT

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the student's graph; with fresh weights where `context.trained` is False.

        Raises:
            InputError: Not a core, no training or validation records, records that do not fit the core, or a training
                that diverged.
        """
        core = read_core(artifact, self.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            student = TabularMLP(_width(core), self.widths, core.outputs).eval()
        if context.trained:
            self._train(student, core, context)
        source = core.artifact
        module = TorchArtifact(student, signature=source.signature, origin=source.origin, history=source.history)
        return core.finished(read_core(export(module), self.name).model)

    def _train(self, student: TabularMLP, core: Core, context: Context) -> None:
        training, validation = context.training, context.validation
        if training is None or validation is None:
            raise InputError(f"{self.name}: needs training and validation records, got none")
        core.check_features(training.features, "training")
        core.check_features(validation.features, "validation")
        objective = distillation(
            torch.from_numpy(_answers(core.artifact, training)),
            temperature=self.temperature,
            alpha=self.alpha,
            weights=torch.tensor(balanced_weights(training.targets)),
            benign=context.benign,
        )
        options = TrainingOptions(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            benign=context.benign,
            seed=context.seed,
            threads=context.threads,
        )
        train(student, training, validation, options, objective=objective, progress=context.progress)


def _width(core: Core) -> int:
    """D; the student takes records with columns and nothing else."""
    if len(core.shape) != 1:
        raise InputError(f"{core.step}: the model takes {list(core.shape)} a record; a TabularMLP takes [D]")
    return core.shape[0]


def distillation(teacher: Tensor, *, temperature: float, alpha: float, weights: Tensor, benign: int = 0) -> Objective:
    """The objective `alpha * T² * KL(softmax(t / T) || softmax(s / T)) + (1 - alpha) * H(y, s)`, in nats a record.

    `t` and `s` are the logits of teacher and student, `H` the class-weighted cross-entropy that training minimises
    otherwise. T² keeps the two gradients in proportion when T changes (section 2 of the paper). A single logit, the
    log-odds of attack, counts as the pair [0, logit].

    Args:
        teacher: The teacher's logits [N, K] for all training records, looked up by index.
        temperature: T.
        alpha: Weight of the teacher.
        weights: [2], of benign and attack records in `H`.
        benign: Index of the benign logit.
    """

    def objective(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        logits = module(features)
        soft = functional.kl_div(
            functional.log_softmax(_at_least_two(logits) / temperature, dim=1),
            functional.log_softmax(_at_least_two(teacher[indices]) / temperature, dim=1),
            log_target=True,
            reduction="batchmean",
        )
        hard = cross_entropy(logits, targets, weights, benign)
        return alpha * temperature**2 * soft + (1 - alpha) * hard

    return objective


def _at_least_two(logits: Tensor) -> Tensor:
    return logits if logits.shape[1] > 1 else functional.pad(logits, (1, 0))


def _answers(artifact: OnnxArtifact, records: LabelledFeatures) -> NDArray[np.float32]:
    """The graph's logits, float32 [N, K]."""
    teacher, name = session(artifact.model), artifact.signature.inputs[0].name
    chunks = [
        run(teacher, {name: records.features[start : start + _CHUNK]})[0] for start in range(0, len(records), _CHUNK)
    ]
    return np.concatenate(chunks).astype(np.float32, copy=False)
