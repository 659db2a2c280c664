"""What a search starts from: the core, however the model came."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.graph.model import run, session
from hauberk.recipe import Context
from hauberk.search.prepare import clean_core
from hauberk.tensors import Signature, TensorSpec

WIDTH = 5


def artifact(module: torch.nn.Module, outputs: int) -> TorchArtifact:
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", WIDTH)),), (TensorSpec("logits", "float32", ("batch", outputs)),)
    )
    return TorchArtifact(module.eval(), signature, "0" * 64)


@pytest.fixture
def context() -> Context:
    records = np.random.default_rng(0).random((20, WIDTH), dtype=np.float32)
    return Context(calibration=records, bounds=(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32)))


@pytest.mark.parametrize(("link", "outputs"), [(torch.nn.Softmax(dim=1), 2), (torch.nn.Sigmoid(), 1)])
def test_a_module_that_ends_in_probabilities_gives_logits(context, link, outputs):
    """Margins of probabilities saturate: records tie, and gradients vanish where the model is sure of itself."""
    linear = torch.nn.Linear(WIDTH, outputs)
    core = clean_core(artifact(torch.nn.Sequential(linear, link), outputs), context)
    assert isinstance(core, OnnxArtifact)
    assert "normalise" in [record.step for record in core.history]
    logits = run(session(core.model), {"features": context.calibration})[0]
    with torch.no_grad():
        np.testing.assert_allclose(logits, linear(torch.from_numpy(context.calibration)).numpy(), rtol=1e-5, atol=1e-6)


def test_a_module_that_ends_in_logits_is_exported_and_cleaned_up_only(context):
    core = clean_core(
        artifact(torch.nn.Sequential(torch.nn.Linear(WIDTH, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)), 2), context
    )
    assert [record.step for record in core.history] == ["export", "clean-up", "strip-metadata"]
    assert [node.op_type for node in onnx.load_model_from_string(core.model).graph.node] == ["Gemm", "Relu", "Gemm"]
