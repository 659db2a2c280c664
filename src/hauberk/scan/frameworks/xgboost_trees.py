"""One tree of XGBoost, as arrays that the library follows without looking.

Format: `RegTree::LoadModel` of https://github.com/dmlc/xgboost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hauberk.scan.frameworks.trees import Integers, check_depth, figure, integers, walk_problem

_NODES_MOST = 1 << 26
_CATEGORIES_MOST = 1 << 24
_NO_PARENT = (1 << 31) - 1


def tree_problem(tree: Any, index: int, features: int, outputs: int) -> str:
    """What in a tree leads outside it; empty where nothing does.

    Args:
        tree: Its object.
        index: Its place among the trees.
        features: Of the model.
        outputs: Of the model, for leaves that hold several.

    Raises:
        ValueError: It is not complete, or says of itself what is not so.
        KeyError: A part is missing.
        DeepError: It has very many levels.
    """
    left, right = integers(tree["left_children"], "children"), integers(tree["right_children"], "children")
    split = integers(tree["split_indices"], "features")
    count, stated = len(left), figure(tree["tree_param"]["num_nodes"])
    size = max(1, figure(tree["tree_param"].get("size_leaf_vector", 1)))
    lengths = {key: len(tree[key]) for key in ("right_children", "split_indices", "split_conditions", "default_left")}
    if not 0 < count <= _NODES_MOST or stated != count or any(length != count for length in lengths.values()):
        return f"{stated} nodes stated, {count} there, {lengths}"
    inner = left != -1
    if size not in {1, outputs}:
        return f"leaves of {size} outputs, of {outputs}"
    if size > 1:  # the right child of a leaf of several outputs is its place among the weights
        weights, places = len(tree["leaf_weights"]), right[~inner]
        if len(tree["base_weights"]) != count * size or (places < 0).any() or ((places + 1) * size > weights).any():
            return f"{weights} weights of leaves of {size} outputs"
        right = np.where(inner, right, -1)
    if (inner != (right != -1)).any():
        return "a node with one child"
    problem = walk_problem((left, right), inner)
    if not problem:
        check_depth(np.tile(np.flatnonzero(inner), 2), np.concatenate([left[inner], right[inner]]), count)
    if not problem and (split[inner] < 0).any():
        problem = "a feature below 0"
    if not problem and inner.any() and features and split[inner].max() >= features:
        problem = f"feature {split[inner].max()} of {features}"
    return problem or _plain_problem(tree, index, features, size) or _parents_problem(tree, left, right, inner)


def _plain_problem(tree: Any, index: int, features: int, size: int) -> str:
    """Arrays whose numbers lead nowhere: their lengths count."""
    count = len(tree["left_children"])
    if figure(tree["tree_param"]["num_feature"]) != features or figure(tree.get("id", index)) != index:
        raise ValueError("a tree of another number of features, or at another place")
    lengths = {"base_weights": count * size}
    if size == 1 or "loss_changes" in tree:
        lengths |= {"loss_changes": count, "sum_hessian": count}
    if "split_type" in tree:
        lengths["split_type"] = count
    for key, expected in lengths.items():
        if len(tree[key]) != expected:
            return f"{len(tree[key])} of {key}, {expected} expected"
    for key in (*lengths, "split_conditions", "default_left"):
        if np.asarray(tree[key]).dtype.kind not in "fiub":
            raise ValueError(f"{key} that are no numbers")
    return ""


def _parents_problem(tree: Any, left: Integers, right: Integers, inner: npt.NDArray[np.bool_]) -> str:
    """Parents are the children the other way round; nodes that were cut off keep one that is there."""
    parents, count = integers(tree["parents"], "parents"), len(inner)
    if len(parents) != count or parents[0] not in {_NO_PARENT, -1}:
        return f"{len(parents)} parents of {count} nodes, or one of the first"
    rest = parents[1:]
    if rest.size and (rest.min() < 0 or rest.max() >= count):
        return "a parent that is none of its nodes"
    numbers = np.flatnonzero(inner)
    if (parents[left[inner]] != numbers).any() or (parents[right[inner]] != numbers).any():
        return "a parent of which a node is no child"
    unnamed = count - 1 - 2 * len(numbers)
    if not 0 <= figure(tree["tree_param"].get("num_deleted", 0)) == unnamed:
        raise ValueError(f"{unnamed} nodes that hang together with nothing")
    return _categories_problem(tree, count) or _kinds_problem(tree, inner)


def _kinds_problem(tree: Any, inner: npt.NDArray[np.bool_]) -> str:
    """Nodes that split by category are those that have categories."""
    owners = integers(tree.get("categories_nodes", []), "nodes with categories")
    kinds = integers(tree.get("split_type", []), "kinds of splits")
    if (np.diff(owners) <= 0).any() or (kinds.size and not 0 <= kinds.min() <= kinds.max() <= 1):
        return "categories in another order, or splits of another kind"
    by_category = np.flatnonzero(kinds.astype(bool) & inner) if kinds.size else kinds
    return "" if np.array_equal(by_category, owners) else "splits by categories without these, or the other way round"


def category_bits(tree: Any) -> int:
    """Bits that the library keeps for the categories of a tree: for each node as many as its largest one."""
    values = integers(tree.get("categories", []), "categories")
    nodes = len(tree.get("categories_nodes", []))
    return int(values.max()) * nodes if values.size else 0


def encoding_problem(cats: Any, features: int) -> str:
    """What is wrong with the categories by which a model was trained: their names, and their order by name."""
    encoded = cats["enc"]
    sizes = [max(0, len(each["offsets"]) - 1) if "offsets" in each else len(each["values"]) for each in encoded]
    for each in encoded:
        offsets = integers(each.get("offsets", []), "offsets")
        if offsets.size and (offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] > len(each["values"])):
            return "names of categories beyond their text"
    segments, order = integers(cats["feature_segments"], "segments"), integers(cats["sorted_idx"], "order")
    if not encoded:
        return "" if not order.size and not segments.any() else "categories of no feature"
    if len(encoded) != features or not np.array_equal(segments, np.cumsum([0, *sizes])) or len(order) != sum(sizes):
        return f"categories of {len(encoded)} features, of {features}, or not as many as stated"
    most = np.repeat(sizes, sizes)
    return "a category that is not there" if (order < 0).any() or (order >= most).any() else ""


def _categories_problem(tree: Any, nodes: int) -> str:
    """Categories of nodes that split by one: each node's part of one list."""
    values = integers(tree.get("categories", []), "categories")
    owners = integers(tree.get("categories_nodes", []), "nodes with categories")
    starts = integers(tree.get("categories_segments", []), "first categories")
    sizes = integers(tree.get("categories_sizes", []), "numbers of categories")
    if not len(owners) == len(starts) == len(sizes):
        return "categories without their nodes"
    return _parts_problem(owners, starts, sizes, len(values), nodes) or (
        "a category that is none" if values.size and not 0 <= values.min() <= values.max() < _CATEGORIES_MOST else ""
    )


def _parts_problem(owners: Integers, starts: Integers, sizes: Integers, total: int, nodes: int) -> str:
    if owners.size and (owners.min() < 0 or owners.max() >= nodes):
        return "categories of a node that is not there"
    if starts.size and (starts.min() < 0 or sizes.min() < 0 or (starts + sizes).max() > total):
        return "categories beyond their list"
    return ""
