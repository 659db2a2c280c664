"""The protocol names the masking that it is built to find, and does not cry wolf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from msgspec import structs

from hauberk.attacks import FeatureThreat
from hauberk.errors import ContractError, InputError
from hauberk.evaluate.robustness.budget import TABLE
from hauberk.evaluate.robustness.protocol import Budget, Defender, measure_robustness, stratified_sample
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision

torch.set_num_threads(1)
COLUMNS = 16
BUDGET = Budget(records=300, steps=15, restarts=2, queries=400)


@dataclass(frozen=True)
class TorchSession:
    """A predictor that gives answers and no gradients, as a session does."""

    module: torch.nn.Module

    def predict(self, batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.module(torch.from_numpy(np.ascontiguousarray(batch))).numpy()


class Through(torch.nn.Module):
    """A model with something done to its input first."""

    def __init__(self, change, then: torch.nn.Module) -> None:
        super().__init__()
        self.change, self.then = change, then

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.then(self.change(features))


class Rounding(torch.autograd.Function):
    """Rounding to 1/128 whose gradient passes straight through (Bengio et al., arXiv:1308.3432)."""

    @staticmethod
    def forward(context, features):
        return torch.round(features * 128) / 128

    @staticmethod
    def backward(context, gradient):
        return gradient


def timeless(result):
    """The same without what a clock says."""
    attacks = tuple(structs.replace(figures, seconds=0.0) for figures in result.attacks)
    return structs.replace(result, attacks=attacks, seconds=0.0)


class Scene:
    """A trained network and the records that it was trained on; they are easy to tell apart, and easy to move."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        targets = generator.integers(0, 2, 1200)
        centre = np.where(targets[:, None] == 1, 0.56, 0.44)
        features = np.clip(centre + 0.12 * generator.normal(size=(1200, COLUMNS)), 0, 1).astype(np.float32)
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(COLUMNS, 24), torch.nn.ReLU(), torch.nn.Linear(24, 2))
        optimiser = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(120):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(torch.from_numpy(features)), torch.from_numpy(targets)).backward()
            optimiser.step()
        self.module = module.eval()
        self.records = LabelledFeatures(features, targets)
        low, high = np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32)
        self.threat = FeatureThreat(0.05, low, high, np.ones(COLUMNS, np.bool_))

    def honest(self) -> Defender:
        return Defender(TorchSession(self.module), Decision(), self.module)

    def attack(self, defenders: dict[str, Defender], **options):
        arguments = {"baseline": "baseline", "threat": self.threat, "budget": BUDGET, **options}
        return measure_robustness({"baseline": self.honest(), **defenders}, self.records, **arguments)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture(scope="module")
def results(scene):
    blind = Through(lambda features: torch.round(features * 128) / 128, scene.module)
    straight = Through(Rounding.apply, scene.module)
    return scene.attack(
        {
            "zero-gradient twin": Defender(TorchSession(blind), Decision(), blind),
            "straight-through twin": Defender(TorchSession(blind), Decision(), straight),
            "no twin": Defender(TorchSession(blind), Decision()),
        }
    )


def test_an_honest_model_does_not_mask(results):
    baseline = results["baseline"]
    assert baseline.verdict == "no gradient masking found"
    assert baseline.clean_accuracy.value > baseline.robust_accuracy.value + 0.2


def test_a_quantized_twin_whose_gradient_is_left_at_zero_is_named(results):
    masked = results["zero-gradient twin"]
    assert masked.verdict == "gradient masking"
    assert "gradient masking" in masked.robust_accuracy.note


def test_the_same_model_with_a_straight_through_twin_is_not(results):
    assert results["straight-through twin"].verdict == "no gradient masking found"


def test_masking_does_not_pay(results):
    """The worst case holds for the blind twin too, because other attacks found it."""
    masked, honest = results["zero-gradient twin"], results["straight-through twin"]
    assert masked.robust_accuracy.value == pytest.approx(honest.robust_accuracy.value, abs=0.03)


def test_without_a_twin_nothing_is_decided_about_masking(results):
    assert results["no twin"].verdict == "not decided"
    assert {figures.knowledge for figures in results["no twin"].attacks} == {"transfer", "scores", "labels"}


