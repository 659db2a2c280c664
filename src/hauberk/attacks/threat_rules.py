"""From the entries of a threat file to rules for the columns of a schema, every mistake named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.binding import bind, matcher
from hauberk.attacks.contradictions import Numbers, explain_contradiction
from hauberk.attacks.record_sources import NumberRules
from hauberk.attacks.relations import Relation
from hauberk.errors import InputError
from hauberk.schema import BooleanFeature, CategoricalFeature, NumberFeature, NumericFeature, RecordSchema

MOST_RELATIONS = 200
"""More are no small threat model, and looking for contradictions would take too long."""

Change = Literal["any", "increase", "decrease", "never"]


class FeatureRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one or several features let the adversary do.

    Attributes:
        names: The features; `*` in a name stands for any characters, and an entry with the name in full goes before.
        change: "any", only "increase", only "decrease", or "never". `None`: what the schema says, where nothing else
            of this entry says that they move.
        integer: Whether a number of a real column can only be moved to whole numbers; integer and boolean columns are
            whole anyway.
        low: Lowest raw value, "schema" for that of the schema, "source" for the record's own.
        high: Highest raw value, likewise.
        categories: For a categorical: the names that it may be moved to, and none but these.
        why: The reason, for those who read the file.

    Raises:
        InputError: No names, or bounds upside down.
    """

    names: tuple[str, ...]
    change: Change | None = None
    integer: bool | None = None
    low: float | Literal["schema", "source"] = "schema"
    high: float | Literal["schema", "source"] = "schema"
    categories: tuple[str, ...] | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("an entry of 'features' names no feature")
        first = self.names[0]
        for name, bound in (("low", self.low), ("high", self.high)):
            if not isinstance(bound, str) and not np.isfinite(np.float32(bound)):
                raise InputError(f"{first!r}: {name} must be a finite float32 number, not {bound}")
        if not isinstance(self.low, str) and not isinstance(self.high, str) and self.low > self.high:
            raise InputError(f"{first!r}: low {self.low:g} is above high {self.high:g}")


