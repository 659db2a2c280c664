"""Square: it needs nothing but answers, counts them, and comes close to what gradients find."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from hauberk.attacks import FGSM, PGD, Classes, FeatureThreat, ScoredModel, Square, WhiteBox
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
COLUMNS = 30


def network() -> WhiteBox:
    torch.manual_seed(3)
    layers = (torch.nn.Linear(COLUMNS, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU())
    return WhiteBox(torch.nn.Sequential(*layers, torch.nn.Linear(32, 2)).eval(), Decision())


@pytest.fixture(scope="module")
def scene():
    generator = np.random.default_rng(3)
    features = generator.random((400, COLUMNS), dtype=np.float32)
    module = network().module
    margins = Decision().margin(WhiteBox(module, Decision()).logits(features))
    model = WhiteBox(module, Decision(threshold=float(np.median(margins))))
    targets = (margins >= model.judge.threshold).astype(np.int64)
    threat = FeatureThreat(
        0.02, np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32), np.ones(COLUMNS, np.bool_)
    )
    return model, features, targets, threat


def test_it_comes_within_two_points_of_gradients(scene):
    model, features, targets, threat = scene
    with_gradients = PGD(steps=40, restarts=2).run(model, features, targets, threat=threat).survived.mean()
    without = Square(queries=1000).run(model, features, targets, threat=threat).survived.mean()
    assert with_gradients < 0.9
    assert without <= with_gradients + 0.02


def test_it_counts_every_query(scene):
    model, features, targets, threat = scene
    asked = []

    def logits(batch):
        asked.append(len(batch))
        return model.logits(np.ascontiguousarray(batch))

    found = Square(queries=50).run(ScoredModel(logits, model.judge), features, targets, threat=threat)
    assert sum(asked) == found.queries.sum() + len(features)  # the last look, which judges what was found
    assert found.queries.max() == 50


def test_a_record_is_left_alone_once_it_is_wrong(scene):
    model, features, targets, threat = scene
    found = Square(queries=200).run(model, features, targets, threat=threat)
    assert (found.queries[found.survived] == 200).all()
    assert found.queries[~found.survived].mean() < 150


@pytest.mark.parametrize("queries", [1, 2, 3])
def test_the_smallest_budgets_are_kept(scene, queries):
    model, features, targets, threat = scene
    found = Square(queries=queries).run(model, features, targets, threat=threat)
    assert found.queries.max() == queries


def test_more_queries_do_more(scene):
    model, features, targets, threat = scene
    survived = [
        Square(queries=queries).run(model, features, targets, threat=threat).survived.mean()
        for queries in (10, 100, 1000)
    ]
    assert survived[0] > survived[1] >= survived[2]


def test_it_sees_through_rounding_that_has_no_gradient(scene):
    model, features, targets, threat = scene

    class Rounded(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return model.module(torch.round(batch * 128) / 128)

    blind = WhiteBox(Rounded(), model.judge)
    clean = blind.right(features, targets)
    assert FGSM().run(blind, features, targets, threat=threat).survived.mean() == clean.mean()
    assert Square(queries=300).run(blind, features, targets, threat=threat).survived.mean() < clean.mean() - 0.1


def test_the_batches_that_the_model_sees_are_bounded(scene):
    model, features, targets, threat = scene
    sizes = []

    def logits(batch):
        sizes.append(len(batch))
        return model.logits(np.ascontiguousarray(batch))

    session = ScoredModel(logits, model.judge, batch_size=100)
    Square(queries=5, batch_size=64).run(session, features, targets, threat=threat)
    assert set(sizes[-4:]) == {100}  # the last look
    del sizes[-4:]
    assert max(sizes) == 64


class Digits:
    """A small convolutional network trained on scikit-learn's digits (8x8), and 150 test digits that it gets right."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32)
        torch.manual_seed(0)
        first, second = torch.nn.Conv2d(1, 12, 3, padding=1), torch.nn.Conv2d(12, 12, 3, padding=1)
        pooled = (torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(192, 10))
        self.network = torch.nn.Sequential(first, torch.nn.ReLU(), second, *pooled)
        optimiser = torch.optim.Adam(self.network.parameters(), 5e-3)
        inputs, targets = torch.from_numpy(images[:1200]).reshape(-1, 1, 8, 8), torch.from_numpy(labels[:1200])
        for _ in range(40):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(self.network(inputs), targets).backward()
            optimiser.step()
        rows = torch.nn.Sequential(torch.nn.Unflatten(1, (1, 8, 8)), self.network.eval())
        self.model = WhiteBox(rows, Classes(10))
        right = np.flatnonzero(self.model.right(images, labels.astype(np.int64)))
        kept = right[right >= 1200][:150]
        self.features, self.targets = images[kept], labels[kept].astype(np.int64)

    def survived(self, attack, radius: float, norm: str, shape: tuple[int, ...]) -> float:
        ends = np.zeros(64, np.float32), np.ones(64, np.float32)
        threat = FeatureThreat(radius, *ends, np.ones(64, np.bool_), norm=norm, shape=shape)
        found = attack.run(self.model, self.features, self.targets, threat=threat)
        assert not threat.violations(found.adversarial, self.features).any()
        return float(found.survived.mean())


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.12), ("l2", 0.8)])
def test_on_images_it_is_as_strong_as_pyautoattack_with_as_many_queries(digits, norm, radius):
    from pyautoattack.square import SquareAttack

    theirs = SquareAttack(
        digits.network, norm={"linf": "Linf", "l2": "L2"}[norm], n_queries=300, eps=radius, verbose=False
    ).perturb(torch.from_numpy(digits.features).reshape(-1, 1, 8, 8), torch.from_numpy(digits.targets))
    expected = digits.model.right(theirs.reshape(-1, 64).numpy(), digits.targets).mean()
    assert 0.1 < expected < 0.9, "the comparison means something only between all and nothing"
    assert digits.survived(Square(queries=300), radius, norm, (1, 8, 8)) <= expected + 0.01


