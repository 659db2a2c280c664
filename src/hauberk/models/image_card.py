"""The model card of an image model: like a detector's, with pixels in the place of columns."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from hauberk.models.training_record import TrainingRecord
from hauberk.schema import ImageSpace


class ImageCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an image model is, as `detector.json`.

    Attributes:
        architecture: A name in `hauberk.models.ARCHITECTURES`, or any other name for a model that comes with `--arch`
            or is an ONNX file.
        parameters: Keyword arguments of the architecture.
        image: How pixels become features.
        classes: Names of the classes, one a logit, in order.
        weights_sha256: SHA-256 of the model file, hex.
        training: How the weights came about; `None` where nobody recorded it.
    """

    FORMAT: ClassVar[int] = 1

    architecture: str
    parameters: dict[str, object]
    image: ImageSpace
    classes: tuple[str, ...]
    weights_sha256: str
    training: TrainingRecord | None = None
    format: int = FORMAT
