"""What the code of a prompt's template may do: everything else is unusual, whatever it is.

To run anything a template must call it, so only a few functions and methods may be called, and by their names. To reach
anything it must look it up, so names that are looked up stand in the template, or come from the caller and are looked
up in what the caller handed over. What takes time or memory by a figure in the template has a small figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

from hauberk.scan.frameworks.template_flow import BUILT, CONSTANT, DATA, NUMBER, Levels, reaches
from hauberk.scan.frameworks.template_grammar import Node, walk, words
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
_APPLYING = {"map": _APPLIED, "select": _TESTS, "reject": _TESTS}
_WIDENING = {"tojson": "indent", "indent": "width", "round": "precision"}
_WIDEST = 64  # blanks of an indent, and figures in front of each
_MOST = 1_000
_LONGEST_NUMBER = 7
_FILLED = re.compile(r"(?:[^{}]|\{\{|\}\}|\{\w*\})*", re.ASCII)
_PERCENT = re.compile(r"(?:[^%]|%%|%[sdrfi])*")


def objections(reading: Reading, check_time: Callable[[], None]) -> Iterator[tuple[int, str, Node]]:
    """What in a template is not allowed.

    Args:
        reading: Of the template.
        check_time: Called now and then; raises where there is no time left.

    Yields:
        The place among its expressions, what is wrong in words, and the part of the expression that is.
    """
    levels = Levels(reading, check_time)
    known = FUNCTIONS | reading.macros.keys()
    taken = {binding.name for binding in reading.bindings} & known
    for index, expression in enumerate(reading.expressions):
        called = {id(node.parts[0]) for node in walk(expression.node) if node.kind == "call"}
        for node in walk(expression.node):
            what = _objection(node, levels, known - taken)
            if node.kind in {"name", "foreign"} and node.value in reading.macros and id(node) not in called:
                what = "a macro that is handed around"
            if what:
                yield index, what, node


def _objection(node: Node, levels: Levels, known: AbstractSet[str]) -> str:
    match node.kind:
        case "call":
            return _of_call(node, known)
        case "filter":
            return _of_filter(node)
        case "subscript":
            return _of_subscript(node, levels)
        case "row":
            return _of_row(node, levels)
    large = node.kind == "number" and len(node.value) > _LONGEST_NUMBER
    refused = large or node.kind == "spread" or (node.kind == "test" and node.value not in _TESTS)
    return f"the {node.kind} {node.value}" if refused else ""


def _of_call(node: Node, known: AbstractSet[str]) -> str:
    called, *given = node.parts
    if called.kind in {"name", "foreign"}:
        if called.value not in known:
            return f"a call of {called.value}"
        numbers = [each for part in given for each in walk(part) if each.kind == "number"]
        if called.value == "range" and not all(_is_small(each, _MOST) for each in numbers):
            return "many rounds"
        named = called.value != "namespace" or all(part.kind == "keyword" for part in given)
        return "" if named else "a namespace of something else"
    if called.kind != "attribute":
        return "a call of what was looked up"
    base = called.parts[0]
    if called.value == "format" and base.kind == "text" and _FILLED.fullmatch(base.value):
        return ""  # neither attributes nor a width
    cycles = called == Node("attribute", "cycle", (Node("name", "loop"),))
    return "" if cycles or called.value in _METHODS else f"a call of {called.value}"


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
    if not all(part.kind == "number" or (part.kind == "text" and not reaches(part.value)) for part in looked_up):
        return "a name that is not written out"
    if name in _APPLYING and positional and not _is_one_of(positional[0], _APPLYING[name]):
        return "a filter or a test that is not written out"
    if name in {"selectattr", "rejectattr"} and positional[1:] and not _is_one_of(positional[1], _TESTS):
        return "a test that is not written out"
    if name in _WIDENING:
        widths = [named.get(_WIDENING[name], Node("number", "0")), *positional[:1]]
        if not all(_is_small(part, _WIDEST) or part.value in {"none", "None"} for part in widths):
            return "blanks or figures of any number"
    return ""


def _is_one_of(node: Node, names: frozenset[str]) -> bool:
    signs = {"==", "!=", ">", "<", ">=", "<=", "in"} if names is _TESTS else set()
    return node.kind == "text" and node.value in names | signs


def _is_small(node: Node, most: int) -> bool:
    return node.kind == "number" and node.value.isdigit() and len(node.value) < 10 and int(node.value) <= most


def _is_filled_plainly(node: Node) -> bool:
    return node.kind == "text" and _PERCENT.fullmatch(node.value) is not None


def _of_subscript(node: Node, levels: Levels) -> str:
    base, key = node.parts
    if key.kind in {"number", "slice"}:
        return ""
    if key.kind == "text":
        return "a name of something inward" if reaches(key.value) else ""
    level = levels.of(key)
    if level in {NUMBER, CONSTANT} or (level == DATA and levels.of(base) < BUILT):
        return ""
    return "something looked up by a name that was put together"


def _of_row(node: Node, levels: Levels) -> str:
    signs = node.value.split()
    if "**" in signs:
        return "a power"
    for sign, left, right in zip(signs, node.parts, node.parts[1:], strict=False):
        if sign == "*":
            small = _is_small(left, _MOST) or _is_small(right, _MOST)
            number = levels.of(left) == levels.of(right) == NUMBER
            if not (small and (number or "text" in {left.kind, right.kind}) and signs.count("*") == 1):
                return "something that is repeated"
        elif sign == "%" and levels.of(left) != NUMBER and not _is_filled_plainly(left):
            return "a text that is filled in to a width"
    return ""
