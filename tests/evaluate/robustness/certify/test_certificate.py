"""Bounds against closed forms, enumeration and everything that attacks and chance can find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.attacks import Classes, FeatureThreat
from hauberk.attacks.judge import headroom
from hauberk.evaluate.robustness.certify.certificate import METHODS, certify
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

from .conftest import box, build, mlp, node, session

every_method = pytest.mark.parametrize("method", METHODS)


def rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, width), dtype=np.float32)


def inside(threat: FeatureThreat, records: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Points of the threat model, corners among them, float32 [count, N, D]."""
    generator = np.random.default_rng(seed)
    low, high = threat.limits(records)
    share = generator.random((count, *records.shape), dtype=np.float32)
    share = np.where(generator.random((count, 1, 1)) < 0.5, np.round(share), share)
    points = np.clip(low + share * (high - low), low, high)
    return np.stack([threat.project(each, records) for each in points])


def observed(logits: np.ndarray, judge: Decision | Classes, targets: np.ndarray) -> np.ndarray:
    return headroom(judge, torch.from_numpy(logits.astype(np.float64)), torch.from_numpy(targets)).numpy()


@every_method
@pytest.mark.parametrize("outputs", [1, 2])
def test_on_a_linear_model_the_bound_is_the_closed_form(method, outputs):
    """Each column goes to the end of its range that its weight points away from; no bound can be closer."""
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(outputs, 6)).astype(np.float32)
    core = build([node("MatMul", ["features", "w"], "logits")], {"w": weight.T.copy()}, [6], outputs)
    decision = Decision(outputs, threshold=0.25)
    records = LabelledFeatures(rows(40, 6), generator.integers(0, 2, 40))
    threat = box(0.1, 6, mutable=np.array([1, 1, 0, 1, 1, 0], np.bool_))
    slope = weight[0] if outputs == 1 else weight[1] - weight[0]
    side = np.where(records.targets == 1, 1.0, -1.0)
    low, high = threat.limits(records.features)
    worst = np.where(side[:, None] * slope > 0, low, high).astype(np.float64)
    exact = side * (worst @ slope.astype(np.float64) - 0.25)
    found = certify(core, decision, records, threat, method).headroom
    assert (found <= exact).all()
    assert found == pytest.approx(exact, abs=1e-4)


@every_method
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), radius=st.floats(0, 0.5), activation=st.sampled_from(["Relu", "Tanh", "LeakyRelu"])
)
def test_no_point_of_the_threat_model_beats_the_bound(method, seed, radius, activation):
    core = mlp(5, 7, 6, 2, seed=seed, activation=activation)
    records = LabelledFeatures(rows(6, 5, seed), np.random.default_rng(seed).integers(0, 2, 6))
    threat = box(radius, 5)
    bound = certify(core, Decision(), records, threat, method).headroom
    answer = session(core)
    for points in inside(threat, records.features, 30, seed):
        assert (observed(answer(points), Decision(), records.targets) >= bound).all()
