"""Decision trees of scikit-learn in a skops archive: compiled code follows their indices without checking them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hauberk.scan.content import Content
from hauberk.scan.pickles.node_tables import is_table

Array = npt.NDArray[Any]


def read_array(content: Content) -> Array:
    """The array in a member, which must be as large as its header says.

    Raises:
        ValueError: It is none, or of another size.
    """
    data = content.read(0, content.size)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError("another version of the array format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, order, dtype = read(stream)
    start = stream.tell()
    if order or dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError("an array of another size")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def state_of(node: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an object, by name; empty where it keeps none.

    Args:
        node: An `ObjectNode`.
    """
    content = node.get("content")
    inner = content.get("content") if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else {}


def tree_problem(node: dict[str, Any], features: int | None, read: Callable[[str], Array]) -> str:
    """What is wrong with a `TreeNode`; empty where nothing is.

    Args:
        node: Of the schema.
        features: Columns that the estimator around it makes sure of; `None` where there is none.
        read: The array of a member.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: It is not as skops writes it.
    """
    stated = int(node["__reduce__"]["args"]["content"][0]["content"])
    state = node["content"]["content"]
    count = int(state["node_count"]["content"])
    data, values = read(state["nodes"]["file"]), read(state["values"]["file"])
    if not is_table(data.dtype):
        return "a table of nodes whose fields are others than scikit-learn's"
    if count < 1 or data.ndim != 1 or not values.ndim or len(data) < count or len(values) < count:
        return f"{count} nodes, of which {len(data)} are there and {len(values) if values.ndim else 0} have values"
    left, right = data["left_child"][:count], data["right_child"][:count]
    limit = stated if features is None else min(stated, features)
    problem = _problem(left, right, left != -1, data["feature"][:count], limit)
    return problem or _depth_problem(left, right, left != -1, int(state["max_depth"]["content"]))


def predictor_problem(node: dict[str, Any], features: int, read: Callable[[str], Array]) -> str:
    """What is wrong with a tree of histogram-based gradient boosting; empty where nothing is.

    Args:
        node: The `ObjectNode` of a `TreePredictor`.
        features: Columns that the estimator around it makes sure of.
        read: The array of a member.

    Raises:
        ValueError, KeyError, TypeError, IndexError, AttributeError: It is not as skops writes it, or splits by
            categories, which further tables belong to.
    """
    data = read(state_of(node)["nodes"]["file"])
    if data.ndim != 1 or not len(data):
        return "a tree without nodes"
    if not is_table(data.dtype):
        return "a table of nodes whose fields are others than scikit-learn's"
    if np.any(data["is_categorical"]):
        raise ValueError("splits by categories")
    return _problem(data["left"], data["right"], data["is_leaf"] == 0, data["feature_idx"], features)


def _problem(left: Array, right: Array, inner: npt.NDArray[np.bool_], feature: Array, features: int) -> str:
    """Children must follow their parents, as all trees are grown, so that every walk ends."""
    index = np.arange(len(inner))[inner]
    for side in (left, right):
        child = side[inner].astype(np.int64)
        if np.any(child <= index) or np.any(child >= len(inner)):
            return "a node whose child is none of those that follow it"
    asked = feature[inner].astype(np.int64)
    if np.any(asked < 0) or np.any(asked >= features):
        return f"a node that asks for a feature beyond the {features} that there are"
    return ""


def _depth_problem(left: Array, right: Array, inner: npt.NDArray[np.bool_], stated: int) -> str:
    """`decision_path` makes room for the stated depth, and writes every node of a way through the tree."""
    count = len(inner)
    children = np.concatenate([left[inner], right[inner]]).astype(np.int64)
    if np.bincount(children, minlength=count).max(initial=0) > 1:
        return "a node with two parents"
    above = np.arange(count)
    above[children] = np.tile(np.arange(count)[inner], 2)
    depth = (above != np.arange(count)).astype(np.int64)
    while np.any(above != above[above]):  # twice as far up each time
        depth += depth[above]
        above = above[above]
    if count and depth.max() > stated:
        return f"a tree of {depth.max()} levels that says it has {stated}"
    return ""
