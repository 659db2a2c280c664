"""Models of XGBoost: JSON, its binary form UBJSON, and the old binary format.

The library reads trees as arrays and follows them without looking, so every tree is walked here before.
Format: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.trees import BOUNDS, Integers, integers, walk_problem
from hauberk.scan.frameworks.ubjson import Reader
from hauberk.scan.report import Outcome, Rule, Severity, shown

DAMAGED = Rule(
    "xgboost-damaged",
    "a model of XGBoost that is not complete",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Parts are missing, of another type or nested too deeply; what the library makes of them is not known.",
    "https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html",
)
LEGACY = Rule(
    "xgboost-legacy",
    "the old binary format of XGBoost",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It is a copy of the library's memory, read without checks, and was given up. Save the model as UBJSON.",
    "https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html",
)
_NODES_MOST = 1 << 26
_FEATURES_MOST = 1 << 32
_OUTPUTS_MOST = 1 << 20


def recognise(head: bytes, content: Content) -> bool:
    """UBJSON: an object whose keys have lengths of eight bytes, the first of them one that XGBoost writes."""
    if not head.startswith(b"{L") or len(head) < 18:
        return False
    length = int.from_bytes(head[2:10], "big")
    return content.size > 20 and head[10 : 10 + length] in {b"learner", b"version", b"Model", b"Config"}


def examine(content: Content, examination: Examination) -> None:
    """Read all of it and walk its trees."""
    reader = Reader(content, examination)
    try:
        model = reader.value()
    except (ValueError, CutError) as error:
        examination.find(DAMAGED, shown(str(error)))
        return
    if reader.at != content.size:
        examination.find(DAMAGED, f"{content.size - reader.at} bytes behind the model", at=reader.at)
    examine_model(model, examination)


def examine_model(model: Any, examination: Examination) -> None:
    """Walk the trees of a model, from JSON or UBJSON.

    Args:
        model: The outermost object.
        examination: Reported to.
    """
    try:
        learner = model["learner"] if "learner" in model else model["Model"]["learner"]
        booster = learner["gradient_booster"]
        name = booster["name"]
        features = int(learner["learner_model_param"]["num_feature"])
        outputs = int(learner["learner_model_param"]["num_class"])
        targets = int(learner["learner_model_param"].get("num_target", 1))
        if not (0 <= features <= _FEATURES_MOST and 0 <= outputs <= _OUTPUTS_MOST and 0 <= targets <= _OUTPUTS_MOST):
            examination.find(BOUNDS, f"{features} features, {outputs} classes, {targets} targets")
            return
        if name == "gblinear":
            _examine_linear(booster["model"], features, max(1, outputs, targets), examination)
        elif name in {"gbtree", "dart"}:
            trees = booster["gbtree"]["model"] if name == "dart" else booster["model"]
            _examine_trees(trees, features, max(1, outputs, targets), examination)
        else:
            examination.find(DAMAGED, shown(f"a booster called {name!r}"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        examination.find(DAMAGED, shown(f"{type(error).__name__}: {error}"))


def _examine_linear(model: Any, features: int, outputs: int, examination: Examination) -> None:
    count = len(model["weights"])
    if count != (features + 1) * outputs:
        examination.find(BOUNDS, f"{count} weights of {features} features and {outputs} outputs")
    examination.facts["trees"] = 0


def _examine_trees(model: Any, features: int, outputs: int, examination: Examination) -> None:
    trees, groups = model["trees"], integers(model["tree_info"], "groups of trees")
    examination.facts["trees"] = len(trees)
    if len(groups) != len(trees) or int(model["gbtree_model_param"]["num_trees"]) != len(trees):
        examination.find(BOUNDS, f"{len(trees)} trees, {len(groups)} groups of trees")
    if groups.size and (groups.min() < 0 or groups.max() >= outputs):
        examination.find(BOUNDS, f"a tree of group {groups.max()}, of {outputs}")
    starts = integers(model.get("iteration_indptr", []), "first trees of iterations")
    if starts.size and (starts.min() < 0 or starts.max() > len(trees) or (np.diff(starts) < 0).any()):
        examination.find(BOUNDS, "iterations that begin at trees which are not there")
    for index, tree in enumerate(trees):
        examination.check_time()
        problem = _tree_problem(tree, features)
        if problem:
            examination.find(BOUNDS, problem, at=f"tree {index}")


def _tree_problem(tree: Any, features: int) -> str:
    left, right = integers(tree["left_children"], "children"), integers(tree["right_children"], "children")
    split = integers(tree["split_indices"], "features")
    count, stated = len(left), int(tree["tree_param"]["num_nodes"])
    size = max(1, int(tree["tree_param"].get("size_leaf_vector", 1)))
    lengths = {key: len(tree[key]) for key in ("right_children", "split_indices", "split_conditions", "default_left")}
    if not 0 < count <= _NODES_MOST or stated != count or any(length != count for length in lengths.values()):
        return f"{stated} nodes stated, {count} there, {lengths}"
    inner = left != -1
    if size > 1:  # the right child of a leaf of several outputs is its place among the weights
        weights = len(tree["leaf_weights"]) if "leaf_weights" in tree else len(tree["base_weights"])
        if len(tree["base_weights"]) != count * size or ((right[~inner] + 1) * size > weights).any():
            return f"{weights} weights of leaves of {size} outputs"
        right = np.where(inner, right, -1)
    if (inner != (right != -1)).any():
        return "a node with one child"
    problem = walk_problem((left, right), inner)
    if not problem and (split[inner] < 0).any():
        problem = "a feature below 0"
    if not problem and inner.any() and features and split[inner].max() >= features:
        problem = f"feature {split[inner].max()} of {features}"
    return problem or _categories_problem(tree, count)


def _categories_problem(tree: Any, nodes: int) -> str:
    """Categories of nodes that split by one: each node's part of one list."""
    values = integers(tree.get("categories", []), "categories")
    owners = integers(tree.get("categories_nodes", []), "nodes with categories")
    starts = integers(tree.get("categories_segments", []), "first categories")
    sizes = integers(tree.get("categories_sizes", []), "numbers of categories")
    if not len(owners) == len(starts) == len(sizes):
        return "categories without their nodes"
    return _parts_problem(owners, starts, sizes, len(values), nodes) or (
        "a category below 0" if values.size and values.min() < 0 else ""
    )


def _parts_problem(owners: Integers, starts: Integers, sizes: Integers, total: int, nodes: int) -> str:
    if owners.size and (owners.min() < 0 or owners.max() >= nodes):
        return "categories of a node that is not there"
    if starts.size and (starts.min() < 0 or sizes.min() < 0 or (starts + sizes).max() > total):
        return "categories beyond their list"
    return ""


def recognise_legacy(head: bytes, _: Content) -> bool:
    """The old binary format says so in its first four bytes."""
    return head.startswith((b"binf", b"bs64\t"))


def examine_legacy(_: Content, examination: Examination) -> None:
    """Nothing of it is followed."""
    examination.find(LEGACY, "the old binary format", at=0)


FORMATS = (
    Format("xgboost-ubjson", recognise, examine, (DAMAGED, BOUNDS)),
    Format("xgboost-legacy", recognise_legacy, examine_legacy, (LEGACY,)),
)
