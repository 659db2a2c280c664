"""skops archives and models of gradient-boosted trees that do what they should not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, UNSAFE, Case
from corpus.messages import FIXTURES, written, zipped

INDEX = "https://cwe.mitre.org/data/definitions/129.html"


def node(loader: str, name: str, module: str = "builtins", **more: Any) -> dict[str, Any]:
    """A node of a skops schema."""
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


def plain(value: Any) -> dict[str, Any]:
    """A plain value."""
    return node("JsonNode", "str", content=json.dumps(value), is_json=True)


def mapping(**content: Any) -> dict[str, Any]:
    """A dictionary with texts as keys."""
    types = node("ListNode", "list", content=[node("TypeNode", "str") for _ in content])
    return node("DictNode", "dict", content=content, key_types=types)


def skops(root: dict[str, Any], protocol: Any = 2, **members: bytes) -> Callable[[Path], Path]:
    """Writes a `.skops` archive."""
    schema = json.dumps(root | {"protocol": protocol, "_skops_version": "0.16.0"})
    return lambda folder: zipped(folder / "model.skops", {**members, "schema.json": schema})


def estimator(**attributes: Any) -> dict[str, Any]:
    """A logistic regression with these attributes."""
    return node("ObjectNode", "LogisticRegression", "sklearn.linear_model._logistic", content=mapping(**attributes))


_FIELDS = (
    ("left_child", "<i8"), ("right_child", "<i8"), ("feature", "<i8"), ("threshold", "<f8"), ("impurity", "<f8"),
    ("n_node_samples", "<i8"), ("weighted_n_node_samples", "<f8"), ("missing_go_to_left", "u1"),
)  # fmt: skip


def tree(
    children: tuple[int, int],
    feature: int = 0,
    *,
    shared: bool = False,
    depth: int = 1,
    exchanged: bool = False,
    count: int = 3,
    classes: int = 2,
    outputs: int = 1,
) -> Callable[[Path], Path]:
    """A decision tree of three nodes; `exchanged`: scikit-learn takes the first field for the left child."""

    def make(folder: Path) -> Path:
        import io

        import numpy as np

        fields = [(_FIELDS[2 - number][0] if exchanged and number in (0, 2) else name, kind)
                  for number, (name, kind) in enumerate(_FIELDS)]  # fmt: skip
        nodes, values = np.zeros(3, dtype=list(_FIELDS)), np.zeros((3, 1, classes))
        nodes["left_child"] = nodes["right_child"] = -1
        nodes[0] = (*children, feature, 0.5, 0, 1, 1, 0)
        nodes = nodes.view(fields)
        files = {}
        for name, array in (("nodes.npy", nodes), ("values.npy", values), ("classes.npy", np.full(outputs, classes))):
            stream = io.BytesIO()
            np.save(stream, array, allow_pickle=False)
            files[name] = stream.getvalue()
        held = {
            name: node("NdArrayNode", "ndarray", "numpy", type="numpy", file=f"{name}.npy")
            for name in ("nodes", "values")
        }
        state = mapping(max_depth=plain(depth), node_count=plain(count), **held)
        told = node("NdArrayNode", "ndarray", "numpy", type="numpy", file="classes.npy")
        arguments = node("TupleNode", "tuple", content=[plain(4), told, plain(outputs)])
        found = node("TreeNode", "Tree", "sklearn.tree._tree", content=state, __reduce__={"args": arguments})
        other = mapping(node_count=plain(9))
        if shared:
            state["__id__"] = other["__id__"] = 7
        held_by = mapping(tree_=found, n_features_in_=plain(4))
        model = node("ObjectNode", "DecisionTreeClassifier", "sklearn.tree._classes", content=held_by)
        root = node("ListNode", "list", content=[other, model])
        return skops(root, **files)(folder)

    return make


def xgboost(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], Path]:
    """A model of XGBoost, changed."""

    def make(folder: Path) -> Path:
        model = json.loads((FIXTURES / "xgboost_dart.json").read_bytes())
        change(model["learner"])
        return written(folder / "model.json", json.dumps(model))

    return make


def _trees(learner: dict[str, Any]) -> list[dict[str, Any]]:
    trees: list[dict[str, Any]] = learner["gradient_booster"]["gbtree"]["model"]["trees"]
    return trees


def _set(key: str, index: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(learner: dict[str, Any]) -> None:
        _trees(learner)[0][key][index] = value

    return change


def _group(learner: dict[str, Any]) -> None:
    learner["gradient_booster"]["gbtree"]["model"]["tree_info"][0] = 99


def _all(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Another array in place of one of the first tree."""

    def change(learner: dict[str, Any]) -> None:
        _trees(learner)[0][key] = value

    return change


