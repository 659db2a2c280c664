"""What every attack must do. A new attack is picked up from the registry; it adds nothing here.

Bounds on strength depend on what an attack knows and what it is after, never on its name: gradients are exact on a
linear model, scores and answers have to be searched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.attacks import ATTACKS, Attack, Classes, FeatureThreat, WhiteBox
from hauberk.attacks.base import Knowledge
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)

RECORDS, COLUMNS = 60, 8
SETTINGS = settings(max_examples=8, deadline=None)
FEW = settings(max_examples=2, deadline=None)
BUDGETS = {"queries": 1, "steps": 1, "iterations": 1, "generations": 1, "rounds": 10}
"""Fields that say how long an attack goes on, and how many units of a budget one of them takes."""
ENOUGH = 400
"""The largest budget here. It is enough for eight columns."""


def brief(attack: Attack[Any], most: int = 30) -> Attack[Any]:
    """The same attack with a small budget, for properties that no budget may change."""
    spent = {field.name: getattr(attack, field.name) for field in fields(attack) if field.name in BUDGETS}
    return replace(attack, **{name: min(value, most // BUDGETS[name]) for name, value in spent.items()})


def attacks_that(fits: Callable[[type[Attack[Any]]], bool]) -> pytest.MarkDecorator:
    chosen = {name: kind for name, kind in ATTACKS.items() if fits(kind)}
    return pytest.mark.parametrize("attack", [brief(kind(), ENOUGH) for kind in chosen.values()], ids=list(chosen))


every_attack = attacks_that(lambda _: True)


def network(seed: int, outputs: int = 2) -> torch.nn.Module:
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(torch.nn.Linear(COLUMNS, 16), torch.nn.ReLU(), torch.nn.Linear(16, outputs))
    return layers.eval()


def linear(weight: np.ndarray, bias: float) -> torch.nn.Module:
    """A linear model whose margin is `weight @ x + bias`."""
    layer = torch.nn.Linear(len(weight), 2)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.stack([np.zeros_like(weight), weight])))
        layer.bias.copy_(torch.tensor([0.0, bias]))
    return layer.eval()


def scene(seed: int, radius: float = 0.2) -> tuple[np.ndarray, np.ndarray, FeatureThreat]:
    """Records in [0, 1] with a few outside, labels at random, and a threat with some immutable columns."""
    generator = np.random.default_rng(seed)
    features = generator.uniform(-0.1, 1.1, (RECORDS, COLUMNS)).astype(np.float32)
    mutable = np.ones(COLUMNS, np.bool_)
    mutable[:2] = False
    threat = FeatureThreat(radius, np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32), mutable)
    return features, generator.integers(0, 2, RECORDS), threat


@every_attack
@SETTINGS
@given(
    seed=st.integers(0, 2**32 - 1),
    radius=st.floats(0, 3),
    features=arrays.arrays(np.float32, (5, COLUMNS), elements=st.floats(-100, 100, width=32)),
    mutable=arrays.arrays(np.bool_, COLUMNS),
    targets=arrays.arrays(np.int64, 5, elements=st.integers(0, 1)),
)
def test_results_satisfy_the_threat_model_exactly(attack, seed, radius, features, mutable, targets):
    threat = FeatureThreat(radius, np.full(COLUMNS, -1, np.float32), np.ones(COLUMNS, np.float32), mutable)
    model = WhiteBox(network(seed), Decision())
    found = brief(attack).run(model, features, targets, threat=threat, seed=seed)
    assert not threat.violations(found.adversarial, features).any()


@every_attack
def test_the_same_seed_finds_the_same_records(attack):
    features, targets, threat = scene(1)
    model = WhiteBox(network(1), Decision())
    first, second = (brief(attack).run(model, features, targets, threat=threat, seed=5) for _ in range(2))
    assert first.adversarial.tobytes() == second.adversarial.tobytes()
    assert first.queries.tolist() == second.queries.tolist()


@every_attack
def test_a_record_that_is_wrong_to_begin_with_never_survives(attack):
    features, targets, threat = scene(2)
    model = WhiteBox(network(2), Decision())
    wrong = ~model.right(features, targets)
    assert wrong.any()
    found = brief(attack).run(model, features, targets, threat=threat)
    assert not found.survived[wrong].any()
    if attack.aim == "nearest":
        assert found.adversarial[wrong].tobytes() == features[wrong].tobytes()


@every_attack
def test_a_radius_of_zero_returns_the_input(attack):
    features, targets, threat = scene(3, radius=0.0)
    found = brief(attack).run(WhiteBox(network(3), Decision()), features, targets, threat=threat)
    assert found.adversarial.tobytes() == features.tobytes()


@every_attack
def test_nothing_mutable_returns_the_input(attack):
    features, targets, threat = scene(4)
    frozen = FeatureThreat(threat.radius, threat.low, threat.high, np.zeros(COLUMNS, np.bool_))
    found = brief(attack).run(WhiteBox(network(4), Decision()), features, targets, threat=frozen)
    assert found.adversarial.tobytes() == features.tobytes()


@every_attack
def test_survival_is_the_models_answer_to_the_records_returned(attack):
    features, targets, threat = scene(5)
    model = WhiteBox(network(5), Decision())
    found = brief(attack).run(model, features, targets, threat=threat)
    assert found.survived.tolist() == model.right(found.adversarial, targets).tolist()


@every_attack
def test_attack_records_are_pushed_down_and_benign_ones_up(attack):
    features, targets, threat = scene(6)
    model = WhiteBox(network(6), Decision())
    found = attack.run(model, features, targets, threat=threat)
    pushed = model.headroom(features, targets) - model.headroom(found.adversarial, targets)
    if attack.knowledge == "labels":  # nobody tells it the headroom of an answer that is still right
        pushed = pushed[~found.survived]
    assert (pushed >= -1e-5).all()
    assert pushed.max() > 0.05


@attacks_that(lambda kind: kind.aim == "nearest")
def test_a_nearest_attack_returns_the_record_itself_or_a_wrong_answer(attack):
    features, targets, threat = scene(14)
    model = WhiteBox(network(14), Decision())
    found = brief(attack).run(model, features, targets, threat=threat)
    assert found.survived.any()
    assert found.adversarial[found.survived].tobytes() == features[found.survived].tobytes()


@every_attack
@pytest.mark.parametrize(("outputs", "benign"), [(1, 0), (2, 1), (4, 2)])
def test_any_number_of_outputs_is_attacked_at_its_threshold(attack, outputs, benign):
    features, targets, threat = scene(7)
    module = network(7, outputs)
    middle = float(np.median(Decision(outputs, benign).margin(WhiteBox(module, Decision()).logits(features))))
    model = WhiteBox(module, Decision(outputs, benign, threshold=middle))
    before = model.right(features, targets)
    assert attack.run(model, features, targets, threat=threat).survived.sum() < 0.8 * before.sum()


@every_attack
@pytest.mark.parametrize("judge", [Classes(4), Classes(4, wanted=2)])
def test_classes_are_attacked_too(attack, judge):
    features, _, threat = scene(13, radius=0.3)
    module = network(13, 4)
    with torch.no_grad():  # so that every class is named somewhere
        module[2].bias -= module(torch.from_numpy(features)).mean(dim=0)
    model = WhiteBox(module, judge)
    named = model.logits(features).argmax(axis=1)
    features, targets = features[named != 2], named[named != 2]
    assert model.right(features, targets).all()
    assert attack.run(model, features, targets, threat=threat).survived.mean() < 0.9


@attacks_that(lambda kind: kind.aim == "deepest" and kind.knowledge != "labels")
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_on_a_linear_model_the_exact_worst_case_is_found(attack, seed):
    """The closed form: each mutable column goes to the end of its range that its weight points away from."""
    features, targets, threat = scene(seed)
    weight = np.random.default_rng(seed).normal(size=COLUMNS).astype(np.float32)
    for sign in (1, -1):
        # No move reaches the threshold, so that no attack stops before the worst case.
        model = WhiteBox(linear(weight, sign * 20.0), Decision())
        records = features[targets == (sign + 1) // 2]
        right = np.full(len(records), (sign + 1) // 2, np.int64)
        found = model.headroom(attack.run(model, records, right, threat=threat).adversarial, right)
        lowest, highest = threat.limits(records)
        worst = model.headroom(np.where(sign * weight > 0, lowest, highest), right)
        if attack.knowledge == "white-box":
            assert (found <= worst).all()
        else:
            assert (found <= worst + 0.02 * (model.headroom(records, right) - worst) + 1e-5).all()


MISSES: dict[Knowledge, float] = {"white-box": 0.02, "scores": 0.1, "labels": 0.5}
"""How much larger than the smallest change that there is an attack's own may be, on a linear model."""


