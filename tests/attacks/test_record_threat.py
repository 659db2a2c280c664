"""Whatever is projected is a record that the threat model allows: checked by a second reading of the same TOML."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_reading import (
    NUMBERS,
    SCHEMA,
    SPACE,
    THREATS,
    TOML,
    as_dicts,
    assert_legal,
    broken_rules,
    clean_records,
    every_norm,
    points_near,
)

from hauberk.attacks import FeatureThreat, RecordThreat
from hauberk.attacks.threat_file import decode_threat
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.schema import (
    Coded,
    FeatureSpace,
    IntegerFeature,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)
from hauberk.train.preprocessing import fit_preprocessing


@every_norm
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_projected_is_a_legal_record(threat, seed):
    coded = clean_records(seed)
    records = SPACE.transform(*coded)
    projected = threat.project(points_near(seed, records, threat), records)
    assert_legal(threat, TOML, SCHEMA, records, projected)
    assert threat.legal(projected, records).all()
    lowest, highest = threat.limits(records)
    assert ((projected >= lowest) & (projected <= highest)).all()
    assert threat.project(projected, records).tobytes() == projected.tobytes()


@every_norm
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_record_is_legal_whatever_it_breaks_and_decodes_to_itself(threat, seed):
    coded = clean_records(seed)
    records = SPACE.transform(*coded)
    assert threat.legal(records, records).all()
    assert threat.project(records, records).tobytes() == records.tobytes()
    raw = threat.raw(records)
    # A random number has no few decimals, and above some 300,000 bytes the logarithm does not tell each one apart.
    plain = (np.array(NUMBERS) != "sensor") & (coded.numeric < 3e5)
    assert (raw.numeric[plain] == coded.numeric[plain]).all()
    assert (raw.codes == coded.codes).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_violations_are_those_of_the_second_reading(seed):
    """Random legal encodings of random records are told apart as the plain checker tells them apart."""
    threat = THREATS["none"]
    source, other = clean_records(seed), clean_records(seed + 1)
    generator = np.random.default_rng(seed)
    swap = generator.random(source.numeric.shape) < 0.15
    mixed = Coded(
        np.where(swap, other.numeric, source.numeric),
        np.where(generator.random(source.codes.shape) < 0.3, other.codes, source.codes),
    )
    records, points = SPACE.transform(*source), SPACE.transform(*mixed)
    holds = np.array(
        [
            not broken_rules(TOML, SCHEMA, one, two)
            for one, two in zip(
                as_dicts(threat.raw(records), SCHEMA), as_dicts(threat.raw(points), SCHEMA), strict=True
            )
        ]
    )
    legal = threat.legal(points, records)
    # The plain checker says nothing of relations that the source breaks already; there, the threat may say no.
    broken_before = (threat.excess(records) > 0).any(axis=0)
    assert (legal <= holds).all()
    assert (legal | broken_before == holds | broken_before).all()


def first(change: dict[str, float], flag: str = "SF") -> np.ndarray:
    """One tidy record in feature space, with some values changed."""
    values = {
        "bytes": 4000, "packets": 100, "rate": 0.1, "cpu load": 0, "reads": 10, "writes": 5, "kinds": 2, "login": 0,
        "size": 500, "sensor": 0.5,
    } | change  # fmt: skip
    codes = np.array([[("unknown", "S0", "SF", "REJ").index(flag), 1]])
    return SPACE.transform(np.array([[values[name] for name in NUMBERS]], np.float32), codes)


@pytest.mark.parametrize(
    ("change", "columns"),
    [
        ({"bytes": 3999}, ["bytes"]),
        ({"reads": 10.5}, ["reads", "rate"]),
        ({"writes": 6}, ["writes"]),
        ({"writes": 1}, ["writes"]),
        ({"size": 500.5}, ["size"]),
        ({"size": 801}, ["size"]),
        ({"packets": 101}, ["packets"]),
        ({"kinds": 3}, ["kinds"]),
        ({"login": 1}, ["login"]),
        ({"rate": 0.12}, ["rate"]),
        ({"sensor": 0.25}, ["sensor"]),
    ],
)
def test_each_rule_is_broken_by_itself(change, columns):
    found = THREATS["none"].violations(first(change), first({}))[0]
    assert {NUMBERS[column] for column in np.flatnonzero(found)} <= set(columns)
    assert found[[NUMBERS.index(column) for column in columns[:1]]].all()


@pytest.mark.parametrize(
    "change",
    [{"bytes": 4001}, {"bytes": 4080, "packets": 102}, {"size": 501}, {"rate": 0.11}, {"login": 1, "kinds": 3}],
)
def test_what_keeps_every_rule_is_legal(change):
    threat = THREATS["none"]
    assert threat.legal(first(change), first({})).all()
    assert threat.project(first(change), first({})).tobytes() == first(change).tobytes()


def test_repair_lets_the_first_feature_give_way():
    wanted, record = first({"packets": 120}), first({})
    (repaired,) = as_dicts(THREATS["none"].raw(THREATS["none"].project(wanted, record)), SCHEMA)
    assert (repaired["packets"], repaired["bytes"]) == (120, 4800)
    assert repaired["rate"] == pytest.approx(10 / 120, abs=0.0101)


def test_a_relation_that_the_record_breaks_may_not_be_broken_further():
    threat, record = THREATS["none"], first({"bytes": 3000})
    assert threat.excess(record)[0] == 1000
    assert threat.legal(first({"bytes": 3001}), record).all()
    assert not threat.legal(first({"bytes": 3001, "packets": 101}), record).any()
    assert "1 of 1 clean records (100.00%) break it already" in threat.remarks(record)[0]


def test_categories_move_to_those_named_and_stay_one_hot():
    threat = THREATS["none"]
    record = first({}, "S0")
    group = threat.groups[0]
    assert len(threat.groups) == 1
    for flag, allowed in (("S0", True), ("SF", True), ("REJ", True), ("unknown", False)):
        assert threat.legal(first({}, flag), record).all() == allowed
    wanted = record.copy()
    wanted[0, group.start : group.stop] = [9.0, 0.2, 0.3, 0.1]
    assert threat.project(wanted, record)[0, group.start : group.stop].tolist() == [0, 0, 1, 0]
    wanted[0, group.start : group.stop] = [0.0, 0.3, 0.3, 0.3]
    assert threat.project(wanted, record).tobytes() == record.tobytes()
    assert threat.violations(wanted, record)[0, group.start : group.stop].all()


def test_what_cannot_be_repaired_goes_back_and_the_rest_stays():
    """A relation of categories has no number that could give way."""
    text = (
        TOML
        + """
