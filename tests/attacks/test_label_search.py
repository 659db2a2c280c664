"""What label-only attacks share, tried on each: counts, pools, legality, and models that hide their gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.attacks import PGD, Boundary, Classes, FeatureThreat, HopSkipJump, Mimicry, ScoredModel, WhiteBox
from hauberk.attacks.label_search import Pool
from hauberk.attacks.threat_file import decode_threat
from hauberk.errors import InputError
from hauberk.schema import (
    CategoricalFeature,
    Decision,
    FeatureSpace,
    IntegerFeature,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)

torch.set_num_threads(1)
COLUMNS = 12
KINDS = (HopSkipJump, Boundary, Mimicry)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
searching = pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.name)


class Silent:
    """A model that answers right or wrong, keeps count, and has nothing else to ask for."""

    def __init__(self, model: WhiteBox) -> None:
        self._model = model
        self.judge = model.judge
        self.sizes: list[int] = []
        self.seen: list[np.ndarray] = []

    def right(self, features: np.ndarray, targets: np.ndarray) -> np.ndarray:
        self.sizes.append(len(features))
        self.seen.append(features)
        return self._model.right(features, targets)


def box(radius: float, norm: str = "linf") -> FeatureThreat:
    ends = (np.full(COLUMNS, end, np.float32) for end in (0, 1))
    return FeatureThreat(radius, *ends, np.ones(COLUMNS, np.bool_), norm=norm)


@pytest.fixture(scope="module")
def scene():
    """A small network, and records that it answers right, both classes; a pool of further ones with their targets."""
    torch.manual_seed(3)
    layers = (torch.nn.Linear(COLUMNS, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16), torch.nn.ReLU())
    module = torch.nn.Sequential(*layers, torch.nn.Linear(16, 2)).eval()
    features = np.random.default_rng(3).random((300, COLUMNS), dtype=np.float32)
    margins = Decision().margin(WhiteBox(module, Decision()).logits(features))
    model = WhiteBox(module, Decision(threshold=float(np.median(margins))))
    targets = (margins >= model.judge.threshold).astype(np.int64)
    return model, features[:100], targets[:100], Pool(features[100:], targets[100:])


@every_kind
@pytest.mark.parametrize("queries", [1, 2, 3, 7, 150])
def test_every_query_is_counted_and_none_is_spent_beyond_the_budget(scene, kind, queries):
    model, features, targets, _ = scene
    silent = Silent(model)
    found = kind(queries=queries).run(silent, features, targets, threat=box(0.05))
    assert sum(silent.sizes) == found.queries.sum() + len(features)  # the last look, which judges what was found
    assert found.queries.max() <= queries
    assert found.queries.min() >= 1


@every_kind
def test_a_record_that_is_wrong_to_begin_with_costs_one_query(scene, kind):
    model, features, targets, _ = scene
    assert (kind().run(model, features, 1 - targets, threat=box(0.05)).queries == 1).all()


@searching
def test_a_record_is_left_alone_once_a_wrong_point_lies_within_the_threat(scene, kind):
    model, features, targets, _ = scene
    found = kind(queries=400).run(model, features, targets, threat=box(0.1))
    assert found.queries[found.survived].min() > 390
    assert found.queries[~found.survived].mean() < 200


@searching
def test_the_search_for_the_nearest_goes_on_where_it_is_asked_for(scene, kind):
    model, features, targets, _ = scene
    brief = kind(queries=600).run(model, features, targets, threat=box(0.5))
    thorough = kind(queries=600, early_stopping=False).run(model, features, targets, threat=box(0.5))
    moved = [np.abs(found.adversarial - features).max(axis=1) for found in (brief, thorough)]
    assert not brief.survived.any()
    assert not thorough.survived.any()
    assert (thorough.queries > brief.queries).all()
    assert np.median(moved[1]) < 0.3 * np.median(moved[0])


@searching
def test_more_queries_do_more(scene, kind):
    model, features, targets, _ = scene
    survived = [
        kind(queries=queries).run(model, features, targets, threat=box(0.05)).survived.mean()
        for queries in (3, 60, 800)
    ]
    assert survived[0] > survived[1] >= survived[2]


@searching
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_answers_get_through_where_rounding_hides_the_gradient(scene, kind, norm):
    model, features, targets, _ = scene

    class Rounded(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return model.module(torch.round(batch * 64) / 64)

    threat = box(0.1 if norm == "linf" else 0.25, norm)
    blind = WhiteBox(Rounded(), model.judge)
    clean = blind.right(features, targets).mean()
    seen_through = PGD(steps=40, restarts=2).run(model, features, targets, threat=threat).survived.mean()
    survived = kind(queries=800).run(blind, features, targets, threat=threat).survived.mean()
    assert clean > seen_through + 0.3
    assert survived <= seen_through + 0.05


@every_kind
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    radius=st.floats(0, 2),
    norm=st.sampled_from(["linf", "l2"]),
    mutable=arrays.arrays(np.bool_, COLUMNS),
)
def test_whatever_the_model_sees_lies_in_the_box_and_moves_no_fixed_column(scene, kind, seed, radius, norm, mutable):
    model, features, targets, _ = scene
    features, targets = features[:8], targets[:8]
    silent = Silent(model)
    threat = replace(box(radius, norm), mutable=mutable)
    found = kind(queries=40, batch_size=8).run(silent, features, targets, threat=threat, seed=seed)
    assert not threat.violations(found.adversarial, features).any()
    seen = np.concatenate(silent.seen)
    assert (seen >= 0).all()
    assert (seen <= 1).all()
    assert np.isin(seen[:, ~mutable], features[:, ~mutable]).all()


RULES = b"""
norm = "linf"
radius = 0.3
moves = "records"
features = [{ names = ["sent"], change = "increase" }, { names = ["kind"], categories = ["a", "b"] }]
relations = ["answered <= sent"]
"""


@pytest.fixture(scope="module")
def mail():
    """Records with whole numbers, a direction, a category that may change, and a relation; a model, a threat."""
    features = (
        IntegerFeature(name="sent", low=0, high=20),
        IntegerFeature(name="answered", low=0, high=20),
        NumericFeature(name="share", low=0.0, high=1.0),
        CategoricalFeature(name="kind", categories=("a", "b", "c")),
    )
    ends = (20.0, 20.0, 1.0)
    scalings = tuple(Scaling(logarithm=False, offset=0.0, scale=end) for end in ends)
    space = FeatureSpace(RecordSchema(features), Preprocessing(scalings))
    generator = np.random.default_rng(1)
    sent = generator.integers(0, 21, 60)
    numeric = np.stack([sent, generator.integers(0, sent + 1), generator.random(60)], axis=1).astype(np.float32)
    records = space.transform(numeric, generator.integers(1, 4, (60, 1)))
    torch.manual_seed(0)
    layers = (torch.nn.Linear(space.width, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    model = WhiteBox(torch.nn.Sequential(*layers).eval(), Decision(1))
    margins = model.logits(records)[:, 0]
    judge = Decision(1, threshold=float(np.median(margins)))
    targets = (margins >= judge.threshold).astype(np.int64)
    return WhiteBox(model.module, judge), records, targets, decode_threat(RULES, "here").threat(space)


@every_kind
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(0, 1), norm=st.sampled_from(["linf", "l2"]))
def test_whatever_the_model_sees_is_a_record_that_could_be_sent(mail, kind, seed, radius, norm):
    model, records, targets, threat = mail
    silent, threat = Silent(model), replace(threat, radius=radius, norm=norm)
    found = kind(queries=30, batch_size=60).run(silent, records, targets, threat=threat, seed=seed)
    assert not threat.violations(found.adversarial, records).any()
    free = replace(threat, radius=0.0, norm="none")
    for seen in silent.seen:
        raw = free.raw(seen)
        assert (raw.numeric[:, :2] == np.rint(raw.numeric[:, :2])).all()
        assert (raw.numeric[:, 1] <= raw.numeric[:, 0]).all()


@every_kind
def test_constrained_records_are_found(mail, kind):
    model, records, targets, threat = mail
    known = {"pool": records, "pool_targets": targets}
    assert kind(queries=300, **known).run(model, records, targets, threat=threat).survived.mean() < 0.75


@every_kind
def test_without_a_norm_the_box_alone_counts(scene, kind):
    model, features, targets, pool = scene
    threat = box(0.0, "none")
    assert not kind(pool=pool.records).run(model, features, targets, threat=threat).survived.any()


@every_kind
def test_the_batches_that_the_model_sees_are_bounded(scene, kind):
    model, features, targets, _ = scene
    sizes = []

    def logits(batch):
        sizes.append(len(batch))
        return model.logits(np.ascontiguousarray(batch))

    session = ScoredModel(logits, model.judge, batch_size=100)
    kind(queries=50, batch_size=64).run(session, features, targets, threat=box(0.05))
    assert sizes.pop() == 100  # the last look
    assert max(sizes) <= 64


@every_kind
def test_real_records_beat_random_starts_where_wrong_answers_are_rare(kind):
    """A model that is fooled in a corner only, which no random point hits: some records of the pool lie there."""

    class Corner(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            inside = (features > 0.8).all(dim=1, keepdim=True).float()
            return torch.cat([inside, 1 - inside], dim=1)

    model = WhiteBox(Corner(), Decision())
    features = np.full((10, COLUMNS), 0.5, np.float32)
    targets = np.ones(10, np.int64)
    pool = np.random.default_rng(0).random((40, COLUMNS), dtype=np.float32)
    pool[-3:] = 0.9
    assert kind(queries=200).run(model, features, targets, threat=box(0.45)).survived.all()
    answers = np.where((pool > 0.8).all(axis=1), 0, 1)
    helped = kind(queries=200, pool=pool, pool_targets=answers).run(model, features, targets, threat=box(0.45))
    assert not helped.survived.any()


def test_a_start_comes_from_the_class_that_the_adversary_wants():
    pool = Pool(np.zeros((4, 1), np.float32), np.array([0, 1, 2, 2]))
    assert pool.others(Classes(3), 2).tolist() == [0, 1]
    assert pool.others(Classes(3, wanted=2), 0).tolist() == [2, 3]
    assert pool.others(Classes(4, wanted=3), 0).tolist() == [1, 2, 3]  # nobody is of that class
    assert Pool(pool.records, None).others(Classes(3), 2).tolist() == [0, 1, 2, 3]


@every_kind
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "queries must be at least 1, not 0"),
        ({"starts": 0}, "starts must be at least 1, not 0"),
        ({"batch_size": 0}, "batch size must be at least 1, not 0"),
        ({"pool": np.zeros((3, 2))}, r"the pool must be finite float32 \[M, D\], not float64 \[3, 2\]"),
        ({"pool": np.full((3, 2), np.nan, np.float32)}, "the pool must be finite"),
        ({"pool_targets": np.zeros(3, np.int64)}, "but no pool"),
        ({"pool": np.zeros((3, 2), np.float32), "pool_targets": np.zeros(2, np.int64)}, r"must be int64 \[3\]"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(InputError, match=f"attack {kind.name}: .*{message}"):
        kind(**options)


@every_kind
def test_a_pool_of_another_width_is_refused(scene, kind):
    model, features, targets, _ = scene
    with pytest.raises(InputError, match="the pool has 2 columns, the records have 12"):
        kind(pool=np.zeros((3, 2), np.float32)).run(model, features, targets, threat=box(0.1))
