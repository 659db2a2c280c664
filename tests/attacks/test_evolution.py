"""Evolution: stronger than the other score attacks under constraints, every query counted, every record legal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.attacks import PGD, Evolution, FeatureThreat, FiniteDifferences, ScoredModel, Square, WhiteBox
from hauberk.errors import InputError
from hauberk.schema import Decision

torch.set_num_threads(1)
COLUMNS, NUMBERS = 24, 18


@dataclass(frozen=True)
class Forms(FeatureThreat):
    """Columns 0 to 5 are whole numbers, 6 + 7 never exceed what they were, 18 to 23 are two one-hot groups of three.

    Written apart from the threat models of the library: it repairs by rounding, and by taking back.
    """

    @property
    def groups(self) -> tuple[range, ...]:
        return range(18, 21), range(21, 24)

    @property
    def constrained(self) -> bool:
        return True

    def limits(self, records):
        lowest, highest = (ends.copy() for ends in super().limits(records))
        lowest[:, NUMBERS:], highest[:, NUMBERS:] = 0, 1
        return lowest, highest

    def project(self, adversarial, records):
        lowest, highest = self.limits(records)
        points = np.clip(adversarial, lowest, highest)
        whole = np.rint(points[:, :6])
        points[:, :6] = np.where((whole < lowest[:, :6]) | (whole > highest[:, :6]), records[:, :6], whole)
        more = points[:, 6].astype(np.float64) + points[:, 7] > records[:, 6].astype(np.float64) + records[:, 7]
        points[more, 6:8] = records[more, 6:8]
        for group in self.groups:
            columns = slice(group.start, group.stop)
            points[:, columns] = np.eye(3, dtype=np.float32)[points[:, columns].argmax(axis=1)]
        return points

    def violations(self, adversarial, records):
        lowest, highest = self.limits(records)
        wrong = (adversarial < lowest) | (adversarial > highest)
        wrong[:, :6] |= adversarial[:, :6] != np.rint(adversarial[:, :6])
        more = adversarial[:, 6].astype(np.float64) + adversarial[:, 7]
        wrong[:, 6:8] |= (more > records[:, 6].astype(np.float64) + records[:, 7])[:, None]
        for group in self.groups:
            columns = slice(group.start, group.stop)
            hot = np.sort(adversarial[:, columns], axis=1)
            wrong[:, columns] |= (hot != np.float32([0, 0, 1])).any(axis=1, keepdims=True)
        return wrong


def forms(radius: float = 2.0) -> Forms:
    low, high = np.zeros(COLUMNS, np.float32), np.full(COLUMNS, 10, np.float32)
    return Forms(radius, low, high, np.ones(COLUMNS, np.bool_))


def records(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    features = generator.uniform(0, 10, (count, COLUMNS)).astype(np.float32)
    features[:, :6] = np.rint(features[:, :6])
    for start in (18, 21):
        features[:, start : start + 3] = np.eye(3, dtype=np.float32)[generator.integers(0, 3, count)]
    return features


class Scene:
    """A curved network that is sure of its answers, and records on both sides of its threshold."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        layers = (torch.nn.Linear(COLUMNS, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU())
        module = torch.nn.Sequential(*layers, torch.nn.Linear(32, 2)).eval()
        with torch.no_grad():
            module[0].weight[:, NUMBERS:] *= 5  # categories count about as much as numbers
        self.features = records(200, seed=2)
        margins = Decision().margin(WhiteBox(module, Decision()).logits(self.features))
        self.model = WhiteBox(module, Decision(threshold=float(np.median(margins))))
        self.targets = (margins >= self.model.judge.threshold).astype(np.int64)

    def headroom(self, attack, radius: float) -> tuple[float, float]:
        """Records that survive, and what headroom is left on average where a wrong answer counts as none."""
        found = attack.run(self.model, self.features, self.targets, threat=forms(radius))
        left = self.model.headroom(found.adversarial, self.targets)
        return float(found.survived.mean()), float(np.maximum(left, 0).mean())


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    radius=st.floats(0, 12),
    attack=st.sampled_from([Square(queries=40), Evolution(queries=40), FiniteDifferences(queries=40)]),
)
def test_every_point_that_the_model_sees_is_legal_under_relations(seed, radius, attack):
    """Not only what is returned: every point must be one that the adversary could have sent."""
    features, threat = records(8, seed), forms(radius)
    weight = np.random.default_rng(seed).normal(size=COLUMNS).astype(np.float32)
    base = features @ weight

    class Watched:
        judge = Decision(outputs=1)

        def headroom(self, points, targets):
            sources = np.repeat(features, len(points) // 8, axis=0)  # no record is ever answered wrong
            assert not threat.violations(points, sources).any()
            return (points @ weight - base.min() + 1000).astype(np.float32) * np.where(targets == 1, 1, -1)

        def right(self, points, targets):
            return np.ones(len(points), np.bool_)

    found = attack.run(Watched(), features, np.ones(8, np.int64), threat=threat, seed=seed)
    assert not threat.violations(found.adversarial, features).any()


def test_it_is_the_strongest_score_attack_under_constraints(scene):
    ours, left = scene.headroom(Evolution(queries=1000), radius=0.5)
    for other in (Square(queries=1000), FiniteDifferences(queries=1000)):
        survived, more = scene.headroom(other, radius=0.5)
        assert ours <= survived + 0.005
        assert left <= more
    assert 0.05 < ours < 0.9, "the comparison means something only between all and nothing"


def test_without_constraints_it_comes_within_two_points_of_gradients(scene):
    threat = FeatureThreat(0.15, np.zeros(COLUMNS, np.float32), np.full(COLUMNS, 10, np.float32), forms().mutable)
    with_gradients, ours = (
        attack.run(scene.model, scene.features, scene.targets, threat=threat).survived.mean()
        for attack in (PGD(steps=40, restarts=2), Evolution(queries=1500))
    )
    assert with_gradients < 0.9
    assert ours <= with_gradients + 0.02


@pytest.mark.parametrize(("queries", "population"), [(1, 10), (2, 10), (7, 10), (57, 10), (40, 2)])
def test_it_counts_every_query_and_spends_what_it_has(scene, queries, population):
    asked = []

    def logits(batch):
        asked.append(len(batch))
        return scene.model.logits(np.ascontiguousarray(batch))

    attack = Evolution(queries=queries, population=population, batch_size=64)
    found = attack.run(ScoredModel(logits, scene.model.judge, 64), scene.features, scene.targets, threat=forms(0.1))
    assert sum(asked) == found.queries.sum() + len(scene.features)  # the last look, which judges what was found
    assert (found.queries[found.survived] == queries).all()
    assert found.survived.any()
    assert max(asked) <= 64


def test_a_seed_repeats_the_search_under_constraints(scene):
    attack = Evolution(queries=100)
    first, second = (
        attack.run(scene.model, scene.features, scene.targets, threat=forms(0.5), seed=4) for _ in range(2)
    )
    assert first.adversarial.tobytes() == second.adversarial.tobytes()
    other = attack.run(scene.model, scene.features, scene.targets, threat=forms(0.5), seed=5)
    assert other.adversarial.tobytes() != first.adversarial.tobytes()


def test_categories_alone_are_searched(scene):
    """Of nine combinations the worst is known."""
    frozen = np.arange(COLUMNS) >= NUMBERS
    threat = Forms(0.0, np.zeros(COLUMNS, np.float32), np.full(COLUMNS, 10, np.float32), frozen)
    found = Evolution(queries=150).run(scene.model, scene.features, scene.targets, threat=threat)
    every = []
    for first in range(3):
        for second in range(3):
            points = scene.features.copy()
            points[:, NUMBERS:] = np.concatenate([np.eye(3)[first], np.eye(3)[second]])
            every.append(scene.model.right(points, scene.targets))
    assert found.survived.tolist() == np.all(every, axis=0).tolist()
    assert (found.adversarial[:, :NUMBERS] == scene.features[:, :NUMBERS]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "nothing can be learnt from 0 queries"),
        ({"batch_size": 0}, "batch size"),
        ({"population": 1}, "population must be at least 2"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=f"attack evolution: .*{message}"):
        Evolution(**options)
