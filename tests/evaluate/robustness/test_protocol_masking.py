"""What hides its gradients is named, what is done about it is told, and an honest INT8 graph is not accused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hauberk.artifact import TorchArtifact
from hauberk.attacks import FeatureThreat, WhiteBox
from hauberk.backends import Session
from hauberk.compress import QuantizeStatic
from hauberk.evaluate.robustness.answer import ContinuedDescent
from hauberk.evaluate.robustness.protocol import Budget, Defender, measure_robustness
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, LabelledFeatures
from hauberk.schema import Decision
from hauberk.tensors import Signature, TensorSpec

torch.set_num_threads(1)
COLUMNS = 16
BUDGET = Budget(
    records=300, steps=15, restarts=1, queries=300, attacks=("fgsm", "pgd", "apgd", "square", "hop-skip-jump")
)


class Detached(torch.nn.Module):
    """The same answers, and no way back to the input: rounding whose gradient was left at zero."""

    def __init__(self, then: torch.nn.Module) -> None:
        super().__init__()
        self.then = then

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.then(features.detach())


class Saturated(torch.nn.Module):
    """The same labels from logits that are -1 and 1 nearly everywhere: no slope, and no news in the scores."""

    def __init__(self, then: torch.nn.Module) -> None:
        super().__init__()
        self.then = then

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = self.then(features)
        return torch.tanh(1e4 * (logits - logits.mean(dim=1, keepdim=True)))

    def predict(self, batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self(torch.from_numpy(np.ascontiguousarray(batch))).numpy()


class Scene:
    """A trained network, exported, and quantized to INT8; each graph with its real session and its twin."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        targets = generator.integers(0, 2, 900)
        centre = np.where(targets[:, None] == 1, 0.56, 0.44)
        features = np.clip(centre + 0.12 * generator.normal(size=(900, COLUMNS)), 0, 1).astype(np.float32)
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(COLUMNS, 24), torch.nn.ReLU(), torch.nn.Linear(24, 2))
        optimiser = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(100):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(torch.from_numpy(features)), torch.from_numpy(targets)).backward()
            optimiser.step()
        self.module = module.eval()
        self.records = LabelledFeatures(features, targets)
        signature = Signature(
            inputs=(TensorSpec("features", "float32", ("batch", COLUMNS)),),
            outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
        )
        low, high = np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32)
        core = export(TorchArtifact(self.module, signature, "0" * 64))
        integer = QuantizeStatic().apply(core, Context(calibration=features, bounds=(low, high)))
        self.threat = FeatureThreat(0.05, low, high, np.ones(COLUMNS, np.bool_))
        self.float = Defender(Session(core.model), Decision(), Twin(core).eval())
        self.integer = Defender(Session(integer.model), Decision(), Twin(integer).eval())

    def attack(self, **defenders: Defender):
        return measure_robustness(
            {"baseline": self.float, **defenders},
            self.records,
            baseline="baseline",
            threat=self.threat,
            budget=BUDGET,
        )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture(scope="module")
def results(scene):
    saturated = Saturated(scene.module)
    return scene.attack(
        honest=scene.integer,
        blind=replace(scene.integer, twin=Detached(scene.integer.twin)),
        saturated=Defender(saturated, Decision(), saturated),
    )


def test_an_int8_graph_with_its_straight_through_twin_is_not_accused(results):
    assert results["honest"].verdict == "no gradient masking found"
    assert results["honest"].done == ()
    assert results["honest"].fidelity[0].agreement.value > 0.98
    assert results["honest"].fidelity[0].blind.value < 0.1


@pytest.mark.parametrize("name", ["blind", "saturated"])
def test_what_hides_its_gradients_is_named(results, name):
    masked = results[name]
    assert masked.verdict == "gradient masking"
    assert masked.fidelity[0].blind.value > 0.8
    gradients = min(
        attack.survived.low for attack in masked.attacks if attack.knowledge == "white-box" and not attack.answer
    )
    others = min(attack.survived.value for attack in masked.attacks if attack.knowledge != "white-box")
    assert others < gradients


def test_hiding_gradients_does_not_pay(results):
    honest = results["honest"].robust_accuracy.value
    assert results["blind"].robust_accuracy.value == pytest.approx(honest, abs=0.03)
    assert results["saturated"].robust_accuracy.value == pytest.approx(
        results["baseline"].robust_accuracy.value, abs=0.05
    )


