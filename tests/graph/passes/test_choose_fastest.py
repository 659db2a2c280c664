"""ChooseFastest: what the clock says counts, and what it does not say clearly changes nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest

from hauberk.errors import InputError
from hauberk.graph.passes import ChooseFastest
from hauberk.graph.passes.choose_fastest import relative_durations
from hauberk.graph.passes.rewriting import GraphPass
from hauberk.graph.verify import verify
from hauberk.recipe import Recipe


def test_durations_are_relative_to_the_first():
    calls = [lambda: time.sleep(0.004), lambda: time.sleep(0.001), lambda: time.sleep(0.012)]
    assert relative_durations(calls, 0.1)[0] == 1
    assert list(np.argsort(relative_durations(calls, 0.1))) == [1, 0, 2]


def test_its_choice_keeps_the_contract(core, context_of):
    result = Recipe("r", (ChooseFastest(seconds=0.05),)).apply(core, context_of(119), verify)
    assert result.history[0].kept, result.history[0].verdict.reason


def test_without_a_gain_nothing_changes(core, context_of):
    assert ChooseFastest(seconds=0.05, margin=0.99).apply(core, context_of(119)) is core


class Short(GraphPass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="short"):
    """Another graph in the place of the given one."""

    def apply(self, artifact, context):
        return SHORT[0]

    @property
    def contract(self):
        raise NotImplementedError

    def change(self, editor):
        raise NotImplementedError


SHORT = []


def test_a_clearly_faster_variant_is_taken(core, context_of, graph_artifact, monkeypatch):
    head = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,119] features) => (float[batch,2] logits)'
    small = graph_artifact(f"{head} <int64[2] c = {{0, 1}}> {{ logits = Gather<axis = 1>(features, c) }}")
    SHORT[:] = [small]
    monkeypatch.setattr("hauberk.graph.passes.choose_fastest.VARIANTS", {"short": (Short(),)})
    assert ChooseFastest(batch=256, seconds=0.2, margin=0.0).apply(core, context_of(119)) is small


def test_records_that_do_not_fit_are_refused(core, context_of):
    with pytest.raises(InputError, match="calibration records that fit"):
        ChooseFastest().apply(core, context_of(5))
