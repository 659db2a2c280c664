"""What the code of a prompt's template may do: everything else is unusual, whatever it is.

Whatever is looked up by name stands under a name that is written out, and nothing is called but by its own name and on
the spot. So nothing that a template puts together reaches anything, and what it keeps, it cannot call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from hauberk.scan.frameworks.template_code import Code
from hauberk.scan.frameworks.template_grammar import Node, called_name, walk, words
from hauberk.scan.frameworks.template_growth import growing
from hauberk.scan.frameworks.template_numbers import Numbers, is_small
from hauberk.scan.frameworks.template_reading import FUNCTIONS, Reading

_METHODS = words(
    "strip lstrip rstrip split rsplit splitlines startswith endswith replace upper lower title capitalize items keys"
    " values get index find count isdigit join append pop removeprefix removesuffix"
)
_FILTERS = words(
    "abs capitalize count d default dictsort e escape first float from_json groupby indent int items join last length"
    " list lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum title"
    " tojson trim unique upper"
)
_TESTS = words(
    "boolean defined divisibleby eq equalto even false float ge gt in integer iterable le lower lt mapping ne none"
    " number odd sequence string true undefined upper sameas callable"
)
_LOOKING_UP = {"groupby": 0, "selectattr": 0, "rejectattr": 0, "sum": 0, "join": 1, "max": 1, "min": 1, "sort": 1}
_LOOKING_UP["unique"] = 1  # from which place on their arguments name an attribute
_APPLIED = words(
    "abs capitalize count e escape first float int last length list lower safe string title tojson trim upper"
)
_APPLYING = {"map": (0, _APPLIED), "select": (0, _TESTS), "reject": (0, _TESTS)}
_APPLYING |= dict.fromkeys(("selectattr", "rejectattr"), (1, _TESTS))  # at which place a filter or a test is named
_WIDENING = {"tojson": "indent", "indent": "width", "round": "precision"}
_WIDEST, _REPEATED_MOST = 64, 1_000  # blanks of an indent and figures in front of each; copies of a text
_ONE = Node("number", "1")
_LONGEST_NUMBER = 7
_ANY_ARGUMENTS = words("self super varargs kwargs")
_FORMATTING = words("format format_map")
_FILLED = re.compile(r"(?:[^{}]|\{\{|\}\}|\{\w*\})*", re.ASCII)
_FACTORS = words("* / // %")
_PERCENT = re.compile(r"(?:[^%]|%%|%[sdrfi])*")
_FRAMES = "(?:gi|cr|ag|tb)_(?:frame|code)|f_(?:globals|builtins|locals|back|code)|co_consts"
_INWARD = re.compile(rf"(?:^|[.,])(?:_|(?:{_FRAMES})(?:[.,]|$))")
"""Names with an underscore in front, and those of generators and frames; `sort` takes several with commas."""
_LEADS_INWARD = "a name of something inward"
_LOOKS_ALL_UP = "the filter attr"
_COMPUTED = "something looked up by a name that is not written out"
_FIELDS = "a text with fields that may look something up"


class Objection(NamedTuple):
    """Something that is not allowed.

    Attributes:
        code: Where it stands.
        what: What is wrong, in words.
        attack: Whether it names something inward, or puts a name together of parts with underscores at their ends.
        lookup: Whether it is an attack, or something may be looked up by a name that is not written out.
    """

    code: Code
    what: str
    attack: bool = False
    lookup: bool = False


def objections(reading: Reading, check_time: Callable[[], None]) -> Iterator[Objection]:
    """What in a template is not allowed.

    Args:
        reading: Of the template.
        check_time: Called now and then; raises where there is no time left.
    """
    for code, what in reading.strange:
        yield Objection(code, what)
    numbers = Numbers(reading, check_time)
    for code, what in growing(reading, numbers, check_time):
        yield Objection(code, what)
    policy = _Policy(reading, numbers)
    for expression in reading.expressions:
        check_time()
        called = {id(node.parts[0]) for node in walk(expression.node) if node.kind == "call"}
        for node in walk(expression.node):
            what = policy.objection(node) or (policy.uncalled(node) if id(node) not in called else "")
            if what:
                attack = what in {_LEADS_INWARD, _LOOKS_ALL_UP} or _joins_underscores(node)
                yield Objection(expression.code, what, attack, attack or what in {_COMPUTED, _FIELDS})


def _joins_underscores(node: Node) -> bool:
    """Whether what is looked up is put together of texts with underscores at their ends, or asks for any attribute."""
    looked_up = node.parts[1:] if node.kind in {"subscript", "filter"} else ()
    texts = [each.value for part in looked_up for each in walk(part) if each.kind == "text"]
    return any(text.startswith("_") or text.endswith("_") or text == "attr" for text in texts)


class _Policy:
    """Holds each part of a template against the lists.

    A method is called by its name, and Jinja takes what a dictionary or a namespace keeps under that name for it. So no
    method is called under a name under which the template keeps something.
    """

    def __init__(self, reading: Reading, numbers: Numbers) -> None:
        self._numbers = numbers
        self._macros = reading.macros.keys()
        bound = {binding.name for binding in reading.bindings}
        self._functions = (FUNCTIONS | self._macros) - bound
        self._kept = {name[1:] for name in bound if name.startswith(".")}
        for expression in reading.expressions:
            for node in walk(expression.node):
                if node.kind == "dictionary":
                    self._kept.update(key.value for key in node.parts[::2])

    def uncalled(self, node: Node) -> str:
        """What is wrong with something that is not called where it stands."""
        if node.kind == "attribute":
            return _of_name(node.value)
        handed = node.kind in {"name", "foreign"} and node.value in self._macros | _ANY_ARGUMENTS
        return f"{node.value}, which is handed around" if handed else ""

    def objection(self, node: Node) -> str:
        """What is wrong with a part of an expression, not counting what it is made of."""
        match node.kind:
            case "call":
                return self._of_call(node)
            case "filter":
                return _of_filter(node)
            case "subscript":
                return self._of_subscript(node.parts[1])
            case "row":
                return self._of_row(node)
            case "dictionary":
                plain = all(key.kind in {"text", "number", "constant"} for key in node.parts[::2])
                return "" if plain else "a key that is not written out"
        large = node.kind == "number" and len(node.value) > _LONGEST_NUMBER
        refused = large or node.kind == "spread" or (node.kind == "test" and node.value not in _TESTS)
        refused |= node.kind == "keyword" and node.value == "caller"  # a macro takes it for its block, and calls it
        return f"the {node.kind} {node.value}" if refused else ""

    def _of_call(self, node: Node) -> str:
        called, *given = node.parts
        name = called_name(node)
        if name:
            if name not in self._functions:
                return f"a call of {name}"
            if name == "range" and not all(map(self._numbers.is_count, given)):
                return "rounds that are not counted by what there is"
            named = name != "namespace" or all(part.kind == "keyword" for part in given)
            return "" if named else "a namespace of something else"
        if called.kind != "attribute":
            return "a call of what was looked up"
        base = called.parts[0]
        if called.value in _FORMATTING:
            return self._of_format(called.value, base)
        cycles = called == Node("attribute", "cycle", (Node("name", "loop"),))
        allowed = called.value in _METHODS and called.value not in self._kept
        return "" if cycles or allowed else f"a call of {called.value}"

    def _of_format(self, name: str, base: Node) -> str:
        """Fields without attributes and widths, in a text that is written out, are no objection."""
        if name == "format" and base.kind == "text" and _FILLED.fullmatch(base.value):
            return ""
        other = base.kind in {"name", "foreign", "attribute", "call"} or (base.kind == "text" and "_" not in base.value)
        return f"a call of {name}" if other else _FIELDS

    def _of_subscript(self, key: Node) -> str:
        if key.kind == "text":
            return _of_name(key.value)
        plain = key.kind == "slice" or self._numbers.is_number(key)
        return "" if plain else _COMPUTED

    def _of_row(self, node: Node) -> str:
        signs = node.value.split()
        if "**" in signs:
            return "a power"
        figures = False  # whether what is multiplied or divided, up to the left part, is made of numbers only
        for before, sign, left, right in zip(["", *signs], signs, node.parts, node.parts[1:], strict=False):
            joined = before in _FACTORS
            figures = self._numbers.is_number(left) and (figures or not joined)
            if sign == "*":
                small = is_small(left, _REPEATED_MOST) or is_small(right, _REPEATED_MOST)
                number = self._numbers.is_number(left) and self._numbers.is_number(right)
                if not (small and (number or "text" in {left.kind, right.kind}) and signs.count("*") == 1):
                    return "something that is repeated"
            if sign == "%" and not (figures or (_is_plain(left) and not joined)):
                return "a text that is filled in to a width"
        return ""


def _is_plain(node: Node) -> bool:
    """Whether a node is a text that `%` fills in to no width."""
    return node.kind == "text" and _PERCENT.fullmatch(node.value) is not None


def leads_inward(name: str) -> bool:
    """Whether a name, or a part of it behind a point or a comma, leads to Python's own functions."""
    return _INWARD.search(name) is not None


