"""Mimicry: real values, few columns, the right record to imitate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.attacks import FeatureThreat, Mimicry, WhiteBox
from hauberk.attacks.threat_file import decode_threat
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
COLUMNS = 10


def linear(weight, bias: float) -> WhiteBox:
    layer = torch.nn.Linear(len(weight), 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.array([weight], np.float32)))
        layer.bias.fill_(bias)
    return WhiteBox(layer.eval(), Decision(1))


def box(radius: float = 0.0, norm: str = "none", fixed: tuple[int, ...] = ()) -> FeatureThreat:
    mutable = np.ones(COLUMNS, np.bool_)
    mutable[list(fixed)] = False
    low, high = np.zeros(COLUMNS, np.float32), np.ones(COLUMNS, np.float32)
    return FeatureThreat(radius, low, high, mutable, norm=norm)


def test_only_the_columns_that_decide_are_changed():
    """Of ten columns that differ, three make the answer; each of them alone is too little."""
    weight = np.zeros(COLUMNS)
    weight[[1, 4, 7]] = 1
    model = linear(weight, -0.5)
    features, pool = np.ones((5, COLUMNS), np.float32), np.zeros((1, COLUMNS), np.float32)
    found = Mimicry(pool=pool).run(model, features, np.ones(5, np.int64), threat=box())
    expected = np.ones(COLUMNS)
    expected[[1, 4, 7]] = 0
    assert (found.adversarial == expected).all()
    assert not found.survived.any()
    assert found.queries.max() < 25
    every = Mimicry(pool=pool, early_stopping=True).run(model, features, np.ones(5, np.int64), threat=box())
    assert (every.adversarial == 0).all()
    assert (every.queries == 2).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_change_that_is_left_can_be_taken_back(seed):
    generator = np.random.default_rng(seed)
    weight = generator.random(COLUMNS)
    model = linear(weight, -float(weight.sum()) / 2)
    features = generator.uniform(0.6, 1, (20, COLUMNS)).astype(np.float32)
    pool = generator.uniform(0, 0.4, (30, COLUMNS)).astype(np.float32)
    targets = np.ones(20, np.int64)
    found = Mimicry(pool=pool).run(model, features, targets, threat=box()).adversarial
    assert not model.right(found, targets).any()
    for column in range(COLUMNS):
        without = found.copy()
        without[:, column] = features[:, column]
        moved = found[:, column] != features[:, column]
        assert model.right(without, targets)[moved].all()


def test_values_are_those_of_a_real_record_where_the_threat_reaches_them(two_answers):
    features, targets = two_answers.features[:100], two_answers.targets[:100]
    pool, threat = two_answers.features[100:], two_answers.threat(0.15)
    found = Mimicry(pool=pool, pool_targets=two_answers.targets[100:])
    found = found.run(two_answers.model, features, targets, threat=threat)
    lowest, highest = threat.limits(features)
    assert not found.survived.all()
    for row in np.flatnonzero(~found.survived):
        moved = found.adversarial[row] != features[row]
        reached = np.clip(pool, lowest[row], highest[row])
        assert (reached[:, moved] == found.adversarial[row, moved]).all(axis=1).any()


def test_the_record_that_one_comes_closest_to_is_imitated():
    """The columns that cannot move tell which benign record is within reach; another one is nearer in the others."""
    model = linear([1.0] * 5 + [0.0] * 5, -0.5)
    features = np.zeros((1, COLUMNS), np.float32)
    features[0, :5], features[0, 5:] = 0.5, 1.0
    pool = np.zeros((2, COLUMNS), np.float32)
    pool[0, :5] = 0.05  # another kind of record: its fixed columns are not those of the attack
    pool[1, 5:] = 1.0
    found = Mimicry(pool=pool, starts=1, early_stopping=True)
    found = found.run(model, features, np.ones(1, np.int64), threat=box(fixed=(5, 6, 7, 8, 9)))
    assert found.adversarial.tolist() == pool[1:].tolist()


def test_a_category_is_given_back_as_a_whole():
    features = (
        *(NumericFeature(name=f"x{place}", low=0.0, high=1.0) for place in range(2)),
        CategoricalFeature(name="kind", categories=("a", "b")),
    )
    space = FeatureSpace(RecordSchema(features), Preprocessing((Scaling(logarithm=False, offset=0.0, scale=1.0),) * 2))
    threat = decode_threat(
        b'norm = "none"\nmoves = "records"\nfeatures = [{ names = ["kind"], categories = ["a", "b"] }]', "here"
    ).threat(space)
    record = space.transform(np.array([[0.9, 0.2]], np.float32), np.array([[1]]))
    pool = space.transform(np.array([[0.1, 0.7]], np.float32), np.array([[2]]))
    by_number = linear([1.0, 0.0, 0.0, 0.0, 0.0], -0.5)
    found = Mimicry(pool=pool).run(by_number, record, np.ones(1, np.int64), threat=threat)
    assert found.adversarial.tolist() == [[pool[0, 0], record[0, 1], 0, 1, 0]]
    by_category = linear([0.0, 0.0, 0.0, 1.0, 0.0], -0.5)
    found = Mimicry(pool=pool).run(by_category, record, np.ones(1, np.int64), threat=threat)
    assert found.adversarial.tolist() == [[record[0, 0], record[0, 1], 0, 0, 1]]


def test_without_a_pool_the_other_records_are_imitated():
    model = linear([1.0] * COLUMNS, -5.0)
    features = np.repeat(np.array([[0.9], [0.1]], np.float32), COLUMNS, axis=1)
    found = Mimicry().run(model, features, np.array([1, 0]), threat=box())
    assert not found.survived.any()
    alone = Mimicry().run(model, features[:1], np.array([1]), threat=box())
    assert alone.survived.all()
    assert alone.queries.tolist() == [1]
