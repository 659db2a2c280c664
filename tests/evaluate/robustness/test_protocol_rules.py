"""Who is attacked with what, and what is measured besides: on linear models, where the worst case is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from hauberk.attacks import Classes, FeatureThreat
from hauberk.errors import ContractError, InputError
from hauberk.evaluate.robustness.budget import BUDGETS, TABLE
from hauberk.evaluate.robustness.protocol import Budget, Defender, measure_robustness, stratified_sample
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

torch.set_num_threads(1)
COLUMNS, RADIUS = 8, 0.1
SMALL = Budget(records=200, steps=10, restarts=1, queries=50, attacks=("fgsm", "pgd", "square", "mimicry"))


@dataclass(frozen=True)
class TorchSession:
    """A predictor that gives answers and no gradients, as a session does."""

    module: torch.nn.Module

    def predict(self, batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.module(torch.from_numpy(np.ascontiguousarray(batch))).numpy()


def linear(weight: np.ndarray, bias: float = 0.0) -> torch.nn.Module:
    """Two logits whose difference is `weight @ x + bias`."""
    layer = torch.nn.Linear(len(weight), 2)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.stack([np.zeros_like(weight), weight])))
        layer.bias.copy_(torch.tensor([0.0, bias]))
    return layer.eval()


def defender(module: torch.nn.Module, **options) -> Defender:
    return Defender(TorchSession(module), Decision(), module, **options)


class Scene:
    """Records on both sides of a plane, some of them labelled wrong, and nothing that stops a column."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.weight = generator.normal(size=COLUMNS).astype(np.float32)
        self.features = generator.normal(size=(400, COLUMNS)).astype(np.float32) * 0.3
        noise = generator.normal(size=400) * 0.3
        self.targets = (self.features @ self.weight + noise > 0).astype(np.int64)
        self.mutable = np.array([False, False, True, True, True, True, True, True])
        self.threat = self.ball(RADIUS)

    def ball(self, radius: float) -> FeatureThreat:
        return FeatureThreat(radius, np.full(COLUMNS, -9, np.float32), np.full(COLUMNS, 9, np.float32), self.mutable)

    @property
    def records(self) -> LabelledFeatures:
        return LabelledFeatures(self.features, self.targets)

    def standing(self, radius: float, rows: np.ndarray) -> np.ndarray:
        """The closed form: the headroom falls by the radius times the sum of |weight| over what may move."""
        side = np.where(self.targets == 1, 1, -1)
        headroom = side * (self.features @ self.weight) - radius * np.abs(self.weight[self.mutable]).sum()
        return headroom[rows] > 0

    def attack(self, who: dict[str, Defender] | None = None, **options):
        arguments = {"baseline": "float", "threat": self.threat, "budget": SMALL, **options}
        return measure_robustness({"float": defender(linear(self.weight)), **(who or {})}, self.records, **arguments)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_robust_accuracy_is_the_closed_form(scene):
    result = scene.attack(curves=True)["float"]
    rows = stratified_sample(scene.targets, 200, 0)
    assert result.robust_accuracy.value == pytest.approx(scene.standing(RADIUS, rows).mean(), abs=1e-9)
    assert result.clean_accuracy.value == pytest.approx(scene.standing(0, rows).mean(), abs=1e-9)
    for point in result.curves.radii:
        assert point.survived.value == pytest.approx(scene.standing(point.radius, rows).mean(), abs=1e-9)
    assert result.curves.radii[-1].survived.value == 0
    assert [point.radius for point in result.curves.radii[:4]] == pytest.approx([0, RADIUS / 4, RADIUS / 2, RADIUS])
    assert result.curves.remarks == ()


def test_more_steps_leave_less_headroom_and_never_less_than_there_is(scene):
    curves = scene.attack(curves=True)["float"].curves
    side = np.where(scene.targets == 1, 1, -1)[stratified_sample(scene.targets, 200, 0)]
    before = side * (scene.features @ scene.weight)[stratified_sample(scene.targets, 200, 0)]
    least = before.mean() - RADIUS * np.abs(scene.weight[scene.mutable]).sum()
    found = [point.headroom for point in curves.steps]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(found))
    assert found[-1] == pytest.approx(least, abs=1e-5)
    assert [point.steps for point in curves.steps] == [1, 2, 5, 10, 20]


