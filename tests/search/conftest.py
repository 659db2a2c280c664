"""A small detector on the bundled records, as a folder with a card and as an ONNX file alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import TorchArtifact
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
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", 57)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    )
    alone.write_bytes(export(TorchArtifact(made.module, signature, "0" * 64)).model)
    return Trained(folder, alone, made.card)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., ModelSource]:
    """The shape of a record and the number of logits to an ONNX file alone: a small random MLP over all of a record."""

    def save(*shape: int, outputs: int = 2) -> ModelSource:
        generator = np.random.default_rng(0)
        first = generator.normal(size=(math.prod(shape), 32)).astype(np.float32)
        last = generator.normal(size=(32, outputs)).astype(np.float32)
        nodes = [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "first"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "last"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])],
            [numpy_helper.from_array(first, "first"), numpy_helper.from_array(last, "last")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return ModelSource(tmp_path / "model.onnx", None, None, None, "log-minmax")

    return save


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows [6, 4] of two classes as an NPZ of features: the mean of the newest record tells them apart."""
    features = np.random.default_rng(0).normal(size=(400, 6, 4)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "windows.npz"
    np.savez(path, features=features, labels=(features[:, -1].mean(axis=1) > 0).astype(np.int64))
    return path