def test_on_images_it_is_as_strong_as_the_adversarial_robustness_toolbox(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import SquareAttack
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=digits.network,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=(1, 8, 8),
            nb_classes=10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        theirs = SquareAttack(classifier, norm=np.inf, eps=0.12, max_iter=200, batch_size=256, verbose=False).generate(
            digits.features.reshape(-1, 1, 8, 8), digits.targets
        )
    expected = digits.model.right(theirs.reshape(-1, 64), digits.targets).mean()
    assert expected < 0.9, "the toolbox's attack must do harm for the comparison to mean anything"
    assert digits.survived(Square(queries=200), 0.12, "linf", (1, 8, 8)) <= expected + 0.01


@pytest.mark.parametrize("shape", [(), (8, 8), (1, 8, 8), (4, 4, 4)], ids=str)
def test_every_shape_of_record_is_searched_as_far_as_gradients_go(digits, shape):
    with_gradients = digits.survived(PGD(steps=40), 0.12, "linf", shape)
    assert with_gradients < 0.7
    assert digits.survived(Square(queries=500), 0.12, "linf", shape) <= with_gradients + 0.03


@pytest.mark.parametrize("shape", [(), (6, 5), (1, 5, 6), (2, 3, 5)], ids=str)
def test_an_l2_ball_is_searched_to_its_edge(shape):
    """On a linear model the deepest point is known: the length of the weights times the radius.

    These weights know of no neighbours, which is the case that blocks and squares are not made for.
    """
    generator = np.random.default_rng(0)
    weight = generator.normal(size=COLUMNS).astype(np.float32)
    layer = torch.nn.Linear(COLUMNS, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight[None]))
        layer.bias.fill_(50.0)
    model, features = WhiteBox(layer, Decision(outputs=1)), generator.random((20, COLUMNS), dtype=np.float32)
    ends = np.full(COLUMNS, -9, np.float32), np.full(COLUMNS, 9, np.float32)
    threat = FeatureThreat(0.5, *ends, np.ones(COLUMNS, np.bool_), norm="l2", shape=shape)
    targets = np.ones(20, np.int64)
    found = Square(queries=600).run(model, features, targets, threat=threat).adversarial
    fall = (model.headroom(features, targets) - model.headroom(found, targets)) / (0.5 * np.linalg.norm(weight))
    assert fall.mean() > (0.6 if shape else 0.85)
    assert fall.max() <= 1 + 1e-5


@pytest.mark.parametrize("options", [{"queries": 0}, {"batch_size": 0}, {"share": 0.0}, {"share": 1.5}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="attack square"):
        Square(**options)
