"""Bounds against closed forms, enumeration and everything that attacks and chance can find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.attacks import Classes, FeatureThreat
from hauberk.attacks.judge import headroom
from hauberk.errors import InputError
from hauberk.evaluate.robustness.certify.certificate import METHODS, certify
from hauberk.graph.twin import Twin
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

from .conftest import answered, box, build, mlp, node, session

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


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_switches_crown_is_exact(seed):
    """With a radius so small that no ReLU switches, the network is affine, and its gradient gives the minimum."""
    core, decision = mlp(6, 12, 12, 2, seed=seed), Decision()
    records, threat = answered(core, rows(30, 6, seed)), box(1e-4, 6)
    twin = Twin(core)
    points = torch.from_numpy(records.features).requires_grad_()
    before = headroom(decision, twin(points), torch.from_numpy(records.targets))
    (slope,) = torch.autograd.grad(before.sum(), points)
    low, high = threat.limits(records.features)
    worst = np.where(slope.numpy() > 0, low, high)
    exact = observed(session(core)(worst), decision, records.targets)
    found = certify(core, decision, records, threat).headroom
    assert (found <= exact).all()
    assert np.median(exact - found) < 1e-4


@every_method
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_a_grid_over_two_columns_finds_nothing_below_the_bound(method, activation):
    core = mlp(4, 8, 8, 2, seed=3, activation=activation, scale=2.0)
    records = answered(core, rows(10, 4, 3))
    threat = box(0.08, 4, mutable=np.array([1, 0, 0, 1], np.bool_))
    low, high = threat.limits(records.features)
    bound = certify(core, Decision(), records, threat, method).headroom
    least, answer = np.full(10, np.inf), session(core)
    for first, second in itertools.product(np.linspace(0, 1, 41, dtype=np.float32), repeat=2):
        share = np.array([first, 0, 0, second], np.float32)
        points = np.clip(low + share * (high - low), low, high)
        least = np.minimum(least, observed(answer(points), Decision(), records.targets))
    assert (least >= bound).all()
    if method == "crown":  # and on so small a set of points it is not far from the truth
        assert np.median(least - bound) < 0.1 * np.median(np.abs(least) + 1)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Tanh"])
def test_crown_is_nowhere_looser_than_intervals_and_much_closer_on_the_whole(activation):
    core = mlp(10, 24, 24, 2, seed=5, activation=activation)
    records = answered(core, rows(60, 10, 5))
    ibp, crown = (certify(core, Decision(), records, box(0.02, 10), method) for method in METHODS)
    assert (crown.headroom >= ibp.headroom).all()
    assert (crown.headroom - ibp.headroom).mean() > 0.1
    assert crown.certified.sum() >= ibp.certified.sum()


@every_method
@pytest.mark.parametrize(
    "judge",
    [
        Classes(4),
        Classes(4, wanted=2),
        Decision(1, threshold=0.1),
        Decision(4, benign=1, threshold=-0.2),
        Decision(2, 1),
    ],
)
def test_every_judge_is_bounded(method, judge):
    core = mlp(6, 10, judge.outputs, seed=8)
    generator = np.random.default_rng(8)
    targets = generator.integers(0, judge.outputs if isinstance(judge, Classes) else 2, 30)
    if isinstance(judge, Classes) and judge.wanted is not None:
        targets = np.where(targets == judge.wanted, 0, targets)
    records, threat = LabelledFeatures(rows(30, 6, 8), targets), box(0.05, 6)
    bound = certify(core, judge, records, threat, method).headroom
    assert np.isfinite(bound).all()
    answer = session(core)
    for points in inside(threat, records.features, 60, 8):
        assert (observed(answer(points), judge, targets) >= bound).all()


@every_method
def test_at_radius_0_the_bound_is_the_answer_less_its_rounding(method):
    core = mlp(8, 32, 32, 2, seed=9)
    records = answered(core, rows(50, 8, 9))
    here = observed(session(core)(records.features), Decision(), records.targets)
    found = certify(core, Decision(), records, box(0.0, 8), method)
    assert (found.headroom <= here).all()
    assert np.abs(found.headroom - here).max() < 1e-3
    assert found.certified.mean() > 0.9


@every_method
def test_rounding_in_float32_is_part_of_the_bound(method):
    """Two sums of a million that cancel: in real numbers 0.05 is left, in float32 it may be anything near it."""
    generator = np.random.default_rng(10)
    weight = np.concatenate([np.full(400, 1e6), np.full(400, -1e6)]).astype(np.float32)
    order = generator.permutation(800)
    w = np.stack([np.zeros(800, np.float32), weight[order]], axis=1)
    core = build(
        [node("Gemm", ["features", "w", "b"], "logits")], {"w": w, "b": np.array([0, 0.05], np.float32)}, [800]
    )
    features = np.tile(rows(20, 1, 10), (1, 800))
    exact = features.astype(np.float64) @ w[:, 1].astype(np.float64) + 0.05
    assert exact == pytest.approx(0.05)
    answers = Decision().margin(session(core)(features)).astype(np.float64)
    assert np.abs(answers - exact).max() > 0.05  # so that real numbers alone would prove what is wrong
    for target in (0, 1):
        records = LabelledFeatures(features, np.full(20, target, np.int64))
        bound = certify(core, Decision(), records, box(0.0, 800), method)
        assert (observed(session(core)(features), Decision(), records.targets) >= bound.headroom).all()
        assert not bound.certified.any()


@every_method
def test_under_l2_a_linear_model_has_the_closed_form(method):
    """Far from the edges of the box: the radius times the length of the weights."""
    generator = np.random.default_rng(2)
    weight = generator.normal(size=(6, 2)).astype(np.float32)
    core = build([node("MatMul", ["features", "w"], "logits")], {"w": weight}, [6])
    records = LabelledFeatures(0.4 + 0.2 * rows(20, 6, 2), generator.integers(0, 2, 20))
    mutable = np.array([1, 1, 1, 0, 1, 1], np.bool_)
    slope = (weight[:, 1] - weight[:, 0]).astype(np.float64)
    here = observed(records.features.astype(np.float64) @ weight, Decision(), records.targets)
    exact = here - 0.1 * np.linalg.norm(slope[mutable])
    found = certify(core, Decision(), records, box(0.1, 6, mutable=mutable, norm="l2"), method).headroom
    assert found == pytest.approx(exact, abs=1e-4)
    assert (found <= exact + 1e-7).all()  # the float32 limits of the box are no part of the closed form


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0.001, 0.8))
def test_no_point_of_an_l2_ball_beats_the_bound(seed, radius):
    core = mlp(5, 9, 2, seed=seed)
    records = answered(core, rows(8, 5, seed))
    threat = box(radius, 5, norm="l2")
    bound = certify(core, Decision(), records, threat).headroom
    answer = session(core)
    for points in inside(threat, records.features, 20, seed):
        assert (observed(answer(points), Decision(), records.targets) >= bound).all()


def test_a_ball_is_bounded_closer_than_the_cube_around_it():
    core = mlp(20, 30, 30, 2, seed=14)
    records = answered(core, rows(40, 20, 14))
    ball, cube = (certify(core, Decision(), records, box(0.1, 20, norm=norm)).headroom for norm in ("l2", "linf"))
    assert (ball > cube + 0.1).all()


class Grouped(FeatureThreat):
    """The last three columns are a category that may be exchanged."""

    @property
    def groups(self):
        return (range(3, 6),)

    def limits(self, records):
        low, high = super().limits(records)
        return np.concatenate([low[:, :3], 0 * low[:, 3:]], 1), np.concatenate([high[:, :3], 0 * high[:, 3:] + 1], 1)


@every_method
def test_a_category_that_moves_takes_every_value(method):
    core = mlp(6, 10, 2, seed=12)
    features = rows(20, 6, 12)
    features[:, 3:] = np.eye(3, dtype=np.float32)[np.arange(20) % 3]
    records = answered(core, features)
    ends = np.zeros(6, np.float32), np.ones(6, np.float32)
    threat = Grouped(0.0, *ends, np.ones(6, np.bool_))
    found = certify(core, Decision(), records, threat, method)
    least = np.full(20, np.inf)
    for category in np.eye(3, dtype=np.float32):
        moved = features.copy()
        moved[:, 3:] = category
        least = np.minimum(least, observed(session(core)(moved), Decision(), records.targets))
    assert (found.headroom <= least).all()
    free = np.where(np.arange(6) < 3, threat.mutable, np.ones(6, np.bool_))
    cube = FeatureThreat(1.0, *ends, free)
    assert (found.headroom >= certify(core, Decision(), records, cube, method).headroom).all()


@every_method
def test_on_a_linear_model_a_category_has_its_exact_bound(method):
    weight = np.random.default_rng(4).normal(size=(6, 2)).astype(np.float32)
    core = build([node("MatMul", ["features", "w"], "logits")], {"w": weight}, [6])
    features = rows(12, 6, 4)
    features[:, 3:] = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    records = answered(core, features)
    threat = Grouped(0.1, np.zeros(6, np.float32), np.ones(6, np.float32), np.ones(6, np.bool_))
    slope = np.where(records.targets == 1, 1.0, -1.0)[:, None] * (weight[:, 1] - weight[:, 0]).astype(np.float64)
    low, high = threat.limits(features)
    exact = (np.where(slope > 0, low, high) * slope)[:, :3].sum(1) + slope[:, 3:].min(1)
    assert certify(core, Decision(), records, threat, method).headroom == pytest.approx(exact, abs=1e-4)


def test_the_batch_size_changes_nothing():
    core = mlp(10, 24, 24, 2, seed=6)
    records, threat = answered(core, rows(50, 10, 6)), box(0.05, 10)
    small, large = (certify(core, Decision(), records, threat, batch_size=size).headroom for size in (7, 50))
    assert small == pytest.approx(large, abs=1e-9)


def test_images_are_given_as_they_are_or_as_rows():
    conv = node("Conv", ["features", "k"], "c")
    tail = [node("Relu", ["c"], "r"), node("Flatten", ["r"], "f"), node("MatMul", ["f", "w"], "logits")]
    generator = np.random.default_rng(13)
    constants = {
        "k": generator.normal(size=(2, 1, 3, 3)).astype(np.float32),
        "w": generator.normal(size=(8, 2)).astype(np.float32),
    }
    core = build([conv, *tail], constants, (1, 4, 4))
    flat = answered(core, rows(10, 16, 13))
    shaped = LabelledFeatures(flat.features.reshape(10, 1, 4, 4), flat.targets)
    first, second = (certify(core, Decision(), given, box(0.05, 16)).headroom for given in (flat, shaped))
    assert first.tolist() == second.tolist()


def test_no_records_give_no_figure():
    records = LabelledFeatures(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    found = certify(mlp(4, 3, 2), Decision(), records, box(0.1, 4))
    assert found.headroom.shape == (0,)
    assert (found.figures.certified_accuracy.low, found.figures.certified_accuracy.high) == (0.0, 1.0)


def test_the_figures_say_what_was_proved():
    core = mlp(6, 10, 2, seed=1)
    found = certify(core, Decision(), answered(core, rows(40, 6, 1)), box(0.01, 6), "ibp")
    share = found.figures.certified_accuracy
    assert share.value == found.certified.mean()
    assert share.low <= share.value <= share.high
    assert (found.figures.method, found.figures.norm, found.figures.radius) == ("ibp", "linf", 0.01)
    assert found.figures.seconds > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "guess"}, "method must be one of ibp, crown"),
        ({"batch_size": 0}, "batch size must be at least 1"),
        ({"judge": Decision(3)}, "the graph has 2 logits; the decision is of 3"),
        ({"threat": box(0.1, 5)}, "threat model of 5 columns"),
        ({"records": LabelledFeatures(rows(3, 4), np.array([0, 1, 2]))}, "right is 0 for benign and 1 for attack"),
        ({"records": LabelledFeatures(rows(3, 4), np.array([0, 1]))}, "2 targets for 3 records"),
        ({"records": LabelledFeatures(rows(1, 4) * np.float32(np.nan), np.array([0]))}, "NaN"),
        (
            {"threat": FeatureThreat(0.0, *np.float32([[-np.inf] * 4, [1] * 4]), np.ones(4, np.bool_), norm="none")},
            "column 0 has no bounds",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    core = mlp(4, 3, 2)
    given = {"judge": Decision(), "records": answered(core, rows(3, 4)), "threat": box(0.1, 4), "method": "crown"}
    given |= change
    judge, records, threat, method = (given.pop(name) for name in ("judge", "records", "threat", "method"))
    with pytest.raises(InputError, match=message):
        certify(core, judge, records, threat, method, **given)
