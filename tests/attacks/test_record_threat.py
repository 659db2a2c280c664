"""Whatever is projected is a record that the threat model allows: checked by a second reading of the same TOML.

The second reading, `broken_rules`, is plain Python over dicts. It knows the file and the schema's types and ranges, and
nothing of the code that is tested; relations are turned into Python by replacing words.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.attacks import FeatureThreat, RecordThreat
from hauberk.attacks.threat_file import decode_threat
from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Coded,
    FeatureSpace,
    IntegerFeature,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)
from hauberk.train.preprocessing import fit_preprocessing

SCHEMA = RecordSchema(
    features=(
        IntegerFeature(name="bytes", low=0, high=1_000_000),
        IntegerFeature(name="packets", low=0, high=500),
        CategoricalFeature(name="flag", categories=("S0", "SF", "REJ")),
        NumericFeature(name="rate", low=0.0, high=1.0),
        NumericFeature(name="cpu load", low=-5.0, high=5.0),
        IntegerFeature(name="reads", low=0, high=40),
        IntegerFeature(name="writes", low=0, high=40),
        IntegerFeature(name="kinds", low=0, high=3),
        BooleanFeature(name="login"),
        NumericFeature(name="size", low=0.0, high=900.0),
        NumericFeature(name="sensor", low=0.0, high=1.0, mutable=False),
        CategoricalFeature(name="service", categories=("http", "smtp", "ssh", "dns")),
    )
)
SCALINGS = (
    Scaling(logarithm=True, offset=0.0, scale=13.8),
    Scaling(logarithm=False, offset=3.0, scale=-77.0),
    Scaling(logarithm=False, offset=0.0, scale=1.0),
    Scaling(logarithm=False, offset=-5.0, scale=10.0),
    Scaling(logarithm=True, offset=0.4, scale=3.7),
    Scaling(logarithm=False, offset=0.0, scale=40.0),
    Scaling(logarithm=False, offset=0.0, scale=3.0),
    Scaling(logarithm=False, offset=0.0, scale=1.0),
    Scaling(logarithm=True, offset=0.0, scale=-6.8),
    Scaling(logarithm=False, offset=0.0, scale=1.0),
)
SPACE = FeatureSpace(SCHEMA, Preprocessing(SCALINGS))
NUMBERS = [feature.name for feature in SCHEMA.numbers]

TOML = """
norm = "none"

[[features]]
names = ["bytes", "reads"]
change = "increase"

[[features]]
names = ["writes"]
high = "source"
low = 2

[[features]]
names = ["size"]
integer = true
high = 800.5

[[features]]
names = ["flag"]
categories = ["SF", "REJ"]

[[features]]
names = ["service"]
change = "never"

[[relations]]
rule = "bytes >= 40 * packets"

[[relations]]
rule = "packets >= reads + writes - 20"

[[relations]]
rule = "kinds == count(reads, writes, login)"

[[relations]]
rule = "packets > 0 implies rate == reads / packets"
tolerance = 0.0101

