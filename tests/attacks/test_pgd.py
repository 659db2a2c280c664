"""PGD: as strong as an independent implementation, and its options do what they say."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from hauberk.attacks import FGSM, PGD, FeatureThreat, WhiteBox
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
COLUMNS, RADIUS = 20, 0.12


class Detector:
    """A curved network trained on a curved problem, with the records to attack it on."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.features = generator.random((1500, COLUMNS), dtype=np.float32)
        bent = np.sin(6 * self.features[:, :5]).sum(axis=1) + self.features[:, 5:10].sum(axis=1) ** 2 / 4
        self.targets = (bent > np.median(bent)).astype(np.int64)
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(
            torch.nn.Linear(COLUMNS, 48),
            torch.nn.ReLU(),
            torch.nn.Linear(48, 32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 2),
        )
        optimiser = torch.optim.Adam(self.module.parameters(), 5e-3)
        inputs, labels = torch.from_numpy(self.features), torch.from_numpy(self.targets)
        for _ in range(150):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(self.module(inputs), labels).backward()
            optimiser.step()
        self.module.eval()
        self.model = WhiteBox(self.module, Decision())
        self.threat = FeatureThreat(
            RADIUS, np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32), np.ones(COLUMNS, np.bool_)
        )

    def survived(self, attack, seed: int = 0) -> float:
        found = attack.run(self.model, self.features, self.targets, threat=self.threat, seed=seed)
        return float(found.survived.mean())


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_it_is_as_strong_as_the_adversarial_robustness_toolbox(detector, momentum):
    """Same model, same start, same number and length of steps; at most one point weaker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import MomentumIterativeMethod, ProjectedGradientDescent
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=detector.module,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=(COLUMNS,),
            nb_classes=2,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        budget = {"norm": np.inf, "eps": RADIUS, "eps_step": RADIUS / 8, "max_iter": 20, "batch_size": 512}
        if momentum:
            theirs = MomentumIterativeMethod(classifier, decay=momentum, verbose=False, **budget)
        else:
            theirs = ProjectedGradientDescent(classifier, verbose=False, **budget)
        points = theirs.generate(detector.features, detector.targets)
    right, clean = (detector.model.right(found, detector.targets) for found in (points, detector.features))
    ours = detector.survived(PGD(steps=20, step_size=RADIUS / 8, momentum=momentum))
    assert right.mean() < clean.mean() - 0.2, "the toolbox's attack must do harm for the comparison to mean anything"
    assert ours <= right.mean() + 0.01
    assert detector.survived(PGD(steps=20, momentum=momentum)) <= ours + 0.005, "steps that shrink must not be weaker"


def test_a_record_in_a_corner_takes_no_more_steps():
    """On a plane the first step leads there, and the rest would repeat it."""
    module = torch.nn.Linear(COLUMNS, 2)
    features = np.random.default_rng(1).random((50, COLUMNS), dtype=np.float32)
    threat = FeatureThreat(
        RADIUS, np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32), np.ones(COLUMNS, np.bool_)
    )
    arguments = (WhiteBox(module, Decision(threshold=-100)), features, np.ones(50, np.int64))
    for early_stopping in (True, False):
        found = PGD(steps=20, early_stopping=early_stopping).run(*arguments, threat=threat)
        one = FGSM().run(*arguments, threat=threat)
        assert found.queries.max() <= 3
        np.testing.assert_allclose(found.adversarial, one.adversarial, atol=1e-6)


def test_many_steps_beat_one(detector):
    assert detector.survived(PGD(steps=20)) < detector.survived(FGSM())


def test_restarts_only_make_it_stronger(detector):
    one = PGD(steps=5).run(detector.model, detector.features, detector.targets, threat=detector.threat)
    three = PGD(steps=5, restarts=3).run(detector.model, detector.features, detector.targets, threat=detector.threat)
    assert not (three.survived & ~one.survived).any()


def test_a_random_start_depends_on_the_seed(detector):
    attack = PGD(steps=1, random_start=True, early_stopping=False)
    first, second = (
        attack.run(detector.model, detector.features, detector.targets, threat=detector.threat, seed=seed).adversarial
        for seed in (1, 2)
    )
    assert not np.array_equal(first, second)


def test_early_stopping_saves_queries_and_decides_nothing(detector):
    arguments = (detector.model, detector.features, detector.targets)
    early = PGD().run(*arguments, threat=detector.threat)
    late = PGD(early_stopping=False).run(*arguments, threat=detector.threat)
    assert early.queries.mean() < 0.8 * late.queries.mean()
    assert abs(early.survived.mean() - late.survived.mean()) < 0.002


def test_without_early_stopping_records_go_deeper(detector):
    arguments = (detector.model, detector.features, detector.targets)
    early = PGD().run(*arguments, threat=detector.threat)
    late = PGD(early_stopping=False).run(*arguments, threat=detector.threat)
    deep, shallow = (detector.model.headroom(found.adversarial, detector.targets) for found in (late, early))
    assert deep.mean() < shallow.mean() - 0.5


def test_a_model_that_clamps_its_input_to_the_box_is_no_obstacle(detector):
    """Projection happens outside the gradient, so that columns on the edge of the box keep theirs."""

    class Clamped(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return detector.module(features.clamp(0.0, 1.0))

    # Most values of real flows sit on the edge of the box.
    features = np.round(detector.features)
    targets = (Decision().margin(detector.model.logits(features)) >= 0).astype(np.int64)
    plain, clamped = (
        PGD().run(model, features, targets, threat=detector.threat).survived.mean()
        for model in (detector.model, WhiteBox(Clamped(), Decision()))
    )
    assert plain < 0.95
    assert clamped == pytest.approx(plain, abs=0.005)


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"restarts": 0}, {"step_size": 0.0}, {"step_size": float("nan")}, {"momentum": -1.0}],
    ids=str,
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="attack pgd"):
        PGD(**options)
