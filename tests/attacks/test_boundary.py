"""The boundary walk: as near as others' with as many queries, and across categories that no small step crosses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.attacks import Boundary, HopSkipJump, WhiteBox
from hauberk.attacks.threat_file import decode_threat
from hauberk.errors import InputError
from hauberk.schema import (
    CategoricalFeature,
    Decision,
    FeatureSpace,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)

torch.set_num_threads(1)
RECORDS = 24


def starts(scene) -> np.ndarray:
    """For each of the first records the nearest of all records of another class, which is answered wrong."""
    features, targets = scene.features, scene.targets
    distance = ((features[:RECORDS, None] - features[None]) ** 2).sum(axis=2)
    distance[targets[:RECORDS, None] == targets[None]] = np.inf
    return features[distance.argmin(axis=1)]


def nearest(scene, queries: int, norm: str = "l2") -> np.ndarray:
    """How far the walk had to move each of the first records."""
    attack = Boundary(queries=queries, early_stopping=False, pool=scene.features, pool_targets=scene.targets)
    features = scene.features[:RECORDS]
    found = attack.run(scene.model, features, scene.targets[:RECORDS], threat=scene.threat(10.0, norm))
    assert not found.survived.any()
    moves = found.adversarial.astype(np.float64) - features
    return np.linalg.norm(moves, axis=1) if norm == "l2" else np.abs(moves).max(axis=1)


def test_it_comes_as_near_as_foolbox_with_as_many_queries(five_classes):
    from foolbox import PyTorchModel
    from foolbox.attacks import BoundaryAttack

    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - foolbox draws from the global generators
        theirs = BoundaryAttack(steps=1000).run(
            PyTorchModel(five_classes.model.module, bounds=(0, 1)),
            torch.from_numpy(five_classes.features[:RECORDS]),
            torch.from_numpy(five_classes.targets[:RECORDS]),
            starting_points=torch.from_numpy(starts(five_classes)),
        )
    theirs = np.linalg.norm(theirs.numpy() - five_classes.features[:RECORDS], axis=1)
    found = nearest(five_classes, 1000)  # foolbox asks at least once a step
    assert np.median(found) <= np.median(theirs)
    radius = np.median(theirs)
    assert (found > radius).mean() <= (theirs > radius).mean() + 0.01


@pytest.mark.filterwarnings("ignore")
def test_it_comes_as_near_as_art_with_as_many_queries(two_answers):
    from art.attacks.evasion import BoundaryAttack
    from art.estimators.classification import PyTorchClassifier

    features, asked = two_answers.features[:RECORDS], []

    class Counted(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            asked.append(len(batch))
            return two_answers.model.module(batch.float())

    classifier = PyTorchClassifier(
        Counted().eval(), torch.nn.CrossEntropyLoss(), input_shape=(16,), nb_classes=2, clip_values=(0.0, 1.0)
    )
    np.random.seed(0)  # noqa: NPY002 - ART draws from the global generator
    art = BoundaryAttack(classifier, targeted=False, max_iter=15, num_trial=10, sample_size=10, verbose=False)
    asked.clear()
    theirs = np.linalg.norm(art.generate(features, x_adv_init=starts(two_answers)) - features, axis=1)
    found = nearest(two_answers, sum(asked) // RECORDS)
    assert np.median(found) <= np.median(theirs)
    radius = np.median(theirs)
    assert (found > radius).mean() <= (theirs > radius).mean() + 0.01


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_longer_walks_come_nearer(two_answers, norm):
    medians = [np.median(nearest(two_answers, queries, norm)) for queries in (60, 250, 900)]
    assert medians[0] > 1.1 * medians[1] > 1.1 * medians[2]


def test_it_crosses_categories_that_no_small_step_crosses():
    """Small changes of the numbers do where the category is "b"; with the record's own "a" they have to be large.

    The starts are of category "c", which is right as long as numbers are small. HopSkipJump stays with it.
    """
    features = (
        *(NumericFeature(name=f"x{place}", low=0.0, high=1.0) for place in range(4)),
        CategoricalFeature(name="kind", categories=("a", "b", "c")),
    )
    scalings = (Scaling(logarithm=False, offset=0.0, scale=1.0),) * 4
    space = FeatureSpace(RecordSchema(features), Preprocessing(scalings))
    threat = decode_threat(
        b'norm = "linf"\nradius = 0.2\nfeatures = [{ names = ["kind"], categories = ["a", "b", "c"] }]', "here"
    ).threat(space)
    layer = torch.nn.Linear(space.width, 1)
    with torch.no_grad():  # unknown, a, b, c
        layer.weight.copy_(torch.tensor([[-1.0, -1.0, -1.0, -1.0, 9.0, 3.0, 0.4, 3.0]]))
        layer.bias.zero_()
    model = WhiteBox(layer.eval(), Decision(1))
    generator = np.random.default_rng(0)
    numbers = np.full((20, 4), 0.05, np.float32)
    records = space.transform(numbers, np.full((20, 1), 1))
    pool = space.transform(generator.uniform(0.85, 1, (30, 4)).astype(np.float32), np.full((30, 1), 3))
    targets = np.ones(20, np.int64)
    known = {"queries": 400, "pool": pool}
    walked = Boundary(**known).run(model, records, targets, threat=threat)
    assert not walked.survived.any()
    assert (walked.adversarial[:, space.groups[0]] == np.eye(4)[2]).all()
    assert HopSkipJump(**known).run(model, records, targets, threat=threat).survived.all()
    assert Boundary(switch=0.0, **known).run(model, records, targets, threat=threat).survived.all()


@pytest.mark.parametrize("switch", [-0.1, 1.1, float("nan")])
def test_a_share_of_switches_out_of_range_is_refused(switch):
    with pytest.raises(InputError, match="the share of proposals that switch must lie in"):
        Boundary(switch=switch)
