"""Gradient attacks where points are repaired: whole numbers, categories, relations, against every point there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hauberk.attacks import APGD, FAB, PGD, CarliniWagner, Ensemble, RecordThreat, WhiteBox
from hauberk.attacks.threat_file import decode_threat
from hauberk.schema import CategoricalFeature, Decision, FeatureSpace, IntegerFeature, RecordSchema
from hauberk.train.preprocessing import fit_preprocessing

torch.set_num_threads(1)
FLAGS, PORTS, MOST = ("a", "b", "c"), ("p", "q", "r", "s"), 4
TOML = """
norm = "none"
relations = ["sent + read = total"]

[[features]]
names = ["flag", "port"]
change = "any"

[[features]]
names = ["sent", "read", "total"]
change = "any"
"""


class Scene:
    """Every record that there is (300 of them), a network with a mind of its own, and a threat that allows them all."""

    def __init__(self) -> None:
        numbers = [
            IntegerFeature(name=name, low=0, high=high)
            for name, high in (("sent", MOST), ("read", MOST), ("total", 2 * MOST))
        ]
        flags = CategoricalFeature(name="flag", categories=FLAGS)
        schema = RecordSchema(features=(*numbers, flags, CategoricalFeature(name="port", categories=PORTS)))
        points = list(itertools.product(range(MOST + 1), range(MOST + 1), range(1, 4), range(1, 5)))
        numeric = np.array([(sent, read, sent + read) for sent, read, _, _ in points], np.float64)
        codes = np.array([(flag, port) for _, _, flag, port in points], np.int64)
        space = FeatureSpace(schema, fit_preprocessing(schema, numeric))
        self.points = space.transform(numeric, codes)
        threat = decode_threat(TOML.encode(), "threat.toml").threat(space)
        assert isinstance(threat, RecordThreat)
        self.threat = threat
        width = self.points.shape[1]
        torch.manual_seed(3)
        layers = torch.nn.Sequential(torch.nn.Linear(width, 24), torch.nn.Tanh(), torch.nn.Linear(24, 1))
        with torch.no_grad():
            layers[0].weight.mul_(6.0)
        raw = layers(torch.from_numpy(self.points)).detach().numpy()[:, 0]
        # One record in a hundred is answered wrong: few, and every record can be moved to one.
        self.model = WhiteBox(layers.eval(), Decision(outputs=1, threshold=float(np.quantile(raw, 0.01))))
        right = raw >= self.model.judge.threshold
        self.features = self.points[right][::12]
        self.targets = np.ones(len(self.features), np.int64)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("attack", "most"),
    [(PGD(steps=20, restarts=4), 0.4), (APGD(steps=30, restarts=2), 0.6), (Ensemble(steps=20, queries=500), 0.0)],
    ids=str,
)
def test_few_records_survive_where_none_has_to(scene, attack, most):
    found = attack.run(scene.model, scene.features, scene.targets, threat=scene.threat)
    assert found.survived.mean() <= most


@pytest.mark.parametrize(
    "attack", [PGD(steps=10, restarts=2), APGD(steps=10), FAB(steps=10), CarliniWagner(steps=10, rounds=2)], ids=str
)
def test_the_model_sees_records_and_nothing_else(scene, attack):
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            seen.append(features.detach().numpy().copy())
            return scene.model.module(features)

    attack.run(WhiteBox(Watched(), scene.model.judge), scene.features, scene.targets, threat=scene.threat)
    # An encoding in float32 leaves some numbers two neighbours; rounded, every record has one form.
    known = {tuple(point) for point in scene.points.round(4).tolist()}
    assert {tuple(point) for point in np.concatenate(seen).round(4).tolist()} <= known


def test_small_steps_add_up_until_a_category_changes(scene):
    """Going on from the repair, steps of a twentieth would never leave the record's own category."""
    itself = PGD(steps=40, early_stopping=False).run(scene.model, scene.features, scene.targets, threat=scene.threat)
    moved = [
        (itself.adversarial[:, group] != scene.features[:, group]).any(axis=1).mean() for group in scene.threat.groups
    ]
    assert max(moved) > 0.4