def on_both_sides(seed: int, margin: float = 0.5) -> tuple[WhiteBox, np.ndarray, np.ndarray, float, float]:
    """A linear model with records that lie equally far from its threshold, and how far: L-infinity and L2.

    The last two columns have no room, which is why their weights do not count. Formula: margin / dual norm of the
    weights of the columns that move.
    """
    generator = np.random.default_rng(seed)
    weight = generator.uniform(0.5, 1.5, COLUMNS) * generator.choice([-1, 1], COLUMNS)
    targets = np.arange(20) % 2
    base = generator.uniform(0.4, 0.6, (len(targets), COLUMNS))
    excess = base @ weight - np.where(targets == 1, margin, -margin)
    features = (base - np.outer(excess, weight) / (weight @ weight)).astype(np.float32)
    model = WhiteBox(linear(weight.astype(np.float32), 0.0), Decision())
    moving = weight[: COLUMNS - 2]
    return model, features, targets, margin / np.abs(moving).sum(), margin / np.linalg.norm(moving)


def wide(radius: float) -> FeatureThreat:
    """A threat in which no box binds, and the last two columns never move."""
    low, high = (np.full(COLUMNS, end, np.float32) for end in (-100, 100))
    return FeatureThreat(radius, low, high, np.arange(COLUMNS) < COLUMNS - 2)


