"""Finite differences: right slopes on smooth scores, every query counted, no weaker than an independent ZOO."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from hauberk.attacks import PGD, FeatureThreat, FiniteDifferences, ScoredModel, Square, WhiteBox
from hauberk.attacks.finite_differences import Estimate, Step
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
RADIUS = 0.1
every_form = pytest.mark.parametrize(
    ("estimate", "step"), [(one, two) for one in ("columns", "directions") for two in ("signed", "adam")]
)


def linear(columns: int) -> tuple[WhiteBox, np.ndarray, np.ndarray]:
    """A linear model that no move within the tests' radius fools, 20 records, and the weights."""
    generator = np.random.default_rng(0)
    weight = generator.normal(size=columns).astype(np.float32)
    layer = torch.nn.Linear(columns, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight[None]))
        layer.bias.fill_(50.0)
    return WhiteBox(layer.eval(), Decision(outputs=1)), generator.random((20, columns), dtype=np.float32), weight


def wide(columns: int, radius: float, norm: str) -> FeatureThreat:
    low, high = np.full(columns, -9, np.float32), np.full(columns, 9, np.float32)
    return FeatureThreat(radius, low, high, np.ones(columns, np.bool_), norm=norm)


def test_one_query_a_column_is_enough_for_the_exact_worst_case_of_a_linear_model():
    model, features, weight = linear(12)
    targets = np.ones(20, np.int64)
    attack = FiniteDifferences(queries=1 + 12 + 1)
    found = attack.run(model, features, targets, threat=wide(12, 0.5, "linf"))
    expected = features - np.where(weight > 0, 1, -1) * 0.5 * (1 - 0.9 * 13 / 14) * 2
    clipped = np.clip(expected, *wide(12, 0.5, "linf").limits(features))
    np.testing.assert_allclose(found.adversarial, clipped, atol=1e-5)
    assert (found.queries == 14).all()


@every_form
def test_an_l2_ball_is_descended_along_the_gradient(estimate: Estimate, step: Step):
    model, features, weight = linear(30)
    targets = np.ones(20, np.int64)
    attack = FiniteDifferences(queries=1000, estimate=estimate, step=step)
    found = attack.run(model, features, targets, threat=wide(30, 0.5, "l2")).adversarial
    fall = (model.headroom(features, targets) - model.headroom(found, targets)) / (0.5 * np.linalg.norm(weight))
    assert fall.min() > (0.9 if step == "signed" else 0.75)
    assert fall.max() <= 1 + 1e-4


@every_form
def test_it_comes_within_three_points_of_gradients(two_answers, estimate: Estimate, step: Step):
    with_gradients = two_answers.survived(PGD(steps=40, restarts=2), RADIUS)
    ours = two_answers.survived(FiniteDifferences(queries=1000, estimate=estimate, step=step), RADIUS)
    assert with_gradients < 0.7
    assert ours <= with_gradients + 0.03


def test_smooth_scores_cost_it_fewer_queries_than_random_search(two_answers):
    ours, theirs = (two_answers.survived(kind(queries=40), RADIUS) for kind in (FiniteDifferences, Square))
    assert ours < theirs


def test_it_is_stronger_than_the_zoo_of_the_adversarial_robustness_toolbox(two_answers):
    """At no more queries; theirs looks for the nearest point instead, so that its own is cut to the same ball."""
    features, targets = two_answers.features[:8], two_answers.targets[:8]
    asked = []

    class Counted(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            asked.append(len(batch))
            return two_answers.model.module(batch)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import ZooAttack
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=Counted(),
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=(features.shape[1],),
            nb_classes=2,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        theirs = ZooAttack(
            classifier, learning_rate=0.03, max_iter=40, nb_parallel=8, initial_const=10.0, verbose=False
        ).generate(features, np.eye(2)[targets])
    threat = two_answers.threat(0.15)
    cut = threat.project(theirs.astype(np.float32), features)
    survived = two_answers.model.right(cut, targets).mean()
    assert survived < 1, "the toolbox's attack must do harm for the comparison to mean anything"
    attack = FiniteDifferences(queries=int(sum(asked) / len(features)))
    ours = attack.run(two_answers.model, features, targets, threat=threat)
    assert ours.survived.mean() <= survived


@every_form
def test_probes_move_apart_until_rounding_shows_a_difference(two_answers, estimate: Estimate, step: Step):
    class Rounded(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return two_answers.model.module(torch.round(batch * 32) / 32)

    blind = WhiteBox(Rounded(), two_answers.model.judge)
    features, targets, threat = two_answers.features, two_answers.targets, two_answers.threat(RADIUS)
    clean = blind.right(features, targets).mean()
    attack = FiniteDifferences(queries=500, estimate=estimate, step=step, width=0.001)
    assert attack.run(blind, features, targets, threat=threat).survived.mean() < clean - 0.2


@pytest.mark.parametrize("estimate", ["columns", "directions"])
@pytest.mark.parametrize("queries", [1, 2, 3, 4, 50])
def test_it_counts_every_query(two_answers, estimate: Estimate, queries: int):
    asked = []

    def logits(batch: np.ndarray) -> np.ndarray:
        asked.append(len(batch))
        return two_answers.model.logits(np.ascontiguousarray(batch))

    model = ScoredModel(logits, two_answers.model.judge, 64)
    attack = FiniteDifferences(queries=queries, estimate=estimate, batch_size=64)
    found = attack.run(model, two_answers.features, two_answers.targets, threat=two_answers.threat(0.02))
    assert sum(asked) == found.queries.sum() + len(two_answers.features)  # the last look, which judges what was found
    assert found.survived.any()
    assert found.queries.max() <= queries
    assert (found.queries[found.survived] >= queries - (1 if estimate == "columns" else 2)).all()
    assert max(asked) <= 64


@pytest.mark.parametrize(
    "options",
    [
        {"queries": 0},
        {"probes": 0},
        {"width": 0.0},
        {"width": 1.5},
        {"rate": 0.0},
        {"rate": float("inf")},
        {"estimate": "rows"},
        {"step": "newton"},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="attack finite-differences"):
        FiniteDifferences(**options)
