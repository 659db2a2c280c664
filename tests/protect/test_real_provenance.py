"""The provenance that recipes really leave behind is an unbroken chain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.compress import QuantizeStatic
from hauberk.errors import ContractError
from hauberk.graph.passes import optimise
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.models import TabularMLP
from hauberk.protect import require_chain, require_contracts
from hauberk.recipe import Context, Recipe
from hauberk.tensors import Signature, TensorSpec


@pytest.fixture(scope="module")
def module() -> TorchArtifact:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", 12)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
    )
    return TorchArtifact(TabularMLP(12, (16, 8)).eval(), signature, origin="0" * 64)


@pytest.mark.parametrize("trained", [True, False])
def test_recipes_leave_a_chain_and_only_verified_steps_may_be_attested(module, trained):
    records = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
    context = Context(calibration=records, bounds=(records.min(axis=0), records.max(axis=0)), trained=trained)
    recipe = Recipe("all", (Export(), *optimise().steps, QuantizeStatic()))
    result = recipe.apply(module, context, verify)
    assert isinstance(result, OnnxArtifact)
    require_chain(result.history, origin=module.digest, result=result.digest)
    if trained:
        require_contracts(result.history)
    else:
        with pytest.raises(ContractError, match="never verified"):
            require_contracts(result.history)
