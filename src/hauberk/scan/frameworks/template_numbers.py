"""Which expressions of a template are certainly numbers.

Jinja looks up `x[key]` among the attributes of `x`, too, so a text that was put together at run time reaches what
`__class__` reaches when it is written out. No analysis of where texts come from is attempted: a key that is not written
out must be a number, whatever the template is handed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hauberk.scan.frameworks.template_grammar import Node, called_name, words
from hauberk.scan.frameworks.template_reading import Reading

_ARITHMETIC = words("+ - * / // % == != < > <= >= and or")
_LOOP = words("index index0 revindex revindex0 first last length depth depth0")
_LITERAL_MOST = 1_000
_NEVER = ""  # a name that nothing binds


class Numbers:
    """The names that are bound to numbers only, wherever they are bound.

    A number is made of numbers only. So a name ceases to be one with the first binding that is none, and takes with it
    all names that are made of it: each binding is looked at once.

    Args:
        reading: Of the template.
        check_time: Called now and then; raises where there is no time left.
    """

    def __init__(self, reading: Reading, check_time: Callable[[], None]) -> None:
        self._bound: dict[str, list[Node]] = {}
        for binding in reading.bindings:
            self._bound.setdefault(binding.name, []).append(binding.value)
        self._known: dict[int, bool] = {}
        self._counts: dict[str, bool] = {}
        self._namespaces = self._settled(_of_namespace, check_time)
        self._numbers = self._settled(self._names, check_time)

    def _settled(self, needs: Callable[[Node], Iterator[str]], check_time: Callable[[], None]) -> set[str]:
        """Names of a kind, of which a value is one if certain names are."""
        waiting: dict[str, list[str]] = {_NEVER: []}
        for name, values in self._bound.items():
            for value in values:
                check_time()
                for need in needs(value):
                    waiting.setdefault(need, []).append(name)
        lost = waiting.keys() - self._bound.keys()
        falling = list(lost)
        while falling:
            for name in waiting.get(falling.pop(), ()):
                if name not in lost:
                    lost.add(name)
                    falling.append(name)
        return self._bound.keys() - lost

    def _names(self, node: Node) -> Iterator[str]:
        """The names that must be numbers for a node to be one."""
        for each in self._asks(node):
            if isinstance(each, str):
                yield each
            else:
                yield from self._names(each)

    def _asks(self, node: Node) -> tuple[Node | str, ...]:
        """The parts and names that must be numbers for a node to be one."""
        if _is_certain(node):
            return ()
        match node:
            case Node("name", name):
                return (name,)
            case Node("attribute", name, (Node("name", base),)) if base in self._namespaces:
                return (f".{name}",)
            case Node("row" | "sign", signs) if _ARITHMETIC.issuperset(signs.split()):
                return node.parts
            case Node("condition"):
                return node.parts[:2]
        return (_NEVER,)

    def is_namespace(self, node: Node) -> bool:
        """Whether a node is a name that stands for a namespace, wherever it is bound."""
        return node.kind in {"name", "foreign"} and node.value in self._namespaces

    def is_number(self, node: Node) -> bool:
        """Whether a node of the reading can be nothing but a number, a truth, none or undefined."""
        if id(node) not in self._known:
            self._known[id(node)] = all(
                each in self._numbers if isinstance(each, str) else self.is_number(each) for each in self._asks(node)
            )
        return self._known[id(node)]

    def is_count(self, node: Node, *, follow: bool = True) -> bool:
        """Whether a node is a small number, a length, the counter of a loop, or a sum or a difference of such.

        `follow`: or a name that is bound to such only; what those are made of is not followed, since sums can grow.
        """
        match node:
            case Node("number"):
                return is_small(node, _LITERAL_MOST)
            case Node("filter", "length" | "count") | Node("attribute", _, (Node("name", "loop"),)):
                return self.is_number(node)
            case Node("name", name) if follow and self.is_number(node):
                if name not in self._counts:
                    self._counts[name] = all(self.is_count(value, follow=False) for value in self._bound[name])
                return self._counts[name]
            case Node("row", signs) if {"+", "-"}.issuperset(signs.split()):
                return all(self.is_count(part, follow=follow) for part in node.parts)
            case Node("sign"):
                return self.is_count(node.parts[0], follow=follow)
        return False


def _is_certain(node: Node) -> bool:
    """Whether a node is a number whatever it is made of."""
    match node:
        case Node("number" | "constant" | "test" | "not") | Node("filter", "length" | "count"):
            return True
        case Node("attribute", name, (Node("name", "loop"),)):
            return name in _LOOP
        case Node("filter", "int", (_, *given)):  # it gives what it is told to where there is no number
            return all(part.kind == "number" for part in given)
    return False


def _of_namespace(node: Node) -> Iterator[str]:
    """The names that must be namespaces for a node to be one."""
    if node.kind == "name":
        yield node.value
    elif called_name(node) != "namespace":
        yield _NEVER


def is_small(node: Node, most: int) -> bool:
    """Whether a node is a whole number that is written out, and not above a limit."""
    return node.kind == "number" and node.value.isdigit() and len(node.value) < 10 and int(node.value) <= most
