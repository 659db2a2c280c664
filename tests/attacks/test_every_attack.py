"""What every attack must do. A new attack is picked up from the registry; it adds nothing here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.attacks import ATTACKS, Classes, FeatureThreat, WhiteBox
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
every_attack = pytest.mark.parametrize("attack", [kind() for kind in ATTACKS.values()], ids=list(ATTACKS))

RECORDS, COLUMNS = 60, 8
SETTINGS = settings(max_examples=20, deadline=None)


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


class Margin:
    """The log-odds of attack that a module gives."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.model = WhiteBox(module, Decision())

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return Decision().margin(self.model.logits(features))


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
    found = attack.run(WhiteBox(network(seed), Decision()), features, targets, threat=threat, seed=seed)
    assert not threat.violations(found.adversarial, features).any()


@every_attack
def test_the_same_seed_finds_the_same_records(attack):
    features, targets, threat = scene(1)
    model = WhiteBox(network(1), Decision())
    first, second = (attack.run(model, features, targets, threat=threat, seed=5) for _ in range(2))
    assert first.adversarial.tobytes() == second.adversarial.tobytes()
    assert first.queries.tolist() == second.queries.tolist()


@every_attack
def test_a_record_that_is_wrong_to_begin_with_never_survives(attack):
    features, targets, threat = scene(2)
    model = WhiteBox(network(2), Decision())
    wrong = ~model.right(features, targets)
    assert wrong.any()
    assert not attack.run(model, features, targets, threat=threat).survived[wrong].any()


@every_attack
def test_a_radius_of_zero_returns_the_input(attack):
    features, targets, threat = scene(3, radius=0.0)
    found = attack.run(WhiteBox(network(3), Decision()), features, targets, threat=threat)
    assert found.adversarial.tobytes() == features.tobytes()


@every_attack
def test_nothing_mutable_returns_the_input(attack):
    features, targets, threat = scene(4)
    frozen = FeatureThreat(threat.radius, threat.low, threat.high, np.zeros(COLUMNS, np.bool_))
    found = attack.run(WhiteBox(network(4), Decision()), features, targets, threat=frozen)
    assert found.adversarial.tobytes() == features.tobytes()


@every_attack
def test_survival_is_the_models_answer_to_the_records_returned(attack):
    features, targets, threat = scene(5)
    model = WhiteBox(network(5), Decision())
    found = attack.run(model, features, targets, threat=threat)
    assert found.survived.tolist() == model.right(found.adversarial, targets).tolist()


@every_attack
def test_attack_records_are_pushed_down_and_benign_ones_up(attack):
    features, targets, threat = scene(6)
    model = WhiteBox(network(6), Decision())
    found = attack.run(model, features, targets, threat=threat).adversarial
    pushed = model.headroom(features, targets) - model.headroom(found, targets)
    assert (pushed >= -1e-5).all()
    assert pushed.max() > 0.05


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


@every_attack
@SETTINGS
@given(seed=st.integers(0, 2**32 - 1))
def test_on_a_linear_model_the_exact_worst_case_is_found(attack, seed):
    """The closed form: each mutable column goes to the end of its range that its weight points away from."""
    features, targets, threat = scene(seed)
    weight = np.random.default_rng(seed).normal(size=COLUMNS).astype(np.float32)
    side = np.where(targets == 1, np.float32(1), np.float32(-1))
    # No move reaches the threshold, so that no attack stops before the worst case.
    found = [
        attack.run(
            WhiteBox(linear(weight, sign * 20.0), Decision()),
            features[side == sign],
            targets[side == sign],
            threat=threat,
        ).adversarial
        for sign in (1, -1)
    ]
    for sign, adversarial in zip((1, -1), found, strict=True):
        lowest, highest = threat.limits(features[side == sign])
        worst = np.where(sign * weight > 0, lowest, highest)
        margin = Margin(linear(weight, sign * 20.0))
        gap = sign * (margin(adversarial) - margin(worst))
        if attack.name == "score-search":
            assert (gap <= 0.01 * sign * (margin(features[side == sign]) - margin(worst)) + 1e-5).all()
        else:
            assert (gap <= 0).all()


@every_attack
@pytest.mark.filterwarnings("error")
def test_records_are_read_and_never_written(attack):
    features, targets, threat = scene(12)
    features = np.asfortranarray(features)
    before = features.copy()
    features.flags.writeable = False
    attack.run(WhiteBox(network(12), Decision()), features, targets, threat=threat)
    assert (features == before).all()


@every_attack
def test_the_empty_batch_is_attacked(attack):
    features, targets, threat = scene(8)
    found = attack.run(WhiteBox(network(8), Decision()), features[:0], targets[:0], threat=threat)
    assert found.survived.shape == (0,)


@every_attack
def test_the_batch_size_does_not_decide_who_survives_a_linear_model(attack):
    features, targets, threat = scene(9)
    weight = np.random.default_rng(9).normal(size=COLUMNS).astype(np.float32)
    model = WhiteBox(linear(weight, -float(weight.sum()) / 2), Decision())
    small = type(attack)(batch_size=7).run(model, features, targets, threat=threat)
    large = attack.run(model, features, targets, threat=threat)
    assert (small.survived == large.survived).mean() >= 0.95


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
    nan_gradient_is_no_help = attack.knowledge == "white-box"
    survived = attack.run(WhiteBox(Broken(), Decision()), features, targets, threat=threat).survived
    assert survived.all() if nan_gradient_is_no_help else not survived.any()