class StatedRelation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A relation with what belongs to it.

    Attributes:
        rule: What has to hold.
        tolerance: By how much a comparison may miss and still hold, in raw units; for what a sensor rounds.
        why: The reason, for those who read the file.
    """

    rule: str
    tolerance: float = 0.0
    why: str = ""


def number_rules(
    entries: Iterable[FeatureRule], others: Literal["schema", "never"], schema: RecordSchema
) -> NumberRules:
    """The rules of the numbers of a schema.

    Args:
        entries: Of the file.
        others: What holds for numbers without an entry.
        schema: The schema.

    Raises:
        InputError: An entry names a feature that is not there or has an entry already, or a rule does not fit its type.
    """
    chosen = _chosen(entries, schema)
    count = len(schema.numbers)
    rules = NumberRules(np.zeros(count), np.zeros(count), *(np.zeros(count, dtype=np.bool_) for _ in range(3)))
    for place, feature in enumerate(schema.numbers):
        entry = chosen.get(feature.name)
        change = _change(entry, feature, others)
        least, most = _schema_range(feature)
        low = least if entry is None or isinstance(entry.low, str) else entry.low
        high = most if entry is None or isinstance(entry.high, str) else entry.high
        rules.low[place], rules.high[place] = low, high
        rules.rising[place] = change in {"any", "increase"} and not (entry is not None and entry.high == "source")
        rules.falling[place] = change in {"any", "decrease"} and not (entry is not None and entry.low == "source")
        rules.whole[place] = not isinstance(feature, NumericFeature) or bool(entry is not None and entry.integer)
        _check_number(feature.name, low, high, whole=bool(rules.whole[place]))
        if entry is not None:
            _check_entry(entry, feature)
    return rules


def choices_of(entries: Iterable[FeatureRule], schema: RecordSchema) -> tuple[tuple[int, ...], ...]:
    """For each categorical of a schema, the codes that it may be moved to; without an entry, none.

    Raises:
        InputError: As for `number_rules`, or an unknown category.
    """
    chosen = _chosen(entries, schema)
    found = []
    for feature in schema.categoricals:
        entry = chosen.get(feature.name)
        found.append(() if entry is None else tuple(_codes(entry, feature)))
    return tuple(found)


def bound_relations(
    stated: Iterable[str | StatedRelation], schema: RecordSchema, rules: NumberRules
) -> tuple[Relation, ...]:
    """The relations of a file, bound to a schema.

    Raises:
        InputError: A relation cannot be read or bound, or they contradict one another or the bounds.
    """
    relations: list[Relation] = []
    for number, each in enumerate(stated, start=1):
        if number > MOST_RELATIONS:
            raise InputError(f"there are more than {MOST_RELATIONS} relations; use sum, count, min and max")
        text, tolerance = (each, 0.0) if isinstance(each, str) else (each.rule, each.tolerance)
        try:
            relations.append(bind(text, tolerance, schema))
        except InputError as error:
            raise InputError(f"relation {number} ({text}): {error}") from error
    names = [feature.name for feature in schema.numbers]
    ranges = np.array([_schema_range(feature) for feature in schema.numbers]).reshape(len(names), 2)
    # Bounds of the file are for moves; records themselves may be anywhere in the ranges of the schema.
    low, high = np.minimum(rules.low, ranges[:, 0]), np.maximum(rules.high, ranges[:, 1])
    contradiction = explain_contradiction(relations, Numbers(names, low, high, _whole(schema)))
    if contradiction:
        raise InputError(contradiction)
    return tuple(relations)


def _chosen(entries: Iterable[FeatureRule], schema: RecordSchema) -> dict[str, FeatureRule]:
    """The entry of each feature that has one; a name in full goes before a pattern."""
    found: dict[bool, dict[str, FeatureRule]] = {True: {}, False: {}}
    for entry in entries:
        for name, exact in _named(entry, schema):
            if name in found[exact]:
                raise InputError(f"feature {name!r} has two entries; join them")
            found[exact][name] = entry
    return found[False] | found[True]


def _named(entry: FeatureRule, schema: RecordSchema) -> Iterator[tuple[str, bool]]:
    """The features of an entry, and whether they are named in full."""
    known = [feature.name for feature in schema.features]
    for name in entry.names:
        if name in known:
            yield name, True
            continue
        matches = matcher(name)
        named = [one for one in known if matches(one)]
        if not named:
            raise InputError(f"{'no feature matches' if '*' in name else 'there is no feature'} {name!r} in the schema")
        yield from ((one, False) for one in named)


def _change(entry: FeatureRule | None, feature: NumberFeature, others: str) -> Change:
    if entry is None:
        return "any" if others == "schema" and feature.mutable else "never"
    if entry.change is not None:
        return entry.change
    return "any" if feature.mutable else "never"


def _schema_range(feature: NumberFeature) -> tuple[float, float]:
    return (0.0, 1.0) if isinstance(feature, BooleanFeature) else (float(feature.low), float(feature.high))


def _whole(schema: RecordSchema) -> NDArray[np.bool_]:
    return np.array([not isinstance(feature, NumericFeature) for feature in schema.numbers], dtype=np.bool_)


def _check_number(name: str, low: float, high: float, *, whole: bool) -> None:
    if low > high:
        raise InputError(f"feature {name!r}: its lowest value {low:g} is above its highest {high:g}")
    if whole and np.ceil(low) > np.floor(high):
        raise InputError(f"feature {name!r}: there is no whole number between {low:g} and {high:g}")


def _check_entry(entry: FeatureRule, feature: Any) -> None:
    if entry.categories is not None:
        raise InputError(f"feature {feature.name!r} is a number and has no categories")
    if entry.integer is False and not isinstance(feature, NumericFeature):
        raise InputError(f"feature {feature.name!r} is whole in the schema; integer = false cannot change that")


def _codes(entry: FeatureRule, feature: CategoricalFeature) -> Iterator[int]:
    for wrong, what in (
        (entry.change in {"increase", "decrease"}, f'change = "{entry.change}"'),
        (entry.integer is not None, "integer"),
        (entry.low != "schema", "low"),
        (entry.high != "schema", "high"),
    ):
        if wrong:
            raise InputError(f"feature {feature.name!r} is categorical, and {what} is for numbers")
    if entry.change == "never":
        if entry.categories:
            raise InputError(f"feature {feature.name!r} never changes, and has categories to change to; take one out")
        return
    if entry.categories is None:
        if entry.change == "any":
            yield from range(1, len(feature.categories) + 1)
        return
    for name in entry.categories:
        if name not in feature.categories:
            raise InputError(f"feature {feature.name!r} has no category {name!r}")
        yield feature.categories.index(name) + 1
