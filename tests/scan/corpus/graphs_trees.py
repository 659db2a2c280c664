"""Hostile trees of ai.onnx.ml: nodes that lead nowhere, or too far."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto, TensorProto, helper

from corpus import NEVER_SAFE, UNSAFE
from corpus.onnx_models import case, model, value

OUTSIDE = "https://cwe.mitre.org/data/definitions/125.html"
ENDLESS = "https://cwe.mitre.org/data/definitions/835.html"
RECURSION = "https://cwe.mitre.org/data/definitions/674.html"


def _set(made: ModelProto, **attributes: Any) -> ModelProto:
    """The first node with other attributes."""
    node = made.graph.node[0]
    kept = [each for each in node.attribute if each.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, each) for name, each in attributes.items())])
    return made


def _of(operator: str, attributes: dict[str, Any], outputs: list[str]) -> ModelProto:
    node = helper.make_node(operator, ["x"], outputs, domain="ai.onnx.ml", **attributes)
    made = model([node], inputs=[value("x", ["batch", 4])])
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 5 if operator == "TreeEnsemble" else 3))
    return made


def listed(operator: str = "TreeEnsembleClassifier", **changes: Any) -> ModelProto:
    """One branch and two leaves, in the older form."""
    kind = "class" if operator == "TreeEnsembleClassifier" else "target"
    attributes = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_featureids": [3, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        f"{kind}_treeids": [0, 0],
        f"{kind}_nodeids": [1, 2],
        f"{kind}_ids": [0, 0],
        f"{kind}_weights": [1.0, 2.0],
        **({"classlabels_int64s": [0, 1]} if kind == "class" else {"n_targets": 1}),
    }
    return _set(_of(operator, attributes, ["label", "y"] if kind == "class" else ["y"]), **changes)


def tabled(**changes: Any) -> ModelProto:
    """Two branches and two leaves, in the newer form."""
    attributes = {
        "tree_roots": [0],
        "nodes_featureids": [0, 3],
        "nodes_modes": helper.make_tensor("", TensorProto.UINT8, [2], [0, 0]),
        "nodes_splits": helper.make_tensor("", TensorProto.FLOAT, [2], [0.5, 0.5]),
        "nodes_truenodeids": [1, 0],
        "nodes_trueleafs": [0, 1],
        "nodes_falsenodeids": [0, 1],
        "nodes_falseleafs": [1, 1],
        "leaf_targetids": [0, 0],
        "leaf_weights": helper.make_tensor("", TensorProto.FLOAT, [2], [1.0, 2.0]),
        "n_targets": 1,
    }
    return _set(_of("TreeEnsemble", attributes, ["y"]), **changes)


def listed_chain(levels: int) -> ModelProto:
    """A branch, its leaf, the branch below, and so on."""
    count = 2 * levels + 1
    branches = range(0, count - 1, 2)
    below = [at + 2 if at in branches else 0 for at in range(count)]
    return listed(
        nodes_treeids=[0] * count,
        nodes_nodeids=list(range(count)),
        nodes_modes=["BRANCH_LEQ", "LEAF"] * levels + ["LEAF"],
        nodes_featureids=[0] * count,
        nodes_values=[0.5] * count,
        nodes_truenodeids=[at + 1 if at in branches else 0 for at in range(count)],
        nodes_falsenodeids=below,
    )


def tabled_roots(count: int, kind: int = 0, *, raw: bool = True) -> ModelProto:
    """So many trees of one branch, the last one of this kind."""
    kinds = [*[0] * (count - 1), kind]
    content: Any = bytes(kinds) if raw else kinds
    return tabled(
        tree_roots=list(range(count)),
        nodes_featureids=[0] * count,
        nodes_modes=helper.make_tensor("", TensorProto.UINT8, [count], content, raw=raw),
        nodes_splits=helper.make_tensor("", TensorProto.FLOAT, [count], bytes(4 * count), raw=True),
        nodes_truenodeids=[0] * count,
        nodes_trueleafs=[1] * count,
        nodes_falsenodeids=[1] * count,
        nodes_falseleafs=[1] * count,
    )


def tabled_chain(levels: int) -> ModelProto:
    """A branch with a leaf, the branch below with a leaf, and so on."""
    return tabled(
        nodes_featureids=[0] * levels,
        nodes_modes=helper.make_tensor("", TensorProto.UINT8, [levels], [0] * levels),
        nodes_splits=helper.make_tensor("", TensorProto.FLOAT, [levels], [0.5] * levels),
        nodes_truenodeids=[*range(1, levels), 0],
        nodes_trueleafs=[*[0] * (levels - 1), 1],
        nodes_falsenodeids=[0] * levels,
        nodes_falseleafs=[1] * levels,
    )


def _turning(operator: str) -> ModelProto:
    """The root's child has the root for a child."""
    made = listed(operator, nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"])
    return _set(made, nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 2, 0])


