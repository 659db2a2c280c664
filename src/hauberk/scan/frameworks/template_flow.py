"""What a value of a template can be at most: a number, the caller's data, a constant, or a text that it put together.

Jinja looks up `x[name]` among the attributes of `x`, too, so a name put together at run time reaches what `__class__`
reaches when it is written out. Only what is known to copy or to count is anything but put together; so is whatever the
template was handed under a name that not every runtime sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hauberk.scan.frameworks.template_grammar import Node, walk, words
from hauberk.scan.frameworks.template_reading import Binding, Reading

NUMBER, DATA, CONSTANT, BUILT = range(4)
"""Never a text; from whoever runs the template; a text that stands in it, or a container of such; anything else."""

_COUNTING = words("length count")
_NUMBERS = words("int float round abs")
_COPYING = words(
    "list items dictsort selectattr rejectattr select reject first last reverse sort unique trim string lower safe"
    " from_json"
)
_COPYING_METHODS = words("items keys values strip lstrip rstrip split lower")
_TESTING_METHODS = words("startswith endswith isdigit index find count")
_LOOP = words("index index0 revindex revindex0 first last length depth depth0")
_COMPARING = words("== != < > <= >= in")
_NEVER_TEXT = words("number constant test not")
_ROUNDS_MOST = 24
_FOLLOWED_MOST, _FOLLOWED_DEEPEST = 8, 2
_CHOOSING = frozenset({"and", "or"})
_COUNTING_SIGNS = frozenset({"-", "//", "/"})


class Levels:
    """The level of each name, found by going through all bindings until nothing changes.

    Args:
        reading: Of the template.
        check_time: Called now and then; raises where there is no time left.
    """

    def __init__(self, reading: Reading, check_time: Callable[[], None]) -> None:
        self._bound: dict[str, list[Binding]] = {}
        for binding in reading.bindings:
            self._bound.setdefault(binding.name, []).append(binding)
        self._levels = dict.fromkeys(self._bound, NUMBER)
        self._single = {id(binding): NUMBER for binding in reading.bindings}
        self._namespaces = self._only_namespaces()
        self._grown = [
            part
            for each in reading.expressions
            for node in walk(each.node)
            if node.kind == "call" and node.parts[0].kind == "attribute" and node.parts[0].value == "append"
            for part in node.parts[1:]
        ]
        self._floor = NUMBER  # what any list may hold that was added to it
        for _ in range(_ROUNDS_MOST):
            check_time()
            if not self._raise(reading.bindings):
                return
        self._levels = dict.fromkeys(self._bound, BUILT)
        self._single = dict.fromkeys(self._single, BUILT)
        self._floor = BUILT

    def _only_namespaces(self) -> set[str]:
        """Names that are bound to namespaces only, or to one another."""
        found = set(self._bound)
        while wrong := {
            name
            for name in found
            for each in self._bound[name]
            if each.element
            or not (_is_namespace(each.value) or (each.value.kind == "name" and each.value.value in found))
        }:
            found -= wrong
        return found

    def _raise(self, bindings: Sequence[Binding]) -> bool:
        """One round; whether a level has gone up."""
        before = (dict(self._single), self._floor)
        for binding in bindings:
            level = self._element(binding.value) if binding.element else self.of(binding.value)
            self._single[id(binding)] = max(level, self._single[id(binding)])
            self._levels[binding.name] = max(level, self._levels[binding.name])
        self._floor = max([self.of(part) for part in self._grown], default=NUMBER)
        return before != (self._single, self._floor)

    def _element(self, value: Node) -> int:
        if value.kind == "list":
            return max([self.of(part) for part in value.parts], default=NUMBER)
        return _part(self.of(value))

    def of(self, node: Node) -> int:
        """The level of an expression."""
        if node.kind in _NEVER_TEXT:
            return NUMBER
        level = getattr(self, f"_of_{node.kind}", None)
        return BUILT if level is None else int(level(node))

    def _of_text(self, node: Node) -> int:
        return BUILT if reaches(node.value) else CONSTANT

    def _of_name(self, node: Node) -> int:
        if node.value in self._namespaces or node.value in {"loop", "caller", "varargs", "kwargs"}:
            return BUILT
        return self._levels.get(node.value, BUILT)

    def _of_outside(self, node: Node) -> int:
        return max(DATA, self._levels.get(node.value, NUMBER), self._floor)

    def _of_attribute(self, node: Node) -> int:
        return self._looked_up(node.parts[0], node.value)

    def _of_subscript(self, node: Node) -> int:
        base, key = node.parts
        return self._looked_up(base, key.value) if key.kind == "text" else _part(self.of(base))

    def _of_condition(self, node: Node) -> int:
        return max(self.of(part) for part in node.parts[:2])

    def _of_keyword(self, node: Node) -> int:
        return self.of(node.parts[0])

    _of_sign = _of_keyword

    def _of_list(self, node: Node) -> int:
        return max([self._floor, *(self._held(part) for part in node.parts)])

    _of_dictionary = _of_list

    def _held(self, part: Node) -> int:
        """The level of something in a list; of letters without an underscore no name of anything inward is made."""
        return DATA if part.kind == "text" and "_" not in part.value else self.of(part)

    def _looked_up(self, base: Node, name: str, depth: int = 0) -> int:
        """The level of what stands under a constant name: in a namespace, or in a dictionary that is written out."""
        if base == Node("name", "loop"):
            return NUMBER if name in _LOOP else BUILT
        if base.kind == "name" and base.value in self._namespaces:
            return self._levels.get(f".{name}", BUILT)
        held = self._bound.get(base.value, []) if base.kind == "name" else []
        if held and len(held) <= _FOLLOWED_MOST and depth < _FOLLOWED_DEEPEST:
            return max(
                self._looked_up(each.value, name, depth + 1)
                if each.value.kind in {"name", "dictionary"} and not each.element
                else _part(self._single[id(each)])
                for each in held
            )
        if base.kind == "dictionary" and all(key.kind == "text" for key in base.parts[::2]):
            found = [self.of(value) for key, value in pairs(base) if key.value == name]
            return max(found, default=NUMBER)
        return _part(self.of(base))

    def _of_call(self, node: Node) -> int:
        called, *given = node.parts
        if called == Node("name", "range"):
            return NUMBER
        if called.kind != "attribute" or called.value in _TESTING_METHODS:
            return NUMBER if called.kind == "attribute" else BUILT
        base = self.of(called.parts[0])
        if base <= DATA and called.value in _COPYING_METHODS:
            return max(base, self._floor)
        if base <= DATA and called.value == "get":
            return max([base, *(self.of(part) for part in given[1:])])
        return BUILT

    def _of_filter(self, node: Node) -> int:
        base, *given = node.parts
        if node.value in _COUNTING:
            return NUMBER
        if node.value in _NUMBERS:  # they give what they are told to where there is no number
            return NUMBER if all(part.kind == "number" for part in given) else BUILT
        if node.value in {"default", "d"}:
            return max(self.of(base), *(self.of(part) for part in given), NUMBER)
        mapped = node.value == "map" and all(part.kind == "keyword" and part.value == "attribute" for part in given)
        level = self.of(base)
        return max(level, self._floor) if level <= DATA and (mapped or node.value in _COPYING) else BUILT

    def _of_row(self, node: Node) -> int:
        signs = set(node.value.split())
        levels = [self.of(part) for part in node.parts]
        if signs <= _COMPARING or signs <= _COUNTING_SIGNS or max(levels) == NUMBER:
            return NUMBER
        if signs <= _CHOOSING or max(levels) == DATA:
            return max(levels)
        return BUILT


def pairs(node: Node) -> Iterator[tuple[Node, Node]]:
    """Keys and values of a dictionary that is written out."""
    return zip(node.parts[::2], node.parts[1::2], strict=True)


def _part(level: int) -> int:
    """What a part of something of a level is at most: a letter of a constant stands nowhere in the template."""
    return level if level <= DATA else BUILT


def _is_namespace(node: Node) -> bool:
    return node.kind == "call" and node.parts[0] == Node("name", "namespace")


def reaches(text: str) -> bool:
    """Whether a text is the name of something inward, alone or behind a point."""
    return text.startswith("_") or "._" in text
