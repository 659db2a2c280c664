"""A substitute for trees: it answers as they do, attacks on it carry over, and its fidelity is what was measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier

from hauberk.attacks import PGD, Classes, FeatureThreat, ScoredModel, WhiteBox
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.schema import Decision, FeatureSpace
from hauberk.train import TrainingOptions, fit_preprocessing, labelled, train_substitute

RADIUS = 0.1
BRIEF = TrainingOptions(epochs=15, batch_size=128, learning_rate=5e-3, schedule="cosine")


class Trees:
    """Boosted trees, by their log-odds."""

    def __init__(self, features, targets):
        self.model = GradientBoostingClassifier(n_estimators=30, random_state=0).fit(features, targets)

    def predict(self, features):
        return self.model.decision_function(features).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def scene():
    torch.set_num_threads(1)
    splits = load_splits("spambase")
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric))
    training, test = (labelled(space, part) for part in (splits.training, splits.test))
    trees = Trees(training.features, training.targets)
    judge = Decision(outputs=1, threshold=0.3)
    found = train_substitute(
        trees, training.features[:1500], judge, bounds=space.bounds, radius=RADIUS, options=BRIEF, seed=1
    )
    return trees, judge, found, space, training, test.sample(400, 0)


def test_it_answers_as_the_trees_do_and_says_how_often(scene):
    trees, judge, found, _, _, test = scene
    ours = WhiteBox(found.module, judge).logits(test.features)[:, 0] >= 0.3
    theirs = trees.predict(test.features)[:, 0] >= 0.3
    assert found.agreement.samples == 300
    assert found.agreement.value > 0.9
    low, high = found.agreement.low, found.agreement.high
    assert low - 0.02 <= (ours == theirs).mean() <= high + 0.02
    assert found.nearby.value > 0.75
    assert 0 < found.error < 0.5


def test_attacks_on_it_carry_over_to_the_trees(scene):
    """Trees have no gradient of their own; moves at random do them no harm."""
    trees, judge, found, space, _, test = scene
    model = ScoredModel(trees.predict, judge)
    threat = FeatureThreat.from_space(space, RADIUS)
    attacked = PGD(steps=10, early_stopping=False).run(
        WhiteBox(found.module, judge), test.features, test.targets, threat=threat
    )
    clean = model.right(test.features, test.targets).mean()
    random = np.random.default_rng(0).uniform(*threat.limits(test.features)).astype(np.float32)
    carried = model.right(attacked.adversarial, test.targets).mean()
    assert carried < clean - 0.15
    assert carried < model.right(threat.project(random, test.features), test.targets).mean() - 0.1


def test_the_same_seed_gives_the_same_network(scene):
    trees, judge, _, space, training, _ = scene
    weights = []
    for seed in (2, 2, 3):
        found = train_substitute(
            trees,
            training.features[:100],
            judge,
            bounds=space.bounds,
            radius=RADIUS,
            widths=(8,),
            options=TrainingOptions(epochs=1, seed=seed),
            seed=seed,
        )
        weights.append(b"".join(value.numpy().tobytes() for value in found.module.state_dict().values()))
    assert weights[0] == weights[1] != weights[2]


def test_classes_are_learned_too():
    features = np.random.default_rng(0).random((300, 2), dtype=np.float32)

    class Corners:
        def predict(self, features):
            return 50 * np.stack([features[:, 0], features[:, 1], np.full(len(features), 0.6, np.float32)], axis=1)

    box = np.zeros(2, np.float32), np.ones(2, np.float32)
    slow = TrainingOptions(epochs=40, batch_size=16, learning_rate=5e-3)
    found = train_substitute(Corners(), features, Classes(3), bounds=box, radius=0.0, options=slow)
    assert found.agreement.value > 0.8


@pytest.mark.parametrize(
    ("records", "radius", "answer", "says"),
    [
        (np.zeros((5, 2), np.float32), 0.1, 0.0, "at least 10"),
        (np.zeros((20, 2, 2), np.float32), 0.1, 0.0, "must be rows"),
        (np.zeros((20, 2), np.float32), -1.0, 0.0, "the radius is -1.0"),
        (np.zeros((20, 2), np.float32), 0.1, np.nan, "finite logits"),
    ],
)
def test_what_cannot_be_learned_is_refused(records, radius, answer, says):
    class Model:
        def predict(self, features):
            return np.full((len(features), 2), answer, np.float32)

    box = np.zeros(2, np.float32), np.ones(2, np.float32)
    with pytest.raises(InputError, match=says):
        train_substitute(Model(), records, Decision(), bounds=box, radius=radius)


def test_columns_of_any_scale_are_learned_alike(scene):
    """Trees take columns as they come; a network behind the ranges of its columns does, too."""
    trees, judge, found, space, training, _ = scene
    stretch = np.geomspace(1e-3, 1e5, space.width).astype(np.float32)

    class Stretched:
        def predict(self, features):
            return trees.predict(features / stretch)

    low, high = space.bounds
    again = train_substitute(
        Stretched(),
        training.features[:1500] * stretch,
        judge,
        bounds=(low * stretch, high * stretch),
        radius=0.0,
        options=BRIEF,
        seed=1,
    )
    assert again.agreement.value > 0.9
    assert abs(again.agreement.value - found.agreement.value) < 0.05
