"""A trained model and its card, and the two files that they become."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import safetensors.torch
from torch import nn

from hauberk.attacks import FeatureThreat
from hauberk.data import Splits
from hauberk.data.images import ImageSplits
from hauberk.errors import InputError
from hauberk.files import require_writable, write_atomically
from hauberk.measurement import Measurement, wilson
from hauberk.models import CARD_FILE, WEIGHTS_FILE, ImageCard, ModelCard, TrainingRecord, write_card
from hauberk.schema import FeatureSpace, ImageSpace
from hauberk.train.loop import TrainingResult
from hauberk.train.options import TrainingOptions
from hauberk.train.robust.threats import UnderAttack

Card = TypeVar("Card", ModelCard, ImageCard)


@dataclass(frozen=True)
class TrainedDetector(Generic[Card]):
    """A trained module, on the CPU and in evaluation mode, and its card."""

    module: nn.Module
    card: Card


def save_detector(trained: TrainedDetector[ModelCard] | TrainedDetector[ImageCard], folder: Path) -> None:
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


@contextmanager
def prepared_folder(folder: Path) -> Iterator[None]:
    """A folder to write into; where the work in it fails, folders that were made for it and are empty go again.

    Raises:
        InputError: It cannot be made or written.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        prepare_folder(folder)
        yield
    except BaseException:
        for each in made:
            with suppress(OSError):  # somebody else's file is in it, or it never came to be
                each.rmdir()
        raise


def digest_of_weights(module: nn.Module) -> str:
    """SHA-256 (hex) of the file that the module's weights become."""
    return hashlib.sha256(_weights(module)).hexdigest()


def training_record(
    splits: Splits | ImageSplits,
    options: TrainingOptions,
    result: TrainingResult,
    records: int,
    *,
    accuracy: float | None = None,
    split_block: int = 1,
    robust: UnderAttack[FeatureSpace] | UnderAttack[ImageSpace] | None = None,
    threat: FeatureThreat | None = None,
) -> TrainingRecord:
    """What a card says of how the weights came about.

    Args:
        splits: What was trained and validated on.
        options: How.
        result: How it went.
        records: Of the validation split, as the model takes them.
        accuracy: On the validation split, a fraction, where the training itself counted none.
        split_block: Consecutive records that the split kept together.
        robust: How records were attacked meanwhile.
        threat: Against which threat model.
    """
    attacked = 0 if robust is None else min(records, robust.options.validation_records)
    told = msgspec.to_builtins(options)
    if robust is not None and threat is not None:
        told["robust"] = {
            **msgspec.to_builtins(robust.options),
            "balance_kinds": robust.balance_kinds,
            "threat": threat.describe(),
        }
    return TrainingRecord(
        data=splits.name,
        data_digest=splits.digest,
        split_seed=splits.seed,
        options=told,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        seconds=result.seconds,
        validation_loss=result.best.validation_loss,
        figures=_validation_figures(result, records, accuracy, attacked),
        split_block=split_block,
    )


def _validation_figures(
    result: TrainingResult, records: int, accuracy: float | None, attacked: int
) -> dict[str, Measurement]:
    """Accuracy on the validation split, and the time."""
    share = wilson(round((result.best.validation_accuracy if accuracy is None else accuracy) * records), records)
    note = "validation split, at a score of 0.5; training stopped by this split"
    figures = {
        "accuracy": Measurement("accuracy", share.value, "fraction", records, share.low, share.high, note=note),
        "training_time": Measurement("training_time", result.seconds, "s", 1),
    }
    if not math.isnan(result.best.robust_accuracy):
        withstood = wilson(round(result.best.robust_accuracy * attacked), attacked)
        figures["robust_accuracy"] = Measurement(
            "robust_accuracy",
            withstood.value,
            "fraction",
            attacked,
            withstood.low,
            withstood.high,
            note="validation split, under the short attack that training stopped by; not a robustness evaluation",
        )
    return figures


def _weights(module: nn.Module) -> bytes:
    """The state dict as safetensors; the same weights give the same bytes."""
    return safetensors.torch.save(module.state_dict())
