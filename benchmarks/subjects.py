"""The reference detectors as benchmarks need them: trained once a seed, kept in a cache, exported and cleaned up.

    from subjects import subject
    core, module, context, test, task = subject("window-gru", seed=0, cache=Path("…"))

`python benchmarks/subjects.py CACHE [NAME …]` trains what the cache lacks, so that later runs only load.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import nn

from hauberk.artifact import Artifact, OnnxArtifact, TorchArtifact
from hauberk.data import BLOCK_WINDOWS, Splits, load_digits, load_splits
from hauberk.errors import ContractError
from hauberk.files import write_atomically
from hauberk.graph.passes import optimise
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.models import Autoencoder, fresh
from hauberk.recipe import Context, LabelledFeatures, Recipe, Task
from hauberk.schema import FeatureSpace, ImageSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, fit_preprocessing, labelled, labelled_images, train, train_autoencoder

WINDOW = 16
_STRIDE = 2  # every other window to train and to test on: neighbours share all but one record
_CALIBRATION = 2000
_IMAGENET = ImageSpace(3, 224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_DIGITS = ImageSpace(1, 32, 32, (0.5,), (0.5,))


class Subject(NamedTuple):
    """A reference detector with everything that a benchmark asks of it.

    Attributes:
        core: The exported graph after the default passes, every step verified.
        module: The same model in torch.
        context: Calibration, training and validation records, bounds, task.
        test: The test split.
        task: "detection" or "classification".
    """

    core: OnnxArtifact
    module: TorchArtifact
    context: Context
    test: LabelledFeatures
    task: Task


@dataclass(frozen=True)
class Data:
    """Splits in feature space, the range of features, and the digest of the source."""

    training: LabelledFeatures
    validation: LabelledFeatures
    test: LabelledFeatures
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]]
    digest: str


@dataclass(frozen=True)
class _Kind:
    """How a reference detector comes about.

    Attributes:
        data: Loads its records, by seed.
        parameters: Those that the data does not decide.
        options: How it is trained.
        task: What its logits are for.
        architecture: Name in `hauberk.models`; empty for that of the detector.
    """

    data: Callable[[int], Data]
    parameters: dict[str, Any]
    options: TrainingOptions
    task: Task = "detection"
    architecture: str = ""


def subject(name: str, seed: int = 0, *, cache: Path) -> Subject:
    """Train a reference detector, or load it where the cache has it.

    Args:
        name: One of `NAMES`. "resnet18" has random weights and random images, and its test targets are its own
            answers: it is for latency and agreement only.
        seed: Of the split and the training.
        cache: Folder for trained weights; files are named by a digest of all that decides them.
    """
    kind = _KINDS[name]
    module, data, _ = trained(name, seed, cache=cache)
    if name in _UNTRAINED:
        data = replace(data, test=LabelledFeatures(data.test.features, _answers(module, data.test.features)))
    with torch.inference_mode():
        outputs = module(torch.tensor(data.training.features[:2])).shape[1]
    shape = data.training.features.shape[1:]
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", *shape)),), (TensorSpec("logits", "float32", ("batch", outputs)),)
    )
    context = Context(
        calibration=data.training.sample(_CALIBRATION, seed).features,
        bounds=data.bounds,
        training=data.training,
        validation=data.validation,
        task=kind.task,
        seed=seed,
    )
    torch_artifact = TorchArtifact(module, signature, data.digest)
    # What is for latency only is not verified: a few thousand images through ResNet-18 take minutes.
    exporting = replace(context, trained=name not in _UNTRAINED)
    core = Recipe("export", (Export(), *optimise().steps)).apply(torch_artifact, exporting, verify)
    return Subject(_graph(core, name), torch_artifact, context, data.test, kind.task)


def trained(name: str, seed: int = 0, *, cache: Path) -> tuple[nn.Module, Data, float]:
    """The module of a subject, its data, and the seconds that training took when it was trained."""
    kind = _KINDS[name]
    data = kind.data(seed)
    options = msgspec.structs.replace(kind.options, seed=seed)
    parameters = _parameters(name, kind, data)
    module = fresh(kind.architecture or name, parameters, seed)
    if name in _UNTRAINED:
        return module.eval(), data, 0.0

    def fit() -> None:
        if isinstance(module, Autoencoder):
            train_autoencoder(module, data.training, data.validation, options)
        else:
            train(module, data.training, data.validation, options)

    decided_by = (parameters, msgspec.to_builtins(options), data.digest, _STRIDE)
    return module, data, fitted(module, fit, weights_file(cache, name, seed, *decided_by))


def weights_file(cache: Path, name: str, seed: int, *decided_by: object) -> Path:
    """Where weights are kept that come of these values (plain ones, as JSON has them) under this version of torch."""
    text = json.dumps([name, *decided_by, torch.__version__], sort_keys=True)
    return cache / f"{name}-{seed}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


def fitted(module: nn.Module, fit: Callable[[], None], file: Path) -> float:
    """Give a module the weights of a file, or fit it and write them there; the seconds that fitting took."""
    if file.is_file():
        with safe_open(file, framework="pt") as kept:
            module.load_state_dict({name: kept.get_tensor(name) for name in kept.keys()})  # noqa: SIM118 - no mapping
            seconds = float(kept.metadata()["seconds"])
    else:
        started = time.perf_counter()
        fit()
        seconds = time.perf_counter() - started
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, safetensors.torch.save(module.state_dict(), metadata={"seconds": f"{seconds:.1f}"}))
    module.eval()
    return seconds


def _graph(core: Artifact, name: str) -> OnnxArtifact:
    if isinstance(core, OnnxArtifact):
        return core
    verdict = core.history[-1].verdict
    raise ContractError(f"{name}: export was undone: {verdict.reason if verdict else ''}")


def _parameters(name: str, kind: _Kind, data: Data) -> dict[str, Any]:
    shape = data.training.features.shape[1:]
    if name.startswith("window-"):
        return {"inputs": shape[1], "window": shape[0], **kind.parameters}
    if name.startswith("tabular-mlp") or name == "autoencoder":
        return {"inputs": shape[0], **kind.parameters}
    return kind.parameters


def _answers(module: nn.Module, features: NDArray[np.float32]) -> NDArray[np.int64]:
    with torch.inference_mode():
        return np.asarray(module(torch.tensor(features)).argmax(dim=1), dtype=np.int64)


@lru_cache(maxsize=1)
def _nsl_kdd(seed: int) -> tuple[Splits, FeatureSpace]:
    splits = load_splits("nsl-kdd", seed=seed, block=BLOCK_WINDOWS * WINDOW)
    schema = splits.training.schema
    return splits, FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))


def _records(seed: int) -> Data:
    splits, space = _nsl_kdd(seed)
    training, validation, test = (labelled(space, part) for part in (splits.training, splits.validation, splits.test))
    return Data(training, validation, test, bounds=space.bounds, digest=splits.digest)


def _windows(seed: int) -> Data:
    splits, space = _nsl_kdd(seed)
    low, high = space.bounds
    return Data(
        training=labelled(space, splits.training, window=WINDOW, stride=_STRIDE),
        validation=labelled(space, splits.validation, window=WINDOW),
        test=labelled(space, splits.test, window=WINDOW, stride=_STRIDE),
        bounds=(np.tile(low, (WINDOW, 1)), np.tile(high, (WINDOW, 1))),
        digest=splits.digest,
    )


def _digits(seed: int) -> Data:
    splits = load_digits(seed)
    parts = (splits.training, splits.validation, splits.test)
    training, validation, test = (labelled_images(_DIGITS, part) for part in parts)
    return Data(training, validation, test, bounds=_DIGITS.bounds, digest=splits.digest)


def _noise(seed: int) -> Data:
    """Random images where only time is measured; 24 to calibrate on, 8 each for validation and test."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, size=(40, 256, 256, 3), dtype=np.uint8)
    features = _IMAGENET.transform(images)
    training, validation, test = (
        LabelledFeatures(part, np.zeros(len(part), np.int64)) for part in np.split(features, [24, 32])
    )
    return Data(training, validation, test, bounds=_IMAGENET.bounds, digest="0" * 64)


