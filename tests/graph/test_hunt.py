"""Hunts reach what has a closed form: the corner of the box where a linear function is largest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.errors import InputError
from hauberk.graph import hunt
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Trial

WIDTH = 24
WEIGHTS = np.random.default_rng(0).choice([-1.0, 1.0], WIDTH).astype(np.float32)
BOUNDS = (np.full(WIDTH, -2, np.float32), np.full(WIDTH, 3, np.float32))
HIGHEST = float(np.where(WEIGHTS > 0, 3, 2).sum())


def linear(graph_artifact, tail: str):
    text = ", ".join(str(float(weight)) for weight in WEIGHTS)
    return graph_artifact(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,24] features) => (float[batch,1] logits)'
        f" <float[24,1] w = {{{text}}}, float h = {{{HIGHEST - 1}}}> {{ a = MatMul(features, w) {tail} }}"
    )


def starts(records: int = 40) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.1, 0.1, (records, WIDTH)).astype(np.float32)


def test_gradients_reach_the_corner(graph_artifact):
    before, after = linear(graph_artifact, "logits = Min(a, h)"), linear(graph_artifact, "logits = Identity(a)")
    found = hunt.by_gradient(before, after, starts(), BOUNDS, seed=0)
    assert float((found @ WEIGHTS).max()) == pytest.approx(HIGHEST)


def test_points_stay_within_bounds(graph_artifact):
    before, after = linear(graph_artifact, "logits = Exp(a)"), linear(graph_artifact, "logits = Neg(a)")
    found = hunt.by_gradient(before, after, starts(), BOUNDS, seed=0)
    assert found.shape[1:] == (WIDTH,)
    assert found.min() >= -2
    assert found.max() <= 3


def test_tensors_inside_are_driven_too(graph_artifact):
    """The output hides the inner tensor behind a step function without a gradient."""
    inside = linear(graph_artifact, "s = Sign(a) logits = Identity(s)")
    found = hunt.by_gradient(inside, inside, starts(), BOUNDS, seed=0)
    assert float((found @ WEIGHTS).max()) == pytest.approx(HIGHEST)


def test_torch_s_number_of_threads_is_what_it_was(graph_artifact):
    model = linear(graph_artifact, "logits = Identity(a)")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        hunt.by_gradient(model, model, starts(2), BOUNDS, seed=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_an_operator_that_the_twin_does_not_know_is_refused_by_name(graph_artifact):
    model = linear(graph_artifact, "b = NoSuchOperator(a) logits = Neg(b)")
    with pytest.raises(InputError, match="NoSuchOperator"):
        hunt.by_gradient(model, model, starts(2), BOUNDS, seed=0)


def test_a_hunt_that_has_worked_long_enough_begins_nothing_new(graph_artifact, monkeypatch):
    model = linear(graph_artifact, "logits = Identity(a)")
    start = Trial("random", 0, {"features": starts(3)})
    everything = len(hunt.by_gradient_of_calls(model, model, [start], Samples(), seed=0))
    monkeypatch.setattr(hunt, "LIMIT", 0.0)
    assert len(hunt.by_gradient(model, model, starts(3), BOUNDS, seed=0)) == 3
    assert len(hunt.by_gradient_of_calls(model, model, [start], Samples(), seed=0)) == 1 < everything

    def never(_):
        raise AssertionError("a change was tried")

    def answered(feeds):
        return [feeds["features"]] if np.array_equal(feeds["features"], starts(3)) else never(feeds)

    (found,) = hunt.by_climbing(answered, answered, [start], Samples(), seed=0)
    np.testing.assert_array_equal(found.feeds["features"], starts(3))
