"""Reference models of images, from splits of a data set to weights and a card."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from hauberk.data.images import ImageDataset, ImageSplits
from hauberk.errors import InputError
from hauberk.models import ImageCard, fresh
from hauberk.progress import SILENT, Progress
from hauberk.schema import ImageSpace
from hauberk.train.loop import train
from hauberk.train.options import TrainingOptions
from hauberk.train.preprocessing import labelled_images
from hauberk.train.robust.threats import UnderAttack
from hauberk.train.robust.training import train_robust
from hauberk.train.saving import TrainedDetector, digest_of_weights, training_record

IMAGES = ("residual-cnn", "resnet18", "resnet50")
"""Architectures that read images."""

_SIZES = {"residual-cnn": 32, "resnet18": 224, "resnet50": 224}
_SMALLEST_DEVIATION = 1e-3  # of pixels in [0, 1]: a channel that hardly moves is not blown up


def train_image_model(
    splits: ImageSplits,
    *,
    architecture: str = "residual-cnn",
    size: int | None = None,
    resize: int | None = None,
    parameters: Mapping[str, object] | None = None,
    options: TrainingOptions | None = None,
    robust: UnderAttack[ImageSpace] | None = None,
    progress: Progress = SILENT,
) -> TrainedDetector[ImageCard]:
    """Train a reference model to tell the classes of images apart. The test split is not seen.

    Args:
        splits: The images; of three channels for the ResNets.
        architecture: One of `IMAGES`.
        size: S, height and width that the model reads; 32 or, for a ResNet, 224 where `None`.
        resize: What the shorter side is resized to before the centre is cropped; `size` where `None`.
        parameters: Keyword arguments of the architecture, but for those that the data decides (`channels`, `size`,
            `outputs`).
        options: How to train; defaults where `None`. The task is classification whatever they say.
        robust: Train on attacked images, and stop by attacked ones; `None` does not attack.
        progress: Who follows.

    Raises:
        InputError: The architecture is unknown, does not take a parameter or the channels, the data or an option does
            not allow training, or the training diverged.
        SchemaError: Sizes that do not fit each other.
    """
    if architecture not in IMAGES:
        raise InputError(f"architecture {architecture!r} reads no images; those that do are {', '.join(IMAGES)}")
    options = msgspec.structs.replace(options or TrainingOptions(), task="classification")
    size = _SIZES[architecture] if size is None else size
    space = fit_image_space(splits.training, size=size, resize=size if resize is None else resize)
    known: dict[str, object] = {"size": size, "outputs": len(splits.training.classes)}
    if architecture == "residual-cnn":
        known["channels"] = space.channels
    elif space.channels != 3:
        raise InputError(f"{architecture} reads colour; the images have {space.channels} channel")
    given = dict(parameters or {})
    if taken := known.keys() & given.keys():
        raise InputError(f"{architecture}: {min(taken)} follows from the data; leave it away")
    module = fresh(architecture, known | given, options.seed)
    training, validation = labelled_images(space, splits.training), labelled_images(space, splits.validation)
    threat = None if robust is None else robust.threat(space)
    if robust is None or threat is None:
        result = train(module, training, validation, options, progress=progress)
    else:
        result = train_robust(module, training, validation, options, robust.options, threat, progress=progress)
    record = training_record(splits, options, result, len(validation), robust=robust, threat=threat)
    card = ImageCard(
        architecture=architecture,
        parameters=known | given,
        image=space,
        classes=splits.training.classes,
        weights_sha256=digest_of_weights(module),
        training=record,
    )
    return TrainedDetector(module, card)


def fit_image_space(training: ImageDataset, *, size: int, resize: int) -> ImageSpace:
    """The space in which the training images have mean 0 and deviation 1 in each channel.

    Raises:
        SchemaError: The crop is larger than the resized image, or a size is out of its range.
    """
    levels = np.arange(256) / 255
    mean, deviation = [], []
    for channel in range(training.images.shape[3]):
        shares = np.bincount(training.images[..., channel].ravel(), minlength=256) / training.images[..., channel].size
        mean.append(float(shares @ levels))
        deviation.append(max(float(np.sqrt(shares @ (levels - mean[-1]) ** 2)), _SMALLEST_DEVIATION))
    return ImageSpace(training.images.shape[3], size, resize, tuple(mean), tuple(deviation))