def test_what_was_done_about_it_is_told(results):
    masked = results["saturated"]
    again = [attack for attack in masked.attacks if attack.answer]
    assert {attack.attack for attack in again} == {"continued-descent"}
    assert {attack.knowledge for attack in again} == {"white-box", "transfer"}
    assert len(masked.done) == len(again) + 1
    assert "of the baseline's twin were followed again" in masked.done[1]
    plain = min(
        attack.survived.value for attack in masked.attacks if attack.knowledge == "white-box" and not attack.answer
    )
    assert f"{100 * masked.robust_accuracy.value:.1f} %" in masked.done[-1]
    assert plain > masked.robust_accuracy.value


def test_the_baselines_gradients_get_through_where_the_others_stopped(scene):
    """With too few queries for the search, transfer and its continuation have to do the work."""
    saturated = Saturated(scene.module)
    result = measure_robustness(
        {"baseline": scene.float, "saturated": Defender(saturated, Decision(), saturated)},
        scene.records,
        baseline="baseline",
        threat=scene.threat,
        budget=Budget(records=300, steps=15, restarts=1, queries=5, attacks=("fgsm", "pgd", "square")),
    )
    assert result["saturated"].verdict == "gradient masking"
    assert result["saturated"].robust_accuracy.value == pytest.approx(
        result["baseline"].robust_accuracy.value, abs=0.02
    )


def test_the_descent_goes_on_from_where_it_is_put_and_stays_within_the_threat(scene):
    """A clamp without slope at the records: from inside it, gradients lead on."""

    class Clamped(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return scene.module(features.clamp(0.05, 0.95))

    features, targets = np.round(scene.records.features[:100]), scene.records.targets[:100]
    threat = FeatureThreat(0.3, scene.threat.low, scene.threat.high, scene.threat.mutable)
    model, inside = WhiteBox(Clamped().eval(), Decision()), np.clip(features, 0.2, 0.8)
    stuck, led = (
        ContinuedDescent(points=points, steps=20).run(model, features, targets, threat=threat)
        for points in (features, inside)
    )
    assert not (stuck.adversarial != features).any()
    assert led.survived.sum() < stuck.survived.sum() - 10
    assert not threat.violations(led.adversarial, features).any()


class Whole(FeatureThreat):
    """Whole numbers alone are legal; a point is rounded to the nearest."""

    constrained = True

    def project(self, points, records):
        return np.rint(np.clip(points, *self.limits(records))).astype(np.float32)


def test_what_is_done_about_masking_moves_whole_numbers(scene):
    """A step shorter than a half must not be rounded away: on a plane the worst corner is reached all the same."""
    plane = torch.nn.Linear(4, 2)
    with torch.no_grad():
        plane.weight.copy_(torch.tensor([[0.0] * 4, [1.0, -1.0, 0.5, 2.0]]))
        plane.bias.zero_()
    low, high = np.zeros(4, np.float32), np.full(4, 10, np.float32)
    threat = Whole(10.0, low, high, np.ones(4, np.bool_))
    records, targets = np.full((3, 4), 5, np.float32), np.ones(3, np.int64)
    attack = ContinuedDescent(points=records, steps=100)
    found = attack.run(WhiteBox(plane, Decision()), records, targets, threat=threat)
    assert found.adversarial.tolist() == [[0, 10, 0, 0]] * 3


def test_what_is_done_about_masking_counts_from_what_stood(scene):
    """Its row says what is left after it, not what would be left of untouched records."""
    blind = replace(scene.integer, twin=Detached(scene.integer.twin))
    result = measure_robustness(
        {"float32": scene.float, "blind": blind},
        scene.records,
        baseline="float32",
        threat=scene.threat,
        budget=BUDGET,
    )["blind"]
    assert result.verdict == "gradient masking"
    answers = [attack.survived.value for attack in result.attacks if attack.answer]
    assert answers
    assert min(answers) == pytest.approx(result.robust_accuracy.value)


def test_a_mixed_attack_alone_says_nothing_about_gradients(scene):
    """It searches by scores, too: that it got through does not mean that gradients do."""
    budget = Budget(records=60, steps=5, restarts=1, queries=50, attacks=("hauberk-auto", "square"))
    result = measure_robustness(
        {"float32": scene.float}, scene.records, baseline="float32", threat=scene.threat, budget=budget
    )["float32"]
    assert result.verdict == "not decided"