def test_a_model_that_clamps_its_input_is_named(scene):
    """Records sit on the edge of the box, a little outside the clamp: no slope there, though a larger step has effect.

    Randomised starts would find that out, so the adversary has none here.
    """
    clamped = Through(lambda features: features.clamp(0.05, 0.95), scene.module)
    on_the_edge = LabelledFeatures(np.round(scene.records.features), scene.records.targets)
    threat = FeatureThreat(0.35, scene.threat.low, scene.threat.high, scene.threat.mutable)
    results = measure_robustness(
        {"baseline": scene.honest(), "clamped": Defender(TorchSession(clamped), Decision(), clamped)},
        on_the_edge,
        baseline="baseline",
        threat=threat,
        budget=Budget(records=300, steps=15, restarts=1, queries=400),
    )
    assert results["baseline"].verdict == "no gradient masking found"
    assert results["clamped"].verdict == "gradient masking"


def test_the_worst_case_is_at_most_each_attack(results):
    for result in results.values():
        assert all(result.robust_accuracy.value <= figures.survived.value for figures in result.attacks)
        assert all(figures.survived.value <= result.clean_accuracy.value for figures in result.attacks)


def test_differences_are_paired_with_the_baseline(results):
    baseline, other = results["baseline"], results["straight-through twin"]
    assert baseline.robust_accuracy.difference is None
    assert other.robust_accuracy.difference is not None
    assert other.robust_accuracy.difference.value == pytest.approx(
        other.robust_accuracy.value - baseline.robust_accuracy.value
    )


def test_each_attack_says_how_it_was_aimed_and_what_it_asked(results):
    figures = {(figures.attack, figures.knowledge): figures for figures in results["straight-through twin"].attacks}
    gradients = [name for name in BUDGET.attacks if TABLE[name].kind.knowledge == "white-box" and not TABLE[name].many]
    asking = {(name, TABLE[name].kind.knowledge) for name in BUDGET.attacks} - {(name, "white-box") for name in TABLE}
    assert set(figures) == {(name, aimed) for name in gradients for aimed in ("white-box", "transfer")} | asking
    assert figures["square", "scores"].queries == 400
    assert 0 < figures["square", "scores"].mean_queries <= 400
    assert figures["pgd", "white-box"].queries == 0


def test_the_real_session_judges_and_not_the_twin(scene):
    """The twin is fooled by the attack, but what is deployed always answers "attack"."""

    class Always:
        def predict(self, batch: np.ndarray) -> np.ndarray:
            return np.tile(np.array([0, 1], np.float32), (len(batch), 1))

    result = scene.attack({"stubborn": Defender(Always(), Decision(), scene.module)})["stubborn"]
    assert result.robust_accuracy.value == result.clean_accuracy.value == pytest.approx(0.5, abs=0.05)


def test_each_candidate_is_judged_at_its_own_threshold(scene):
    strict = Defender(TorchSession(scene.module), Decision(threshold=50.0), scene.module)
    result = scene.attack({"never alerts": strict})["never alerts"]
    benign = 1 - scene.records.targets.mean()
    assert result.robust_accuracy.value == pytest.approx(benign, abs=0.05)


def test_the_same_seed_finds_the_same(scene):
    first, second = (scene.attack({}, seed=4, curves=True)["baseline"] for _ in range(2))
    assert timeless(first) == timeless(second)


def test_a_session_that_answers_nan_is_a_broken_contract(scene):
    class Broken:
        def predict(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), 2), np.nan, np.float32)

    with pytest.raises(ContractError, match="NaN"):
        scene.attack({"broken": Defender(Broken(), Decision())})


def test_nothing_is_transferred_from_a_baseline_without_a_twin(scene):
    results = scene.attack({"baseline": Defender(TorchSession(scene.module), Decision()), "other": scene.honest()})
    assert "transfer" not in {figures.knowledge for figures in results["other"].attacks}


def test_the_baseline_must_be_there(scene):
    with pytest.raises(InputError, match="the baseline 'float' must be among the candidates"):
        scene.attack({}, baseline="float")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"queries": -1}, "queries must be at least 0"),
        ({"attacks": ("pgd", "magic")}, "unknown attack 'magic'; known are fgsm"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Budget(**wrong)


def test_the_sample_keeps_the_share_of_attacks():
    targets = (np.arange(1000) % 10 == 0).astype(np.int64)
    chosen = stratified_sample(targets, 200, seed=1)
    assert len(np.unique(chosen)) == 200
    assert targets[chosen].sum() == 20


def test_few_records_are_all_attacked():
    assert stratified_sample(np.array([0, 1, 1]), 200, seed=0).tolist() == [0, 1, 2]
