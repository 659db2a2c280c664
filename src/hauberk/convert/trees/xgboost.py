"""XGBoost's own files, JSON and UBJSON, read without XGBoost.

Semantics (https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html and the sources of version 3.2): numbers
are float32; a node sends `x < split_condition` left, NaN to its default side; of a categorical node the categories that
it lists go right. Leaves of one output add up, and the base score is added, turned from the scale of predictions into
that of sums.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.convert.trees.ensemble import (
    Derived,
    Ensemble,
    Meaning,
    Membership,
    Tree,
    checked,
    require_size,
    require_trees,
)
from hauberk.convert.trees.ubjson import decode
from hauberk.errors import InputError, RefusedModelError, one_line

Float = np.float32


def _log_odds(score: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        result: NDArray[np.float32] = -np.log(Float(1) / score - Float(1))
    return result


def _logarithm(score: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        result: NDArray[np.float32] = np.log(score)
    return result


def _itself(score: NDArray[np.float32]) -> NDArray[np.float32]:
    return score


# What an objective's sums mean, and how a base score becomes one of them.
_OBJECTIVES: dict[str, tuple[Meaning, Callable[[NDArray[np.float32]], NDArray[np.float32]]]] = {
    "binary:logistic": ("log-odds", _log_odds),
    "reg:logistic": ("log-odds", _log_odds),
    "binary:logitraw": ("log-odds", _itself),
    "multi:softmax": ("class logits", _itself),
    "multi:softprob": ("class logits", _itself),
    "reg:squarederror": ("value", _itself),
    "reg:linear": ("value", _itself),
    "reg:squaredlogerror": ("value", _itself),
    "reg:pseudohubererror": ("value", _itself),
    "reg:absoluteerror": ("value", _itself),
    "reg:quantileerror": ("value", _itself),
    "rank:pairwise": ("value", _itself),
    "rank:ndcg": ("value", _itself),
    "rank:map": ("value", _itself),
    "count:poisson": ("logarithm", _logarithm),
    "reg:gamma": ("logarithm", _logarithm),
    "reg:tweedie": ("logarithm", _logarithm),
}

_MOST_OUTPUTS = 10_000
_MOST_CATEGORIES = 1 << 20


class _TreeFile(msgspec.Struct):
    left_children: Any
    right_children: Any
    split_conditions: Any
    split_indices: Any
    default_left: Any
    tree_param: dict[str, str]
    split_type: Any = ()
    categories: Any = ()
    categories_nodes: Any = ()
    categories_segments: Any = ()
    categories_sizes: Any = ()


class _ModelFile(msgspec.Struct):
    trees: list[_TreeFile]
    tree_info: Any
    cats: dict[str, Any] = {}


class _TreesFile(msgspec.Struct):
    name: str
    model: _ModelFile | None = None
    gbtree: _TreesFile | None = None
    weight_drop: Any = None


class _Learner(msgspec.Struct):
    gradient_booster: dict[str, Any]
    learner_model_param: dict[str, str]
    objective: dict[str, Any]
    feature_names: list[str] = []
    feature_types: list[str] = []
    attributes: dict[str, str] = {}


class _File(msgspec.Struct):
    learner: _Learner
    version: Any


def read_xgboost(data: bytes, where: str) -> Ensemble:
    """The trees of an XGBoost model that was admitted.

    Args:
        data: The file, JSON or UBJSON.
        where: How messages call it.

    Raises:
        RefusedModelError: It is damaged, or its trees are none.
        InputError: It is a model of a kind that is not converted: linear, of another objective, with vectors in leaves.
    """
    learner = _parse(data, where)
    trees_file, drops = _trees_file(learner, where)
    model = trees_file.model
    if model is None:
        raise RefusedModelError(f"{where}: not an XGBoost model: it has no trees")
    features, targets = _sizes(learner, where)
    meaning, base_of = _objective(learner, targets, where)
    require_trees(len(model.trees), where)
    info = _integers(model.tree_info, where, "tree_info")
    if len(info) != len(model.trees) or ((info < 0) | (info >= targets)).any():
        raise RefusedModelError(f"{where}: {len(model.trees)} trees, and not as many outputs that they add to")
    if drops is not None and len(drops) != len(model.trees):
        raise RefusedModelError(f"{where}: {len(model.trees)} trees and {len(drops)} weights of them")
    derived: list[Derived] = []
    trees, nodes = [], 0
    for number, (file, target) in enumerate(zip(model.trees, info, strict=True)):
        at = f"{where}: tree {number}"
        tree = _tree(file, int(target), 1.0 if drops is None else float(drops[number]), features, derived, at)
        nodes += len(tree.feature)
        require_size(nodes, features + len(derived), where)
        trees.append(checked(tree, features + len(derived), at))
    return Ensemble(
        library="XGBoost",
        features=features,
        targets=targets,
        trees=tuple(trees),
        strict=True,
        base=_base(learner, targets, base_of, where),
        meaning=meaning,
        derived=tuple(derived),
        names=tuple(learner.feature_names) if len(learner.feature_names) == features else (),
        notes=_notes(learner, model, len(trees), targets),
    )


def _parse(data: bytes, where: str) -> _Learner:
    try:
        # UBJSON begins with a brace, too, and has a type or a length after it.
        if data[:1] == b"{" and data[1:].lstrip()[:1] == b'"':
            # XGBoost before 2.0 writes NaN for the thresholds of categorical nodes, which JSON proper lacks.
            if re.search(rb"[,\[:]-?(NaN|Infinity)[,\]}]", data):
                return msgspec.convert(json.loads(data), type=_File).learner
            return msgspec.json.decode(data, type=_File).learner
        return msgspec.convert(decode(data, where), type=_File).learner
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RefusedModelError(f"{where}: not an XGBoost model, or a damaged one: {one_line(error)}") from error


def _trees_file(learner: _Learner, where: str) -> tuple[_TreesFile, NDArray[np.float64] | None]:
    """The part of the file with the trees, and the weight of each where the booster is DART."""
    name = learner.gradient_booster.get("name")
    if name == "gblinear":
        raise InputError(f"{where}: a linear booster (gblinear), which has no trees; train with booster='gbtree'")
    try:
        found = msgspec.convert(learner.gradient_booster, type=_TreesFile)
    except msgspec.ValidationError as error:
        raise RefusedModelError(f"{where}: not an XGBoost model, or a damaged one: {error}") from error
    if found.name == "dart" and found.gbtree is not None:
        return found.gbtree, _floats(found.weight_drop, where, "weight_drop")
    if found.name != "gbtree":
        raise InputError(f"{where}: booster {found.name[:40]!r}; gbtree and dart are converted")
    return found, None


def _sizes(learner: _Learner, where: str) -> tuple[int, int]:
    """Features and outputs."""
    parameters = learner.learner_model_param
    try:
        features = int(parameters["num_feature"])
        targets = max(int(parameters.get("num_class", "0")), int(parameters.get("num_target", "1")), 1)
    except (KeyError, ValueError) as error:
        raise RefusedModelError(f"{where}: its number of features or classes is none") from error
    if features < 1 or targets > _MOST_OUTPUTS:
        raise RefusedModelError(f"{where}: {features} features and {targets} outputs")
    require_size(0, features, where)
    return features, targets


def _objective(
    learner: _Learner, targets: int, where: str
) -> tuple[Meaning, Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    name = learner.objective.get("name")
    if name not in _OBJECTIVES:
        raise InputError(f"{where}: objective {str(name)[:60]!r} is not converted; those are {', '.join(_OBJECTIVES)}")
    if _OBJECTIVES[name][0] == "log-odds" and targets > 1:
        raise InputError(
            f"{where}: {targets} labels that do not exclude each other ({name}); train one model a label, or"
            " multi:softprob where they do"
        )
    return _OBJECTIVES[name]


def _base(
    learner: _Learner, targets: int, base_of: Callable[[NDArray[np.float32]], NDArray[np.float32]], where: str
) -> NDArray[np.float32]:
    """What sums start from; one number for all outputs before XGBoost 3.1, one each since."""
    text = learner.learner_model_param.get("base_score", "5E-1").strip("[]")
    try:
        scores = np.array([float(part) for part in text.split(",")], dtype=np.float32)
    except ValueError as error:
        raise RefusedModelError(f"{where}: base_score {text[:60]!r} is no number") from error
    base = base_of(scores)
    if not np.isfinite(base).all() or len(base) not in (1, targets):
        raise RefusedModelError(f"{where}: base_score {text[:60]!r} does not fit objective and outputs")
    return np.broadcast_to(base, (targets,)).astype(np.float32)


def _tree(file: _TreeFile, target: int, weight: float, features: int, derived: list[Derived], where: str) -> Tree:
    """One tree as it stands in the file; the sets of its categorical nodes are added to `derived`."""
    if file.tree_param.get("size_leaf_vector", "1") not in ("0", "1"):
        raise InputError(f"{where}: its leaves hold vectors; train with multi_strategy='one_output_per_tree'")
    left, right, split = (
        _integers(getattr(file, name), where, name) for name in ("left_children", "right_children", "split_indices")
    )
    default, condition = (
        _integers(file.default_left, where, "default_left"),
        _floats(file.split_conditions, where, "split_conditions"),
    )
    kinds = _integers(file.split_type, where, "split_type") if len(file.split_type) else np.zeros_like(left)
    if len({len(each) for each in (left, right, split, default, condition, kinds)}) != 1:
        raise RefusedModelError(f"{where}: its nodes have unlike numbers of children and conditions")
    leaves = left == -1
    if ((split < 0) | (split >= features))[~leaves].any():
        raise RefusedModelError(f"{where}: a node looks at a column that is not among {features}")
    with np.errstate(over="ignore"):
        threshold = condition.astype(np.float32)
    categorical = np.flatnonzero(~leaves & (kinds == 1))
    if categorical.size:
        threshold, split = threshold.copy(), split.copy()
        threshold[categorical] = 0.5  # not in the set: left
        split[categorical] = _memberships(file, split, categorical, features, derived, where)
    return Tree(
        target=target,
        feature=np.where(leaves, -1, split),
        threshold=threshold,
        left=left,
        right=right,
        missing_left=default != 0,
        # A float32 in the file, and in XGBoost's product with the weight of its tree.
        weight=(condition.astype(np.float32) * Float(weight)).astype(np.float64),
    )


def _memberships(
    file: _TreeFile,
    split: NDArray[np.int64],
    categorical: NDArray[np.int64],
    features: int,
    derived: list[Derived],
    where: str,
) -> NDArray[np.int64]:
    """The columns that say whether a category is in the set of each categorical node."""
    owners, starts, sizes, listed = (
        _integers(getattr(file, name), where, name)
        for name in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    if not np.array_equal(owners, categorical) or not len(owners) == len(starts) == len(sizes):
        raise RefusedModelError(f"{where}: its categorical nodes and their sets do not fit each other")
    if ((listed < 0) | (listed >= _MOST_CATEGORIES)).any():
        raise RefusedModelError(f"{where}: a category outside 0 to {_MOST_CATEGORIES - 1}")
    columns = []
    for node, start, size in zip(owners, starts, sizes, strict=True):
        if start < 0 or size < 1 or start + size > len(listed):
            raise RefusedModelError(f"{where}: the set of node {node} lies outside the categories")
        members = tuple(np.unique(listed[start : start + size]).tolist())
        columns.append(features + len(derived))
        derived.append(Membership(int(split[node]), members, truncated=False, missing=True))
    return np.array(columns, dtype=np.int64)


def _notes(learner: _Learner, model: _ModelFile, trees: int, targets: int) -> tuple[str, ...]:
    notes = []
    best = learner.attributes.get("best_iteration", "")
    if best.isdigit() and (int(best) + 1) * targets < trees:
        notes.append(
            f"training stopped early: iteration {int(best)} was the best of {trees // targets}; all trees are"
            " converted, as Booster.predict uses them (XGBClassifier.predict uses those up to the best: save"
            " booster[: best_iteration + 1] where these are meant)"
        )
    if model.cats.get("enc") is not None and len(model.cats["enc"]):
        notes.append("categories had names in training; the graph takes their codes, 0, 1, …, in that order")
    return tuple(notes)


def _integers(values: Any, where: str, name: str) -> NDArray[np.int64]:
    found = _array(values, where, name)
    if found.dtype.kind == "b":
        found = found.astype(np.int64)
    if found.size and found.dtype.kind not in "iu":
        raise RefusedModelError(f"{where}: {name} are no whole numbers")
    return found.astype(np.int64)


def _floats(values: Any, where: str, name: str) -> NDArray[np.float64]:
    found = _array(values, where, name)
    if found.size and found.dtype.kind not in "iuf":
        raise RefusedModelError(f"{where}: {name} are no numbers")
    return found.astype(np.float64)


def _array(values: Any, where: str, name: str) -> NDArray[Any]:
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise RefusedModelError(f"{where}: {name} are no numbers") from error
    if found.ndim != 1:
        raise RefusedModelError(f"{where}: {name} are no list of numbers")
    return found