@pytest.mark.parametrize(("goal", "target"), [("evade", 1), ("false-alarm", 0)])
def test_a_goal_says_which_records_are_attacked(scene, goal, target):
    result = scene.attack(goal=goal)["float"]
    assert result.robust_accuracy.samples == min(200, int((scene.targets == target).sum()))
    of_this_kind = np.flatnonzero(scene.targets == target)
    rows = of_this_kind[stratified_sample(scene.targets[of_this_kind], 200, 0)]
    assert result.robust_accuracy.value == pytest.approx(scene.standing(RADIUS, rows).mean(), abs=1e-9)


@pytest.mark.parametrize(
    ("reach", "knowledge"),
    [("white-box", {"white-box", "scores", "labels"}), ("scores", {"scores", "labels"}), ("labels", {"labels"})],
)
def test_an_adversary_uses_what_it_knows_and_no_more(scene, reach, knowledge):
    results = scene.attack({"other": defender(linear(scene.weight * 2))}, reach=reach)
    assert {attack.knowledge for attack in results["float"].attacks} == knowledge
    transferred = {"transfer"} if reach == "white-box" else set()
    assert {attack.knowledge for attack in results["other"].attacks} == knowledge | transferred
    assert (results["float"].verdict == "not decided") == (reach != "white-box")


def test_without_queries_nothing_asks_the_session(scene):
    result = scene.attack(budget=SMALL.limited(0))["float"]
    assert {attack.attack for attack in result.attacks} == {"fgsm", "pgd"}
    assert result.verdict == "not decided"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "the model has no gradient and the budget is 0 queries, so that no attack can run; allow queries, or give",
        ),
        ({"reach": "scores"}, "the adversary knows scores only and the budget is 0 queries, so that no attack can run"),
    ],
)
def test_an_evaluation_without_any_attack_is_refused(scene, options, message):
    blind = Defender(TorchSession(linear(scene.weight)), Decision())
    with pytest.raises(InputError, match=message):
        scene.attack({"float": blind}, budget=SMALL.limited(0), **options)


def test_queries_stay_within_the_budget(scene):
    result = scene.attack(budget=SMALL.limited(7))["float"]
    asked = [attack for attack in result.attacks if attack.knowledge in ("scores", "labels")]
    assert asked
    assert all(0 < attack.mean_queries <= attack.queries <= 7 for attack in asked)


def test_where_nothing_can_move_robust_is_clean(scene):
    result = scene.attack(threat=scene.ball(0.0), curves=True)["float"]
    assert result.attacks == ()
    assert result.robust_accuracy.value == result.clean_accuracy.value
    assert "lets nothing move" in result.reason
    assert "lets nothing move" in result.robust_accuracy.note


def test_a_module_is_compared_with_the_session(scene):
    shifted = Defender(TorchSession(linear(scene.weight)), Decision(), linear(scene.weight, 0.5))
    honest, skewed = (
        scene.attack({"float": who})["float"].fidelity for who in (defender(linear(scene.weight)), shifted)
    )
    assert (honest[0].agreement.value, honest[0].error, honest[0].largest, honest[0].blind.value) == (1, 0, 0, 0)
    rows = stratified_sample(scene.targets, 200, 0)
    margins = (scene.features @ scene.weight)[rows]
    assert skewed[0].agreement.value == pytest.approx(((margins >= 0) == (margins + 0.5 >= 0)).mean())
    assert skewed[0].largest == pytest.approx(0.5, abs=1e-5)
    rms = np.sqrt(np.mean(margins**2) / 2)  # one of two logits is always 0
    assert skewed[0].error == pytest.approx(np.sqrt(0.5**2 / 2) / rms, rel=1e-5)
    assert skewed[0].agreement_attacked.value < 1


