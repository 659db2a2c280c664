"""The base class holds every attack to its contract, a broken one included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from hauberk.attacks import Attack, FeatureThreat, Model, ScoredModel, classified_right, headroom
from hauberk.errors import ContractError


@dataclass(frozen=True, kw_only=True)
class Careless(Attack[Model]):
    """Moves every column by more than it may."""

    name: ClassVar[str] = "careless"
    knowledge: ClassVar[str] = "scores"

    def _search(self, model, features, targets, threat, generator):
        moved = features + np.float32(2 * threat.radius)
        return moved, model.margin(moved), np.ones(len(features), np.int64)


def test_an_attack_that_leaves_the_threat_model_is_an_error_and_not_a_result():
    threat = FeatureThreat(0.1, np.zeros(2, np.float32), np.ones(2, np.float32), np.ones(2, np.bool_))
    model = ScoredModel(lambda features: features.sum(axis=1))
    features, targets = np.full((3, 2), 0.5, np.float32), np.ones(3, np.int64)
    with pytest.raises(ContractError, match="careless: record 0 left the threat model in column 0"):
        Careless().run(model, features, targets, threat=threat)


def test_the_label_is_an_attack_where_the_margin_reaches_the_threshold():
    margins = np.array([0.5, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), np.nan, np.nan], np.float32)
    targets = np.array([1, 0, 1, 1, 0])
    assert classified_right(margins, targets, 0.5).tolist() == [True, False, False, False, True]


def test_headroom_has_the_sign_of_being_right():
    margins = np.array([2.0, -1.0, -np.inf, np.inf], np.float32)
    assert headroom(margins, np.ones(4, np.int64), 0.5).tolist() == [1.5, -1.5, -np.inf, np.inf]
    assert headroom(margins, np.zeros(4, np.int64), 0.5).tolist() == [-1.5, 1.5, np.inf, -np.inf]


def test_a_nan_is_as_bad_as_can_be_for_an_attack_record_and_as_good_for_a_benign_one():
    margins = np.full(2, np.nan, np.float32)
    assert headroom(margins, np.array([1, 0]), 0.0).tolist() == [-np.inf, np.inf]
