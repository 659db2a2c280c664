"""What every reference architecture must do: say which records it reads, export, and refuse impossible sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.errors import InputError
from hauberk.graph.model import BATCH, run, session
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.models import build
from hauberk.recipe import Context


@pytest.fixture
def artifact(architecture, artifact_of):
    return artifact_of(architecture)


def test_the_verifier_finds_that_the_export_keeps_its_contract(small_architecture, artifact_of, core_of):
    artifact = artifact_of(small_architecture)
    shape = artifact.module.record_shape
    records = np.random.default_rng(0).standard_normal((24, *shape)).astype(np.float32)
    context = Context(calibration=records, bounds=(records.min(axis=0), records.max(axis=0)))
    verdict = verify(artifact, core_of(small_architecture), Export().contract, context)
    assert verdict.holds, verdict.reason


@pytest.mark.parametrize("count", [1, 3, 256])
def test_the_exported_graph_gives_what_torch_gives(architecture, artifact, core_of, count):
    core = core_of(architecture)
    shape = artifact.module.record_shape
    assert core.signature.inputs[0].shape == (BATCH, *shape)
    records = np.random.default_rng(count).standard_normal((count, *shape)).astype(np.float32)
    with torch.inference_mode():
        expected = artifact.module(torch.tensor(records)).numpy()
    found = run(session(core.model), {"features": records})[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_it_is_built_without_memory_and_filled_later(architecture, module_of):
    """How weights from a file are loaded: every tensor of the module is in its state dict."""
    trained = module_of(architecture)
    with torch.device("meta"):
        empty = module_of(architecture)
    empty.to_empty(device="cpu").load_state_dict(trained.state_dict())
    records = torch.randn(3, *trained.record_shape)
    with torch.inference_mode():
        assert torch.equal(empty.eval()(records), trained(records))


def test_every_parameter_learns(architecture, module_of):
    module = module_of(architecture).train()
    logits = module(torch.randn(8, *module.record_shape))
    (logits * torch.randn_like(logits)).sum().backward()
    silent = [name for name, parameter in module.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert [name for name in silent if not name.endswith("key.bias")] == []  # softmax takes no notice of it


def test_a_parameter_that_it_does_not_have_is_named(architecture):
    with pytest.raises(InputError, match=f"architecture '{architecture}' does not take .*depth"):
        build(architecture, {"depth": 3})
