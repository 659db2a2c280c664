"""Square: it needs nothing but answers, counts them, and comes close to what gradients find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.attacks import FGSM, PGD, FeatureThreat, ScoredModel, Square, WhiteBox
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


@pytest.mark.parametrize("options", [{"queries": 0}, {"batch_size": 0}, {"share": 0.0}, {"share": 1.5}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="attack square"):
        Square(**options)
