"""How the weights of a model came about, as a part of its card."""

from __future__ import annotations

import msgspec

from hauberk.measurement import Measurement


class TrainingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the weights came about.

    Attributes:
        data: Name of the data set.
        data_digest: SHA-256 of its source, hex.
        split_seed: Seed of the split into training, validation and test records.
        options: The training options as data, enough to repeat the training.
        epochs: Epochs that were run.
        best_epoch: The epoch, from 1, whose weights were kept.
        seconds: Wall-clock time of the training.
        validation_loss: On the validation split at the best epoch: class-weighted cross-entropy in nats; of an
            autoencoder, the mean squared error of reconstruction.
        figures: Measurements on the validation split, by name.
        split_block: Consecutive records that the split kept together (`load_splits(block=…)`).
    """

    data: str
    data_digest: str
    split_seed: int
    options: dict[str, object]
    epochs: int
    best_epoch: int
    seconds: float
    validation_loss: float
    figures: dict[str, Measurement]
    split_block: int = 1
