"""Which file an operation of a graph would open: the name, traced back to where it comes from.

Every SavedModel saves and restores its variables, and may read vocabularies, so the operations that do it cannot be
forbidden. The name of their file has to be what the loader hands in: the name of the checkpoint, with the endings that
TensorFlow's own saver adds, or the place of an asset. Whatever else a name could be made of (pieces of text, other
inputs of the model, variables from a checkpoint) is none of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hauberk.scan.examination import Examination
from hauberk.scan.frameworks.tensorflow_graph import Node, Scope
from hauberk.scan.frameworks.tensorflow_objects import Objects

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_THROUGH = {
    "Identity": (0,),
    "ShardedFilename": (0,),
    "ExpandDims": (0,),
    "Reshape": (0,),
    "Select": (1, 2),
    "SelectV2": (1, 2),
}
"""Operations that hand names on, and which of their inputs they hand on."""
_VARIABLE_USERS = frozenset({"ReadVariableOp", "VarIsInitializedOp", "AssignVariableOp"})
_OUTSIDE = re.compile(rb"(?:^|[\\/])\.\.(?:[\\/]|$)|^[\\/~]|^[A-Za-z]:|^\w+://")
_ENDING = re.compile(rb"_temp(?:_[0-9a-f]+)?/part|\.part|")
_DEFAULT = b"model"
_SAVERS_OWN = re.compile(r"saver_filename|save(?:_\d+)?/(?:Const|filename)")
_ASSETS_READERS = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})


def leads_outside(name: bytes) -> bool:
    """Whether the name of a file leaves the folder that it is joined to."""
    return bool(_OUTSIDE.search(name))


@dataclass
class Surroundings:
    """What a meta graph says about its graph.

    Attributes:
        assets: Nodes that the loader replaces by the place of an asset.
        checkpoints: Nodes that the loader hands the name of a checkpoint; `None` where nothing says so.
        inputs: Nodes that whoever runs the model fills.
        outputs: Nodes that they ask for.
        first: Nodes that run while the model is loaded.
        objects: Beside the graph.
    """

    assets: set[str] = field(default_factory=set)
    checkpoints: set[str] | None = None
    inputs: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    first: set[str] = field(default_factory=set)
    objects: Objects = field(default_factory=Objects)


class Fault(NamedTuple):
    """Why a name is not the loader's.

    Attributes:
        certain: Whether it is the graph that makes the name, or this cannot be told.
        what: In words.
    """

    certain: bool
    what: str


def _unclear(what: str) -> Fault:
    return Fault(certain=False, what=what)


def _made_up(what: str) -> Fault:
    return Fault(certain=True, what=what)


class _Name(NamedTuple):
    """A name, or a part of one, that is still to be traced.

    Attributes:
        scope: Where it stands.
        tensor: What it is called there.
        ending: Whether something stands before it.
        default: Whether it is used where nothing is handed in.
        asset: Whether an asset would do: those are read, by tables.
    """

    scope: Scope
    tensor: str
    ending: bool = False
    default: bool = False
    asset: bool = False


class Names:
    """Traces names of files through a graph and its functions.

    Args:
        scopes: Main graph and functions.
        around: What is known of them besides.
        examination: Asked for time.
    """

    def __init__(self, scopes: Sequence[Scope], around: Surroundings, examination: Examination) -> None:
        self._around = around
        self._examination = examination
        self._main = next((scope for scope in scopes if not scope.name), Scope())
        self._functions = {scope.name: scope for scope in scopes if scope.name}
        self._callers: dict[str, list[tuple[Scope, Node]]] = {}
        self._users: dict[str, list[Node]] = {}
        for scope in scopes:
            for node in scope.nodes.values():
                for name in {*node.functions, *(node.ops & self._functions.keys())}:
                    self._callers.setdefault(name, []).append((scope, node))
        for node in self._main.nodes.values():
            for each in node.inputs:
                self._users.setdefault(each.partition(":")[0], []).append(node)
        self._asked_for = self._needed(around.outputs, set())
        self.first = self._needed(around.first, around.objects.first())

    def _needed(self, names: set[str], functions: set[str]) -> set[tuple[str, str]]:
        """Scope and name of all nodes that run for these of the main graph, and for functions."""
        waiting = [("", name) for name in names]
        waiting += [(name, each) for name in functions & self._functions.keys() for each in self._functions[name].nodes]
        seen: set[tuple[str, str]] = set()
        entered: set[str] = set()
        scopes = {"": self._main, **self._functions}
        while waiting:
            place = waiting.pop()
            node = scopes[place[0]].nodes.get(place[1])
            if place in seen or node is None:
                continue
            seen.add(place)
            if len(seen) % 512 == 0:
                self._examination.check_time()
            waiting += [(place[0], each.lstrip("^").partition(":")[0]) for each in (*node.inputs, *node.before)]
            for called in ({*node.functions, *node.ops} & self._functions.keys()) - entered:
                entered.add(called)
                waiting += [(called, each) for each in self._functions[called].nodes]
        return seen

    def circle(self) -> list[str]:
        """Functions that call themselves, directly or through others: what is left once all others are taken away."""
        called: dict[str, set[str]] = {name: set() for name in self._functions}
        for name, callers in self._callers.items():
            for scope, _ in callers:
                if scope.name and name in self._functions:
                    called[scope.name].add(name)
        waiting = [name for name, others in called.items() if not others]
        while waiting:
            name = waiting.pop()
            del called[name]
            for scope, _ in self._callers.get(name, ()):
                if scope.name in called and name in called[scope.name]:
                    called[scope.name].discard(name)
                    if not called[scope.name]:
                        waiting.append(scope.name)
        return sorted(called)

    def faults(self, scope: Scope, tensor: str, op: str) -> list[Fault]:
        """Everything that is wrong with the name of a file; empty where the loader hands it in.

        Args:
            scope: Where the operation stands.
            tensor: Its input.
            op: What it does.
        """
        found: list[Fault] = []
        waiting, seen = [_Name(scope, tensor, asset=op in _ASSETS_READERS)], set()
        while waiting:
            name = waiting.pop()
            mark = (id(name.scope), name.tensor, name.ending, name.default)
            if mark in seen:
                continue
            seen.add(mark)
            self._examination.check_time()
            for each in self._step(name):
                if isinstance(each, _Name):
                    waiting.append(each)
                else:
                    found.append(each)
        return found

    def _step(self, name: _Name) -> Iterator[_Name | Fault]:
        """What a name is made of."""
        base = name.tensor.partition(":")[0]
        node = name.scope.nodes.get(base)
        if name.scope.name and base in name.scope.arguments and node is None:
            yield from self._argument(name, name.scope.arguments.index(base))
        elif node is None or len(node.ops) != 1:
            yield _unclear("a node that is not there")
        elif node.op == "Const":
            yield from self._constant(name, node)
        elif node.op.startswith("Placeholder"):
            yield from self._placeholder(name, node)
        elif node.op == "StringJoin" and node.inputs:
            if any(node.texts.get("separator", ())):
                yield _unclear("parts with something between them")
            yield name._replace(tensor=node.inputs[0])
            yield from (name._replace(tensor=each, ending=True) for each in node.inputs[1:])
        elif node.op == "Pack":
            yield from (name._replace(tensor=each) for each in node.inputs)
        elif node.op in _THROUGH and len(node.inputs) > max(_THROUGH[node.op]):
            yield from (name._replace(tensor=node.inputs[each]) for each in _THROUGH[node.op])
        elif node.op == "ReadVariableOp" and len(node.inputs) == 1 and not name.scope.name:
            yield from self._variable(name, node)
        else:
            yield _unclear(f"a name from {node.op}")

    def _argument(self, name: _Name, index: int) -> Iterator[_Name | Fault]:
        """An argument of a function: what it is called with, by nodes and by the loader."""
        function = name.scope
        callers = self._callers.get(function.name, [])
        for scope, node in callers:
            direct = node.op in _CALLS and node.functions == [function.name]
            if (direct or node.op == function.name) and len(node.inputs) == len(function.arguments):
                yield name._replace(scope=scope, tensor=node.inputs[index])
            else:
                yield _unclear(f"a name that {node.op} hands over")
        objects = self._around.objects
        bound = objects.bound.get(function.name)
        if bound is None:
            if not callers:
                yield _unclear("an argument of a function that no node calls")
            return
        place = index - (len(function.arguments) - len(bound))
        number = bound[place] if 0 <= place < len(bound) else -1
        if number in objects.constants:
            yield name._replace(scope=self._main, tensor=objects.constants[number], asset=False)  # as it stands there
        elif not (objects.is_asset(number) and name.asset and not name.ending):
            yield _unclear("an argument that is neither a checkpoint nor an asset")

    def _constant(self, name: _Name, node: Node) -> Iterator[Fault]:
        texts = node.texts.get("value", [])
        outside = any(leads_outside(text) for text in texts)
        if not name.scope.name and node.name in self._around.assets:
            if not name.asset or name.ending:
                yield _unclear("an asset in place of a checkpoint")
            elif outside and ("", node.name) in self._asked_for:  # replaced only while the model is loaded
                yield _made_up(repr(texts[0]))
        elif node.unread or not texts:
            yield _unclear("a text that is not read")
        elif name.ending:
            wrong = next((text for text in texts if not _ENDING.fullmatch(text)), None)
            if wrong is not None:
                yield (_made_up if outside else _unclear)(f"an ending {wrong!r}")
        elif not (name.default and set(texts) == {_DEFAULT}):
            yield _made_up(repr(texts[0]))

    def _placeholder(self, name: _Name, node: Node) -> Iterator[_Name | Fault]:
        around = self._around
        handed_in = node.name in (around.checkpoints or ()) or (name.asset and node.name in around.assets)
        if around.checkpoints is None:  # a graph by itself
            handed_in = bool(_SAVERS_OWN.fullmatch(node.name))
        if node.inputs:  # of other savers of the graph, nobody fills it
            yield name._replace(tensor=node.inputs[0], default=True)
            handed_in = True
        if name.scope.name or name.ending:
            yield _unclear("a part that is handed in")
        elif not handed_in or node.name in around.inputs:
            yield _unclear(f"what is handed in as {node.name}")

    def _variable(self, name: _Name, node: Node) -> Iterator[_Name | Fault]:
        """A variable that only nodes of the main graph set."""
        handle = node.inputs[0].partition(":")[0]
        variable = self._main.nodes.get(handle)
        users = self._users.get(handle, [])
        shared = [each for each in self._variables() if variable and _shared_name(each) == _shared_name(variable)]
        if variable is None or variable.op != "VarHandleOp" or len(shared) != 1:
            yield _unclear("a variable that cannot be told from others")
        elif any(user.op not in _VARIABLE_USERS or handle in map(_base, user.inputs[1:]) for user in users):
            yield _unclear("a variable that others may set")
        else:
            set_to = [user.inputs[1] for user in users if user.op == "AssignVariableOp" and len(user.inputs) == 2]
            yield from (name._replace(tensor=each) for each in set_to)
            if not set_to:
                yield _made_up("of a variable that the checkpoint sets")

    def _variables(self) -> Iterator[Node]:
        for scope in (self._main, *self._functions.values()):
            yield from (node for node in scope.nodes.values() if "VarHandleOp" in node.ops)


def _base(tensor: str) -> str:
    return tensor.partition(":")[0]


def _shared_name(variable: Node) -> bytes:
    """By what a variable is found at run time."""
    return next(iter(variable.texts.get("shared_name", ())), b"") or variable.name.encode()
