"""Rules for the graph as such: names, order, functions, metadata. What the operators compute does not matter here."""

from __future__ import annotations

from collections import Counter

from hauberk.scan.examination import Examination
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.model import Function, Graph, Model, Node, graphs_in, graphs_of
from hauberk.scan.graphs.reading import DEEPEST, MOST_NODES
from hauberk.scan.report import shown

_OLDEST_WITH_OPSETS = 3
_NEWEST_IR = 14
_SETTINGS = frozenset({"ort_config"})
_STANDARD = frozenset({"", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"})

Key = tuple[str, str, str]
"""A function: domain, name, overload."""

Names = tuple[set[str], ...]
"""Names of the graphs around, one set a graph."""


def check_structure(model: Model, examination: Examination) -> bool:
    """Report what is wrong with the model as a whole.

    Returns:
        Whether the graph is sound enough to be followed from its inputs to its outputs.
    """
    _check_head(model, examination)
    sound = _check_functions(model, examination)
    if model.graph is not None:
        sound = _check_graph(model.graph, (), examination) and sound
    for function in model.functions:
        body = Graph(nodes=function.nodes, at=function.at)
        sound = _check_nodes(body, set(function.inputs), (), examination) and sound
        function.nodes = body.nodes
    for graph in model.training:
        _check_graph(graph, (), examination)
    return sound and model.graph is not None


def _check_head(model: Model, examination: Examination) -> None:
    if not 1 <= model.version <= _NEWEST_IR:
        examination.find(rules.INVALID, f"IR version {model.version}; known are 1 to {_NEWEST_IR}")
    if model.graph is None:
        examination.find(rules.INVALID, "no graph")
    elif not model.graph.outputs:
        examination.find(rules.INVALID, "a graph without outputs")
    if model.version >= _OLDEST_WITH_OPSETS and not model.opsets:
        examination.find(rules.INVALID, "no version of its operators")
    if model.training:
        examination.find(rules.TRAINING, f"{len(model.training)} graphs")
    for key, count in Counter(model.metadata).items():
        if key in _SETTINGS:
            examination.find(rules.RUNTIME_SETTINGS, f"metadata '{shown(key)}'")
        if count > 1:
            examination.find(rules.AMBIGUOUS, f"metadata '{shown(key)}' is given {count} times")


def _check_functions(model: Model, examination: Examination) -> bool:
    functions: dict[Key, Function] = {}
    sound = True
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        if key in functions or function.domain in _STANDARD:
            examination.find(rules.FUNCTION_TWICE, f"'{_named(key)}'", at=function.at)
            sound = False
        functions[key] = function
        for names in (function.inputs, function.outputs, function.attributes):
            if len(set(names)) != len(names):
                examination.find(rules.DUPLICATE, f"in the signature of '{_named(key)}'", at=function.at)
    return sound and _check_expansion(model, functions, examination)


def _named(key: Key) -> str:
    return shown(".".join(part for part in key if part))


def _check_expansion(model: Model, functions: dict[Key, Function], examination: Examination) -> bool:
    """Whether expanding every function ends, and in how many nodes."""
    sizes: dict[Key, int] = {}
    for key in functions:
        if not _measure(key, functions, sizes, examination):
            return False
    total = _expanded(model.graph.nodes if model.graph else [], functions, sizes)
    if total > MOST_NODES:
        examination.find(rules.FUNCTION_BOMB, f"{total} nodes once functions are expanded; limit {MOST_NODES}")
        return False
    return True


def _measure(start: Key, functions: dict[Key, Function], sizes: dict[Key, int], examination: Examination) -> bool:
    """Nodes of a function once it is expanded, into `sizes`; without recursion, so that no chain is too long."""
    path: list[tuple[Key, list[Key]]] = [(start, _used(functions[start], functions))]
    inside = {start}
    while path:
        key, pending = path[-1]
        while pending and pending[-1] in sizes:
            pending.pop()
        if pending:
            following = pending[-1]
            if following in inside:
                examination.find(rules.FUNCTION_RECURSION, f"'{_named(following)}'", at=functions[following].at)
                return False
            if len(path) >= 4 * DEEPEST:
                examination.find(rules.FUNCTION_BOMB, f"functions use one another {len(path)} deep")
                return False
            inside.add(following)
            path.append((following, _used(functions[following], functions)))
            continue
        sizes[key] = min(_expanded(functions[key].nodes, functions, sizes), 1 << 60)
        inside.discard(key)
        path.pop()
        examination.check_time()
    return True


def flat(nodes: list[Node]) -> list[Node]:
    """Nodes and those of their subgraphs at any depth."""
    found, pending = list(nodes), graphs_of(nodes)
    while pending:
        graph = pending.pop()
        found += graph.nodes
        pending += graphs_of(graph.nodes)
    return found


def body(function: Function) -> list[Node]:
    """Nodes of a function and of the graphs in it, those of its attributes' defaults included."""
    defaults = [graph for attribute in function.defaults.values() for graph in graphs_in(attribute)]
    return flat([*function.nodes, *(node for graph in defaults for node in graph.nodes)])


def _used(function: Function, functions: dict[Key, Function]) -> list[Key]:
    keys = {(node.domain, node.operator, node.overload) for node in body(function)}
    return [key for key in keys if key in functions]


def _expanded(nodes: list[Node], functions: dict[Key, Function], sizes: dict[Key, int]) -> int:
    return (
        sum(sizes.get((node.domain, node.operator, node.overload), 1) for node in flat(nodes))
        if functions
        else (len(flat(nodes)))
    )


def _check_graph(graph: Graph, outer: Names, examination: Examination) -> bool:
    """Names of a graph: each defined once, before it is used or at least without going round."""
    names = [value.name for value in graph.inputs]
    own = set(names)
    sound = True
    if len(own) != len(names):
        examination.find(rules.DUPLICATE, "two inputs of a graph", at=graph.at)
        sound = False
    held = [weights.name for weights in graph.weights] + [sparse.values.name for sparse in graph.sparse]
    for name, count in Counter(held).items():
        if count > 1 or not name:
            examination.find(rules.DUPLICATE, f"{count} initializers are called '{shown(name)}'", at=graph.at)
            sound = False
    own |= set(held)
    sound = _check_nodes(graph, own, outer, examination) and sound
    produced = {name for node in graph.nodes for name in node.outputs}
    for value in graph.outputs:
        if not _visible(value.name, (*outer, own, produced)):
            examination.find(rules.INVALID, f"nothing computes the output '{shown(value.name)}'", at=graph.at)
            sound = False
    return sound


def _visible(name: str, names: Names) -> bool:
    return any(name in each for each in names)


def _check_nodes(graph: Graph, own: set[str], outer: Names, examination: Examination) -> bool:
    """Outputs of nodes: no name twice, none missing, and an order in which they can run."""
    examination.check_time()
    sound, produced = True, set[str]()
    for node in graph.nodes:
        for name in node.outputs:
            if name and (name in produced or name in own):
                examination.find(rules.DUPLICATE, f"two values are called '{shown(name)}'", at=node.at)
                sound = False
            produced.add(name)
    visible = (*outer, own, produced)
    for node in graph.nodes:
        for name in node.inputs:
            if name and not _visible(name, visible):
                what = f"nothing computes '{shown(name)}', which '{shown(node.operator)}' takes"
                examination.find(rules.INVALID, what, at=node.at)
                sound = False
        for attribute in node.attributes.values():
            for inner in graphs_in(attribute):
                sound = _check_graph(inner, visible, examination) and sound
    return _check_order(graph, own, examination) and sound


def _check_order(graph: Graph, known: set[str], examination: Examination) -> bool:
    ordered = in_order(graph.nodes, known)
    if ordered is None:
        examination.find(rules.CYCLE, f"among {len(graph.nodes)} nodes", at=graph.at)
        return False
    if ordered is not graph.nodes:
        examination.find(rules.UNSORTED, f"{len(graph.nodes)} nodes", at=graph.at)
        graph.nodes = ordered
    return True


def captured(node: Node) -> set[str]:
    """Names that graphs in a node's attributes take from outside, as far as they do not define them."""
    found = set[str]()
    for attribute in node.attributes.values():
        for graph in graphs_in(attribute):
            own = {value.name for value in graph.inputs} | {weights.name for weights in graph.weights}
            own |= {sparse.values.name for sparse in graph.sparse}
            own |= {name for inner in graph.nodes for name in inner.outputs}
            needed = {value.name for value in graph.outputs}
            for inner in graph.nodes:
                needed |= set(inner.inputs) | captured(inner)
            found |= needed - own
    return found


def in_order(nodes: list[Node], known: set[str]) -> list[Node] | None:
    """The nodes in an order in which they can run: the list itself where it is in one; `None` where there is none."""
    produced = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    needs = []
    for node in nodes:
        names = {*node.inputs, *captured(node)}
        needs.append({produced[name] for name in names if name in produced and name not in known})
    if all(all(other < index for other in need) for index, need in enumerate(needs)):
        return nodes
    waiting = [len(need) for need in needs]
    followers: dict[int, list[int]] = {}
    for index, need in enumerate(needs):
        for other in need:
            followers.setdefault(other, []).append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        index = ready.pop()
        order.append(index)
        for follower in followers.get(index, ()):
            waiting[follower] -= 1
            if waiting[follower] == 0:
                ready.append(follower)
    return [nodes[index] for index in order] if len(order) == len(nodes) else None
