"""What grows in a template each time round: a name that gets twice what it was, itself or by way of others.

Twice as much each time is 2 ** n after n rounds, and there are as many rounds as a template likes. So no name may get
what was made of itself more than once. One that a piece is added to in each round does not, and grows as fast as what
is put out anyway. What a macro puts out is taken for as large as what it is handed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from hauberk.scan.frameworks.template_grammar import Node, called_name, walk, words
from hauberk.scan.frameworks.template_numbers import Numbers
from hauberk.scan.frameworks.template_reading import Binding, Reading

_COMPARISONS = words("== != < > <= >= in")
_CHOICES = words("and or")
_MULTIPLYING = words("replace join format")
"""Filters and methods that may put in what they are handed more than once."""
_Names = Mapping[str, int]


def doubled(reading: Reading, numbers: Numbers, check_time: Callable[[], None]) -> Iterator[Binding]:
    """Bindings that give a name more than once what was made of it.

    Args:
        reading: Of the template.
        numbers: Of the reading; they take little room, whatever they are.
        check_time: Called now and then; raises where there is no time left.
    """
    bindings = (*reading.bindings, *_appended(reading))
    carrier = _Carrier(bindings, numbers)
    carried: list[tuple[Binding, _Names]] = []
    needs: dict[str, set[str]] = {}
    for binding in bindings:
        check_time()
        names = carrier.names(binding.made_of)
        carried.append((binding, names))
        needs.setdefault(binding.name, set()).update(names)
    kin = _kin(needs, check_time)
    for binding, names in carried:
        own = kin[binding.name]
        if sum(count for name, count in names.items() if kin.get(name) == own) > 1:
            yield binding


def _appended(reading: Reading) -> Iterator[Binding]:
    """A list to which something is appended is made of itself and that."""
    for expression in reading.expressions:
        for node in walk(expression.node):
            match node:
                case Node("call", _, (Node("attribute", "append", (base,)), *given)):
                    name = f".{base.value}" if base.kind == "attribute" else base.value
                    made = Node("row", "~", (base, *given))
                    yield Binding(name, made, expression.code, made)


class _Carrier:
    """Tells how often what names stand for may be in a value."""

    def __init__(self, bindings: Iterable[Binding], numbers: Numbers) -> None:
        self._numbers = numbers
        self._spaces = _reaching_namespaces(bindings)

    def names(self, node: Node) -> _Names:
        """Names and how often each; attributes of namespaces have a point in front."""
        if self._numbers.is_number(node):
            return {}
        if node.kind in {"name", "foreign"}:
            return {node.value: 1}
        parts = [self.names(part) for part in _carrying(node)]
        if node.kind == "attribute" and not self._spaces.isdisjoint(parts[0]):
            return {f".{node.value}": 1, **parts[0]}
        if node.kind == "condition" or (node.kind == "row" and _CHOICES.issuperset(node.value.split())):
            return {name: max(each.get(name, 0) for each in parts) for name in _together(parts)}
        called = ""
        if node.kind in {"call", "filter"}:
            called = node.parts[0].value if node.kind == "call" else node.value
        if node.kind == "repeated" or (called == "replace" and not _shortens(node.parts[1:])):
            return _together([*parts, *parts])
        return _together([*parts, *(parts[1:] if called in _MULTIPLYING else [])])


def _reaching_namespaces(bindings: Iterable[Binding]) -> set[str]:
    """Names that may stand for a namespace, or for something with one in it."""
    users: dict[str, set[str]] = {}
    found = set()
    for binding in bindings:
        for node in walk(binding.made_of):
            if called_name(node) == "namespace":
                found.add(binding.name)
            elif node.kind in {"name", "foreign"}:
                users.setdefault(node.value, set()).add(binding.name)
            elif node.kind == "attribute":
                users.setdefault(f".{node.value}", set()).add(binding.name)
    waiting = list(found)
    while waiting:
        new = users.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _shortens(given: Sequence[Node]) -> bool:
    """Whether what is replaced is at least as long as what replaces it."""
    texts = [part.value for part in given[:2] if part.kind == "text"]
    return len(texts) == 2 and len(texts[1]) <= len(texts[0])


def _carrying(node: Node) -> Sequence[Node]:
    """The parts of a node that may be in its value."""
    if node.kind == "test" or (node.kind == "row" and _COMPARISONS.issuperset(node.value.split())):
        return ()
    return node.parts[: {"subscript": 1, "condition": 2}.get(node.kind)]


def _together(several: Iterable[_Names]) -> _Names:
    found: Counter[str] = Counter()
    for names in several:
        found.update(names)
    return found


def _kin(needs: dict[str, set[str]], check_time: Callable[[], None]) -> dict[str, int]:
    """A number for each name, the same for names that are made of each other (Kosaraju's way)."""
    order = [name for root in _searched(needs, needs, check_time) for name in root]
    users: dict[str, set[str]] = {name: set() for name in needs}
    for name, needed in needs.items():
        for each in needed & needs.keys():
            users[each].add(name)
    found = _searched(users, reversed(order), check_time)
    return {name: number for number, names in enumerate(found) for name in names}


def _searched(graph: dict[str, set[str]], roots: Iterable[str], check_time: Callable[[], None]) -> Iterator[list[str]]:
    """For each root, the names that lie below it and below no root before; each behind those below it."""
    seen: set[str] = set()
    for root in roots:
        check_time()
        found: list[str] = []
        below = [] if root in seen else [(root, iter(graph[root]))]
        seen.add(root)
        while below:
            _, rest = below[-1]
            step = next((each for each in rest if each in graph and each not in seen), None)
            if step is None:
                found.append(below.pop()[0])
            else:
                seen.add(step)
                below.append((step, iter(graph[step])))
        yield found
