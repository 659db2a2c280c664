"""What skl2onnx leaves out of a graph, or reads otherwise than scikit-learn, put right in the graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def compare_categories(proto: onnx.ModelProto) -> None:
    """Let a one-hot code ask whether a number is the category, as scikit-learn does.

    skl2onnx casts to whole numbers first, so that 0.6 counts as category 0.

    Args:
        proto: Changed in place.
    """
    graph = proto.graph
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    nodes = []
    for number, node in enumerate(graph.node):
        listed = [list(each.ints) for each in node.attribute if each.name == "cats_int64s"]
        cast = casts.get(node.input[0]) if node.op_type == "OneHotEncoder" else None
        if cast is None or not listed:
            nodes.append(node)
            continue
        categories = np.array(listed[0], dtype=np.float64)
        rounded = categories.astype(np.float32)
        rounded[rounded.astype(np.float64) != categories] = np.nan  # a category that no float32 number is
        name = f"hauberk_categories_{number}"
        graph.initializer.append(numpy_helper.from_array(rounded[None], name))
        nodes.append(helper.make_node("Equal", [cast.input[0], name], [f"{name}_equal"]))
        nodes.append(helper.make_node("Cast", [f"{name}_equal"], [node.output[0]], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)


def keep_scores(proto: onnx.ModelProto) -> None:
    """Take the calibration away with which a support vector machine turns scores into probabilities.

    With it ONNX Runtime answers with probabilities where scores were asked for.

    Args:
        proto: Changed in place.
    """
    for node in proto.graph.node:
        if node.op_type == "SVMClassifier":
            kept = [each for each in node.attribute if each.name not in ("prob_a", "prob_b")]
            del node.attribute[:]
            node.attribute.extend(kept)


def track_missing(proto: onnx.ModelProto, trees: Sequence[Any]) -> tuple[str, ...]:
    """Send missing values where scikit-learn's trees do, which skl2onnx leaves out.

    Args:
        proto: Changed in place.
        trees: scikit-learn's, in the order of the estimator.

    Returns:
        A note where the graph's trees are not these one to one.
    """
    listed = [node for node in proto.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not listed or not trees:
        return ()
    # skl2onnx sorts operators by name, so that the eleventh tree of an isolation forest stands before the third.
    for holders in (listed, sorted(listed, key=lambda node: [int(each) for each in re.findall(r"\d+", node.name)])):
        attributes = [{each.name: each for each in node.attribute} for node in holders]
        sizes = [np.unique(list(found["nodes_treeids"].ints), return_counts=True)[1] for found in attributes]
        if np.concatenate(sizes).tolist() == [tree.node_count for tree in trees]:
            break
    else:
        return (
            "its trees are laid out otherwise than scikit-learn's: missing values may go another way, see 'missing'",
        )
    left = iter(trees)
    for node, found, counts in zip(holders, attributes, sizes, strict=True):
        tracks = np.concatenate([np.asarray(next(left).missing_go_to_left) for _ in counts])
        order = [int(sum(counts[:tree])) + place for tree, place in _nodes(found)]
        kept = [each for each in node.attribute if each.name != "nodes_missing_value_tracks_true"]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.append(helper.make_attribute("nodes_missing_value_tracks_true", tracks[order].tolist()))
    return ()


def _nodes(found: Mapping[str, onnx.AttributeProto]) -> list[tuple[int, int]]:
    """Every node of a tree operator: which of its trees, counted from 0, and which node of that."""
    trees = list(found["nodes_treeids"].ints)
    numbers = {tree: number for number, tree in enumerate(sorted(set(trees)))}
    return [(numbers[tree], place) for tree, place in zip(trees, found["nodes_nodeids"].ints, strict=True)]
