"""A small detector on the bundled records, as a folder with a card and as an ONNX file alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.data import load_splits
from hauberk.graph.export import export
from hauberk.models import ModelCard
from hauberk.search.prepare import ModelSource
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, save_detector, train_detector


class Trained(NamedTuple):
    """A detector where a user has it."""

    folder: Path
    onnx: Path
    card: ModelCard

    @property
    def as_source(self) -> ModelSource:
        """Its torch source: weights and card."""
        return ModelSource(self.folder, self.card, self.folder / "detector.json", None, "none")

    @property
    def as_onnx(self) -> ModelSource:
        """Its graph, and nothing else: no card, no source code."""
        return ModelSource(self.onnx, None, None, None, "log-minmax")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("detector")
    made = train_detector(load_splits("spambase"), widths=(64, 32), options=TrainingOptions(epochs=10))
    save_detector(made, folder)
    alone = tmp_path_factory.mktemp("alone") / "model.onnx"
    alone.write_bytes(_graph(made.module, (57,)).model)
    return Trained(folder, alone, made.card)


@pytest.fixture(scope="session")
def graph() -> Callable[..., OnnxArtifact]:
    """A module, the shape of its records, and its number of logits, to a core."""
    return _graph


def _graph(module: torch.nn.Module, shape: tuple[int, ...], outputs: int = 2) -> OnnxArtifact:
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", *shape)),),
        (TensorSpec("logits", "float32", ("batch", outputs)),),
    )
    return export(TorchArtifact(module.eval(), signature, "0" * 64))


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows [6, 4] of two classes as an NPZ of features: the mean of the newest record tells them apart."""
    features = np.random.default_rng(0).normal(size=(400, 6, 4)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "windows.npz"
    np.savez(path, features=features, labels=(features[:, -1].mean(axis=1) > 0).astype(np.int64))
    return path
