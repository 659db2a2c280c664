"""LightGBM's own text files, read without LightGBM.

Semantics (https://lightgbm.readthedocs.io and the sources of version 4.7, include/LightGBM/tree.h): numbers are
float64; a node sends `x <= threshold` left; what is missing is by its decision type nothing (NaN is read as 0), zero,
or NaN, and goes to the default side; a category goes left where the node's bit set has it. Features here are float32,
so thresholds are rounded downwards, which decides every float32 number as before (`ensemble.downwards`). Numbers within
1e-35 of zero are read as 0 before they are compared (`_beside_zero`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hauberk.convert.trees.ensemble import (
    SMALLEST_NUMBER,
    Derived,
    Ensemble,
    Meaning,
    Membership,
    Tree,
    ZeroIsMissing,
    checked,
    downwards,
    require_size,
)
from hauberk.errors import InputError, RefusedModelError

_LOG_ODDS = ("binary", "cross_entropy", "xentropy")
_VALUES = (
    "regression",
    "regression_l1",
    "l2",
    "l1",
    "mean_squared_error",
    "mse",
    "mae",
    "mean_absolute_error",
    "huber",
    "fair",
    "quantile",
    "mape",
    "lambdarank",
    "rank_xendcg",
)
_LOGARITHMS = ("poisson", "gamma", "tweedie")

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2
_MOST_OUTPUTS = 10_000
_MOST_CATEGORIES = 1 << 20


def read_lightgbm(data: bytes, where: str) -> Ensemble:
    """The trees of a LightGBM model that was admitted.

    Args:
        data: The file, text.
        where: How messages call it.

    Raises:
        RefusedModelError: It is damaged, or its trees are none.
        InputError: It is a model of a kind that is not converted: another objective, linear leaves.
    """
    try:
        header, sections = _sections(data.decode())
    except UnicodeDecodeError as error:
        raise RefusedModelError(f"{where}: not a LightGBM model: not text") from error
    if header is None:
        raise RefusedModelError(f"{where}: not a LightGBM model: it does not begin with 'tree'")
    features = _number(header, "max_feature_idx", where) + 1
    targets = _number(header, "num_tree_per_iteration", where)
    if features < 1 or not 1 <= targets <= _MOST_OUTPUTS or not sections or len(sections) % targets:
        raise RefusedModelError(f"{where}: {len(sections)} trees over {features} features for {targets} outputs")
    require_size(0, features, where)
    goal = _objective(header, targets, where)
    scale = goal.scale / (len(sections) // targets) if "average_output" in header else goal.scale
    columns = _Columns(features)
    trees, nodes = [], 0
    for number, section in enumerate(sections):
        at = f"{where}: tree {number}"
        tree = _tree(section, number % targets, scale, columns, at)
        nodes += len(tree.feature)
        require_size(nodes, columns.count, where)
        trees.append(checked(tree, columns.count, at))
    names = tuple(header.get("feature_names", "").split())
    return Ensemble(
        library="LightGBM",
        features=features,
        targets=targets,
        trees=tuple(trees),
        strict=False,
        base=np.zeros(targets, dtype=np.float32),
        meaning=goal.meaning,
        derived=tuple(columns.derived),
        names=names if len(names) == features else (),
        notes=goal.notes,
    )


Section = dict[str, str]


def _sections(text: str) -> tuple[Section | None, list[Section]]:
    """The header (`None` where it is none), and every tree, as names and values."""
    lines = iter(text.splitlines())
    if next(lines, "") != "tree":
        return None, []
    sections: list[Section] = [{}]
    for line in lines:
        if line == "end of trees":
            break
        if line.startswith("Tree="):
            sections.append({})
        elif line:
            name, _, value = line.partition("=")
            sections[-1].setdefault(name, value)
    return sections[0], sections[1:]


@dataclass(frozen=True)
class _Goal:
    """What the sums mean, and what the leaves are multiplied with for that."""

    meaning: Meaning
    scale: float = 1.0
    notes: tuple[str, ...] = ()


def _objective(header: Section, targets: int, where: str) -> _Goal:
    name, *options = header.get("objective", "").split() or [""]
    sigmoid = next((option.partition(":")[2] for option in options if option.startswith("sigmoid:")), "1")
    if name in _LOG_ODDS and targets == 1:
        if not re.fullmatch(r"[0-9.eE+-]{1,40}", sigmoid) or not 0 < float(sigmoid) < np.inf:
            raise RefusedModelError(f"{where}: the sigmoid of its objective is {sigmoid[:40]!r}")
        return _Goal("log-odds", float(sigmoid))
    if name == "multiclass":
        return _Goal("class logits")
    if name in _LOGARITHMS:
        return _Goal("logarithm")
    if name in _VALUES and "sqrt" not in options:
        return _Goal("value")
    if not name or name in {"none", "null", "custom", "na"}:
        note = "the file names no objective (one of your own): the sums of the trees are taken as they are"
        return _Goal("value", notes=(note,))
    known = ", ".join(("binary", "cross_entropy", "multiclass", *_VALUES, *_LOGARITHMS))
    raise InputError(f"{where}: objective {header['objective'][:60]!r} is not converted; those are {known}")


class _Columns:
    """The features and what is derived from them, each derived column once."""

    def __init__(self, features: int) -> None:
        self.features = features
        self.derived: list[Derived] = []
        self._known: dict[Derived, int] = {}

    @property
    def count(self) -> int:
        return self.features + len(self.derived)

    def of(self, derived: Derived) -> int:
        if derived not in self._known:
            self._known[derived] = self.count
            self.derived.append(derived)
        return self._known[derived]


def _tree(section: Section, target: int, scale: float, columns: _Columns, where: str) -> Tree:
    """One tree: inner nodes first, then leaves."""
    if section.get("is_linear", "0") not in ("0", ""):
        raise InputError(f"{where}: its leaves hold linear models; train with linear_tree=false")
    leaves = _number(section, "num_leaves", where)
    weight = _floats(section, "leaf_value", leaves, where) * scale
    inner = leaves - 1
    if inner < 0:
        raise RefusedModelError(f"{where}: a tree without leaves")
    split, left, right, kind = (
        _integers(section, name, inner, where)
        for name in ("split_feature", "left_child", "right_child", "decision_type")
    )
    threshold = _floats(section, "threshold", inner, where)
    if ((split < 0) | (split >= columns.features)).any():
        raise RefusedModelError(f"{where}: a node looks at a column that is not among {columns.features}")
    for children in (left, right):
        if ((children >= inner) | (children < -leaves)).any():
            raise RefusedModelError(f"{where}: a node leads to one that is not there")
    column, question, yes_first, missing_left = _questions(section, split, threshold, kind, columns, where)
    left, right = (np.where(each < 0, inner + ~each, each) for each in (left, right))
    left, right = np.where(yes_first, left, right), np.where(yes_first, right, left)
    padding = np.zeros(leaves, dtype=np.int64)
    return Tree(
        target=target,
        feature=np.concatenate([column, padding - 1]),
        threshold=np.concatenate([question, padding.astype(np.float32)]),
        left=np.concatenate([left, padding]),
        right=np.concatenate([right, padding]),
        missing_left=np.concatenate([missing_left, padding.astype(np.bool_)]),
        weight=np.concatenate([np.zeros(inner), weight]),
    )


def _questions(
    section: Section,
    split: NDArray[np.int64],
    threshold: NDArray[np.float64],
    kind: NDArray[np.int64],
    columns: _Columns,
    where: str,
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """What every inner node asks: its column, its threshold, whether yes means left, and whether missing means yes."""
    column, question = split.copy(), _beside_zero(downwards(threshold))
    yes_left = np.ones(len(split), dtype=np.bool_)
    missing = (kind >> 2) & 3
    default_left = (kind & _DEFAULT_LEFT) != 0
    # Where nothing is missing, NaN is read as 0.
    missing_yes = np.where(missing == 0, threshold >= 0, default_left)
    for node in np.flatnonzero((missing == _MISSING_ZERO) & (kind & _CATEGORICAL == 0)):
        column[node] = columns.of(ZeroIsMissing(int(split[node])))
    categorical = np.flatnonzero(kind & _CATEGORICAL)
    if categorical.size:
        sets = list(_sets(section, where))
        for node in categorical:
            number = threshold[node]
            if not (0 <= number < len(sets) and number == int(number)):
                raise RefusedModelError(f"{where}: categorical node {node} names a set that is not there")
            member = Membership(int(split[node]), sets[int(number)], truncated=True, missing=False)
            column[node], question[node] = columns.of(member), 0.5
            yes_left[node] = False  # yes is "not in the set", and those go right
    if (missing > _MISSING_NAN).any():
        raise RefusedModelError(f"{where}: a node has an unknown decision type")
    return column, question, yes_left, missing_yes


def _beside_zero(thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thresholds that decide a number as LightGBM decides it after reading what lies within 1e-35 of zero as 0.

    All such numbers go where 0 goes: left of a threshold from 0 on, and right of one below. A split at zero stands as
    -1e-35 or 1e-35 in the file, so the edge of this matters.
    """
    below = np.nextafter(-SMALLEST_NUMBER, np.float32(-np.inf))
    near = np.where(thresholds >= 0, SMALLEST_NUMBER, below).astype(np.float32)
    return np.where(np.abs(thresholds) <= SMALLEST_NUMBER, near, thresholds)


