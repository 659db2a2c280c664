"""The base class holds every attack to its contract, a broken one included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from hauberk.attacks import Attack, FeatureThreat, Scored, ScoredModel
from hauberk.errors import ContractError
from hauberk.schema import Decision


@dataclass(frozen=True, kw_only=True)
class Careless(Attack[Scored]):
    """Moves every column by more than it may."""

    name: ClassVar[str] = "careless"
    knowledge: ClassVar[str] = "scores"

    def _search(self, model, features, targets, threat, generator):
        moved = features + np.float32(2 * threat.radius)
        return moved, np.ones(len(features), np.int64)


def test_an_attack_that_leaves_the_threat_model_is_an_error_and_not_a_result():
    threat = FeatureThreat(0.1, np.zeros(2, np.float32), np.ones(2, np.float32), np.ones(2, np.bool_))
    model = ScoredModel(lambda features: features.sum(axis=1, keepdims=True), Decision(outputs=1))
    features, targets = np.full((3, 2), 0.5, np.float32), np.ones(3, np.int64)
    with pytest.raises(ContractError, match="careless: record 0 left the threat model in column 0"):
        Careless().run(model, features, targets, threat=threat)