[[relations]]
rule = "flag == 'SF' implies service == 'smtp'"
"""
    )
    threat = decode_threat(text.encode(), "test").threat(SPACE)
    assert isinstance(threat, RecordThreat)
    record = first({}, "REJ")
    (found,) = as_dicts(threat.raw(threat.project(first({"size": 600}, "SF"), record)), SCHEMA)
    assert (found["flag"], found["size"]) == ("REJ", 600)


def test_a_bound_holds_where_the_encoding_does_not_tell_whole_numbers_apart():
    schema = RecordSchema(features=(IntegerFeature(name="n", low=0, high=9_000_000),))
    space = FeatureSpace(schema, Preprocessing((Scaling(True, 0.0, 16.0),)))
    low = 4_000_000.5
    toml = f'norm = "none"\nmoves = "records"\n[[features]]\nnames = ["n"]\nlow = {low}'
    threat = decode_threat(toml.encode(), "test").threat(space)
    records = space.transform(np.arange(4_000_002, 4_000_202, dtype=np.float32)[:, None], np.zeros((200, 0), np.int64))
    assert len(np.unique(records)) < 200
    found = threat.raw(threat.project(np.zeros_like(records), records)).numeric
    assert ((found >= low) & (found <= low + 20)).all()


def test_a_feature_that_encodes_no_number_is_a_violation():
    threat, record = THREATS["none"], first({})
    point = record.copy()
    point[0, 0] = np.nextafter(point[0, 0], np.float32(1))
    assert threat.violations(point, record)[0, 0]
    with pytest.raises(InputError, match="point 0 is the encoding of no record in column 0"):
        threat.raw(point)


def test_limits_are_reached_by_whole_numbers():
    threat, record = THREATS["linf"], first({})
    lowest, highest = threat.limits(record)
    reach = threat.raw(np.where(np.arange(SPACE.width) == NUMBERS.index("size"), lowest, record))
    assert reach.numeric[0, NUMBERS.index("size")] == int(reach.numeric[0, NUMBERS.index("size")])
    assert (highest[0, threat.groups[0].start : threat.groups[0].stop] == 1).all()
    assert lowest[0, 0] == record[0, 0]


def test_another_radius_is_another_threat_of_the_same_kind():
    wider = replace(THREATS["linf"], radius=0.3)
    record = first({})
    assert (wider.limits(record)[1] >= THREATS["linf"].limits(record)[1]).all()
    free = replace(wider, radius=0.0, norm="none")
    assert free.legal(first({"bytes": 900_000}), record).all()
    assert not wider.legal(first({"bytes": 900_000}), record).any()


def test_no_records_are_projected_too():
    threat = THREATS["l2"]
    empty = np.zeros((0, SPACE.width), np.float32)
    assert threat.project(empty, empty).shape == empty.shape
    assert threat.limits(empty)[0].shape == empty.shape


def test_a_threat_without_groups_and_relations_is_a_box_of_whole_numbers():
    schema = RecordSchema(features=(IntegerFeature(name="n", low=0, high=9), NumericFeature(name="x", low=0, high=1)))
    space = FeatureSpace(schema, Preprocessing((Scaling(False, 0.0, 9.0), Scaling(False, 0.0, 1.0))))
    threat = decode_threat(b'norm = "linf"\nradius = 0.25\nmoves = "records"', "test").threat(space)
    record = np.array([[4 / 9, 0.5]], np.float32)
    found = threat.project(np.array([[1.0, 0.6]], np.float32), record)
    assert threat.raw(found).numeric.tolist() == [[6.0, float(np.float32(0.6))]]


def test_the_description_counts_what_moves():
    words = THREATS["l2"].describe()
    assert "9 of 10 numbers" in words
    assert "1 of 2 categories" in words
    assert "5 relations" in words


@pytest.mark.parametrize("kind", ["log-minmax", "standard"])
def test_spambases_threat_model_is_kept_on_its_records(kind):
    """The shipped file, read a second time, on real records."""
    from importlib import resources

    toml = (resources.files("hauberk.attacks") / "threats" / "spambase.toml").read_text()
    training = load_splits("spambase").training
    space = FeatureSpace(training.schema, fit_preprocessing(training.schema, training.coded.numeric, kind))
    records = space.transform(training.coded.numeric[:60], training.coded.codes[:60])
    threat = decode_threat(toml.encode(), "spambase").threat(space)
    assert isinstance(threat, RecordThreat)
    assert not threat.remarks(records)
    points = points_near(5, records, threat)
    projected = threat.project(points, records)
    assert_legal(threat, toml, training.schema, records, projected)
    moved = (projected != records).any(axis=1)
    assert moved.mean() > 0.6


def test_it_is_a_threat_like_any_other():
    threat = THREATS["linf"]
    assert isinstance(threat, FeatureThreat)
    assert threat.constrained
    assert threat.width == SPACE.width
    assert threat.shape == ()