[[relations]]
rule = 'flag == "S0"'
"""
TOML = TOML.replace("rule = 'flag == \"S0\"'", "rule = '''flag == 'S0' implies size <= 100 or \"cpu load\" < 0'''")


def threat_of(norm: str = "none", radius: float = 0.0) -> RecordThreat:
    text = TOML if norm == "none" else TOML.replace('norm = "none"', f'norm = "{norm}"\nradius = {radius!r}')
    threat = decode_threat(text.encode(), "test").threat(SPACE)
    assert isinstance(threat, RecordThreat)
    return threat


THREATS = {
    "none": threat_of(),
    "linf": threat_of("linf", 0.05),
    "wide": threat_of("linf", 0.6),
    "l2": threat_of("l2", 0.3),
}
every_norm = pytest.mark.parametrize("threat", THREATS.values(), ids=THREATS)


def as_dicts(coded: Coded, schema: RecordSchema) -> list[dict[str, Any]]:
    """Raw records in words; an unknown category is `None`."""
    rows = []
    for numbers, codes in zip(coded.numeric.tolist(), coded.codes.tolist(), strict=True):
        row: dict[str, Any] = dict(zip([feature.name for feature in schema.numbers], numbers, strict=True))
        for feature, code in zip(schema.categoricals, codes, strict=True):
            row[feature.name] = (None, *feature.categories)[code]
        rows.append(row)
    return rows


def python_of(rule: str, names: list[str]) -> str:
    """A relation as Python: `A implies B` becomes `not (A) or (B)`, names become look-ups."""
    if " implies" in rule:
        premise, conclusion = re.split(r"\simplies\s", rule, maxsplit=1)
        return f"(not ({python_of(premise, names)}) or ({python_of(conclusion, names)}))"

    def look_up(match: re.Match[str]) -> str:
        text = match[0]
        if text.startswith("'"):
            return text
        name = text.strip('"')
        if "*" in name:
            head = name.rstrip("*")
            return ", ".join(f"record[{one!r}]" for one in names if one.startswith(head))
        if text.startswith('"') or (name in names and not rule[match.end() :].startswith("(")):
            return f"record[{name!r}]"
        return text

    return re.sub(r"'[^']*'|\"[^\"]*\"|[A-Za-z_]\w*", look_up, rule.replace("\n", " "))


FUNCTIONS = {
    "count": lambda *values: sum(value != 0 for value in values),
    "sum": lambda *values: sum(values),
    "min": min,
    "max": max,
}


def relation_holds(entry: Any, record: dict[str, Any]) -> bool:
    rule = entry if isinstance(entry, str) else entry["rule"]
    tolerance = 0 if isinstance(entry, str) else entry.get("tolerance", 0)
    python = python_of(rule, list(record))
    if tolerance:  # only at the last comparison, and only for the two operators that the tests use with one
        python = re.sub(r"(.*\()?(.*?) == (.*?)(\)*)$", r"\1abs((\2) - (\3)) <= tolerance\4", python)
        python = re.sub(r"^([^=]*?) <= (.*)$", r"(\1) - (\2) <= tolerance", python) if "abs" not in python else python
    return bool(eval(python, FUNCTIONS | {"record": record, "tolerance": tolerance, "abs": abs}))


def broken_rules(toml: str, schema: RecordSchema, source: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Every rule of a file that a record breaks and that its source does not; plain Python, one record at a time."""
    file = tomllib.loads(toml)
    entries: dict[str, dict[str, Any]] = {}
    for exact in (False, True):
        for entry in file.get("features", []):
            for name in entry["names"]:
                if exact == (name in source):
                    head = name.rstrip("*")
                    entries |= {one: entry for one in source if one == name or (not exact and one.startswith(head))}
    broken = []
    for feature in schema.features:
        name = feature.name
        entry = entries.get(name, {})
        before, after = source[name], record[name]
        default = "never" if file.get("others") == "never" and not entry else ("any" if feature.mutable else "never")
        change = entry.get("change", default)
        if after == before:
            continue
        if isinstance(feature, CategoricalFeature):
            known = entry.get("categories", feature.categories if entry.get("change") == "any" else ())
            broken += [f"{name} became {after}"] if after not in known else []
            continue
        bounds = (0, 1) if isinstance(feature, BooleanFeature) else (feature.low, feature.high)
        low, high = (
            float(np.float32(end if isinstance(entry.get(key, "schema"), str) else entry[key]))
            for key, end in zip(("low", "high"), bounds, strict=True)
        )
        whole = entry.get("integer", not isinstance(feature, NumericFeature))
        checks = {
            "moved": change != "never",
            "fell": after > before or (change != "increase" and entry.get("low") != "source"),
            "rose": after < before or (change != "decrease" and entry.get("high") != "source"),
            "is not whole": not whole or after == int(after),
            "is too low": after >= min(low, before),
            "is too high": after <= max(high, before),
        }
        broken += [f"{name} {what}" for what, fine in checks.items() if not fine]
    for entry in file.get("relations", []):
        if relation_holds(entry, source) and not relation_holds(entry, record):
            broken.append(f"relation {entry}")
    return broken


