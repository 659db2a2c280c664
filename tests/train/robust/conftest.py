"""A small real problem: some hundred mails, a small network, and attacks that no training here uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from hauberk.attacks import PGD, FeatureThreat, Square, WhiteBox
from hauberk.data import load_splits
from hauberk.models import TabularMLP
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision, FeatureSpace
from hauberk.train import TrainingOptions, fit_preprocessing, labelled


class Mails(NamedTuple):
    """Some of the bundled data, and how far it may be moved."""

    training: LabelledFeatures
    validation: LabelledFeatures
    test: LabelledFeatures
    threat: FeatureThreat

    def network(self, widths: tuple[int, ...] = (32, 16)) -> TabularMLP:
        """A network with the same fresh weights every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return TabularMLP(self.threat.width, widths)

    def robust_accuracy(self, module: torch.nn.Module) -> float:
        """Under projected gradient descent with restarts on the margin, and a search that needs no gradient."""
        model = WhiteBox(module, Decision())
        survived = [
            attack.run(model, self.test.features, self.test.targets, threat=self.threat, seed=1).survived
            for attack in (PGD(steps=20, restarts=2), Square(queries=30))
        ]
        return float((survived[0] & survived[1]).mean())


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mails() -> Mails:
    splits = load_splits("spambase")
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
    parts = (labelled(space, part) for part in (splits.training, splits.validation, splits.test))
    training, validation, test = (part.sample(most, 0) for part, most in zip(parts, (900, 300, 400), strict=True))
    return Mails(training, validation, test, FeatureThreat.from_space(space, 0.05))


@pytest.fixture
def quick() -> Callable[..., TrainingOptions]:
    def options(**changes: object) -> TrainingOptions:
        return TrainingOptions(**{"epochs": 12, "batch_size": 64, "learning_rate": 5e-3, "patience": 12} | changes)

    return options