def _stated(part: str, key: str, value: str) -> Callable[[dict[str, Any]], None]:
    """Another figure, of the model or of its first tree."""

    def change(learner: dict[str, Any]) -> None:
        model = learner["gradient_booster"]["gbtree"]["model"]
        places = {"tree_param": _trees(learner)[0], "gbtree_model_param": model, "learner_model_param": learner}
        places["softmax_multiclass_param"] = learner["objective"]
        places[part][part][key] = value

    return change


def _split_by_category(learner: dict[str, Any]) -> None:
    first = _trees(learner)[0]
    first["split_type"][0] = 1
    first |= {"categories": [(1 << 31) - 1], "categories_nodes": [0]}
    first |= {"categories_segments": [0], "categories_sizes": [1]}


def _encoded(learner: dict[str, Any]) -> None:
    encoding = {"type": 0, "offsets": [0, 1_000_000], "values": [1]}
    model = learner["gradient_booster"]["gbtree"]["model"]
    model["cats"] = {"enc": [encoding], "feature_segments": [0, 5], "sorted_idx": [99_999_999]}


_LEVELS = 2000
_DEEP = "https://cwe.mitre.org/data/definitions/674.html"


def _deep(learner: dict[str, Any]) -> None:
    """A first tree with one leaf at each level: nodes 0, 2, 4, … have children, the next two of each."""
    first, count = _trees(learner)[0], 2 * _LEVELS + 1
    parents = [2147483647, *(each // 2 * 2 for each in range(count - 1))]
    inner = [each % 2 == 0 and each < count - 1 for each in range(count)]
    first |= {"left_children": [each + 1 if inner[each] else -1 for each in range(count)], "parents": parents}
    first |= {"right_children": [each + 2 if inner[each] else -1 for each in range(count)]}
    for key in ("split_indices", "split_conditions", "default_left", "base_weights", "loss_changes", "sum_hessian",
                "split_type"):  # fmt: skip
        first[key] = [0] * count
    first["tree_param"] |= {"num_nodes": str(count), "num_deleted": "0"}


def _deep_text(folder: Path) -> Path:
    """A tree of LightGBM with one leaf at each level."""
    text = (FIXTURES / "lightgbm_linear.txt").read_text()
    head, _, rest = text.partition("Tree=0")
    nodes = {
        "split_feature": 0, "split_gain": 1, "threshold": 1, "decision_type": 2, "internal_value": 0,
        "internal_weight": 1, "internal_count": 1,
    }  # fmt: skip
    lines = ["Tree=0", f"num_leaves={_LEVELS + 1}", "num_cat=0"]
    lines += [f"{key}=" + " ".join([str(value)] * _LEVELS) for key, value in nodes.items()]
    lines += ["left_child=" + " ".join(str(-1 - each) for each in range(_LEVELS))]
    lines += ["right_child=" + " ".join(map(str, [*range(1, _LEVELS), -1 - _LEVELS]))]
    lines += [f"{key}=" + " ".join(["1"] * (_LEVELS + 1)) for key in ("leaf_value", "leaf_weight", "leaf_count")]
    tree = "\n".join([*lines, "is_linear=0", "shrinkage=1", "", "", ""])
    return written(folder / "model.txt", _with_sizes(head + tree + "end of trees" + rest.partition("end of trees")[2]))


def _fewer(learner: dict[str, Any]) -> None:
    _trees(learner)[0]["split_conditions"].pop()


def ubjson(data: bytes) -> Callable[[Path], Path]:
    """The start of a model in UBJSON, and what follows."""
    return lambda folder: written(folder / "model.ubj", b"{L" + (7).to_bytes(8, "big") + b"learner" + data + b"}" * 8)


def _vector_leaf(folder: Path) -> Path:
    """A leaf of several outputs, the last node of its tree, whose weights lie in front of their list."""
    data = bytearray((FIXTURES / "xgboost_vector_leaves.ubj").read_bytes())
    start = data.index(b"right_children[$l#L") + len(b"right_children[$l#L")
    end = start + 8 + 4 * int.from_bytes(data[start : start + 8], "big")
    data[end - 4 : end] = (-(1 << 31)).to_bytes(4, "big", signed=True)
    return written(folder / "model.ubj", bytes(data))


def _vector_leaf_far_away(folder: Path) -> Path:
    """The same with a place that, times the number of outputs, is a small number again in 64 bits."""
    data = (FIXTURES / "xgboost_vector_leaves.ubj").read_bytes()
    before, mark, rest = data.partition(b"right_children[$l#L")
    count = int.from_bytes(rest[:8], "big")
    children = [int.from_bytes(rest[at : at + 4], "big", signed=True) for at in range(8, 8 + 4 * count, 4)]
    children[-1] = (1 << 62) + 0x0FFFFFFE
    wide = b"".join(each.to_bytes(8, "big", signed=True) for each in children)
    return written(folder / "model.ubj", before + mark.replace(b"$l", b"$L") + rest[:8] + wide + rest[8 + 4 * count :])


def lightgbm(*changes: tuple[str, str]) -> Callable[[Path], Path]:
    """A model of LightGBM, changed."""

    def make(folder: Path) -> Path:
        text = (FIXTURES / "lightgbm_linear.txt").read_text()
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after, 1)
        if not any(before.startswith("tree_sizes") for before, _ in changes):
            text = _with_sizes(text)
        return written(folder / "model.txt", text)

    return make


def _with_sizes(text: str) -> str:
    """The text with sizes of its trees as the library would write them."""
    trees = text[text.index("Tree=0") :].partition("end of trees")[0]
    sizes = (str(len(each)) for each in re.split(r"(?=Tree=\d+\n)", trees) if each)
    return re.sub(r"tree_sizes=[^\n]*", "tree_sizes=" + " ".join(sizes), text)


def catboost(at: int, value: int, width: int = 4, name: str = "oblivious") -> Callable[[Path], Path]:
    """A model of CatBoost with a number overwritten."""

    def make(folder: Path) -> Path:
        data = bytearray((FIXTURES / f"catboost_{name}.cbm").read_bytes())
        data[at : at + width] = value.to_bytes(width, "little")
        return written(folder / "model.cbm", bytes(data))

    return make


def _catboost_split(folder: Path) -> Path:
    """The first split of the first tree, found by the numbers of splits of three trees of depth 2."""
    data = bytearray((FIXTURES / "catboost_oblivious.cbm").read_bytes())
    sizes = data.find((3).to_bytes(4, "little") + (2).to_bytes(4, "little") * 3)
    data[sizes + 4 : sizes + 8] = (1 << 20).to_bytes(4, "little")
    return written(folder / "model.cbm", bytes(data))


def _text(name: str, **config: Any) -> dict[str, Any]:
    return estimator(**{name: config})


def _two_lines(folder: Path) -> Path:
    """XGBoost reads the first value of a file and no further."""
    model = xgboost(_all("parents", [10**8]))(folder).read_text("utf-8")
    return written(folder / "model.json", json.dumps(json.loads(model)) + "\n{}\n")


def _two_models(folder: Path) -> Path:
    model = json.loads((FIXTURES / "xgboost_dart.json").read_bytes())
    return written(folder / "model.json", json.dumps({"Model": {}, **model}))


TREE_CASES = (
    Case("skops-function", skops(estimator(solver=node("FunctionNode", "system", "os"))), UNSAFE),
    Case("skops-class", skops(node("ObjectNode", "Popen", "subprocess", content=mapping(args=plain("true")))), UNSAFE),
    Case(
        "skops-reduced", skops(node("ConstructorFromReduceNode", "Popen", "subprocess", content=plain("true"))), UNSAFE
    ),
    Case("skops-type", skops(estimator(x=node("TypeNode", "eval"))), UNSAFE),
    Case(
        "skops-operator",
        skops(node("OperatorFuncNode", "call", "operator", attrs=node("TupleNode", "tuple", content=[]))),
        UNSAFE,
        "https://nvd.nist.gov/vuln/detail/CVE-2025-54412",
    ),
    Case(
        "skops-operator-under-another-name",
        skops(node("OperatorFuncNode", "call", "sklearn.linear_model", attrs=plain([]))),
        UNSAFE,
        "https://nvd.nist.gov/vuln/detail/CVE-2025-54412",
    ),
    Case(
        "skops-method",
        skops(
            node(
                "MethodNode",
                "LogisticRegression",
                "sklearn.linear_model._logistic",
                content={"func": "__getattribute__", "obj": estimator()},
            )
        ),
        UNSAFE,
        "https://nvd.nist.gov/vuln/detail/CVE-2025-54413",
    ),
    Case(
        "skops-old-function",
        skops(node("FunctionNode", "log1p", "numpy", content={"module_path": "os", "function": "system"}), protocol=0),
        UNSAFE,
        "https://skops.readthedocs.io/en/stable/persistence.html",
    ),
    Case(
        "skops-random-bits",
        skops(
            node(
                "RandomGeneratorNode",
                "Generator",
                "numpy.random._generator",
                content={"bit_generator": mapping(bit_generator=plain("_pickle.system"))},
            )
        ),
        UNSAFE,
    ),
    Case(
        "skops-partial",
        skops(node("PartialNode", "partial", "functools", content={"func": node("FunctionNode", "exec")})),
        UNSAFE,
    ),
    Case("skops-dictionary-of-another-class", skops(node("DictNode", "Popen", "subprocess", content={})), UNSAFE),
    Case("skops-unknown-node", skops(node("QuantileForestNode", "Forest", "quantile_forest")), UNKNOWN),
    Case("skops-newer-protocol", skops(estimator(), protocol=99), UNKNOWN),
    Case(
        "skops-missing-array",
        skops(estimator(coef_=node("NdArrayNode", "ndarray", "numpy", type="numpy", file="x.npy"))),
        UNKNOWN,
    ),
    Case(
        "skops-pickle-as-array",
        skops(
            estimator(coef_=node("NdArrayNode", "ndarray", "numpy", type="numpy", file="x.npy")),
            **{"x.npy": b"cos\nsystem\n(S'true'\ntR."},
        ),
        UNSAFE,
        "https://nvd.nist.gov/vuln/detail/CVE-2025-54886",
    ),
    Case("skops-one-number-for-two", tree((1, 2), shared=True), UNKNOWN),
    Case("skops-tree-circle", tree((0, 2)), UNSAFE, "https://github.com/scikit-learn/scikit-learn/pull/34558"),
    Case("skops-tree-beyond", tree((1, 9000)), UNSAFE, "https://github.com/scikit-learn/scikit-learn/pull/34558"),
    Case(
        "skops-tree-feature", tree((1, 2), feature=4), UNSAFE, "https://github.com/scikit-learn/scikit-learn/pull/34558"
    ),
    Case("xgboost-json-lines", _two_lines, UNSAFE, INDEX),
    Case("xgboost-two-models", _two_models, UNKNOWN),
    Case("xgboost-figures-of-another-kind", xgboost(_stated("tree_param", "num_nodes", "0_7")), UNKNOWN),
    Case("xgboost-circle", xgboost(_set("left_children", 1, 0)), UNSAFE, INDEX),
    Case("xgboost-child-beyond", xgboost(_set("right_children", 0, 1 << 20)), UNSAFE, INDEX),
    Case("xgboost-feature-beyond", xgboost(_set("split_indices", 0, 1 << 20)), UNSAFE, INDEX),
    Case("xgboost-lengths", xgboost(_fewer), UNSAFE, INDEX),
    Case("xgboost-group-beyond", xgboost(_group), UNSAFE, INDEX),
    *(
        Case(f"xgboost-{name}", xgboost(change), UNSAFE, INDEX)
        for name, change in (
            ("parents-beyond", _all("parents", [10**8] * 3)),
            ("parents-of-others", _all("parents", [2147483647, 0, 1])),
            ("no-hessians", _all("sum_hessian", [])),
            ("one-weight", _all("base_weights", [0.5])),
            ("many-features", _stated("learner_model_param", "num_feature", "4000000000")),
            ("vector-leaves", _stated("tree_param", "size_leaf_vector", "4")),
            ("classes-of-objective", _stated("softmax_multiclass_param", "num_class", "100000000")),
            ("category-beyond", _split_by_category),
            ("encoding-beyond", _encoded),
        )
    ),
    *(
        Case(f"xgboost-{name}", xgboost(change), UNKNOWN, INDEX)
        for name, change in (
            ("no-features", _stated("learner_model_param", "num_feature", "0")),
            ("deleted", _stated("tree_param", "num_deleted", "1000000")),
            ("parallel", _stated("gbtree_model_param", "num_parallel_tree", "1000000")),
            ("features-of-tree", _stated("tree_param", "num_feature", "1")),
            ("place-of-tree", _all("id", 999_999)),
        )
    ),
    Case("xgboost-text-for-numbers", xgboost(_set("left_children", 0, "x")), UNKNOWN),
    Case("xgboost-template", xgboost(lambda learner: learner.update(attributes={"a": "{{ x.__class__ }}"})), UNSAFE),
    Case("xgboost-no-trees", xgboost(lambda learner: learner.clear()), UNKNOWN),
    Case("xgboost-endless-array", ubjson(b"[$l#L" + b"\x7f" + b"\xff" * 7), UNKNOWN, "https://ubjson.org"),
    Case("xgboost-deep-arrays", ubjson(b"[" * 10_000), UNKNOWN, "https://ubjson.org"),
    Case("xgboost-legacy", lambda folder: written(folder / "model.bin", b"binf" + bytes(200)), UNKNOWN),
    Case("lightgbm-circle", lightgbm(("left_child=2 -2 -1", "left_child=0 -2 -1")), UNSAFE, INDEX),
    Case("lightgbm-leaf-beyond", lightgbm(("right_child=1 -3 -4", "right_child=1 -3 -9")), UNSAFE, INDEX),
    Case("lightgbm-feature-beyond", lightgbm(("split_feature=0 0 0", "split_feature=0 7 0")), UNSAFE, INDEX),
    Case(
        "lightgbm-tree-sizes",
        lightgbm(("tree_sizes=619", "tree_sizes=999")),
        UNSAFE,
        "https://cwe.mitre.org/data/definitions/125.html",
    ),
    Case("lightgbm-fewer-values", lightgbm(("num_leaves=4", "num_leaves=9")), frozenset({"unsafe", "unknown"}), INDEX),
    Case("lightgbm-categories", lightgbm(("num_cat=0", "num_cat=1")), UNSAFE, INDEX),
    *(
        Case(f"lightgbm-{name}", lightgbm(change), UNSAFE, "https://cwe.mitre.org/data/definitions/125.html")
        for name, change in (
            ("few-weights", ("leaf_weight=60 81 81 78", "leaf_weight=1")),
            ("few-counts", ("internal_count=300 162 138", "internal_count=5")),
            ("no-counts", ("internal_count=300 162 138\n", "")),
            ("few-gains", ("split_gain=18.6183 2.38699 2.15466", "split_gain=1")),
            ("shrinkage", ("shrinkage=1", "shrinkage=x")),
            ("not-finite", ("leaf_value=0.47164111643539702", "leaf_value=nan")),
            ("decision", ("decision_type=2 2 2", "decision_type=2 255 2")),
            ("classes", ("num_class=1", "num_class=100000")),
            ("classes-of-objective", ("objective=regression", "objective=multiclass num_class:1000000000")),
            ("objective", ("objective=regression", "objective=custom:x")),
            ("feature-names", ("feature_names=Column_0 ", "feature_names=")),
            ("constraints", ("feature_infos=", "monotone_constraints=1\nfeature_infos=")),
        )
    ),
    *(
        Case(f"lightgbm-{name}", lightgbm(change), UNKNOWN, "https://cwe.mitre.org/data/definitions/436.html")
        for name, change in (
            ("return-in-line", ("shrinkage=1", "shrinkage=1\rleaf_value=1")),
            ("parameter", ("[boosting: gbdt]", "[boosting8 gbdt]")),
            ("parameters-open", ("end of parameters", "end of parameter")),
            ("parameter-cut", ("[boosting: gbdt]", "[boosting")),
        )
    ),
    Case("lightgbm-cut", lightgbm(("end of trees", "end of tree")), UNKNOWN),
    Case("catboost-split-beyond", _catboost_split, UNSAFE, INDEX),
    Case("catboost-leaf-that-is-none", catboost(6436 + 4 * 3, 0xFFFFFFFF, name="depthwise"), UNSAFE, INDEX),
    Case("catboost-feature-below-0", catboost(7620, 0xFFFFFFFF, name="depthwise"), UNSAFE, INDEX),
    Case("catboost-feature-beyond", catboost(7624, 0x7FFFFFFF, name="depthwise"), UNSAFE, INDEX),
    Case("catboost-tree-of-nothing", catboost(7096, 0, name="depthwise"), UNSAFE, INDEX),
    Case("xgboost-leaf-of-weights-before-all", _vector_leaf, UNSAFE, INDEX),
    Case("xgboost-leaf-of-weights-far-away", _vector_leaf_far_away, UNKNOWN, INDEX),
    Case("xgboost-of-very-many-levels", xgboost(_deep), UNKNOWN, _DEEP),
    Case("lightgbm-of-very-many-levels", _deep_text, UNKNOWN, _DEEP),
    Case("catboost-nodes-that-meet", catboost(7356, 0x00010001, name="depthwise"), UNSAFE, _DEEP),
    Case("catboost-split-of-a-leaf", catboost(7120, 0x7FFFFFFF, name="depthwise"), UNSAFE, INDEX),
    Case("catboost-root-beyond", catboost(8, 0x7FFFFFF0), UNKNOWN, "https://flatbuffers.dev/internals/"),
    Case("catboost-size-beyond", catboost(4, 0x7FFFFFF0), UNKNOWN),
)
