"""HopSkipJump against closed forms, and against two other implementations at the same number of queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hauberk.attacks import Boundary, FeatureThreat, HopSkipJump, WhiteBox
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
RECORDS = 24
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


class Counted(torch.nn.Module):
    """A module that counts the records that it is shown."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.records = 0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.records += len(batch)
        return self.module(batch.float())


def lengths(adversarial: np.ndarray, features: np.ndarray, norm: str) -> np.ndarray:
    moves = adversarial.astype(np.float64) - features
    return np.linalg.norm(moves, axis=1) if norm == "l2" else np.abs(moves).max(axis=1)


def starts(scene) -> np.ndarray:
    """For each of the first records the nearest of all records of another class, which is answered wrong."""
    features, targets = scene.features, scene.targets
    distance = ((features[:RECORDS, None] - features[None]) ** 2).sum(axis=2)
    distance[targets[:RECORDS, None] == targets[None]] = np.inf
    return features[distance.argmin(axis=1)]


def ours(scene, attack, norm: str) -> np.ndarray:
    found = attack.run(
        scene.model, scene.features[:RECORDS], scene.targets[:RECORDS], threat=scene.threat(10.0, norm), seed=0
    )
    assert not found.survived.any()
    return lengths(found.adversarial, scene.features[:RECORDS], norm)


def thorough(scene, kind, queries: float):
    known = {"pool": scene.features, "pool_targets": scene.targets}
    return kind(queries=round(queries), early_stopping=False, **known)


@norms
@pytest.mark.parametrize(("kind", "queries"), [(HopSkipJump, 4000), (Boundary, 2500)])
def test_on_a_linear_model_it_comes_close_to_the_smallest_change(kind, queries, norm):
    """The closed form: margin / L1 norm of the weights under L-infinity, margin / L2 norm under L2."""
    columns = 20
    generator = np.random.default_rng(0)
    weight = generator.normal(size=columns).astype(np.float32)
    layer = torch.nn.Linear(columns, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight[None]))
        layer.bias.zero_()
    features = generator.normal(size=(20, columns)).astype(np.float32)
    margins = features.astype(np.float64) @ weight
    smallest = np.abs(margins) / (np.abs(weight).sum() if norm == "linf" else np.linalg.norm(weight))
    low, high = (np.full(columns, end, np.float32) for end in (-20, 20))
    threat = FeatureThreat(20.0, low, high, np.ones(columns, np.bool_), norm=norm)
    attack = kind(queries=queries, early_stopping=False)
    targets = (margins >= 0).astype(np.int64)
    found = attack.run(WhiteBox(layer.eval(), Decision(1)), features, targets, threat=threat)
    excess = lengths(found.adversarial, features, norm) / smallest
    assert not found.survived.any()
    assert (excess >= 1 - 1e-5).all()
    assert np.median(excess) <= 1.05
    assert np.quantile(excess, 0.9) <= 1.1


@norms
def test_it_comes_as_near_as_foolbox_with_as_many_queries(five_classes, norm):
    from foolbox import PyTorchModel
    from foolbox.attacks import HopSkipJumpAttack

    counted = Counted(five_classes.model.module).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = HopSkipJumpAttack(steps=6, constraint=norm).run(
            PyTorchModel(counted, bounds=(0, 1)),
            torch.from_numpy(five_classes.features[:RECORDS]),
            torch.from_numpy(five_classes.targets[:RECORDS]),
            starting_points=torch.from_numpy(starts(five_classes)),
        )
    theirs = lengths(theirs.numpy(), five_classes.features[:RECORDS], norm)
    found = ours(five_classes, thorough(five_classes, HopSkipJump, counted.records / RECORDS), norm)
    assert np.median(found) <= np.median(theirs)
    radius = np.median(theirs)
    assert (found > radius).mean() <= (theirs > radius).mean() + 0.01


@norms
@pytest.mark.filterwarnings("ignore")
def test_it_comes_as_near_as_art_with_as_many_queries(two_answers, norm):
    from art.attacks.evasion import HopSkipJump as Theirs
    from art.estimators.classification import PyTorchClassifier

    counted = Counted(two_answers.model.module).eval()
    features = two_answers.features[:RECORDS]
    classifier = PyTorchClassifier(
        counted, torch.nn.CrossEntropyLoss(), input_shape=features.shape[1:], nb_classes=2, clip_values=(0.0, 1.0)
    )
    np.random.seed(0)  # noqa: NPY002 - ART draws from the global generator
    art = Theirs(
        classifier, norm=np.inf if norm == "linf" else 2, max_iter=6, max_eval=300, init_eval=100, verbose=False
    )
    counted.records = 0
    theirs = lengths(art.generate(features, x_adv_init=starts(two_answers)), features, norm)
    found = ours(two_answers, thorough(two_answers, HopSkipJump, counted.records / RECORDS), norm)
    assert np.median(found) <= np.median(theirs)
    radius = np.median(theirs)
    assert (found > radius).mean() <= (theirs > radius).mean() + 0.01


def test_what_was_estimated_before_helps(two_answers):
    medians = [
        np.median(ours(two_answers, replace(thorough(two_answers, HopSkipJump, 400), memory=memory), "linf"))
        for memory in (0.0, 0.9)
    ]
    assert medians[1] < medians[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": 1}, "at least 2 probes a step, not 1"),
        ({"memory": 1.0}, r"the memory must lie in \[0, 1\), not 1.0"),
        ({"memory": -0.1}, "the memory must lie"),
        ({"memory": float("nan")}, "the memory must lie"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=f"attack hop-skip-jump: .*{message}"):
        HopSkipJump(**options)
