"""The training loop: whole tensors in memory, early stopping, the best weights restored, deterministic."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hauberk.errors import InputError
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.train.objective import (
    Objective,
    balanced_weights,
    class_balanced_weights,
    cross_entropy,
    margin,
    softmax_cross_entropy,
)
from hauberk.train.options import TrainingOptions, torch_device

_EVALUATION_VALUES = 1 << 23
"""Numbers that are evaluated at once: 65,536 records of 128 features, or 55 images of 3×224×224."""


@dataclass(frozen=True)
class Epoch:
    """One epoch's figures: losses in nats a record (the training one is the objective's), accuracy in [0, 1].

    Where training stops by a judge of its own, the validation loss is the judge's and the accuracy is NaN.
    """

    loss: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class TrainingResult:
    """How a training went.

    Attributes:
        epochs: Epochs that were run.
        best_epoch: The epoch, from 1, whose weights the module now has.
        seconds: Wall-clock time.
        history: One entry an epoch.
    """

    epochs: int
    best_epoch: int
    seconds: float
    history: tuple[Epoch, ...]

    @property
    def best(self) -> Epoch:
        """The figures of the epoch whose weights were kept."""
        return self.history[self.best_epoch - 1]


def train(
    module: nn.Module,
    training: LabelledFeatures,
    validation: LabelledFeatures,
    options: TrainingOptions,
    *,
    objective: Objective | None = None,
    judge: Objective | None = None,
    progress: Progress = SILENT,
) -> TrainingResult:
    """Train a module in place with AdamW and leave it with its best weights, on the CPU, in evaluation mode.

    Training stops when the class-weighted cross-entropy on `validation` has not fallen for `options.patience` epochs;
    the weights of the epoch where it was lowest are restored. Torch's thread count and random state are as before
    afterwards, also when the training is interrupted.

    Args:
        module: Maps features float32 [N, *shape] to logits [N, K].
        training: Records to learn from; every class occurs, unless there are both an objective and a judge.
        validation: Records to stop by.
        options: How to train.
        objective: What to minimise; by default the class-weighted cross-entropy.
        judge: What to stop by, a mean over the records that it is given; by default the class-weighted cross-entropy.
        progress: Who follows; gets `loss`, `validation_loss` and `validation_accuracy` after each epoch.

    Raises:
        InputError: A split is empty or of one class, the device is missing, or the loss is no longer a number.
    """
    if not len(training) or not len(validation):
        raise InputError("training needs at least one training and one validation record")
    started = time.perf_counter()
    device = torch_device(options.device)
    with _settings(options, device):
        try:
            run = _Run(module, training, validation, options, objective, judge, device)
            best_epoch, history = _epochs(run, options, progress)
        finally:
            module.to("cpu").eval()
    return TrainingResult(len(history), best_epoch, time.perf_counter() - started, tuple(history))


def _epochs(run: _Run, options: TrainingOptions, progress: Progress) -> tuple[int, list[Epoch]]:
    history: list[Epoch] = []
    best_epoch = 0
    best_weights: dict[str, Tensor] = {}
    with progress.task("training", options.epochs) as task:
        for number in range(1, options.epochs + 1):
            epoch = run.epoch(number)
            history.append(epoch)
            if not best_epoch or epoch.validation_loss < history[best_epoch - 1].validation_loss:
                best_epoch = number
                best_weights = {name: value.detach().clone() for name, value in run.module.state_dict().items()}
            task.advance(
                1,
                loss=epoch.loss,
                validation_loss=epoch.validation_loss,
                validation_accuracy=epoch.validation_accuracy,
            )
            if number - best_epoch >= options.patience:
                break
    run.module.load_state_dict(best_weights)
    return best_epoch, history


class _Run:
    """What stays the same from epoch to epoch: tensors on the device, the optimiser, the order of batches."""

    def __init__(
        self,
        module: nn.Module,
        training: LabelledFeatures,
        validation: LabelledFeatures,
        options: TrainingOptions,
        objective: Objective | None,
        judge: Objective | None,
        device: torch.device,
    ) -> None:
        self.module = module.to(device)
        self.features, self.targets = _tensors(training, device)
        self.validation = _tensors(validation, device)
        self.judge = judge
        weights = () if objective and judge else _class_weights(module, self.features, training, options)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)
        self.options = options
        self.objective = objective or self._default_objective
        self.optimiser = torch.optim.AdamW(
            module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        steps = -(-len(training) // options.batch_size)
        self.rates = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, options.epochs * steps)
            if options.schedule == "cosine"
            else None
        )
        self.order = torch.Generator().manual_seed(options.seed)

    def _default_objective(self, module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:  # noqa: ARG002
        return self._cross_entropy(module(features).float(), targets)

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.options.task == "classification":
            return softmax_cross_entropy(logits, targets, self.weights)
        return cross_entropy(logits, targets, self.weights, self.options.benign)

    def _decisions(self, logits: Tensor) -> Tensor:
        if self.options.task == "classification":
            return logits.argmax(dim=1)
        return (margin(logits, self.options.benign) >= 0).to(torch.int64)

    def epoch(self, number: int) -> Epoch:
        """Go once over the training records, then look at the validation records."""
        loss = self._pass()
        validation_loss, accuracy = self._evaluate()
        if not (math.isfinite(loss) and math.isfinite(validation_loss)):
            raise InputError(
                f"training diverged in epoch {number}: loss {loss:g}, validation loss {validation_loss:g};"
                f" try a learning rate below {self.options.learning_rate:g}, or look for extreme values in the features"
            )
        return Epoch(loss, validation_loss, accuracy)

    def _pass(self) -> float:
        self.module.train()
        order = torch.randperm(len(self.features), generator=self.order).to(self.features.device)
        total = torch.zeros((), device=self.features.device)
        for indices in torch.split(order, self.options.batch_size):
            self.optimiser.zero_grad(set_to_none=True)
            with self._autocast():
                loss = self.objective(self.module, self.features[indices], self.targets[indices], indices)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            if self.rates is not None:
                self.rates.step()
            total += loss.detach() * len(indices)
        return float(total) / len(order)

    def _evaluate(self) -> tuple[float, float]:
        """Validation loss, and accuracy at a margin of 0 or by the largest logit."""
        self.module.eval()
        features, targets = self.validation
        batch = max(1, _EVALUATION_VALUES // max(1, features[0].numel()))
        if self.judge is not None:
            return self._judged(self.judge, batch), math.nan
        with torch.inference_mode(), self._autocast():
            logits = torch.cat([self.module(batch).float() for batch in torch.split(features, batch)])
        hits = self._decisions(logits) == targets
        return float(self._cross_entropy(logits, targets)), float(hits.float().mean())

    def _judged(self, judge: Objective, batch: int) -> float:
        features, targets = self.validation
        total = 0.0
        with torch.inference_mode(), self._autocast():
            for indices in torch.split(torch.arange(len(features), device=features.device), batch):
                total += float(judge(self.module, features[indices], targets[indices], indices)) * len(indices)
        return total / len(features)

    def _autocast(self) -> torch.autocast:
        bfloat16 = self.options.precision == "bfloat16"
        return torch.autocast(self.features.device.type, dtype=torch.bfloat16, enabled=bfloat16)


def _class_weights(
    module: nn.Module, features: Tensor, training: LabelledFeatures, options: TrainingOptions
) -> tuple[float, ...]:
    """One weight a class: all alike in their sum, or all 1."""
    if options.task == "detection":
        return balanced_weights(training.targets) if options.class_weights else (1.0, 1.0)
    with torch.inference_mode():
        classes = int(module.eval()(features[:1]).shape[1])
    weights = class_balanced_weights(training.targets, classes)
    return weights if options.class_weights else (1.0,) * classes


def _tensors(records: LabelledFeatures, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(records.features, device=device), torch.tensor(records.targets, device=device)


@contextmanager
def _settings(options: TrainingOptions, device: torch.device) -> Iterator[None]:
    """Torch's threads and random state for one training; both are put back."""
    threads = torch.get_num_threads()
    devices = [device] if device.type == "cuda" else []
    torch.set_num_threads(options.threads)
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(options.seed)
            yield
    finally:
        torch.set_num_threads(threads)
