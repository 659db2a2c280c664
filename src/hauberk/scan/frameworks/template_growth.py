"""What grows in a template each time round: a name that gets twice what it was, itself or by way of others.

Twice as much each time is 2 ** n after n rounds, and there are as many rounds as a template likes. So no name may get
what was made of itself more than once. One that a piece is added to in each round does not, and grows as fast as what
is put out anyway. What a value is made of is followed from name to name, into macros and out of them; whatever is done
to it on the way counts as twice, but for what is known to give all of it once, or a part.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from hauberk.scan.frameworks.template_code import Code
from hauberk.scan.frameworks.template_grammar import Node, called_name, walk, words
from hauberk.scan.frameworks.template_numbers import Numbers
from hauberk.scan.frameworks.template_reading import Binding, Reading

_COMPARISONS, _CHOICES, _ADDING = words("== != < > <= >= in"), words("and or"), words("+ ~ and or")
_WHOLE = words("attribute keyword output subscript condition")
_KEEPING = words(
    "strip lstrip rstrip trim removeprefix removesuffix lower upper capitalize title get items keys values pop first"
    " last min max d default dictsort range raise_exception strftime_now"
)
"""What gives a part of what it is asked of, all of it once, or what it is handed; letters may become two or three."""
_MULTIPLYING = words("replace format")
"""What may put in several times what it is handed."""
_ONCE, _PERHAPS, _TWICE = 2, 3, 4  # in halves
_SPLITTING = words("split rsplit splitlines")
_ATTRIBUTES = "."  # what all namespaces keep
_Key = str | int
"""A name, with brackets behind of what a macro puts out, with a point in front of what namespaces keep; or a value."""
_Names = dict[str, int]


def growing(reading: Reading, numbers: Numbers, check_time: Callable[[], None]) -> Iterator[tuple[Code, str]]:
    """What may grow in a template, and where.

    Args:
        reading: Of the template.
        numbers: Of the reading; they take little room, whatever they are.
        check_time: Called now and then; raises where there is no time left.
    """
    bindings = list(reading.bindings)
    lists, lasting = _lists(bindings), {binding.name for binding in bindings if binding.name.startswith(".")}
    for expression in reading.expressions:
        check_time()
        others = False
        for base, given in _appended(expression.node):
            name = _name(base, numbers)
            if name in lists:
                made = Node("row", "~", (base, *given))
                bindings.append(Binding(name, made, expression.code, made))
                lasting.add(name)
            else:
                others = True
        if others:
            yield expression.code, "something is appended to what may have another name"
    carrier = _Carrier(reading, numbers, check_time)
    told: set[tuple[int, str]] = set()
    for binding in _doubled(bindings, lasting, carrier, check_time):
        if (each := (id(binding.code), binding.name)) not in told:
            told.add(each)
            yield binding.code, f"{binding.name.partition('@')[0].strip('.()')} gets twice what it was"


def _lists(bindings: Iterable[Binding]) -> set[str]:
    """Names that are bound to lists that are written out, and to nothing else."""
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for binding in bindings:
        names[binding.value.kind == "list"].add(binding.name)
    return names[True] - names[False]


def _appended(expression: Node) -> Iterator[tuple[Node, Sequence[Node]]]:
    """To what something is appended, and what."""
    for node in walk(expression):
        match node:
            case Node("call", _, (Node("attribute", "append", (base,)), *given)):
                yield base, given


def _name(node: Node, numbers: Numbers) -> str:
    """The name of a variable, or of an attribute of what is certainly a namespace; empty of anything else."""
    match node:
        case Node("name" | "foreign", name):
            return name
        case Node("attribute", name, (base,)) if numbers.is_namespace(base):
            return f".{name}"
    return ""


def _doubled(
    bindings: Sequence[Binding], lasting: set[str], carrier: _Carrier, check_time: Callable[[], None]
) -> Iterator[Binding]:
    """Bindings that give a name more than once what was made of it.

    Any other name than the lasting ones begins anew in each round, and grows only where a macro calls itself.
    Many names may get one value that is made of many names, so values stand between names.
    """
    values: dict[_Key, _Names] = {}
    got: dict[_Key, set[_Key]] = {}
    for binding in bindings:
        value = id(binding.made_of)
        if value not in values:
            values[value] = carrier.names(binding.made_of)
        got.setdefault(binding.name, set()).add(value)
    attributes = {binding.name for binding in bindings if binding.name.startswith(".")}
    needs: dict[_Key, Collection[_Key]] = {_ATTRIBUTES: attributes, **values, **got}
    kin = _kin(needs, check_time)
    rounds = {kin[name] for name in lasting}
    own = {
        value: sum(count for name, count in names.items() if kin.get(name) == kin[value])
        for value, names in values.items()
    }
    for binding in bindings:
        value = id(binding.made_of)
        if kin[value] in rounds:
            most = _ONCE
        elif binding.name.endswith("()"):
            continue  # the text of a macro that calls itself
        else:
            most = _PERHAPS
        if kin[value] == kin[binding.name] and own[value] > most:
            yield binding


class _Carrier:
    """Tells how often what names stand for may be in a value."""

    def __init__(self, reading: Reading, numbers: Numbers, check_time: Callable[[], None]) -> None:
        self._numbers = numbers
        self._check_time = check_time
        self._macros = reading.macros.keys() | {"caller"}

    def names(self, node: Node, times: int = _ONCE) -> _Names:
        """Names, and how often each may be in a value, in halves."""
        self._check_time()
        if self._numbers.is_number(node) or _is_comparison(node):
            return {}
        if name := _name(node, self._numbers) or self._made_by_call(node):
            return {name: times}
        if node.kind == "condition":
            return _merged((self.names(part, times) for part in node.parts[:2]), max)
        if node.kind == "row" and _CHOICES.issuperset(node.value.split()):
            return _merged((self.names(part, times) for part in node.parts), max)
        if not _keeps(node):
            times = max(times, _TWICE if _multiplies(node) else _PERHAPS)
        return _merged((self.names(part, times) for part in _carrying(node)), operator.add)

    def _made_by_call(self, node: Node) -> str:
        """What stands for what a call gives: all that a macro puts out, or all that any namespace keeps."""
        called = called_name(node)
        return f"{called}()" if called in self._macros else _ATTRIBUTES if called == "namespace" else ""


def _is_comparison(node: Node) -> bool:
    return node.kind == "row" and _COMPARISONS.issuperset(node.value.split())


def _keeps(node: Node) -> bool:
    """Whether a node gives all that it is made of once at most."""
    match node:
        case Node("row", signs):
            return _ADDING.issuperset(signs.split())
        case Node("filter", name, (_, *given)) | Node("call", _, (Node("attribute", name), *given)):
            return name in _KEEPING or (name == "replace" and _shortens(given))
        case Node("call"):
            return called_name(node) in _KEEPING
    return node.kind in _WHOLE


def _multiplies(node: Node) -> bool:
    """Whether what a node is made of is in it more than once, rather than in another form."""
    match node:
        case Node("repeated"):
            return True
        case Node("filter", name) | Node("call", _, (Node("attribute", name), *_)):
            return name in _MULTIPLYING
    return False


def _shortens(given: Sequence[Node]) -> bool:
    """Whether what replaces something is a part of it: other letters may be such as become several elsewhere."""
    texts = [part.value for part in given[:2] if part.kind == "text"]
    return len(texts) == 2 and texts[1] in texts[0]


def _carrying(node: Node) -> Sequence[Node]:
    """The parts of a node that may be in its value; of one of the pieces of a text, the text."""
    match node:
        case Node("subscript", _, (base, key)):
            return (_split(base),) if key.kind != "slice" else (base,)
        case Node("filter", "first" | "last", (base,)):
            return (_split(base),)
    return () if node.kind == "test" else node.parts


def _split(node: Node) -> Node:
    """The text that is split, or the node itself."""
    match node:
        case Node("call", _, (Node("attribute", name, (base,)), *_)) if name in _SPLITTING:
            return base
    return node


def _merged(several: Iterable[_Names], how: Callable[[int, int], int]) -> _Names:
    """Counts of several, the smaller put into the larger one, so that depth does not multiply the work."""
    found: _Names = {}
    for names in several:
        small, large = sorted((found, names), key=len)
        for name, count in small.items():
            large[name] = how(large.get(name, 0), count)
        found = large
    return found


def _kin(needs: Mapping[_Key, Collection[_Key]], check_time: Callable[[], None]) -> dict[_Key, int]:
    """A number for each key, the same for keys that need each other (Kosaraju's way)."""
    order = [key for root in _searched(needs, needs, check_time) for key in root]
    users: dict[_Key, list[_Key]] = {key: [] for key in needs}
    for key, needed in needs.items():
        check_time()
        for each in needed:
            if each in users:
                users[each].append(key)
    found = _searched(users, reversed(order), check_time)
    return {key: number for number, keys in enumerate(found) for key in keys}


def _searched(
    graph: Mapping[_Key, Collection[_Key]], roots: Iterable[_Key], check_time: Callable[[], None]
) -> Iterator[list[_Key]]:
    """For each root, the keys that lie below it and below no root before; each behind those below it."""
    seen: set[_Key] = set()
    for root in roots:
        found: list[_Key] = []
        below = [] if root in seen else [(root, iter(graph[root]))]
        seen.add(root)
        while below:
            check_time()
            _, rest = below[-1]
            step = next((each for each in rest if each in graph and each not in seen), None)
            if step is None:
                found.append(below.pop()[0])
            else:
                seen.add(step)
                below.append((step, iter(graph[step])))
        yield found