def _sets(section: Section, where: str) -> Iterator[tuple[int, ...]]:
    """The categories of each set, from bit sets of 32 bits a word."""
    count = _number(section, "num_cat", where)
    edges = _integers(section, "cat_boundaries", count + 1, where)
    words = _integers(section, "cat_threshold", int(edges[-1]) if len(edges) else 0, where)
    if edges[0] != 0 or (np.diff(edges) < 1).any() or ((words < 0) | (words >= 1 << 32)).any():
        raise RefusedModelError(f"{where}: its sets of categories do not follow each other")
    if (np.diff(edges) > _MOST_CATEGORIES // 32).any():
        raise RefusedModelError(f"{where}: a set of more than {_MOST_CATEGORIES} categories")
    for start, stop in pairwise(edges):
        bits = np.unpackbits(words[start:stop].astype("<u4").view(np.uint8), bitorder="little")
        members = np.flatnonzero(bits)
        if not members.size:
            raise RefusedModelError(f"{where}: a set without categories")
        yield tuple(members.tolist())


def _number(section: Section, name: str, where: str) -> int:
    text = section.get(name, "")
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise RefusedModelError(f"{where}: {name} is {text[:40]!r}, no whole number")
    return int(text)


def _integers(section: Section, name: str, count: int, where: str) -> NDArray[np.int64]:
    return _parsed(section, name, count, np.int64, where).astype(np.int64)


def _floats(section: Section, name: str, count: int, where: str) -> NDArray[np.float64]:
    return _parsed(section, name, count, np.float64, where).astype(np.float64)


def _parsed(section: Section, name: str, count: int, dtype: type, where: str) -> NDArray[np.generic]:
    parts = section.get(name, "").split()
    if len(parts) != count:
        raise RefusedModelError(f"{where}: {name} has {len(parts)} values; {count} are needed")
    try:
        return np.array(parts, dtype=dtype) if parts else np.zeros(0, dtype)
    except (ValueError, OverflowError) as error:
        raise RefusedModelError(f"{where}: {name} holds something that is no number") from error
