"""A small copy of every reference architecture, batch normalisation with statistics as if it had been trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.graph.export import export
from hauberk.models import ARCHITECTURES, build
from hauberk.tensors import Signature, TensorSpec

SMALL = {
    "tabular-mlp": {"inputs": 9, "widths": [8]},
    "autoencoder": {"inputs": 9, "widths": [6, 3]},
    "window-cnn": {"inputs": 9, "window": 5, "channels": [8, 6]},
    "window-lstm": {"inputs": 9, "window": 5, "hidden": 8},
    "window-gru": {"inputs": 9, "window": 5, "hidden": 8, "layers": 2, "bidirectional": True, "outputs": 3},
    "window-transformer": {"inputs": 9, "window": 5, "width": 8, "heads": 2, "layers": 1},
    "residual-cnn": {"channels": 2, "size": 8, "widths": [4, 8], "outputs": 5},
    "resnet18": {"outputs": 7, "size": 32},
    "resnet50": {"outputs": 7, "size": 32},
}


def _module(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(name, SMALL[name])
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.3, 0.3)
                layer.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.uniform_(layer.bias, -0.3, 0.3)
    return module.eval()


def _artifact(name: str) -> TorchArtifact:
    module = _module(name)
    shape = module.record_shape
    with torch.inference_mode():
        outputs = module(torch.zeros(2, *shape)).shape[1]
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", *shape)),), (TensorSpec("logits", "float32", ("batch", outputs)),)
    )
    return TorchArtifact(module, signature, origin="0" * 64)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def module_of() -> Callable[..., nn.Module]:
    return _module


@pytest.fixture(scope="session")
def artifact_of() -> Callable[[str], TorchArtifact]:
    return _artifact


@pytest.fixture(scope="session")
def core_of() -> Callable[[str], OnnxArtifact]:
    """The exported graph of an architecture; exporting takes seconds, so once each."""
    cores: dict[str, OnnxArtifact] = {}

    def of(name: str) -> OnnxArtifact:
        if name not in cores:
            cores[name] = export(_artifact(name))
        return cores[name]

    return of


@pytest.fixture(scope="session", params=sorted(name for name in ARCHITECTURES if "resnet" not in name))
def small_architecture(request: pytest.FixtureRequest) -> str:
    """For what takes a minute with millions of weights; the residual CNN has the ResNets' blocks."""
    return request.param


@pytest.fixture(scope="session", params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param
