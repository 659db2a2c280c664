"""Models of LightGBM: a text with one section for each tree.

The library reads arrays of the lengths that it expects and follows them without looking, so every tree is walked here.
Format: `GBDT::SaveModelToString` and `Tree::ToString` of https://github.com/microsoft/LightGBM.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.lightgbm_fields import CONTROL, Tail, header_problem, tree_problem
from hauberk.scan.frameworks.trees import BOUNDS, DEEP, DeepError, Integers, check_depth, integers, walk_problem
from hauberk.scan.report import Outcome, Rule, Severity, shown

DAMAGED = Rule(
    "lightgbm-damaged",
    "a model of LightGBM that is not complete",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Parts are missing, stand twice or are no numbers; what the library makes of them is not known.",
    "https://lightgbm.readthedocs.io/en/stable/",
)
SIZES = Rule(
    "lightgbm-tree-sizes",
    "sizes that are not those of the trees",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The library jumps to trees by these sizes without looking: it reads other trees than a reader sees, or memory"
    " beyond the text.",
    "https://cwe.mitre.org/data/definitions/125.html",
)
_LINE_MOST = 64 << 20
_BLOCK = 1 << 20
_CATEGORICAL = 1
_FEATURES_MOST = 1 << 31
_LONE_LINES = {b"", b"tree", b"average_output"}


def recognise(head: bytes, content: Content) -> bool:
    """The first lines of a saved model."""
    first = head.replace(b"\r\n", b"\n")
    return first.startswith(b"tree\n") and b"\nversion=v" in content.head(256).replace(b"\r\n", b"\n")


def examine(content: Content, examination: Examination) -> None:
    """Read the header, walk every tree, and compare the sizes."""
    scan = _Model(content, examination)
    try:
        scan.run()
    except DeepError as error:
        examination.find(DEEP, str(error), at=scan.at)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        examination.find(DAMAGED, shown(f"{type(error).__name__}: {error}"), at=scan.at)
    examination.facts["trees"] = scan.trees


class _Model:
    def __init__(self, content: Content, examination: Examination) -> None:
        self._content = content
        self._examination = examination
        self._lines = self._read()
        self.at = 0
        self.trees = 0

    def run(self) -> None:
        header = self._section(("Tree=", "end of trees"))
        features = int(header.fields["max_feature_idx"])
        classes, per_round = int(header.fields["num_class"]), int(header.fields["num_tree_per_iteration"])
        if not 0 <= features < _FEATURES_MOST or not 0 < classes < _FEATURES_MOST or not 0 < per_round <= classes:
            self._find(f"{features + 1} features, {classes} classes, {per_round} trees a round")
        problem = header_problem(header.fields, classes, per_round, features)
        if problem:
            self._find(problem)
        sizes = [int(size) for size in header.fields.get("tree_sizes", "").split()]
        starts = []
        line = header.end
        while line.startswith(b"Tree="):
            self._examination.check_time()
            starts.append(self.at)
            if int(line[5:]) != self.trees:
                raise ValueError(f"tree {line[5:25]!r} where tree {self.trees} should be")
            tree = self._section(("Tree=", "end of trees"))
            problem = _tree_problem(tree.fields, features) or tree_problem(tree.fields, int(tree.fields["num_leaves"]))
            if problem:
                self._find(f"tree {self.trees}: {problem}")
            self.trees += 1
            line = tree.end
        if line != b"end of trees":
            raise ValueError("it ends before the trees do")
        starts.append(self.at)
        if "tree_sizes" in header.fields and sizes != [after - before for before, after in pairwise(starts)]:
            self._examination.find(SIZES, f"{len(sizes)} sizes for {self.trees} trees, or others")
        if self.trees % max(1, per_round):
            raise ValueError(f"{self.trees} trees, {per_round} a round")
        tail = Tail()
        for line in self._lines:
            self._demand(tail.problem(line))
        self._demand(tail.end())

    def _demand(self, problem: str) -> None:
        if problem:
            raise ValueError(problem)

    def _find(self, problem: str) -> None:
        self._examination.find(BOUNDS, problem, at=self.at)

    def _section(self, ends: tuple[str, ...]) -> _Section:
        """Fields up to a line that begins with one of `ends`."""
        fields: dict[str, str] = {}
        marks = tuple(end.encode() for end in ends)
        for line in self._lines:
            if line.startswith(marks):
                return _Section(fields, line)
            if CONTROL.search(line):
                raise ValueError(f"signs that end a line for some, in {line[:30]!r}")
            key, mark, value = line.decode("utf-8", "replace").partition("=")
            if not mark and line not in _LONE_LINES:
                raise ValueError(f"a line {line[:30]!r}")
            if key in fields:
                raise ValueError(f"{key!r} stands twice")
            if mark:
                fields[key] = value
        return _Section(fields, b"")

    def _read(self) -> Iterator[bytes]:
        """Lines without their ends; `at` is where the last one begins."""
        rest, start, place = b"", 0, 0
        while place < self._content.size:
            self._examination.check_time()
            block = self._content.read(place, min(_BLOCK, self._content.size - place))
            place += len(block)
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            if len(rest) > _LINE_MOST:
                self._examination.find(DAMAGED, f"a line of more than {_LINE_MOST} bytes")
                raise StopScan
            for line in lines:
                self.at = start
                start += len(line) + 1
                yield line.removesuffix(b"\r")
        if rest:
            self.at = start
            yield rest


class _Section:
    def __init__(self, fields: dict[str, str], end: bytes) -> None:
        self.fields = fields
        self.end = end


def _integers(fields: dict[str, str], key: str, count: int) -> Integers:
    """Whole numbers of a field, as many as there must be."""
    numbers = integers([int(each) for each in fields.get(key, "").split()], key)
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} of {key}, {count} expected")
    return numbers


def _count(fields: dict[str, str], key: str, count: int) -> None:
    found = len(fields.get(key, "").split())
    if found != count:
        raise ValueError(f"{found} of {key}, {count} expected")


def _tree_problem(fields: dict[str, str], features: int) -> str:
    """What is wrong with a tree; inner nodes count from 0 up, leaves from -1 down."""
    leaves, categories = int(fields["num_leaves"]), int(fields["num_cat"])
    if not 0 < leaves < 1 << 31 or not 0 <= categories < leaves:
        return f"{leaves} leaves, {categories} of the nodes above them with categories"
    _count(fields, "leaf_value", leaves)
    inner = leaves - 1
    try:
        left, right = _integers(fields, "left_child", inner), _integers(fields, "right_child", inner)
        split, kinds = _integers(fields, "split_feature", inner), _integers(fields, "decision_type", inner)
        _count(fields, "threshold", inner)
    except ValueError as error:
        return str(error)
    if inner == 0:
        return ""
    # Inner nodes keep their numbers, leaf k becomes node `inner + k`.
    sides = [np.where(side >= 0, side, inner - 1 - side) for side in (left, right)]
    is_inner = np.arange(inner + leaves) < inner
    outside = any((side >= inner).any() or (side < -leaves).any() for side in (left, right))
    problem = "a child that is none of its nodes" if outside else ""
    padding = np.zeros(leaves, dtype=np.int64)
    problem = problem or walk_problem([np.concatenate([side, padding]) for side in sides], is_inner)
    if not problem:
        check_depth(np.tile(np.arange(inner), 2), np.concatenate(sides), inner + leaves)
    if not problem and (split.min() < 0 or split.max() > features):
        problem = f"feature {split.max()} of {features + 1}"
    return problem or _category_problem(fields, categories, kinds) or _linear_problem(fields, leaves, features)


def _category_problem(fields: dict[str, str], categories: int, kinds: Integers) -> str:
    """Nodes that split by category name a part of one list of bits."""
    chosen = np.flatnonzero(kinds & _CATEGORICAL)
    if not categories:
        return "a node with categories, of which there are none" if chosen.size else ""
    try:
        bounds = _integers(fields, "cat_boundaries", categories + 1)
    except ValueError as error:
        return str(error)
    total = len(fields.get("cat_threshold", "").split())
    if bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] > total:
        return f"categories up to {bounds.max()} of {total}"
    thresholds = [float(each) for each in fields["threshold"].split()]
    if any(not 0 <= thresholds[index] < categories for index in chosen):
        return "a node with categories that are not there"
    return ""


def _linear_problem(fields: dict[str, str], leaves: int, features: int) -> str:
    """Leaves that are linear functions of features."""
    if fields.get("is_linear", "0").strip() in {"0", ""}:
        return ""
    counts: Any = _integers(fields, "num_features", leaves)
    named = [int(each) for each in fields.get("leaf_features", "").split()]
    _count(fields, "leaf_const", leaves)
    _count(fields, "leaf_coeff", int(counts.sum()))
    if (counts < 0).any() or len(named) != counts.sum() or any(not 0 <= each <= features for each in named):
        return "a leaf that asks for features that are not there"
    return ""


FORMATS = (Format("lightgbm", recognise, examine, (DAMAGED, SIZES, BOUNDS, DEEP), b"t"),)
