"""Trees as an ONNX graph: `features` float32 [batch, D] to `logits` (or `prediction`) float32 [batch, K].

One TreeEnsembleRegressor holds all trees, whatever their number; ONNX Runtime walks them. The classifier operator of
ONNX would add labels, a choice of classes and a second output, which the rest of the house builds itself
(`hauberk.graph.decision`).
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hauberk.convert.trees.ensemble import SMALLEST_NUMBER, Ensemble, Membership, ZeroIsMissing, stacked
from hauberk.graph.model import BATCH, IR_VERSION, OPSET, node, value_info
from hauberk.tensors import TensorSpec

ML_OPSET = 3
"""Of the domain ai.onnx.ml; ONNX Runtime knows it since 1.11."""

Constants = dict[str, NDArray[np.generic]]


def tree_graph(ensemble: Ensemble, opset: int = OPSET) -> bytes:
    """Serialise the graph of an ensemble.

    Args:
        ensemble: The trees.
        opset: Of the standard domain.
    """
    constants: Constants = {}
    nodes: list[onnx.NodeProto] = []
    columns = _columns(ensemble, nodes, constants)
    result = "prediction" if ensemble.meaning in ("value", "logarithm") else "logits"
    sums = "sums" if ensemble.meaning == "logarithm" else result
    nodes.append(_trees(ensemble, columns, sums))
    if ensemble.meaning == "logarithm":
        nodes.append(node("Exp", [sums], result))
    graph = helper.make_graph(
        nodes,
        ensemble.library,
        [value_info(TensorSpec("features", "float32", (BATCH, ensemble.features)))],
        [value_info(TensorSpec(result, "float32", (BATCH, ensemble.targets)))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    serialised: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
    return serialised


def _trees(ensemble: Ensemble, columns: str, output: str) -> onnx.NodeProto:
    """All trees as one node."""
    trees = ensemble.trees
    counts = [len(tree.feature) for tree in trees]
    ids = stacked([np.arange(count) for count in counts], np.int64)
    numbers = np.repeat(np.arange(len(trees)), counts)
    leaves = stacked([tree.leaves for tree in trees], np.bool_)
    inner = "BRANCH_LT" if ensemble.strict else "BRANCH_LEQ"
    targets = np.repeat([tree.target for tree in trees], counts)
    weights = stacked([tree.weight for tree in trees], np.float64)
    with np.errstate(over="ignore"):
        leaf_weights = weights[leaves].astype(np.float32)

    def kept(name: str, dtype: type) -> NDArray[np.generic]:
        values = stacked([getattr(tree, name) for tree in trees], dtype)
        return np.where(leaves, np.zeros(1, dtype), values)

    return helper.make_node(
        "TreeEnsembleRegressor",
        [columns],
        [output],
        name="trees",
        domain="ai.onnx.ml",
        aggregate_function="SUM",
        post_transform="NONE",
        n_targets=ensemble.targets,
        base_values=ensemble.base.tolist(),
        nodes_treeids=numbers.tolist(),
        nodes_nodeids=ids.tolist(),
        nodes_modes=np.where(leaves, "LEAF", inner).tolist(),
        nodes_featureids=kept("feature", np.int64).tolist(),
        nodes_values=kept("threshold", np.float32).tolist(),
        nodes_truenodeids=kept("left", np.int64).tolist(),
        nodes_falsenodeids=kept("right", np.int64).tolist(),
        nodes_missing_value_tracks_true=kept("missing_left", np.int64).tolist(),
        target_treeids=numbers[leaves].tolist(),
        target_nodeids=ids[leaves].tolist(),
        target_ids=targets[leaves].tolist(),
        target_weights=leaf_weights.tolist(),
    )


def _columns(ensemble: Ensemble, nodes: list[onnx.NodeProto], constants: Constants) -> str:
    """What computes the derived columns; the name of the tensor that has all of them behind the features.

    Columns come in the order of `Ensemble.derived`; those of one feature that follow each other are looked up at once.
    """
    if not ensemble.derived:
        return "features"
    parts, start = ["features"], 0
    while start < len(ensemble.derived):
        first = ensemble.derived[start]
        stop = start + 1
        while stop < len(ensemble.derived) and _alike(first, ensemble.derived[stop]):
            stop += 1
        run = ensemble.derived[start:stop]
        name = f"derived_{start}"
        constants[f"{name}_index"] = np.array([first.feature], dtype=np.int64)
        nodes.append(node("Gather", ["features", f"{name}_index"], f"{name}_value", axis=1))
        if isinstance(first, ZeroIsMissing):
            _zero_is_missing(name, nodes, constants)
        else:
            _membership(name, [each for each in run if isinstance(each, Membership)], nodes, constants)
        parts.append(name)
        start = stop
    nodes.append(node("Concat", parts, "columns", axis=1))
    return "columns"


def _alike(first: object, other: object) -> bool:
    """Whether two columns come out of the same look-up."""
    return (
        isinstance(first, Membership)
        and isinstance(other, Membership)
        and (first.feature, first.truncated, first.missing) == (other.feature, other.truncated, other.missing)
    )


def _zero_is_missing(name: str, nodes: list[onnx.NodeProto], constants: Constants) -> None:
    constants[f"{name}_smallest"] = np.array(SMALLEST_NUMBER)
    constants[f"{name}_nan"] = np.array(np.nan, dtype=np.float32)
    nodes += [
        node("Abs", [f"{name}_value"], f"{name}_size"),
        node("LessOrEqual", [f"{name}_size", f"{name}_smallest"], f"{name}_zero"),
        node("Where", [f"{name}_zero", f"{name}_nan", f"{name}_value"], name),
    ]


def _membership(name: str, sets: list[Membership], nodes: list[onnx.NodeProto], constants: Constants) -> None:
    """A table of categories by sets; row 0 is for what is no category, the last one for those in no set."""
    last = max(max(each.categories) for each in sets)
    table = np.zeros((last + 3, len(sets)), dtype=np.float32)
    for index, each in enumerate(sets):
        table[np.array(each.categories) + 1, index] = 1.0
    constants |= {
        f"{name}_table": table,
        f"{name}_none": np.array(-1, dtype=np.float32),
        f"{name}_beyond": np.array(last + 1, dtype=np.float32),
        f"{name}_one": np.array(1, dtype=np.int64),
        f"{name}_flat": np.array([-1], dtype=np.int64),
    }
    nodes += [
        node("IsNaN", [f"{name}_value"], f"{name}_missing"),
        node("Where", [f"{name}_missing", f"{name}_none", f"{name}_value"], f"{name}_present"),
        node("Clip", [f"{name}_present", f"{name}_none", f"{name}_beyond"], f"{name}_clipped"),
    ]
    whole = f"{name}_clipped"
    if not sets[0].truncated:
        nodes.append(node("Floor", [whole], f"{name}_floor"))
        whole = f"{name}_floor"
    looked_up = f"{name}_inside" if sets[0].missing else name
    nodes += [
        node("Cast", [whole], f"{name}_code", to=TensorProto.INT64),
        node("Add", [f"{name}_code", f"{name}_one"], f"{name}_row"),
        node("Reshape", [f"{name}_row", f"{name}_flat"], f"{name}_rows"),
        node("Gather", [f"{name}_table", f"{name}_rows"], looked_up, axis=0),
    ]
    if sets[0].missing:
        constants[f"{name}_nan"] = np.array(np.nan, dtype=np.float32)
        nodes.append(node("Where", [f"{name}_missing", f"{name}_nan", looked_up], name))
