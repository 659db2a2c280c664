"""FAB: exact on planes, boxes included, and no further from records than the authors' own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hauberk.attacks import FAB, FeatureThreat
from hauberk.attacks.batch import Batch
from hauberk.attacks.fab import to_plane
from hauberk.errors import InputError

torch.set_num_threads(1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), euclidean=st.booleans())
def test_the_way_to_a_plane_within_a_box_is_the_shortest(seed, euclidean):
    """Against a linear program (L-infinity) and the conditions of optimality (L2)."""
    generator = np.random.default_rng(seed)
    columns = 6
    weight = (generator.normal(size=columns) * (generator.random(columns) < 0.8)).astype(np.float32)
    record = generator.random((1, columns), dtype=np.float32)
    free = FeatureThreat(
        0.0, np.zeros(columns, np.float32), np.ones(columns, np.float32), np.ones(columns, np.bool_), norm="none"
    )
    batch = Batch.of(free, record, np.zeros(1, np.int64))
    height = np.float32(generator.normal())
    found = to_plane(
        batch.records, torch.tensor([height]), torch.from_numpy(weight[None]), batch, euclidean=euclidean
    ).numpy()[0]
    there = record[0] + found
    assert (there >= -1e-6).all()
    assert (there <= 1 + 1e-6).all()
    most = np.where(height * weight > 0, record[0], 1 - record[0]) @ np.abs(weight)
    if most < abs(height):  # the box ends first
        assert abs(weight @ found) == pytest.approx(most, rel=1e-4, abs=1e-5)
        return
    assert weight @ found == pytest.approx(-height, rel=1e-4, abs=1e-5)
    if euclidean:
        inside = (there > 1e-6) & (there < 1 - 1e-6) & (weight != 0)
        ratio = found[inside] / weight[inside]
        if inside.any():
            assert np.ptp(ratio) <= 1e-3 * np.abs(ratio).max() + 1e-6
            assert (np.abs(found) <= np.abs(ratio).max() * np.abs(weight) + 1e-5).all()
    else:
        # minimise t with |move| <= t, the plane reached and the box kept
        bounds = [(-value, 1 - value) for value in record[0].astype(float)] + [(0, None)]
        limit = np.block([[np.eye(columns), -np.ones((columns, 1))], [-np.eye(columns), -np.ones((columns, 1))]])
        best = linprog(
            np.append(np.zeros(columns), 1.0),
            A_ub=limit,
            b_ub=np.zeros(2 * columns),
            A_eq=np.append(weight.astype(float), 0.0)[None],
            b_eq=[-float(height)],
            bounds=bounds,
        )
        assert np.abs(found).max() == pytest.approx(best.fun, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.25), ("l2", 1.0)])
def test_it_comes_as_near_as_the_authors(five_classes, norm, radius):
    from pyautoattack.fab_pt import FABAttack_PT

    scene = five_classes
    inputs, labels = torch.from_numpy(scene.features[:200]), torch.from_numpy(scene.targets[:200])
    other = FABAttack_PT(
        scene.model.module,
        norm={"linf": "Linf", "l2": "L2"}[norm],
        n_iter=50,
        eps=radius,
        seed=0,
        device="cpu",
        targeted=True,
        n_target_classes=4,
    ).perturb(inputs, labels)
    moves = (other - inputs).numpy().astype(np.float64)
    length = np.linalg.norm(moves, axis=1) if norm == "l2" else np.abs(moves).max(axis=1)
    length[scene.model.right(other.numpy(), scene.targets[:200])] = np.inf
    ours = scene.moved(FAB(steps=50), radius, norm)[:200]
    for share in (0.25, 0.5, 0.75):
        assert np.quantile(ours, share) <= 1.01 * np.quantile(length, share)
    for limit in np.quantile(length[np.isfinite(length)], [0.2, 0.5, 0.8]):
        assert (ours > limit).mean() <= (length > limit).mean() + 0.01


def test_what_it_finds_is_the_same_for_every_radius_that_allows_it(two_answers):
    near, far = (two_answers.moved(FAB(), radius) for radius in (0.05, 0.2))
    both = np.isfinite(near)
    assert 0.1 < both.mean() < 0.9
    np.testing.assert_allclose(near[both], far[both], rtol=1e-3)
    assert (far[~both] > 0.05 * 0.999).all()


def test_early_stopping_decides_nothing_and_saves_queries(two_answers):
    arguments, threat = (two_answers.model, two_answers.features, two_answers.targets), two_answers.threat(0.06)
    early, late = (FAB(early_stopping=stop).run(*arguments, threat=threat) for stop in (True, False))
    assert early.survived.tolist() == late.survived.tolist()
    assert early.queries.mean() < 0.9 * late.queries.mean()


def test_restarts_find_nothing_farther_away(two_answers):
    one, two = (two_answers.moved(FAB(steps=20, restarts=restarts), 0.2) for restarts in (1, 2))
    assert (two <= one * 1.001).all()
    assert (two < one * 0.999).any()


@pytest.mark.parametrize("options", [{"steps": 0}, {"restarts": 0}, {"rivals": 0}, {"batch_size": 0}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=r"attack fab: .* at least 1"):
        FAB(**options)
