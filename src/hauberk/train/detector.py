"""The reference detector, from splits of a data set to two files: weights and model card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import safetensors.torch
import torch
from torch import nn

from hauberk.data.splits import Splits
from hauberk.errors import InputError
from hauberk.files import require_writable, write_atomically
from hauberk.measurement import Measurement, wilson
from hauberk.models import CARD_FILE, WEIGHTS_FILE, ModelCard, TrainingRecord, build, write_card
from hauberk.progress import SILENT, Progress
from hauberk.schema import Decision, FeatureSpace
from hauberk.train.loop import TrainingResult, train
from hauberk.train.options import TrainingOptions
from hauberk.train.preprocessing import PreprocessingKind, fit_preprocessing, labelled


@dataclass(frozen=True)
class TrainedDetector:
    """A trained module, on the CPU and in evaluation mode, and its card."""

    module: nn.Module
    card: ModelCard


def train_detector(
    splits: Splits,
    *,
    widths: Sequence[int] = (256, 128, 64),
    options: TrainingOptions | None = None,
    preprocessing_kind: PreprocessingKind = "log-minmax",
    progress: Progress = SILENT,
) -> TrainedDetector:
    """Train a `TabularMLP` on the training split and stop by the validation split. The test split is not looked at.

    Args:
        splits: The data.
        widths: Units of each hidden layer.
        options: How to train; defaults where `None`.
        preprocessing_kind: How numbers are scaled (see `fit_preprocessing`).
        progress: Who follows.

    Raises:
        InputError: The data or an option does not allow training, or the training diverged.
    """
    options = options or TrainingOptions()
    schema = splits.training.schema
    preprocessing = fit_preprocessing(schema, splits.training.coded.numeric, preprocessing_kind)
    space = FeatureSpace(schema, preprocessing)
    decision = Decision(outputs=2, benign=options.benign)
    parameters: dict[str, object] = {"inputs": space.width, "widths": list(widths), "outputs": decision.outputs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        module = build("tabular-mlp", parameters)
    training, validation = labelled(space, splits.training), labelled(space, splits.validation)
    result = train(module, training, validation, options, progress=progress)
    record = TrainingRecord(
        data=splits.name,
        data_digest=splits.digest,
        split_seed=splits.seed,
        options=msgspec.to_builtins(options),
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        seconds=result.seconds,
        validation_loss=result.best.validation_loss,
        figures=_figures(result, len(validation)),
    )
    card = ModelCard(
        architecture="tabular-mlp",
        parameters=parameters,
        schema=schema,
        preprocessing=preprocessing,
        decision=decision,
        weights_sha256=hashlib.sha256(_weights(module)).hexdigest(),
        training=record,
    )
    return TrainedDetector(module, card)


def save_detector(trained: TrainedDetector, folder: Path) -> None:
    """Write `detector.safetensors` and `detector.json` into a folder, which is made where it does not exist.

    The card is written last and an older card is removed first, so that a folder with a card is complete.

    Raises:
        InputError: The folder or a file cannot be written, or the module no longer has the weights that the card was
            made for.
    """
    weights = _weights(trained.module)
    if hashlib.sha256(weights).hexdigest() != trained.card.weights_sha256:
        raise InputError("the module's weights are not those that its model card names; make a new card")
    prepare_folder(folder)
    (folder / CARD_FILE).unlink(missing_ok=True)
    write_atomically(folder / WEIGHTS_FILE, weights)
    write_card(trained.card, folder / CARD_FILE)


def prepare_folder(folder: Path) -> None:
    """Make a folder, and find out before a long training whether it can be written.

    Raises:
        InputError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{folder}: exists and is not a folder; name another one") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot write here: {error.strerror}") from error
    for name in (WEIGHTS_FILE, CARD_FILE):
        require_writable(folder / name)


def _weights(module: nn.Module) -> bytes:
    """The state dict as safetensors; the same weights give the same bytes."""
    return safetensors.torch.save(module.state_dict())


def _figures(result: TrainingResult, records: int) -> dict[str, Measurement]:
    accuracy = wilson(round(result.best.validation_accuracy * records), records)
    note = "validation split, at a score of 0.5; training stopped by this split"
    return {
        "accuracy": Measurement(
            "accuracy", accuracy.value, "fraction", records, accuracy.low, accuracy.high, note=note
        ),
        "training_time": Measurement("training_time", result.seconds, "s", 1),
    }
