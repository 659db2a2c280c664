"""A second reading of a threat model of records: plain Python over dicts, which knows the file and the schema's types
and ranges, and nothing of the code that is tested. Relations are turned into Python by replacing words.
"""

from __future__ import annotations

import re
import tomllib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hauberk.attacks import RecordThreat
from hauberk.attacks.threat_file import decode_threat
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