def clean_records(seed: int, count: int = 8) -> Coded:
    """Records of every kind: some break relations, lie outside the ranges, or have an unknown category."""
    generator = np.random.default_rng(seed)
    columns = {
        "bytes": generator.integers(0, 3_000, count) * generator.choice([1, 400], count),
        "packets": generator.integers(0, 60, count),
        "rate": generator.integers(0, 101, count) / 100,
        "cpu load": generator.integers(-6_000, 6_000, count) / 1000,
        "reads": generator.integers(0, 41, count) * generator.integers(0, 2, count),
        "writes": generator.integers(0, 41, count),
        "kinds": generator.integers(0, 4, count),
        "login": generator.integers(0, 2, count),
        "size": generator.integers(0, 9000, count) / 10,
        "sensor": generator.random(count),
    }
    tidy = generator.random(count) < 0.7
    columns["bytes"] = np.where(tidy, np.maximum(columns["bytes"], 40 * columns["packets"]), columns["bytes"])
    kinds = (columns["reads"] > 0).astype(int) + (columns["writes"] > 0) + columns["login"]
    columns["kinds"] = np.where(tidy, kinds, columns["kinds"])
    share = np.round(columns["reads"] / np.maximum(columns["packets"], 1), 2)
    columns["rate"] = np.where(tidy, share, columns["rate"])
    numeric = np.stack([columns[name] for name in NUMBERS], axis=1).astype(np.float32)
    codes = np.stack([generator.integers(0, 4, count), generator.integers(0, 5, count)], axis=1)
    return Coded(numeric, codes)


def points_near(seed: int, records: np.ndarray, threat: RecordThreat) -> np.ndarray:
    """Points that an attack could ask for: within the limits, at their ends, far outside, and no numbers at all."""
    generator = np.random.default_rng(seed)
    lowest, highest = threat.limits(records)
    share = generator.random(records.shape, dtype=np.float32)
    points = lowest + share * (highest - lowest)
    ends = np.where(share < 0.5, lowest, highest)
    wild = (records + generator.normal(0, 10.0 ** generator.integers(-3, 30), records.shape)).astype(np.float32)
    none = generator.choice(np.array([np.nan, np.inf, -np.inf, 0, -0.0], np.float32), records.shape)
    kind = generator.integers(0, 5, (len(records), 1))
    mixed = np.where(generator.random(records.shape) < 0.3, none, points)
    return np.choose(kind, [points, ends, wild, none, mixed]).astype(np.float32)


def assert_legal(
    threat: RecordThreat, toml: str, schema: RecordSchema, records: np.ndarray, points: np.ndarray
) -> None:
    """Everything that the threat model promises of points, by other means than its own."""
    coded = threat.raw(points)
    assert (threat.space.transform(*coded) == points).all()
    for source, record in zip(as_dicts(threat.raw(records), schema), as_dicts(coded, schema), strict=True):
        assert not broken_rules(toml, schema, source, record)
    still = ~threat.mutable
    assert points[:, still].tobytes() == records[:, still].tobytes()
    width = len(schema.numbers)
    for before, after in zip(records[:, :width].tolist(), points[:, :width].tolist(), strict=True):
        moves = [Fraction(there) - Fraction(here) for here, there in zip(before, after, strict=True)]
        if threat.norm == "linf":
            assert max(map(abs, moves)) <= Fraction(threat.radius)
        if threat.norm == "l2":
            assert sum(move**2 for move in moves) <= Fraction(threat.radius) ** 2


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
