"""What every kind of boosted trees has in common: the trees, what is added to them, and what their sum means.

A node asks `x[feature] < threshold` (or `<=`): those that hold go left, a missing value (NaN) where the node says. A
leaf adds its weight to one output. Two things that ONNX's operator does not know become columns of their own, computed
from the features (`Membership`, `ZeroIsMissing`), so that no tree has to be written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError, RefusedModelError

Meaning = Literal["log-odds", "class logits", "value", "logarithm"]
"""What the sum of the trees is: log-odds of the second class [N, 1]; one logit a class [N, K]; the prediction itself;
the logarithm of the prediction."""

MOST_NODES = 4_000_000
"""Of all trees together; ONNX keeps some 60 bytes a node, and a file ends at 2 GiB."""
MOST_COLUMNS = 100_000
MOST_LEVELS = 1_000
"""Of one tree; ONNX Runtime reads them by recursion, and dies of some thousands."""


@dataclass(frozen=True)
class Membership:
    """A column: 1 where a category is one of a set, 0 where not.

    Attributes:
        feature: The column that holds the category, a whole number from 0.
        categories: Those in the set, ascending.
        truncated: How a number that is not whole is read: towards 0 (LightGBM, so that -0.5 is category 0), else
            downwards (XGBoost, for which what is negative is no category).
        missing: Whether a missing value stays missing, for the node to decide; else it is in no set.
    """

    feature: int
    categories: tuple[int, ...]
    truncated: bool
    missing: bool


@dataclass(frozen=True)
class ZeroIsMissing:
    """A column: the feature, with NaN in the place of numbers that count as zero."""

    feature: int


Derived = Membership | ZeroIsMissing


@dataclass(frozen=True)
class Tree:
    """One tree; the arrays have one entry a node, the root first.

    Attributes:
        target: The output that its leaves add to.
        feature: Int64 [n], the column that a node looks at; columns from the number of features on are derived ones. -1
            marks a leaf.
        threshold: Float32 [n].
        left: Int64 [n], the next node where the question is answered with yes.
        right: Int64 [n], where with no.
        missing_left: Bool [n], where a missing value goes.
        weight: Float64 [n], of leaves.
    """

    target: int
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    weight: NDArray[np.float64]

    @property
    def leaves(self) -> NDArray[np.bool_]:
        """Bool [n]."""
        return self.feature < 0


@dataclass(frozen=True)
class Ensemble:
    """All trees of a model.

    Attributes:
        library: "XGBoost" or "LightGBM".
        features: D, columns of a record.
        targets: K, outputs.
        trees: In the order of the file.
        strict: The question of every node is `<`; else `<=`.
        base: Float32 [K], what the sums start from.
        meaning: What the sums are.
        derived: Columns behind the features.
        names: Of the features, where the file has them.
        notes: What a reader should know, one sentence each.
    """

    library: str
    features: int
    targets: int
    trees: tuple[Tree, ...]
    strict: bool
    base: NDArray[np.float32]
    meaning: Meaning
    derived: tuple[Derived, ...] = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def nodes(self) -> int:
        """Of all trees."""
        return sum(len(tree.feature) for tree in self.trees)


def checked(tree: Tree, columns: int, where: str) -> Tree:
    """The tree, its nodes in the order of their distance from the root; those that nothing leads to are left out.

    Args:
        tree: As it was read; children of inner nodes may be any numbers.
        columns: How many there are, derived ones included.
        where: The file and the tree, for messages.

    Raises:
        RefusedModelError: A node leads nowhere, or two ways lead to one, a column does not exist, or a leaf or
            threshold is no number.
        InputError: It is deeper than ONNX Runtime can read.
    """
    count = len(tree.feature)
    if not count:
        raise RefusedModelError(f"{where}: a tree without nodes")
    seen = np.zeros(count, dtype=np.bool_)
    level = np.zeros(1, dtype=np.int64)
    order: list[NDArray[np.int64]] = []
    while level.size:
        if (level < 0).any() or (level >= count).any():
            raise RefusedModelError(f"{where}: a node leads to one that is not there")
        if seen[level].any() or len(np.unique(level)) < len(level):
            raise RefusedModelError(f"{where}: its nodes are no tree: two ways lead to one of them")
        if len(order) == MOST_LEVELS:
            raise InputError(f"{where}: more than {MOST_LEVELS} levels; train with a smaller max_depth")
        seen[level] = True
        order.append(level)
        inner = level[tree.feature[level] >= 0]
        level = np.concatenate([tree.left[inner], tree.right[inner]])
    return _settled(tree, np.concatenate(order), columns, where)


def _settled(tree: Tree, order: NDArray[np.int64], columns: int, where: str) -> Tree:
    """The nodes of `order` alone, renumbered."""
    place = np.zeros(len(tree.feature), dtype=np.int64)
    place[order] = np.arange(len(order))
    feature = tree.feature[order]
    inner = feature >= 0
    if (feature >= columns).any():
        raise RefusedModelError(f"{where}: a node looks at column {int(feature.max())} of {columns}")
    if not np.isfinite(tree.weight[order][~inner]).all() or np.isnan(tree.threshold[order][inner]).any():
        raise RefusedModelError(f"{where}: a leaf or a threshold is not a number")
    left, right = (place[np.where(inner, children[order], 0)] for children in (tree.left, tree.right))
    return Tree(tree.target, feature, tree.threshold[order], left, right, tree.missing_left[order], tree.weight[order])


def downwards(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each threshold.

    For a float32 number x, `x <= t` holds exactly where `x <= downwards(t)` does: no float32 lies between the two.
    Rounding to the nearest, as a plain cast does, sends every x that lies just above such a threshold the wrong way.
    """
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
        below = np.nextafter(nearest, np.float32(-np.inf))
    result: NDArray[np.float32] = np.where(nearest.astype(np.float64) > thresholds, below, nearest)
    return result


