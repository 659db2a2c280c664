"""The training loop: whole tensors in memory, early stopping, the best weights restored, deterministic."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hauberk.errors import InputError
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.train.averaging import Average
from hauberk.train.objective import (
    Objective,
    class_weights,
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

    Where training stops by a judge of its own, the validation loss is the judge's and the accuracy is NaN. The robust
    accuracy, of validation records under attack, is NaN unless training looks at it.
    """

    loss: float
    validation_loss: float
    validation_accuracy: float
    robust_accuracy: float = math.nan


class Judgement(NamedTuple):
    """What an examiner finds on the validation records.

    Attributes:
        loss: What training stops by; lower is better.
        accuracy: In [0, 1], or NaN.
        robust_accuracy: Under attack, in [0, 1], or NaN.
    """

    loss: float
    accuracy: float = math.nan
    robust_accuracy: float = math.nan


Examiner = Callable[[nn.Module, Tensor, Tensor], Judgement]
"""(module in evaluation mode, all validation features [N, *shape], targets int64 [N]) to a judgement."""


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
    examiner: Examiner | None = None,
    replays: int = 1,
    progress: Progress = SILENT,
) -> TrainingResult:
    """Train a module in place with AdamW and leave it with its best weights, on the CPU, in evaluation mode.

    Training stops when the class-weighted cross-entropy on `validation` has not fallen for `options.patience` epochs;
    the weights of the epoch where it was lowest are restored. Torch's thread count and random state are as before
    afterwards, also when the training is interrupted.

    Args:
        module: Maps features float32 [N, *shape] to logits [N, K].
        training: Records to learn from; every class occurs, unless there are both an objective and a judge (or an
            examiner).
        validation: Records to stop by.
        options: How to train.
        objective: What to minimise; by default the class-weighted cross-entropy.
        judge: What to stop by, a mean over the records that it is given; by default the class-weighted cross-entropy.
        examiner: What to stop by instead of a judge, where more figures than one are wanted.
        replays: Steps of the optimiser on each batch, at least 1.
        progress: Who follows; gets `loss`, `validation_loss` and `validation_accuracy` after each epoch, and
            `robust_accuracy` where there is one.

    Raises:
        InputError: A split is empty or of one class, the device is missing, or the loss is no longer a number.
    """
    if not len(training) or not len(validation):
        raise InputError("training needs at least one training and one validation record")
    started = time.perf_counter()
    device = torch_device(options.device)
    with _settings(options, device):
        try:
            stop_by = examiner or (_examined(judge) if judge else None)
            run = _Run(module, training, validation, options, objective, stop_by, device, replays)
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
                best_weights = run.weights_now()
            robust = {} if math.isnan(epoch.robust_accuracy) else {"robust_accuracy": epoch.robust_accuracy}
            task.advance(
                1,
                loss=epoch.loss,
                validation_loss=epoch.validation_loss,
                validation_accuracy=epoch.validation_accuracy,
                **robust,
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
        examiner: Examiner | None,
        device: torch.device,
        replays: int,
    ) -> None:
        self.module = module.to(device)
        self.features, self.targets = _tensors(training, device)
        self.validation = _tensors(validation, device)
        weights = () if objective and examiner else class_weights(training.targets, options, self._outputs(options))
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)
        self.options = options
        self.objective = objective or self._default_objective
        self.examiner = examiner or self._default_examiner
        self.replays = replays
        self.weigh = self._weight_of if objective is None else getattr(objective, "weight_of", None)
        self.optimiser = torch.optim.AdamW(
            module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        steps = -(-len(training) // options.batch_size) * replays
        self.rates = (
            torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, options.epochs * steps)
            if options.schedule == "cosine"
            else None
        )
        self.average = Average(module, options.averaging) if options.averaging else None
        self.order = torch.Generator().manual_seed(options.seed)

    def _outputs(self, options: TrainingOptions) -> int:
        """K, as far as the weights of classes depend on it."""
        if options.task == "detection":
            return 2
        with torch.inference_mode():
            return int(self.module.eval()(self.features[:1]).shape[1])

    def _default_objective(self, module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:  # noqa: ARG002
        return self._cross_entropy(module(features).float(), targets)

    def _weight_of(self, targets: Tensor, indices: Tensor) -> Tensor:  # noqa: ARG002 - classes have weights, records none
        return self.weights[targets].sum()

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
        with nullcontext() if self.average is None else self.average.applied():
            self.module.eval()
            with torch.no_grad(), self._autocast():
                found = self.examiner(self.module, *self.validation)
        if not (math.isfinite(loss) and math.isfinite(found.loss)):
            raise InputError(
                f"training diverged in epoch {number}: loss {loss:g}, validation loss {found.loss:g};"
                f" try a learning rate below {self.options.learning_rate:g}, or look for extreme values in the features"
            )
        return Epoch(loss, found.loss, found.accuracy, found.robust_accuracy)

    def weights_now(self) -> dict[str, Tensor]:
        """The weights that were examined last, as a copy."""
        with nullcontext() if self.average is None else self.average.applied():
            return {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def _pass(self) -> float:
        self.module.train()
        order = torch.randperm(len(self.features), generator=self.order).to(self.features.device)
        total = torch.zeros((), device=self.features.device)
        for indices in torch.split(order, self.options.batch_size):
            for _ in range(self.replays):
                self.optimiser.zero_grad(set_to_none=True)
                total += self._backward(indices) * (len(indices) / self.replays)
                self.optimiser.step()
                if self.rates is not None:
                    self.rates.step()
                if self.average is not None:
                    self.average.update()
        return float(total) / len(order)

    def _backward(self, indices: Tensor) -> Tensor:
        """Gather the gradient of a batch, in as many parts as were asked for; its loss."""
        parts = torch.tensor_split(indices, min(self.options.accumulate, len(indices)))
        total = torch.zeros((), device=self.features.device)
        for part in parts:
            with self._autocast():
                loss = self.objective(self.module, self.features[part], self.targets[part], part)
            if len(parts) > 1:
                loss = loss * self._share(part, indices)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _share(self, part: Tensor, batch: Tensor) -> Tensor | float:
        """What a part counts in the mean of its batch: by its classes' weights, where the loss is a mean over those."""
        if self.weigh is None:
            return len(part) / len(batch)
        share: Tensor = self.weigh(self.targets[part], part) / self.weigh(self.targets[batch], batch)
        return share

    def _default_examiner(self, module: nn.Module, features: Tensor, targets: Tensor) -> Judgement:
        """Cross-entropy, and accuracy at a margin of 0 or by the largest logit."""
        logits = torch.cat([module(batch).float() for batch in torch.split(features, at_once(features))])
        hits = self._decisions(logits) == targets
        return Judgement(float(self._cross_entropy(logits, targets)), float(hits.float().mean()))

    def _autocast(self) -> torch.autocast:
        bfloat16 = self.options.precision == "bfloat16"
        return torch.autocast(self.features.device.type, dtype=torch.bfloat16, enabled=bfloat16)


def at_once(features: Tensor) -> int:
    """How many records of these [N, *shape] are evaluated at a time."""
    return max(1, _EVALUATION_VALUES // max(1, features[0].numel()))


def _examined(judge: Objective) -> Examiner:
    """A judge, which is a mean over the records that it is given, as an examiner."""

    def examine(module: nn.Module, features: Tensor, targets: Tensor) -> Judgement:
        total = 0.0
        for indices in torch.split(torch.arange(len(features), device=features.device), at_once(features)):
            total += float(judge(module, features[indices], targets[indices], indices)) * len(indices)
        return Judgement(total / len(features))

    return examine


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