def test_a_module_that_leads_nowhere_is_seen_to_be_blind(scene):
    class Blind(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return linear(scene.weight)(features.detach())

    result = scene.attack({"blind": Defender(TorchSession(linear(scene.weight)), Decision(), Blind())})["blind"]
    assert result.fidelity[0].blind.value == 1
    assert result.fidelity[0].agreement.value == 1


def test_a_substitute_is_attacked_where_there_is_no_twin(scene):
    learnt = linear(scene.weight * 3, 0.01)  # the same plane, nearly, on another scale
    who = Defender(TorchSession(linear(scene.weight)), Decision(), substitute=learnt)
    result = scene.attack({"float": who})["float"]
    attacked = {attack.attack: attack for attack in result.attacks if attack.knowledge == "substitute"}
    assert set(attacked) == {"fgsm", "pgd"}
    assert result.robust_accuracy.value <= attacked["pgd"].survived.value < result.clean_accuracy.value - 0.2
    assert (result.fidelity[0].module, result.verdict) == ("substitute", "not decided")


def test_what_both_get_right_is_a_figure_of_its_own(scene):
    other = linear(scene.weight + np.float32(0.5), 0.2)
    result = scene.attack({"other": defender(other)})["other"]
    rows = stratified_sample(scene.targets, 200, 0)
    features, targets = scene.features[rows], scene.targets[rows]
    baseline, candidate = (
        (features @ weight + bias >= 0) for weight, bias in ((scene.weight, 0), (scene.weight + 0.5, 0.2))
    )
    both = (baseline == targets) & (candidate == targets)
    assert result.robust_of_both.samples == both.sum()
    assert result.agreement.value == pytest.approx((baseline == candidate).mean())
    side = np.where(targets == 1, 1, -1)
    worst = side * (features @ (scene.weight + 0.5) + 0.2) - RADIUS * np.abs(scene.weight + 0.5)[scene.mutable].sum()
    assert result.robust_of_both.value == pytest.approx((worst > 0)[both].mean())


def test_of_several_classes_the_nearest_rival_decides(scene):
    weights = np.random.default_rng(1).normal(size=(4, COLUMNS)).astype(np.float32)
    module = torch.nn.Linear(COLUMNS, 4, bias=False).eval()
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weights))
    logits = scene.features @ weights.T
    targets = logits.argmax(axis=1)
    who = {"float": Defender(TorchSession(module), Classes(4), module)}
    budget = Budget(records=400, steps=10, restarts=1, queries=20, attacks=("pgd", "apgd", "apgd-targeted", "fab"))
    result = measure_robustness(
        who, LabelledFeatures(scene.features, targets), baseline="float", threat=scene.threat, budget=budget
    )["float"]
    apart = np.abs(weights[targets][:, None] - weights[None])[:, :, scene.mutable].sum(axis=2)
    distance = logits[np.arange(400), targets][:, None] - logits - RADIUS * apart
    distance[np.arange(400), targets] = np.inf
    assert result.clean_accuracy.value == 1
    assert result.robust_accuracy.value == pytest.approx((distance.min(axis=1) > 0).mean(), abs=1e-9)
    assert {attack.attack for attack in result.attacks} == {"pgd", "apgd", "apgd-targeted", "fab"}


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (np.full(400, 2), {}, "has the target 2; right is 0 for benign and 1 for attack"),
        (np.zeros(400, np.int64), {"goal": "evade"}, "there is no attack record to attack"),
        (np.ones(400, np.int64), {"goal": "false-alarm"}, "there is no benign record to attack"),
    ],
)
def test_records_that_cannot_be_attacked_are_refused(scene, targets, options, message):
    records = LabelledFeatures(scene.features, targets)
    with pytest.raises(InputError, match=message):
        measure_robustness(
            {"a": defender(linear(scene.weight))}, records, baseline="a", threat=scene.threat, budget=SMALL, **options
        )


def test_a_classifier_that_answers_nan_is_a_broken_contract(scene):
    class Broken:
        def predict(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), 3), np.nan, np.float32)

    records = LabelledFeatures(scene.features, np.zeros(400, np.int64))
    with pytest.raises(ContractError, match="NaN to 200 records"):
        measure_robustness(
            {"a": Defender(Broken(), Classes(3))}, records, baseline="a", threat=scene.threat, budget=SMALL
        )


def test_the_sample_has_the_share_of_every_class():
    targets = np.repeat([0, 1, 2, 3], [700, 200, 97, 3])
    chosen = stratified_sample(targets, 100, seed=5)
    assert len(np.unique(chosen)) == 100
    assert np.bincount(targets[chosen], minlength=4).tolist() == [70, 20, 10, 0]


def test_every_attack_belongs_to_the_full_budget_and_every_budget_is_part_of_the_next():
    assert set(BUDGETS["full"].attacks) == set(TABLE)
    quick, standard, full = (set(BUDGETS[name].attacks) for name in ("quick", "standard", "full"))
    assert quick < standard < full
    for reach, kinds in (("scores", {"scores"}), ("labels", {"labels"})):
        assert kinds <= {TABLE[name].kind.knowledge for name in quick}, reach
