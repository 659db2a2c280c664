"""Trees of ai.onnx.ml: that their nodes lead from a root to leaves that are there, in time linear in the nodes.

Runtimes walk a tree as its lists of numbers say. Versions that do not look go round for ever where children form a
cycle, and read outside their tables where a child, a leaf, a feature or a target is not there; ONNX Runtime 1.31 looks,
but goes down a tree by calling itself while it loads, and dies of one that is deep enough.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from hauberk.scan.examination import Examination
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.model import Declared, Model, Node, Numbers, Weights
from hauberk.scan.report import Rule, shown

MOST_LEVELS = 1000
"""Levels of a tree: ONNX Runtime needs about 0.6 KiB of stack for each while it loads, and threads may have 512 KiB."""

_DOMAIN = "ai.onnx.ml"
_OLD = {"TreeEnsembleClassifier": "class", "TreeEnsembleRegressor": "target"}
_MODES = frozenset(f"BRANCH_{name}".encode() for name in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ", "MEMBER"))
_LEAF = b"LEAF"
_MEMBER = 6
"""The last kind of node of the newer form."""
_LARGEST_FEATURE = (1 << 31) - 1
_NODES_BETWEEN_LOOKS = 1 << 14


class _TreeError(Exception):
    """What is wrong with the trees of a node.

    Args:
        rule: What was broken.
        what: In words.
    """

    def __init__(self, rule: Rule, what: str) -> None:
        super().__init__(what)
        self.rule = rule


def check_trees(model: Model, examination: Examination) -> None:
    """Report trees that do not lead from their roots to leaves, wherever they stand in a model."""
    widths = _declared_widths(model)
    for node in model.nodes():
        if node.domain != _DOMAIN or node.operator not in {*_OLD, "TreeEnsemble"}:
            continue
        width = widths.get(node.inputs[0], _LARGEST_FEATURE) if node.inputs else _LARGEST_FEATURE
        try:
            _check_own(node)
            (_check_tables if node.operator == "TreeEnsemble" else _check_lists)(node, width, examination)
        except _TreeError as error:
            examination.find(error.rule, f"'{node.operator}' ('{shown(node.name)}'): {error}", at=node.at)


def _declared_widths(model: Model) -> dict[str, int]:
    """Columns of the main graph's inputs that say how many they have."""

    def columns(declared: Declared) -> int | str:
        return declared.dims[-1] if declared.dims else ""

    inputs = model.graph.inputs if model.graph else []
    return {each.name: width for each in inputs if isinstance(width := columns(each), int)}


def _wrong(what: str) -> _TreeError:
    return _TreeError(rules.TREE, what)


def _check_own(node: Node) -> None:
    if any(attribute.refers for attribute in node.attributes.values()):
        raise _TreeError(rules.UNMODELLED, "its trees are given by the caller of a function")


def _whole(node: Node, name: str, length: int | None = None) -> array[int]:
    """An attribute that is a list of whole numbers, all of them.

    Raises:
        _TreeError: It is none, was not kept, or has another length than it must have.
    """
    value = node.attributes[name].value if name in node.attributes else Numbers()
    if not isinstance(value, Numbers) or value.count != len(value.whole):
        raise _TreeError(rules.UNMODELLED, f"attribute '{name}' is no list of whole numbers, or too long")
    if length is not None and value.count != length:
        raise _wrong(f"{value.count} entries in '{name}', where {length} belong")
    return value.whole


def _length(node: Node, *names: str) -> int:
    """Entries of the first of these attributes that is given, as a list or a tensor."""
    for name in names:
        value = node.attributes[name].value if name in node.attributes else None
        if isinstance(value, Weights):
            return value.dims[0] if len(value.dims) == 1 else -1
        if isinstance(value, Numbers | list):
            return value.count if isinstance(value, Numbers) else len(value)
    return 0


def _check_lists(node: Node, width: int, examination: Examination) -> None:
    """Nodes of the older form: each has the numbers of its tree and of itself, and names its children by theirs."""
    trees = _whole(node, "nodes_treeids")
    count = len(trees)
    numbers = _whole(node, "nodes_nodeids", count)
    branches = _branches(node, count)
    places = {pair: at for at, pair in enumerate(zip(trees, numbers, strict=True))}
    if len(places) != count:
        raise _wrong("two nodes of one number in a tree")
    features = _whole(node, "nodes_featureids", count)
    children: list[tuple[int, ...]] = [()] * count
    true, false = (_whole(node, f"nodes_{side}nodeids", count) for side in ("true", "false"))
    for at in _looked_at(branches, examination):
        pair = (places.get((trees[at], true[at]), -1), places.get((trees[at], false[at]), -1))
        if min(pair) < 0:
            raise _wrong(f"node {numbers[at]} of tree {trees[at]} has a child that is not there")
        children[at] = pair
    _check_features([features[at] for at in branches], width)
    _check_levels(children, examination)
    _check_values(node, count)
    _check_targets(node, places)


