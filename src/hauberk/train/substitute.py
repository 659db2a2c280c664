"""A substitute: a network that answers as a model without a gradient does, so that gradients can be had for it.

Trees, and sessions into which nobody can look, have no slope to follow. An adversary trains a network on their answers
and attacks that (Papernot et al. 2017, "Practical Black-Box Attacks against Machine Learning", arXiv:1602.02697). How
far such an attack can be believed depends on how well the network answers like the model: its fidelity, which is
measured on records that it has not learned from, and beside them, where attacks will go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hauberk.artifact import Predictor
from hauberk.attacks import Judge
from hauberk.attacks.judge import margin as margin_of
from hauberk.errors import InputError
from hauberk.measurement import Measurement, wilson
from hauberk.models import TabularMLP
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision
from hauberk.train.loop import TrainingResult, train
from hauberk.train.objective import Objective
from hauberk.train.options import TrainingOptions

_ROUNDS = 2
_LARGEST = 12.0  # of log-odds that are taught: how much surer a model is, no network needs to learn


@dataclass(frozen=True)
class Substitute:
    """A network in the place of a model.

    Attributes:
        module: Maps features float32 [N, D] to logits [N, K] of the model's K; on the CPU, in evaluation mode.
        agreement: Share of held-out records with the same answer, with its interval.
        nearby: The same of held-out records moved at random by up to the radius.
        error: Root mean square of the difference of margins (of log-probabilities, where classes are told apart) on
            held-out records, as a share of that of the model's own.
        result: How the training went.
    """

    module: nn.Module
    agreement: Measurement
    nearby: Measurement
    error: float
    result: TrainingResult


def train_substitute(
    model: Predictor,
    records: NDArray[np.float32],
    judge: Judge,
    *,
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]],
    radius: float,
    widths: tuple[int, ...] = (128, 64),
    options: TrainingOptions | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Substitute:
    """Train a network on a model's answers to records, and to records moved at random as far as attacks go.

    The model is asked three times for each record in training. A fifth of the records is held out.

    Args:
        model: Anything with logits.
        records: Float32 [N, D], at least 10; they need no labels.
        judge: What makes an answer of the model's logits.
        bounds: Float32 [D] twice, the range of each column.
        radius: How far records are moved, L-infinity; at least 0 (0 asks about the records alone).
        widths: Units of the hidden layers.
        options: How to train; by default 60 epochs at most along half a cosine. Task and benign logit are the judge's.
        seed: Of the split, the moves and the training.
        progress: Who follows.

    Raises:
        InputError: Too few records or no rows, a radius below 0, or answers that are not finite [N, K].
    """
    if records.ndim != 2 or len(records) < 10:
        raise InputError(f"substitute: records must be rows [N, D], at least 10, not {list(records.shape)}")
    if not 0 <= radius < float("inf"):
        raise InputError(f"substitute: the radius is {radius}; a number from 0 is needed")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(records))
    held, seen = records[order[: len(order) // 5]], records[order[len(order) // 5 :]]
    around = [seen, *(_moved(seen, bounds, radius, generator) for _ in range(_ROUNDS))] if radius else [seen]
    learned = np.concatenate(around)
    near = _moved(held, bounds, radius, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _Scaled(TabularMLP(records.shape[1], widths, judge.outputs), bounds)
    chosen = options or TrainingOptions(epochs=60, batch_size=128, learning_rate=3e-3, schedule="cosine", seed=seed)
    taught, known, beside = (_answers(model.predict(part), judge) for part in (learned, held, near))
    lesson, test = _squared_error(judge, taught), _squared_error(judge, known)
    result = train(
        module, _unlabelled(learned), _unlabelled(held), chosen, objective=lesson, judge=test, progress=progress
    )
    with torch.no_grad():
        own, own_beside = (module(torch.from_numpy(part)) for part in (held, near))
        error = float(test(module, torch.from_numpy(held), torch.empty(0), torch.arange(len(held)))) ** 0.5
    return Substitute(
        module=module,
        agreement=_agreement("agreement", judge, own, known),
        nearby=_agreement("agreement_nearby", judge, own_beside, beside),
        error=error,
        result=result,
    )


class _Scaled(nn.Module):
    """A network behind a scaling of every column's range to [0, 1]: trees take columns as they come, networks do not.

    Args:
        module: Takes scaled features.
        bounds: Float32 [D] twice, the range of each column; one without extent is shifted only.
    """

    low: Tensor
    extent: Tensor

    def __init__(self, module: nn.Module, bounds: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
        super().__init__()
        self.module = module
        low, high = bounds
        extent = high.astype(np.float64) - low
        usable = np.isfinite(extent) & (extent > 0)
        self.register_buffer("low", torch.from_numpy(np.where(np.isfinite(low), low, 0).astype(np.float32)))
        self.register_buffer("extent", torch.from_numpy(np.where(usable, extent, 1).astype(np.float32)))

    def forward(self, features: Tensor) -> Tensor:
        """Logits float32 [N, K] of features float32 [N, D]."""
        logits: Tensor = self.module((features - self.low) / self.extent)
        return logits


def _moved(
    records: NDArray[np.float32],
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]],
    radius: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Records moved at random: one half of the columns to an end of their reach, where attacks go, the rest between."""
    lowest = np.maximum(records - np.float32(radius), np.minimum(records, bounds[0]))
    highest = np.minimum(records + np.float32(radius), np.maximum(records, bounds[1]))
    share = generator.random(records.shape, dtype=np.float32)
    share = np.where(generator.random(records.shape) < 0.5, np.rint(share), share)
    moved: NDArray[np.float32] = (lowest + share * (highest - lowest)).astype(np.float32)
    return moved


