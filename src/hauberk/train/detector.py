"""Reference detectors of records, single ones or windows of them, from splits of a data set to weights and a card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from hauberk.attacks import FeatureThreat
from hauberk.data.splits import Splits
from hauberk.data.windows import newest_records
from hauberk.errors import InputError
from hauberk.models import ARCHITECTURES, Autoencoder, ModelCard, fresh
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision, FeatureSpace
from hauberk.train.anomaly import FALSE_POSITIVE_RATE, train_autoencoder
from hauberk.train.loop import TrainingResult, train
from hauberk.train.objective import weights_by_kind
from hauberk.train.options import TrainingOptions
from hauberk.train.preprocessing import PreprocessingKind, fit_preprocessing, labelled
from hauberk.train.robust.threats import UnderAttack, of_windows
from hauberk.train.robust.training import train_robust
from hauberk.train.saving import TrainedDetector, digest_of_weights, training_record

WINDOWS = tuple(name for name in ARCHITECTURES if name.startswith("window-"))
"""Architectures that read windows of records."""

WINDOW = 16
"""Records of a window, where nobody says another number."""

RECORDS = ("tabular-mlp", "autoencoder", *WINDOWS)
"""Architectures that read records."""


def train_detector(
    splits: Splits,
    *,
    architecture: str = "tabular-mlp",
    parameters: Mapping[str, object] | None = None,
    widths: Sequence[int] | None = None,
    window: int | None = None,
    options: TrainingOptions | None = None,
    preprocessing_kind: PreprocessingKind = "log-minmax",
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    robust: UnderAttack[FeatureSpace] | None = None,
    progress: Progress = SILENT,
) -> TrainedDetector[ModelCard]:
    """Train a reference detector on the training split and stop by the validation split. The test split is not seen.

    Args:
        splits: The data; for windows, split in blocks (`load_splits(block=BLOCK_WINDOWS * window)`).
        architecture: One of `RECORDS`.
        parameters: Keyword arguments of the architecture, but for those that the data decides (`inputs`, `window`,
            `outputs`).
        widths: The same as `parameters={"widths": …}`.
        window: T, of the architectures that read windows; 16 where `None`.
        options: How to train; defaults where `None`.
        preprocessing_kind: How numbers are scaled (see `fit_preprocessing`).
        false_positive_rate: Of an autoencoder on benign validation records, at a margin of 0.
        robust: Train on attacked records, and stop by attacked ones; `None` does not attack.
        progress: Who follows.

    Raises:
        InputError: The architecture is unknown or does not take a parameter, the data or an option does not allow
            training, or the training diverged.
    """
    options = options or TrainingOptions()
    if architecture not in RECORDS:
        raise InputError(f"architecture {architecture!r} reads no records; those that do are {', '.join(RECORDS)}")
    if options.task != "detection":
        raise InputError(f"training option task is {options.task!r}; a detector of records is trained for detection")
    window = _checked_window(architecture, window)
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric, preprocessing_kind))
    outputs = 1 if architecture == "autoencoder" else 2
    decision = Decision(outputs=outputs, benign=options.benign)
    given = dict(parameters or {}) | ({} if widths is None else {"widths": list(widths)})
    complete = _complete_parameters(architecture, given, space.width, window)
    module = fresh(architecture, complete, options.seed)
    training = labelled(space, splits.training, window=window)
    validation = labelled(space, splits.validation, window=window)
    threat = None if robust is None else _threat(robust, space, module, window)
    if robust is None or threat is None:
        result = _train(module, training, validation, options, false_positive_rate, progress)
    else:
        kinds = splits.training.labels
        if window is not None:
            kinds = kinds[newest_records(splits.training, window)]
        weights = weights_by_kind(kinds, training.targets, robust.balance_kinds)
        result = train_robust(
            module, training, validation, options, robust.options, threat, weights=weights, progress=progress
        )
    accuracy = _accuracy(module, validation) if math.isnan(result.best.validation_accuracy) else None
    record = training_record(
        splits,
        options,
        result,
        len(validation),
        accuracy=accuracy,
        split_block=splits.block,
        robust=robust,
        threat=threat,
    )
    card = ModelCard(
        architecture=architecture,
        parameters=complete,
        schema=schema,
        preprocessing=space.preprocessing,
        decision=decision,
        weights_sha256=digest_of_weights(module),
        training=record,
        window=window,
    )
    return TrainedDetector(module, card)


def _threat(
    robust: UnderAttack[FeatureSpace], space: FeatureSpace, module: nn.Module, window: int | None
) -> FeatureThreat:
    if isinstance(module, Autoencoder):
        raise InputError("an autoencoder learns from benign records alone; it is not trained under attack")
    threat = robust.threat(space)
    return threat if window is None else of_windows(threat, window)


def _checked_window(architecture: str, window: int | None) -> int | None:
    """T of the architectures that read windows, `None` of the others."""
    if architecture in WINDOWS:
        return WINDOW if window is None else window
    if window is not None:
        raise InputError(f"{architecture} reads single records; --window is for {', '.join(WINDOWS)}")
    return None


def _complete_parameters(
    architecture: str, given: Mapping[str, object], width: int, window: int | None
) -> dict[str, object]:
    """What was given, and what the data decides: of the records their width and number, of the logits how many."""
    known: dict[str, object] = {"inputs": width}
    if window is not None:
        known["window"] = window
    if architecture != "autoencoder":
        known["outputs"] = 2
    if taken := known.keys() & given.keys():
        raise InputError(f"{architecture}: {min(taken)} follows from the data; leave it away")
    # The card of a TabularMLP has always named its widths.
    default = {"widths": [256, 128, 64]} if architecture == "tabular-mlp" else {}
    return {**known, **default, **given}


def _train(
    module: nn.Module,
    training: LabelledFeatures,
    validation: LabelledFeatures,
    options: TrainingOptions,
    false_positive_rate: float,
    progress: Progress,
) -> TrainingResult:
    if isinstance(module, Autoencoder):
        return train_autoencoder(
            module, training, validation, options, false_positive_rate=false_positive_rate, progress=progress
        )
    return train(module, training, validation, options, progress=progress)


def _accuracy(module: nn.Module, validation: LabelledFeatures) -> float:
    """Of an autoencoder, at its level."""
    with torch.inference_mode():
        alarms = module(torch.tensor(validation.features))[:, 0].numpy() >= 0
    return float((alarms == validation.targets).mean())