def _branches(node: Node, count: int) -> list[int]:
    """Places of nodes that are no leaves."""
    modes = node.attributes["nodes_modes"].value if "nodes_modes" in node.attributes else []
    if not isinstance(modes, list) or len(modes) != count:
        raise _wrong(f"other than {count} entries in 'nodes_modes'")
    if not set(modes) <= _MODES | {_LEAF}:
        raise _TreeError(rules.UNMODELLED, "a kind of node that ONNX does not define")
    return [at for at, mode in enumerate(modes) if mode != _LEAF]


def _looked_at(places: Sequence[int], examination: Examination) -> Iterator[int]:
    """These, with a look at the time now and then."""
    for step, at in enumerate(places):
        if step % _NODES_BETWEEN_LOOKS == 0:
            examination.check_time()
        yield at


def _check_features(features: Sequence[int], width: int) -> None:
    if features and not 0 <= min(features) <= max(features) < width:
        raise _wrong(f"features {min(features)} to {max(features)} of {width}")


def _check_levels(children: Sequence[tuple[int, ...]], examination: Examination) -> None:
    """That no node is below itself, and none too far below a root: nodes are left in the order of their levels."""
    above = [0] * len(children)
    for below in children:
        for child in below:
            above[child] += 1
    level = [0] * len(children)
    ready = [at for at, count in enumerate(above) if not count]
    for at in _looked_at(ready, examination):  # grows while it is gone through
        for child in children[at]:
            level[child] = max(level[child], level[at] + 1)
            above[child] -= 1
            if not above[child]:
                ready.append(child)
    if len(ready) != len(children):
        raise _wrong("nodes that are below themselves: a walk down never ends")
    if max(level, default=0) > MOST_LEVELS:
        raise _TreeError(rules.TREE_DEPTH, f"a tree of {max(level)} levels; limit {MOST_LEVELS}")


def _check_values(node: Node, count: int) -> None:
    """One number to compare with for each node; optional lists have as many entries, or none."""
    if _length(node, "nodes_values", "nodes_values_as_tensor") != count:
        raise _wrong(f"other than {count} entries in 'nodes_values'")
    for name in ("nodes_missing_value_tracks_true", "nodes_hitrates", "nodes_hitrates_as_tensor"):
        if _length(node, name) not in {0, count}:
            raise _wrong(f"other than {count} entries in '{name}'")


def _check_targets(node: Node, places: dict[tuple[int, int], int]) -> None:
    """What leaves add to which class or target."""
    kind = _OLD[node.operator]
    trees = _whole(node, f"{kind}_treeids")
    numbers = _whole(node, f"{kind}_nodeids", len(trees))
    targets = _whole(node, f"{kind}_ids", len(trees))
    if _length(node, f"{kind}_weights", f"{kind}_weights_as_tensor") != len(trees):
        raise _wrong(f"other than {len(trees)} entries in '{kind}_weights'")
    if any(pair not in places for pair in zip(trees, numbers, strict=True)):
        raise _wrong("a leaf that is not there")
    if kind == "class":
        _check_range(targets, _length(node, "classlabels_int64s", "classlabels_strings"), "class")
    else:
        _check_range(targets, _number(node, "n_targets"), "target")


def _number(node: Node, name: str) -> int:
    value = node.attributes[name].value if name in node.attributes else 1
    return value if isinstance(value, int) else 1


def _check_range(numbers: Sequence[int], end: int, what: str) -> None:
    if numbers and not 0 <= min(numbers) <= max(numbers) < end:
        raise _wrong(f"{what} {min(numbers)} to {max(numbers)} of {end}")


def _check_tables(node: Node, width: int, examination: Examination) -> None:
    """Nodes of the newer form: children by their place in the table of nodes, or in that of leaves."""
    features = _whole(node, "nodes_featureids")
    count = len(features)
    targets = _whole(node, "leaf_targetids")
    for name, entries in (("nodes_modes", count), ("nodes_splits", count), ("leaf_weights", len(targets))):
        if _length(node, name) != entries:
            raise _wrong(f"other than {entries} entries in '{name}'")
    if _length(node, "nodes_missing_value_tracks_true") not in {0, count}:
        raise _wrong(f"other than {count} entries in 'nodes_missing_value_tracks_true'")
    children: list[tuple[int, ...]] = [()] * count
    for side in ("true", "false"):
        places, leaves = _whole(node, f"nodes_{side}nodeids", count), _whole(node, f"nodes_{side}leafs", count)
        for at in _looked_at(range(count), examination):
            if not 0 <= places[at] < (len(targets) if leaves[at] else count):
                raise _wrong(f"node {at} has a child that is not there")
            if not leaves[at]:
                children[at] += (places[at],)
    _check_range(_whole(node, "tree_roots"), count, "root")
    _check_features(features, width)
    _check_range(targets, _number(node, "n_targets"), "target")
    _check_levels(children, examination)
    modes = node.attributes["nodes_modes"].value if "nodes_modes" in node.attributes else None
    if not isinstance(modes, Weights) or modes.values is None:
        raise _TreeError(rules.UNMODELLED, f"the kinds of {count} nodes were not read")
    if modes.values.size and modes.values.max() > _MEMBER:
        raise _TreeError(rules.UNMODELLED, "a kind of node that ONNX does not define")