def require_trees(trees: int, where: str) -> None:
    """Refuse a model that training never began.

    Raises:
        InputError: It has no trees.
    """
    if not trees:
        raise InputError(f"{where}: a model without trees; train it for at least one round")


def require_size(nodes: int, columns: int, where: str) -> None:
    """Refuse what is larger than any detector.

    Raises:
        RefusedModelError: It is.
    """
    if nodes > MOST_NODES or columns > MOST_COLUMNS:
        raise RefusedModelError(
            f"{where}: {nodes} nodes over {columns} columns; at most {MOST_NODES} over {MOST_COLUMNS} are taken"
        )


def evaluate(ensemble: Ensemble, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """The sums of the trees in double precision, float64 [N, K]: what the graph should answer, without its rounding.

    Slow and plain: for looking into a difference, not for serving.

    Args:
        ensemble: The trees.
        features: Float32 [N, D].
    """
    columns = np.concatenate([features, *(column(each, features) for each in ensemble.derived)], axis=1)
    sums = np.tile(ensemble.base.astype(np.float64), (len(features), 1))
    for tree in ensemble.trees:
        node = np.zeros(len(features), dtype=np.int64)
        while (inner := tree.feature[node] >= 0).any():
            at = node[inner]
            value = columns[np.flatnonzero(inner), tree.feature[at]]
            yes = value < tree.threshold[at] if ensemble.strict else value <= tree.threshold[at]
            yes |= np.isnan(value) & tree.missing_left[at]
            node[inner] = np.where(yes, tree.left[at], tree.right[at])
        sums[:, tree.target] += tree.weight[node]
    return sums


SMALLEST_NUMBER = np.float32(1e-35)
"""LightGBM's zero: what lies within this of it."""


def column(derived: Derived, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """A derived column, float32 [N, 1]."""
    values = features[:, derived.feature]
    if isinstance(derived, ZeroIsMissing):
        zero = np.abs(values) <= SMALLEST_NUMBER
        return np.where(zero, np.float32(np.nan), values)[:, None]
    missing = np.isnan(values)
    clipped = np.clip(np.where(missing, -1, values), -1, max(derived.categories) + 1)
    whole = np.trunc(clipped) if derived.truncated else np.floor(clipped)
    inside = np.isin(whole, np.array(derived.categories)).astype(np.float32)
    return np.where(missing & derived.missing, np.float32(np.nan), inside)[:, None]


def split_values(ensemble: Ensemble) -> dict[int, NDArray[np.float32]]:
    """The thresholds of every feature that trees look at, ascending, each once; of sets, the categories' edges."""
    found: dict[int, list[NDArray[np.float32]]] = {}
    for tree in ensemble.trees:
        for feature in np.unique(tree.feature[~tree.leaves]):
            values = tree.threshold[tree.feature == feature]
            if feature < ensemble.features:
                found.setdefault(int(feature), []).append(values)
                continue
            derived = ensemble.derived[int(feature) - ensemble.features]
            if isinstance(derived, Membership):
                values = np.array([edge for each in derived.categories for edge in (each, each + 1)], dtype=np.float32)
            found.setdefault(derived.feature, []).append(values)
    return {feature: np.unique(np.concatenate(parts)) for feature, parts in sorted(found.items())}


def stacked(parts: Sequence[NDArray[np.generic]], dtype: type) -> NDArray[np.generic]:
    """Arrays of all trees as one; empty where there are none."""
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)
