"""Texts of an exported program that torch looks up, evaluates or executes, and the little of each that is allowed."""

from __future__ import annotations

import json
import re
from typing import Any

from hauberk.scan.archives import torch_rules as rules
from hauberk.scan.archives.exported_grammar import MATH_FUNCTIONS, PLAIN_NAME, is_guard
from hauberk.scan.archives.torch_script import OPERATORS_ON_FILES
from hauberk.scan.examination import Examination
from hauberk.scan.report import shown

_TORCH_NAMESPACES = frozenset(
    {"aten", "prim", "prims", "quantized", "quantized_decomposed", "higher_order", "_quantized", "mkldnn", "onednn"}
)
# What torch writes for arithmetic on sizes; `operator` also has functions that call and look up.
_OPERATOR_MODULE = frozenset(
    {"add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "pos", "abs", "and_", "or_", "xor", "not_"}
    | {"invert", "lshift", "rshift", "eq", "ne", "lt", "le", "gt", "ge", "getitem"}
)
_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(\.\w+)?", re.ASCII)
_SYMBOLIC = re.compile(r"torch\.(sym_(int|float|ite|max|min|not|sum|sqrt|fresh_size)|_sym_sqrt|_check|_check_is_size)")
_HARMLESS = re.compile(r"[a-z]\w*", re.ASCII)

_CONTAINERS = frozenset(
    {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", "collections.deque"}
)
_FACTORIES = frozenset({"builtins", "collections"})
_FACTORY_NAMES = frozenset(
    {"list", "dict", "set", "tuple", "int", "float", "bool", "str", "OrderedDict", "deque", "Counter", "defaultdict"}
)


def check_target(target: str, examination: Examination, *, looked_up: bool = False) -> None:
    """What a node calls: an operator of torch, or arithmetic on sizes.

    Args:
        target: As it stands in the file.
        examination: Told of anything else.
        looked_up: It is only looked up, never called, so any function of torch's may stand there.
    """
    if match := _OPERATOR.fullmatch(target):
        namespace, name = match[1], match[2]
        if name.removesuffix("_out") in OPERATORS_ON_FILES:
            examination.find(rules.FILE_OPERATOR, shown(target))
        elif namespace not in _TORCH_NAMESPACES:
            examination.find(rules.CUSTOM_TARGET, shown(target))
        return
    module, _, name = target.partition(".")
    if (module == "_operator" and name in _OPERATOR_MODULE) or (module == "math" and name in MATH_FUNCTIONS):
        return
    if _SYMBOLIC.fullmatch(target):
        return
    if looked_up and (_HARMLESS.fullmatch(target) or re.fullmatch(r"(torch|_operator|math)(\.\w+)+", target, re.ASCII)):
        return
    if target.startswith(("torch", "_operator", "math")):
        examination.find(rules.TARGET, shown(target))
    else:
        examination.find(rules.CUSTOM_TARGET, shown(target))


def check_guards(guards: list[object], structures: list[str], examination: Examination) -> None:
    """Guards are executed: comparisons of sizes of inputs, and names of inputs that cannot end a text.

    Args:
        guards: Lists of guards, as they were found.
        structures: Descriptions of inputs; names in them end up in the code that is made of guards.
        examination: Told of anything else.
    """
    found = False
    for guard in guards:
        if not isinstance(guard, list):
            examination.find(rules.GUARD, f"a {type(guard).__name__}, where a list should be")
            continue
        for each in guard:
            found = True
            if not isinstance(each, str) or not is_guard(each):
                examination.find(rules.GUARD, shown(str(each)))
    if found:
        for text in structures:
            if "'" in text or _escapes(text):
                examination.find(rules.GUARD, f"names of inputs that guards are made of: {shown(text)}")


def _escapes(text: str) -> bool:
    """Whether a name in a structure holds more than letters, digits and dots."""
    waiting: list[Any] = []
    try:
        waiting.append(json.loads(text))
    except (ValueError, RecursionError):
        return True
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str) and not PLAIN_NAME.fullmatch(value):
            try:
                waiting.append(json.loads(value))  # the context of a dictionary is JSON in JSON
            except (ValueError, RecursionError):
                return True
    return False


def check_structure(text: str, examination: Examination) -> None:
    """The structure of inputs or outputs: plain containers, and no module that reading it would import."""
    if "__enum__" in text or "\\u" in text:
        examination.find(rules.STRUCTURE, shown(text))
        return
    try:
        waiting: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        examination.find(rules.STRUCTURE_TYPE, f"no JSON: {shown(text)}")
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            kind = value.get("type")
            module = value.get("default_factory_module", "builtins")
            name = value.get("default_factory_name", "list")
            if module not in _FACTORIES or not (name is None or (isinstance(name, str) and name in _FACTORY_NAMES)):
                examination.find(rules.STRUCTURE, f"imports {shown(str(module))} for {shown(str(name))}")
            elif kind is not None and kind not in _CONTAINERS and kind != "collections.defaultdict":
                examination.find(rules.STRUCTURE_TYPE, shown(str(kind)))
            waiting.extend(value.values())
        elif isinstance(value, str) and value[:1] in {"{", "["}:
            with_context = _context(value)
            if with_context is None:
                examination.find(rules.STRUCTURE_TYPE, f"no JSON: {shown(value)}")
            waiting.append(with_context)


def _context(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
