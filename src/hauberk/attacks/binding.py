"""From the text of a relation to one between the columns of a schema.

Names are resolved, patterns become the numbers that they match, and what cannot be meant is said before any record is
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hauberk.attacks import expressions as ast
from hauberk.attacks.quantities import Column, Combination, Constant, Function, Quantity
from hauberk.attacks.relations import Compare, Condition, IsCategory, Joined, Relation
from hauberk.errors import InputError
from hauberk.schema import CategoricalFeature, NumericFeature, RecordSchema


def bind(text: str, tolerance: float, schema: RecordSchema) -> Relation:
    """Read a relation between the features of a schema.

    Args:
        text: In the language of `hauberk.attacks.expressions`.
        tolerance: At least 0, in raw units.
        schema: Whose features the names are.

    Raises:
        InputError: It cannot be read, names a feature or a category that the schema lacks, compares kinds that do not
            compare, or asks real numbers to be equal without a tolerance.
    """
    if not 0 <= tolerance < np.inf:
        raise InputError(f"the tolerance must be a finite number of at least 0, not {tolerance}")
    condition = _Binder(schema).condition(ast.parse(text))
    relation = Relation(text, tolerance, condition)
    if not relation.numbers and not relation.categoricals:
        raise InputError("there is no feature in it")
    for comparison in _concluded(condition):
        measured = (*comparison.left.measured(), *comparison.right.measured())
        real = [column.name for column in measured if isinstance(schema.numbers[column.index], NumericFeature)]
        if comparison.operator == "==" and real and not tolerance:
            raise InputError(f"{real[0]!r} is a real number, and '==' needs a tolerance for those; give one")
    return relation


def _concluded(condition: Condition) -> Iterator[Compare]:
    """The comparisons of a condition that are no premises."""
    if isinstance(condition, Compare):
        yield condition
    elif isinstance(condition, Joined):
        if condition.operator != "implies":
            yield from _concluded(condition.left)
        yield from _concluded(condition.right)


class _Binder:
    """Puts columns in the place of names."""

    def __init__(self, schema: RecordSchema) -> None:
        self._numbers = {feature.name: place for place, feature in enumerate(schema.numbers)}
        self._categoricals = {feature.name: place for place, feature in enumerate(schema.categoricals)}
        self._features = {feature.name: feature for feature in schema.features}

    def condition(self, node: ast.Truth) -> Condition:
        if isinstance(node, ast.Logic):
            return Joined(node.operator, self.condition(node.left), self.condition(node.right))
        sides = (node.left, node.right)
        if any(isinstance(side, ast.Category) or self._is_categorical(side) for side in sides):
            return self._category(node)
        return Compare(node.operator, self.quantity(node.left), self.quantity(node.right))

    def quantity(self, node: ast.Value) -> Quantity:
        if isinstance(node, ast.Number):
            return Constant(node.value)
        if isinstance(node, ast.Name):
            return self._column(node)
        if isinstance(node, ast.Arithmetic):
            return Combination(node.operator, self.quantity(node.left), self.quantity(node.right))
        if isinstance(node, ast.Call):
            return Function(node.function, tuple(value for each in node.values for value in self._values(each)))
        raise InputError(f"the category {node.name!r} is no number")

    def _values(self, node: ast.Value) -> Iterator[Quantity]:
        if not (isinstance(node, ast.Name) and node.pattern and node.name not in self._features):
            yield self.quantity(node)
            return
        matches = matcher(node.name)
        found = [Column(place, name) for name, place in self._numbers.items() if matches(name)]
        if not found:
            raise InputError(f"the name of no number matches {node.name!r}")
        yield from found

    def _column(self, node: ast.Name) -> Column:
        if node.name in self._numbers:
            return Column(self._numbers[node.name], node.name)
        if node.name in self._categoricals:
            raise InputError(f"{node.name!r} is a categorical feature; compare it with a category: {node.name} == '…'")
        if node.pattern:
            raise InputError(f"{node.name!r} stands for several features; use it in sum, count, min or max")
        raise InputError(f"there is no feature {node.name!r}")

    def _is_categorical(self, node: ast.Value) -> bool:
        return isinstance(node, ast.Name) and node.name in self._categoricals

    def _category(self, node: ast.Comparison) -> Condition:
        name, category = node.left, node.right
        if isinstance(name, ast.Category):
            name, category = category, name
        if not isinstance(name, ast.Name) or not isinstance(category, ast.Category):
            raise InputError("a categorical feature is compared with a category in single quotes, nothing else")
        if name.name not in self._features:
            raise InputError(f"there is no feature {name.name!r}")
        feature = self._features[name.name]
        if not isinstance(feature, CategoricalFeature):
            raise InputError(f"{name.name!r} is a number and cannot be {category.name!r}")
        if node.operator not in {"==", "!="}:
            raise InputError(f"categories have no order: use '==' or '!=' with {name.name!r}, not {node.operator!r}")
        if category.name not in feature.categories:
            raise InputError(f"{name.name!r} has no category {category.name!r}")
        code = feature.categories.index(category.name) + 1
        return IsCategory(self._categoricals[name.name], code, node.operator == "!=")


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a name matches a pattern, in which `*` stands for any characters and everything else for itself."""
    first, *rest = pattern.split("*")
    if not rest:
        return lambda name: name == pattern
    *middle, last = rest

    def matches(name: str) -> bool:
        if not (name.startswith(first) and name.endswith(last) and len(name) >= len(first) + len(last)):
            return False
        place, end = len(first), len(name) - len(last)
        for part in middle:
            place = name.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True

    return matches