@every_attack
@pytest.mark.parametrize("seed", [1, 2])
def test_on_a_linear_model_survival_ends_at_the_smallest_change(attack, seed):
    model, features, targets, smallest, _ = on_both_sides(seed)
    short, enough = (
        attack.run(model, features, targets, threat=wide(smallest * share)).survived
        for share in (0.995, 1 + MISSES[attack.knowledge])
    )
    assert short.all()
    assert enough.mean() <= (0.0 if attack.knowledge == "white-box" else 0.1)


@attacks_that(lambda kind: kind.aim == "nearest")
def test_on_a_linear_model_a_nearest_attack_finds_the_smallest_change(attack):
    """In the norm in which it measures, which is one of two."""
    model, features, targets, smallest, shortest = on_both_sides(3)
    found = attack.run(model, features, targets, threat=wide(3 * smallest))
    moved = found.adversarial - features
    excess = np.minimum(np.abs(moved).max(axis=1) / smallest, np.linalg.norm(moved, axis=1) / shortest)
    assert not found.survived.any()
    assert (excess >= 1 - 1e-5).all()
    assert np.median(excess) <= 1 + MISSES[attack.knowledge]


@every_attack
@pytest.mark.filterwarnings("error")
def test_records_are_read_and_never_written(attack):
    features, targets, threat = scene(12)
    features = np.asfortranarray(features)
    before = features.copy()
    features.flags.writeable = False
    brief(attack).run(WhiteBox(network(12), Decision()), features, targets, threat=threat)
    assert (features == before).all()


@every_attack
def test_the_empty_batch_is_attacked(attack):
    features, targets, threat = scene(8)
    found = attack.run(WhiteBox(network(8), Decision()), features[:0], targets[:0], threat=threat)
    assert found.survived.shape == (0,)


@every_attack
def test_the_batch_size_does_not_decide_who_survives_a_linear_model(attack):
    features, targets, threat = (part[:30] if isinstance(part, np.ndarray) else part for part in scene(9))
    attack = brief(attack, 200)
    weight = np.random.default_rng(9).normal(size=COLUMNS).astype(np.float32)
    model = WhiteBox(linear(weight, -float(weight.sum()) / 2), Decision())
    small = replace(attack, batch_size=13).run(model, features, targets, threat=threat)
    large = attack.run(model, features, targets, threat=threat)
    assert (small.survived == large.survived).mean() >= (0.95 if attack.knowledge == "white-box" else 0.8)


@every_attack
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (x.astype(np.float64), y), "float32"),
        (lambda x, y: (x[:, :3], y), "features must be"),
        (lambda x, y: (np.where(x > 0.5, np.nan, x).astype(np.float32), y), "NaN"),
        (lambda x, y: (x, y[:-1]), "59 targets for 60 records"),
        (lambda x, y: (x, y + 1), "has the target 2; right is 0 for benign and 1 for attack"),
        (lambda x, y: (x, y.astype(np.int32)), "targets must be int64"),
    ],
)
def test_records_that_cannot_be_attacked_are_refused(attack, spoil, message):
    features, targets, threat = scene(10)
    with pytest.raises(InputError, match=message):
        attack.run(WhiteBox(network(10), Decision()), *spoil(features, targets), threat=threat)


@every_attack
def test_a_model_that_answers_nan_to_attack_records_is_evaded(attack):
    """The graph compares a NaN as "not reached", so the label is benign: an evasion, not a survival."""

    class Broken(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            spoiled = torch.where(features[:, 2:3] > 0.6, torch.nan, 1.0) + 0 * features[:, :1]
            return torch.cat([torch.zeros_like(spoiled), spoiled], dim=1)

    features, _, threat = scene(11)
    features[:, 2] = 0.55
    targets = np.ones(RECORDS, np.int64)
    if "pool" in {field.name for field in fields(attack)}:  # what imitates real records needs one from beyond
        attack = replace(attack, pool=features + np.float32(0.1))
    found = attack.run(WhiteBox(Broken(), Decision()), features, targets, threat=threat)
    assert found.survived.tolist() == (found.adversarial[:, 2] <= 0.6).tolist()
    if attack.knowledge != "white-box":  # no gradient leads there; those who search at random come across it
        assert found.survived.mean() <= 0.1
