"""ChooseFastest: what the clock says counts, and what it does not say clearly changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hauberk.errors import InputError
from hauberk.graph.passes import ChooseFastest
from hauberk.graph.passes.choose_fastest import VARIANTS, relative_durations
from hauberk.graph.verify import verify
from hauberk.recipe import Context

CORE = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,{features}] features) => (float[batch,2] logits)'
VARIED = {
    "products instead of Gemm": CORE.format(features=4)
    + " <float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] b = {1, -1}> { logits = Gemm(features, w, b) }",
    "channels last where a convolution is a product": CORE.format(features="2,5,5")
    + " <float[2,2,1,1] k = {1, -0.5, 0.25, 2}, int64[2] a = {2, 3}>"
    " { y = Conv(features, k) r = Relu(y) logits = ReduceMean<keepdims = 0>(r, a) }",
}


def test_all_are_called_in_turns_and_the_first_is_the_measure():
    called = []
    ratios = relative_durations([lambda name=name: called.append(name) for name in "abc"], 1e-6)
    assert ratios[0] == 1
    assert ratios.shape == (3,)
    assert called[:3] == ["a", "b", "c"]
    turns = [name for place, name in enumerate(called[3:]) if place == 0 or name != called[3:][place - 1]]
    assert turns == ["a", "b", "c"] * (len(turns) // 3)
    assert len(turns) >= 15


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_another_graph_that_keeps_the_contract(name, graph_artifact):
    before = graph_artifact(VARIED[name])
    shape = before.signature.inputs[0].shape[1:]
    records = np.random.default_rng(0).random((64, *shape), dtype=np.float32)
    context = Context(calibration=records, bounds=(np.zeros(shape, np.float32), np.ones(shape, np.float32)))
    after = before
    for step in VARIANTS[name]:
        after = step.apply(after, context)
    assert after.model != before.model
    verdict = verify(before, after, ChooseFastest().contract, context)
    assert verdict.holds, verdict.reason


def test_without_a_gain_nothing_changes(core, context_of):
    assert ChooseFastest(seconds=0.05, margin=0.99).apply(core, context_of(119)) is core


def test_a_clearly_faster_variant_is_taken(core, context_of, graph_artifact, ready, monkeypatch):
    body = " <int64[2] c = {0, 1}> { logits = Gather<axis = 1>(features, c) }"
    small = graph_artifact(CORE.format(features=119) + body)
    monkeypatch.setattr("hauberk.graph.passes.choose_fastest.VARIANTS", {"short": (ready(model=small.model),)})
    assert ChooseFastest(batch=256, seconds=0.2, margin=0.0).apply(core, context_of(119)).model == small.model


def test_records_that_do_not_fit_are_refused(core, context_of):
    with pytest.raises(InputError, match="calibration records that fit"):
        ChooseFastest().apply(core, context_of(5))