def _of_name(name: str) -> str:
    """What is wrong with a name that is looked up."""
    if leads_inward(name):
        return _LEADS_INWARD
    return f"{name}, which is handed around" if name in _FORMATTING else ""


def _of_filter(node: Node) -> str:
    name, given = node.value, node.parts[1:]
    if name not in _FILTERS:
        return f"the filter {name}"
    positional = [part for part in given if part.kind != "keyword"]
    named = {part.value: part.parts[0] for part in given if part.kind == "keyword"}
    looked_up = [named["attribute"]] if "attribute" in named else []
    if name in _LOOKING_UP:
        first = _LOOKING_UP[name]
        looked_up += positional[first : first + 1] if name in {"selectattr", "rejectattr"} else positional[first:]
    for part in looked_up:
        if wrong := _of_name(part.value) if part.kind in {"text", "number"} else _COMPUTED:
            return wrong
    at, applied = _APPLYING.get(name, (len(positional), _TESTS))
    if name == "map" and positional and positional[0].kind == "text":
        handed = [part for part in given if part is not positional[0]]
        applied_filter = Node("filter", positional[0].value, (node.parts[0], *handed))
        if wrong := _COMPUTED if applied_filter.value == "map" else _of_filter(applied_filter):
            return wrong
    if positional[at:] and not _is_one_of(positional[at], applied):
        return f"the filter or test {positional[at].value}" if positional[at].kind == "text" else _COMPUTED
    return _of_widths(_WIDENING[name], positional, named) if name in _WIDENING else ""


def _of_widths(keyword: str, positional: Sequence[Node], named: Mapping[str, Node]) -> str:
    """Which of them is the width depends on who brings the filter, so each that has a place must be small."""
    widths = [part for part in (*positional, named.get(keyword, _ONE)) if part.kind != "constant"]
    small = (is_small(part, _WIDEST) or (part.kind == "text" and len(part.value) <= _WIDEST) for part in widths)
    return "" if all(small) else "blanks or figures of any number"


def _is_one_of(node: Node, names: AbstractSet[str]) -> bool:
    signs = {"==", "!=", ">", "<", ">=", "<=", "in"} if names is _TESTS else set()
    return node.kind == "text" and node.value in names | signs
