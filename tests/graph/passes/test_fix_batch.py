"""FixBatch: one number of records, the same answers to so many, and nothing else is taken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hauberk.errors import InputError
from hauberk.graph.harness import GraphVerifier
from hauberk.graph.model import parse, run, session
from hauberk.graph.passes import FixBatch
from hauberk.graph.samples import Samples
from hauberk.recipe import Context, Exact


@pytest.fixture(scope="module")
def records():
    return {"features": np.random.default_rng(0).random((50, 119), dtype=np.float32)}


def verified(free, fixed, records):
    nothing = np.zeros(0, np.float32)
    verifier = GraphVerifier(Samples.of(records, free.signature), narrowed=True)
    return verifier(free, fixed, Exact(), Context(calibration=nothing, bounds=(nothing, nothing)))


@pytest.mark.parametrize("batch", [1, 16])
def test_it_answers_alike_and_says_its_size(core, context_of, records, batch):
    fixed = FixBatch(batch=batch).apply(core, context_of(119))
    assert [spec.shape for spec in (*fixed.signature.inputs, *fixed.signature.outputs)] == [(batch, 119), (batch, 2)]
    verdict = verified(core, fixed, records)
    assert verdict.holds
    assert verdict.compared >= 50 // batch * batch


def test_another_number_is_refused_by_the_runtime(core, context_of, records):
    fixed = FixBatch(batch=4).apply(core, context_of(119))
    with pytest.raises(InputError, match="cannot run the model"):
        run(session(fixed.model), {"features": records["features"][:3]})


def test_other_weights_are_noticed(core, context_of, records):
    fixed = FixBatch(batch=1).apply(core, context_of(119))
    proto = parse(fixed.model)
    proto.graph.initializer[-1].raw_data = bytes(len(proto.graph.initializer[-1].raw_data))
    verdict = verified(core, dataclasses.replace(fixed, model=proto.SerializeToString()), records)
    assert not verdict.holds
    assert "output 'logits' went from" in verdict.reason


def test_a_batch_that_is_fixed_already_is_refused(core, context_of):
    fixed = FixBatch(batch=4).apply(core, context_of(119))
    assert FixBatch(batch=4).apply(fixed, context_of(119)).model == fixed.model
    with pytest.raises(InputError, match="'features' has no free batch dimension"):
        FixBatch(batch=1).apply(fixed, context_of(119))