_BRIEF = TrainingOptions(epochs=15, batch_size=256, patience=4)
_KINDS = {
    "tabular-mlp": _Kind(_records, {}, TrainingOptions(epochs=40, patience=6)),
    # Its layers are large enough for 4-bit weights with a kernel of their own, which spare reading them from memory.
    "tabular-mlp-wide": _Kind(_records, {"widths": [1024, 512]}, _BRIEF, architecture="tabular-mlp"),
    "window-cnn": _Kind(_windows, {}, _BRIEF),
    "window-lstm": _Kind(_windows, {}, _BRIEF),
    "window-gru": _Kind(_windows, {}, _BRIEF),
    "window-transformer": _Kind(_windows, {}, _BRIEF),
    "autoencoder": _Kind(_records, {}, TrainingOptions(epochs=60, batch_size=256, patience=6)),
    "residual-cnn": _Kind(
        _digits,
        {},
        TrainingOptions(epochs=12, batch_size=64, learning_rate=3e-3, patience=5, task="classification"),
        "classification",
    ),
    "resnet18": _Kind(_noise, {}, TrainingOptions(task="classification"), "classification"),
}
_UNTRAINED = frozenset({"resnet18"})
NAMES = tuple(_KINDS)
"""What can be asked for."""


def main() -> None:
    """Fill a cache."""
    torch.set_num_threads(1)
    folder, *names = sys.argv[1:]
    for name in names or NAMES:
        started = time.perf_counter()
        found = subject(name, cache=Path(folder))
        kept = [record.step for record in found.core.history if record.kept]
        print(f"{name:20} {len(found.core.model) / 1e3:9.1f} kB {time.perf_counter() - started:6.1f} s  {kept}")


if __name__ == "__main__":
    main()
