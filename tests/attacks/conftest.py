"""Curved networks, trained in a second on curved problems, to attack and to have others attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hauberk.attacks import Attack, Classes, FeatureThreat, WhiteBox
from hauberk.attacks.judge import Judge
from hauberk.schema import Decision

COLUMNS = 16


@dataclass(frozen=True)
class Scene:
    """A model and the records [N, 16] in [0, 1] that it gets right."""

    model: WhiteBox
    features: np.ndarray
    targets: np.ndarray

    def threat(self, radius: float, norm: str = "linf") -> FeatureThreat:
        low, high = np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32)
        return FeatureThreat(radius, low, high, np.ones(COLUMNS, np.bool_), norm=norm)

    def survived(self, attack: Attack[WhiteBox], radius: float, norm: str = "linf", seed: int = 0) -> float:
        threat = self.threat(radius, norm)
        return float(attack.run(self.model, self.features, self.targets, threat=threat, seed=seed).survived.mean())

    def moved(self, attack: Attack[WhiteBox], radius: float, norm: str = "linf") -> np.ndarray:
        """How far each record had to move, float64 [N]; infinite where it survived."""
        found = attack.run(self.model, self.features, self.targets, threat=self.threat(radius, norm))
        moves = (found.adversarial - self.features).astype(np.float64)
        length = np.linalg.norm(moves, axis=1) if norm == "l2" else np.abs(moves).max(axis=1)
        return np.where(found.survived, np.inf, length)

    def right(self, points: np.ndarray) -> float:
        return float(self.model.right(np.ascontiguousarray(points, np.float32), self.targets).mean())


def trained(judge: Judge, classes: int, records: int = 300) -> Scene:
    generator = np.random.default_rng(0)
    features = generator.random((4 * records, COLUMNS), dtype=np.float32)
    bent = np.sin(6 * features[:, :5]).sum(axis=1) + features[:, 5:12].sum(axis=1) ** 2 / 4
    targets = np.searchsorted(np.quantile(bent, np.arange(1, classes) / classes), bent)
    torch.manual_seed(0)
    wide, narrow = torch.nn.Linear(COLUMNS, 48), torch.nn.Linear(48, 32)
    module = torch.nn.Sequential(wide, torch.nn.ReLU(), narrow, torch.nn.ReLU(), torch.nn.Linear(32, classes))
    optimiser = torch.optim.Adam(module.parameters(), 5e-3)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.from_numpy(features)), torch.from_numpy(targets)).backward()
        optimiser.step()
    model = WhiteBox(module.eval(), judge)
    kept = np.flatnonzero(model.right(features, targets))[:records]
    return Scene(model, features[kept], targets[kept])


@pytest.fixture(scope="session")
def two_answers() -> Scene:
    return trained(Decision(), 2)


@pytest.fixture(scope="session")
def five_classes() -> Scene:
    return trained(Classes(5), 5)
