"""The detectors that methods are compared on, trained for real, with the records that decide about them.

All but the ResNets are those of `subjects.py`. There ResNet-18 has random weights, which time and agreement are enough
for; here it tells the ten digits of scikit-learn apart, at 3×224×224, because a loss of quality must be able to show.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.files import write_atomically
from hauberk.graph.passes import optimise
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.models import resnet18, resnet50
from hauberk.recipe import Context, LabelledFeatures, Recipe
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, train
from subjects import NAMES, Subject, subject, trained

_RESNETS = {"resnet18": resnet18, "resnet50": resnet50}
_SIDE, _SMALL = 224, 96
_CALIBRATION, _JUDGED = 64, 100
"""Images at full size to calibrate on, and to judge by in each split; each takes 600 kB and 15 ms a model."""

DETECTORS = (*(name for name in NAMES if name not in _RESNETS), *_RESNETS)
"""What can be asked for, the small ones first."""

USUAL = tuple(name for name in DETECTORS if name != "resnet50")
"""What is measured unless others are named: ResNet-50, which is there as a teacher, takes as long as all of these."""


class Detector(NamedTuple):
    """A detector to compare methods on.

    Attributes:
        subject: Graph, module, records.
        data: What it was trained on, for the tables.
        batch: Records in a batch: 256, or 8 images of 224 pixels, of which 256 take seconds a call.
        trains: Whether recipes that train finish in minutes.
    """

    subject: Subject
    data: str
    batch: int
    trains: bool


def detector(name: str, cache: Path) -> Detector:
    """Train a detector, or load it where the cache has it."""
    if name in _RESNETS:
        return Detector(_resnet(name, cache), "digits, 3×224×224", 8, trains=False)
    data = "digits, 1×32×32" if name == "residual-cnn" else "NSL-KDD"
    return Detector(subject(name, cache=cache), data, 256, trains=True)


def _resnet(name: str, cache: Path) -> Subject:
    _, digits, _ = trained("residual-cnn", cache=cache)
    module = _trained(name, digits.training, digits.validation, cache)
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


def _trained(name: str, training: LabelledFeatures, validation: LabelledFeatures, cache: Path) -> nn.Module:
    """Most epochs on small images, the last one at full size: the weights do not depend on it, their statistics do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _RESNETS[name](outputs=10)
    file = cache / f"{name}-digits.safetensors"
    if file.is_file():
        module.load_state_dict(safetensors.torch.load_file(file))
        return module.eval()
    for side, epochs in ((_SMALL, 6), (_SIDE, 1)):
        options = TrainingOptions(epochs=epochs, batch_size=32, learning_rate=5e-4, patience=6, task="classification")
        train(module, _resized(training, side), _resized(_first(validation, 100), side), options)
    cache.mkdir(parents=True, exist_ok=True)
    write_atomically(file, safetensors.torch.save(module.state_dict()))
    return module.eval()


def _resized(images: LabelledFeatures, side: int) -> LabelledFeatures:
    """Grey images [N, 1, H, W] as three equal channels of another size."""
    scaled = nn.functional.interpolate(torch.from_numpy(images.features), size=(side, side), mode="bilinear")
    features: NDArray[np.float32] = scaled.repeat(1, 3, 1, 1).numpy()
    return LabelledFeatures(features, images.targets)


def _first(images: LabelledFeatures, count: int) -> LabelledFeatures:
    return LabelledFeatures(images.features[:count], images.targets[:count])
