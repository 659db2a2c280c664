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
from hauberk.models.image_card import ImageCard
from hauberk.models.training_record import TrainingRecord
from hauberk.schema import Decision, FeatureSpace, Preprocessing, RecordSchema

CARD_FILE = "detector.json"
WEIGHTS_FILE = "detector.safetensors"
"""The two files of a folder that `hauberk train` wrote."""

_MAX_BYTES = 64 << 20  # a schema with a hundred thousand categories stays far below


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
        window: T, where the model reads windows of consecutive records (`hauberk.data.windows`); `None` where it reads
            single ones.
    """

    FORMAT: ClassVar[int] = 1

    architecture: str
    parameters: dict[str, object]
    schema: RecordSchema
    preprocessing: Preprocessing
    decision: Decision
    weights_sha256: str
    training: TrainingRecord | None = None
    window: int | None = None
    format: int = FORMAT

    @property
    def space(self) -> FeatureSpace:
        """The feature space of one record."""
        return FeatureSpace(self.schema, self.preprocessing)


def write_card(card: ModelCard | ImageCard, path: Path) -> None:
    """Write a card, atomically.

    Raises:
        InputError: The file cannot be written.
    """
    write_atomically(path, msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")


def read_card(path: Path) -> ModelCard:
    """Read and check the card of a model of records.

    Raises:
        InputError: The file is missing, too large, not a card, or its parts do not fit each other; or it is the card of
            an image model.
    """
    card = read_any_card(path)
    if isinstance(card, ImageCard):
        raise InputError(f"{path}: the card of an image model; a model of records is needed here")
    return card


def read_any_card(path: Path) -> ModelCard | ImageCard:
    """Read and check a card, of records or of images.

    Raises:
        InputError: The file is missing, too large, not a card, or its parts do not fit each other.
    """
    content = read_bounded(path, _MAX_BYTES)
    try:
        of_images = msgspec.json.decode(content, type=_Kind).image is not msgspec.UNSET
        card: ModelCard | ImageCard
        if of_images:
            card = msgspec.json.decode(content, type=ImageCard)
        else:
            card = msgspec.json.decode(content, type=ModelCard)
    except SchemaError as error:
        raise InputError(f"{path}: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path}: not a model card: {error}; if it is none, rename it, or name the card with --card"
        ) from error
    if card.format != card.FORMAT:
        raise InputError(f"{path}: model card format {card.format}; this version reads format {card.FORMAT}")
    if isinstance(card, ImageCard):
        _check_classes(card, path)
    else:
        _check(card, path)
    return card


class _Kind(msgspec.Struct):
    """What tells the two kinds of card apart."""

    image: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def _check_classes(card: ImageCard, path: Path) -> None:
    if len(card.classes) < 2 or len(set(card.classes)) < len(card.classes):
        raise InputError(f"{path}: classes are {list(card.classes)[:8]}; at least two different names are needed")


def _check(card: ModelCard, path: Path) -> None:
    scalings, numbers = len(card.preprocessing.scalings), len(card.schema.numbers)
    if scalings != numbers:
        raise InputError(f"{path}: preprocessing has {scalings} scalings, the schema has {numbers} numbers")
    for feature, scaling in zip(card.schema.numbers, card.preprocessing.scalings, strict=True):
        if scaling.scale == 0:
            raise InputError(f"{path}: preprocessing of {feature.name!r} divides by a scale of 0")
    decision = card.decision
    if decision.outputs < 1 or not 0 <= decision.benign < max(decision.outputs, 2):
        raise InputError(f"{path}: benign output {decision.benign} does not exist among {decision.outputs}")
    if card.window is not None and card.window < 1:
        raise InputError(f"{path}: a window of {card.window} records; at least 1 is needed")