def _unlabelled(records: NDArray[np.float32]) -> LabelledFeatures:
    return LabelledFeatures(records, np.zeros(len(records), np.int64))


def _answers(logits: NDArray[np.float32], judge: Judge) -> Tensor:
    """The model's logits [N, K] as a tensor.

    Raises:
        InputError: They are not [N, K], or not finite.
    """
    if logits.ndim != 2 or logits.shape[1] != judge.outputs or not np.isfinite(logits).all():
        raise InputError(f"substitute: the model must answer finite logits [N, {judge.outputs}]")
    return torch.tensor(logits, dtype=torch.float32)


def _evidence(judge: Judge, logits: Tensor) -> Tensor:
    """What is learned of logits [N, K]: the margin above the threshold [N, 1], or log-probabilities [N, K]."""
    if isinstance(judge, Decision):
        return margin_of(judge, logits)[:, None] - judge.threshold
    return nn.functional.log_softmax(logits, dim=1)


def _squared_error(judge: Judge, taught: Tensor) -> Objective:
    """The squared error of what is learned, as a share of its mean square: the slope counts, not who is how sure."""
    wanted = _evidence(judge, taught).clamp(-_LARGEST, _LARGEST)
    scale = wanted.square().mean().clamp_min(torch.finfo(torch.float32).tiny)

    def objective(module: nn.Module, features: Tensor, targets: Tensor, indices: Tensor) -> Tensor:  # noqa: ARG001 - nothing is labelled
        return (_evidence(judge, module(features).float()) - wanted[indices]).square().mean() / scale

    return objective


def _agreement(name: str, judge: Judge, own: Tensor, known: Tensor) -> Measurement:
    if isinstance(judge, Decision):
        same = (margin_of(judge, own) >= judge.threshold) == (margin_of(judge, known) >= judge.threshold)
    else:
        same = own.argmax(dim=1) == known.argmax(dim=1)
    share = wilson(int(same.sum()), len(same))
    note = "records that the substitute has not learned from"
    return Measurement(name, share.value, "fraction", len(same), share.low, share.high, note=note)
