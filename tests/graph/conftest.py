"""What the graph room's tests share: detectors, their exported cores, records to verify on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import parser

from hauberk.artifact import Artifact, OnnxArtifact, TorchArtifact
from hauberk.graph.export import export
from hauberk.graph.model import parse, signature_of
from hauberk.models.tabular import TabularMLP
from hauberk.recipe import Close, Context, Contract, Exact, Lossy, Step
from hauberk.tensors import Signature, TensorSpec


class Ready(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ready"):
    """A pass that has its result ready: stands for any, right or wrong."""

    model: bytes
    promise: Exact | Close | Lossy = Close()

    @property
    def contract(self) -> Contract:
        return self.promise

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        return dataclasses.replace(artifact, model=self.model)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _torch_artifact(module: torch.nn.Module, width: int, outputs: int = 2) -> TorchArtifact:
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", width)),),
        outputs=(TensorSpec("logits", "float32", ("batch", outputs)),),
    )
    return TorchArtifact(module=module.eval(), signature=signature, origin="0" * 64)


def _context(width: int, records: int = 300) -> Context:
    random = np.random.default_rng(1)
    bounds = np.zeros(width, np.float32), np.ones(width, np.float32)
    return Context(calibration=random.random((records, width), dtype=np.float32), bounds=bounds)


def _graph_artifact(text: str) -> OnnxArtifact:
    """A graph in onnx's text form, as somebody's file."""
    proto = parser.parse_model(text)
    model = proto.SerializeToString()
    return OnnxArtifact(model, signature_of(parse(model)), hashlib.sha256(model).hexdigest())


@pytest.fixture(scope="session")
def ready() -> type[Ready]:
    return Ready


@pytest.fixture(scope="session")
def torch_artifact() -> Callable[..., TorchArtifact]:
    return _torch_artifact


@pytest.fixture(scope="session")
def context_of() -> Callable[..., Context]:
    return _context


@pytest.fixture(scope="session")
def graph_artifact() -> Callable[[str], OnnxArtifact]:
    return _graph_artifact


@pytest.fixture(scope="session")
def detector() -> TorchArtifact:
    """TabularMLP 119-256-128-64-2 with weights of a seed."""
    torch.manual_seed(0)
    return _torch_artifact(TabularMLP(119), 119)


@pytest.fixture(scope="session")
def core(detector: TorchArtifact) -> OnnxArtifact:
    return export(detector)


@pytest.fixture(scope="session")
def spambase_core() -> OnnxArtifact:
    """TabularMLP 57-256-128-64-2, exported."""
    torch.manual_seed(1)
    return export(_torch_artifact(TabularMLP(57), 57))


@pytest.fixture(scope="session")
def operators() -> Callable[[OnnxArtifact], list[str]]:
    """The operators of a graph, in order."""

    def of(artifact: OnnxArtifact) -> list[str]:
        proto: onnx.ModelProto = parse(artifact.model)
        return [node.op_type for node in proto.graph.node]

    return of
