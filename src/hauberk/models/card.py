"""The model card: everything about a detector that its weights do not say.

`detector.json` lies beside `detector.safetensors`. It names the architecture and its parameters, how records become
features, how logits become a decision, which data the weights were trained on and how well that went, and the SHA-256
of the weights file, so that the two cannot be mixed up.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec

from hauberk.errors import InputError, SchemaError
from hauberk.files import read_bounded, write_atomically
from hauberk.measurement import Measurement
from hauberk.schema import Decision, FeatureSpace, Preprocessing, RecordSchema

CARD_FILE = "detector.json"
WEIGHTS_FILE = "detector.safetensors"
"""The two files of a folder that `hauberk train` wrote."""

_MAX_BYTES = 64 << 20  # a schema with a hundred thousand categories stays far below


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
        validation_loss: Class-weighted cross-entropy on the validation split, in nats, at the best epoch.
        figures: Measurements on the validation split, by name.
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


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model is, as `detector.json`.

    Attributes:
        architecture: A name in `hauberk.models.ARCHITECTURES`, or any other name for a model that comes with `--arch`
            or is an ONNX file.
        parameters: Keyword arguments of the architecture.
        schema: The records that the detector reads.
        preprocessing: How their numbers are scaled.
        decision: How logits become a score and a label.
        weights_sha256: SHA-256 of the model file, hex.
        training: How the weights came about; `None` where nobody recorded it.
    """

    FORMAT: ClassVar[int] = 1

    architecture: str
    parameters: dict[str, object]
    schema: RecordSchema
    preprocessing: Preprocessing
    decision: Decision
    weights_sha256: str
    training: TrainingRecord | None = None
    format: int = FORMAT

    @property
    def space(self) -> FeatureSpace:
        """The feature space that the model reads."""
        return FeatureSpace(self.schema, self.preprocessing)


def write_card(card: ModelCard, path: Path) -> None:
    """Write a card, atomically.

    Raises:
        InputError: The file cannot be written.
    """
    write_atomically(path, msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")


def read_card(path: Path) -> ModelCard:
    """Read and check a card.

    Raises:
        InputError: The file is missing, too large, not a card, or its parts do not fit each other.
    """
    try:
        card = msgspec.json.decode(read_bounded(path, _MAX_BYTES), type=ModelCard)
    except SchemaError as error:
        raise InputError(f"{path}: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not a model card: {error}") from error
    _check(card, path)
    return card


def _check(card: ModelCard, path: Path) -> None:
    if card.format != ModelCard.FORMAT:
        raise InputError(f"{path}: model card format {card.format}; this version reads format {ModelCard.FORMAT}")
    scalings, numbers = len(card.preprocessing.scalings), len(card.schema.numbers)
    if scalings != numbers:
        raise InputError(f"{path}: preprocessing has {scalings} scalings, the schema has {numbers} numbers")
    for feature, scaling in zip(card.schema.numbers, card.preprocessing.scalings, strict=True):
        if scaling.scale == 0:
            raise InputError(f"{path}: preprocessing of {feature.name!r} divides by a scale of 0")
    decision = card.decision
    if decision.outputs < 1 or not 0 <= decision.benign < max(decision.outputs, 2):
        raise InputError(f"{path}: benign output {decision.benign} does not exist among {decision.outputs}")
