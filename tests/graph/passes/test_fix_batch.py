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


SELECTED = (
    '<ir_version: 10, opset_import: ["" : 20]> g (float[n,4] x) => (int64[rows,2] y, float s)'
    " { i = NonZero(x) y = Transpose<perm = [1, 0]>(i) s = ReduceSum<keepdims = 0>(x) }"
)


def test_only_what_is_called_like_the_batch_is_fixed(graph_artifact, context_of):
    """How many rows are selected depends on the records; a single number has no batch at all."""
    free = graph_artifact(SELECTED)
    fixed = FixBatch(batch=3).apply(free, context_of(4))
    assert [spec.shape for spec in fixed.signature.inputs] == [(3, 4)]
    assert [spec.shape for spec in fixed.signature.outputs] == [("rows", 2), ()]
    assert verified(free, fixed, {"x": np.eye(9, 4, dtype=np.float32)}).holds


def test_a_batch_that_is_not_the_first_axis_is_fixed_too(graph_artifact, context_of):
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[n,4] x) => (float[4,n] y) { y = Transpose(x) }'
    assert FixBatch(batch=3).apply(graph_artifact(text), context_of(4)).signature.outputs[0].shape == (4, 3)


def test_a_size_that_answers_do_not_have_is_noticed(graph_artifact):
    free = graph_artifact(SELECTED)
    wrong = graph_artifact(SELECTED.replace("float[n,4]", "float[3,4]").replace("rows", "3"))
    verdict = verified(free, wrong, {"x": np.ones((9, 4), np.float32)})
    assert not verdict.holds
    assert verdict.reason.startswith("output 'y' int64 [3, 2] has shape [12, 2] on real-0")
