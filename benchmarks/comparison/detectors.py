"""The detectors that methods are compared on, trained for real, with the records that decide about them.

All but the ResNets are those of `subjects.py`. There ResNet-18 has random weights, which time and agreement are enough
for; here it tells the ten digits of scikit-learn apart, at 3×224×224, because a loss of quality must be able to show.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.graph.passes import optimise
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.models import resnet18, resnet50
from hauberk.recipe import Context, LabelledFeatures, Recipe
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, train
from subjects import NAMES, Subject, fitted, subject, trained, weights_file

_RESNETS = {"resnet18": resnet18, "resnet50": resnet50}
_SIDE, _SMALL = 224, 96
_CALIBRATION, _JUDGED = 64, 100
"""Images at full size to calibrate on, and the most to judge by in each split; each takes 600 kB and 15 ms a model."""
_STOPPING = 100
"""Images that say after which epoch the training of a ResNet was best."""
_PHASES = ((_SMALL, 6), (_SIDE, 1))
"""Pixels and epochs: the weights hardly depend on the size, the statistics of batch normalisation do."""

DETECTORS = (*(name for name in NAMES if name not in _RESNETS), *_RESNETS)
"""What can be asked for, the small ones first."""

USUAL = tuple(name for name in DETECTORS if name != "resnet50")
"""What is measured unless others are named: ResNet-50 takes as long as all of these."""


class Detector(NamedTuple):
    """A detector to compare methods on.

    Attributes:
        subject: Graph, module, records. Its validation records are those that steps stop by.
        choosing: Validation records that no step saw, by which models are chosen.
        data: What it was trained on, for the tables.
        batch: Records in a batch: 256, or 8 images of 224 pixels, of which 256 take seconds a call.
        trains: Whether recipes that train finish in minutes.
    """

    subject: Subject
    choosing: LabelledFeatures
    data: str
    batch: int
    trains: bool


def detector(name: str, cache: Path) -> Detector:
    """Train a detector, or load it where the cache has it."""
    if name in _RESNETS:
        found = _resnet(name, cache)
        # No recipe trains here, so that none stops by validation records: all of them are there to choose by.
        return Detector(found, _validation(found), "digits, 3×224×224", 8, trains=False)
    data = "digits, 1×32×32" if name == "residual-cnn" else "NSL-KDD"
    found = subject(name, cache=cache)
    stopping, choosing = _halves(_validation(found))
    found = found._replace(context=replace(found.context, validation=stopping))
    return Detector(found, choosing, data, 256, trains=True)


def _validation(found: Subject) -> LabelledFeatures:
    assert found.context.validation is not None
    return found.context.validation


def _halves(records: LabelledFeatures) -> tuple[LabelledFeatures, LabelledFeatures]:
    """The first and the second half; of windows, which share records with their neighbours, without those on both."""
    middle = len(records) // 2
    shared = records.features.shape[1] - 1 if records.features.ndim == 3 else 0
    rest = middle + shared
    return _first(records, middle), LabelledFeatures(records.features[rest:], records.targets[rest:])


def _resnet(name: str, cache: Path) -> Subject:
    _, digits, _ = trained("residual-cnn", cache=cache)
    module = _trained(name, digits.training, digits.validation, digits.digest, cache)
    parts = (
        _first(digits.training, _CALIBRATION),
        *(_first(part, _JUDGED) for part in (digits.validation, digits.test)),
    )
    full = [_resized(part, _SIDE) for part in parts]
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", 3, _SIDE, _SIDE)),),
        (TensorSpec("logits", "float32", ("batch", 10)),),
    )
    shape = (3, _SIDE, _SIDE)
    context = Context(
        calibration=full[0].features[:_CALIBRATION],
        bounds=(np.full(shape, -1, np.float32), np.full(shape, 1, np.float32)),
        training=full[0],
        validation=full[1],
        task="classification",
        # Nothing is verified step by step: a few thousand images through a ResNet take minutes. What comes out is
        # judged like everything else here, by what it decides on validation records.
        trained=False,
    )
    artifact = TorchArtifact(module, signature, digits.digest)
    core = Recipe("export", (Export(), *optimise().steps)).apply(artifact, context, verify)
    assert isinstance(core, OnnxArtifact)
    return Subject(core, artifact, context, full[2], "classification")


def _trained(
    name: str, training: LabelledFeatures, validation: LabelledFeatures, digest: str, cache: Path
) -> nn.Module:
    """Most epochs on small images, the last one at full size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _RESNETS[name](outputs=10)
    options = [
        TrainingOptions(epochs=epochs, batch_size=32, learning_rate=5e-4, patience=6, task="classification")
        for _, epochs in _PHASES
    ]

    def fit() -> None:
        for (side, _), option in zip(_PHASES, options, strict=True):
            train(module, _resized(training, side), _resized(_first(validation, _STOPPING), side), option)

    decided_by = (msgspec.to_builtins(options), _PHASES, _STOPPING, digest)
    fitted(module, fit, weights_file(cache, f"{name}-digits", 0, *decided_by))
    return module


def _resized(images: LabelledFeatures, side: int) -> LabelledFeatures:
    """Grey images [N, 1, H, W] as three equal channels of another size."""
    scaled = nn.functional.interpolate(torch.from_numpy(images.features), size=(side, side), mode="bilinear")
    features: NDArray[np.float32] = scaled.repeat(1, 3, 1, 1).numpy()
    return LabelledFeatures(features, images.targets)


def _first(images: LabelledFeatures, count: int) -> LabelledFeatures:
    return LabelledFeatures(images.features[:count], images.targets[:count])