TREES = (
    case("tree-cycle", _turning("TreeEnsembleClassifier"), UNSAFE, ENDLESS),
    case("tree-cycle-regressor", _turning("TreeEnsembleRegressor"), UNSAFE, ENDLESS),
    case("tree-itself", listed(nodes_truenodeids=[0, 0, 0]), UNSAFE, ENDLESS),
    case("tree-child-missing", listed(nodes_truenodeids=[7, 0, 0]), UNSAFE, OUTSIDE),
    case("tree-child-of-another", listed(nodes_treeids=[0, 1, 0]), UNSAFE, OUTSIDE),
    case("tree-node-twice", listed(nodes_nodeids=[0, 1, 1]), NEVER_SAFE, OUTSIDE),
    case("tree-feature-outside", listed(nodes_featureids=[4, 0, 0]), UNSAFE, OUTSIDE),
    case("tree-feature-negative", listed(nodes_featureids=[-5, 0, 0]), UNSAFE, OUTSIDE),
    case("tree-class-outside", listed(class_ids=[0, 10**8]), UNSAFE, OUTSIDE),
    case("tree-class-negative", listed(class_ids=[0, -(10**6)]), UNSAFE, OUTSIDE),
    case("tree-target-outside", listed("TreeEnsembleRegressor", target_ids=[0, 1]), UNSAFE, OUTSIDE),
    case("tree-leaf-missing", listed(class_nodeids=[1, 9]), UNSAFE, OUTSIDE),
    case("tree-list-short", listed(nodes_falsenodeids=[2]), UNSAFE, OUTSIDE),
    case("tree-values-short", listed(nodes_values=[0.5]), UNSAFE, OUTSIDE),
    case("tree-kind-unknown", listed(nodes_modes=["BRANCH_ODD", "LEAF", "LEAF"]), NEVER_SAFE, OUTSIDE),
    case("tree-deep", lambda: listed_chain(20_000), UNSAFE, RECURSION),
    case("tree-table-cycle", tabled(nodes_trueleafs=[0, 0]), UNSAFE, ENDLESS),
    case("tree-table-child-outside", tabled(nodes_truenodeids=[10**8, 0]), UNSAFE, OUTSIDE),
    case("tree-table-leaf-negative", tabled(nodes_falsenodeids=[-(10**6), 1]), UNSAFE, OUTSIDE),
    case("tree-table-root-outside", tabled(tree_roots=[2]), UNSAFE, OUTSIDE),
    case("tree-table-feature-outside", tabled(nodes_featureids=[0, 4]), UNSAFE, OUTSIDE),
    case("tree-table-target-outside", tabled(leaf_targetids=[0, 1]), UNSAFE, OUTSIDE),
    case("tree-table-list-short", tabled(nodes_trueleafs=[0]), UNSAFE, OUTSIDE),
    case("tree-table-kind-unknown", lambda: tabled_roots(5000, 7), NEVER_SAFE, OUTSIDE),
    case("tree-table-kind-unknown-typed", lambda: tabled_roots(5000, 7, raw=False), NEVER_SAFE, OUTSIDE),
    case("tree-table-deep", lambda: tabled_chain(20_000), UNSAFE, RECURSION),
)
