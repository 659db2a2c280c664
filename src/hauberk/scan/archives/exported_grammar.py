"""The little Python that an exported program may hold: arithmetic on sizes, and comparisons of sizes of inputs.

Torch hands the first to sympy, which evaluates it, and executes the second. So both are parsed here, never run, and
everything that torch does not write itself is out: attributes, texts, calls of other functions, exponents that explode.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable

_LONGEST = 10_000
MATH_FUNCTIONS = frozenset({"ceil", "floor", "trunc", "sqrt", "pow", "log2", "log", "exp", "sin", "cos"})
"""Functions of Python's `math` that stand in guards and in graphs."""
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_. /:-]{0,200}|[0-9]{1,9}")
"""A name of an input that cannot end the text that torch puts it into."""
_SYMBOL = re.compile(r"[a-z]{1,4}[0-9]{1,9}")
_FUNCTIONS = frozenset(
    {"Add", "Mul", "Pow", "Integer", "Rational", "Float", "Mod", "Max", "Min", "Abs", "And", "Or", "Not"}
    | {"Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan", "floor", "ceiling"}
    | {"StrictGreaterThan", "GreaterThan", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt"}
    | {"FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv"}
    | {"IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat"}
    | {"Identity", "Piecewise", "ExprCondPair", "Tuple"}
)
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_MOST_EXPONENT = 16
_MOST_EXPONENTS = 64
"""Of powers in one another, multiplied."""
_MOST_PRECISION = 1000
_MOST_LEAVES = 128
_MOST_TERMS = 256
_MOST_COMMON = 64
_DIVISIONS = frozenset(
    {"FloorDiv", "ModularIndexing", "Mod", "PythonMod", "CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv"}
)
_CONSTANTS = frozenset({"true", "false", "oo", "nan", "inf", "int_oo", "True", "False"})
_ASSUMPTIONS = frozenset(
    {
        "positive",
        "integer",
        "negative",
        "nonnegative",
        "nonpositive",
        "nonzero",
        "real",
        "precision",
        "evaluate",
        "zero",
    }
)
_NUMBER_TEXT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{0,40})?(e[+-]?[0-9]{1,3})?")
_GUARDED = frozenset({"size", "stride"})


def is_arithmetic(text: str) -> bool:
    """Whether an expression of sizes holds nothing but sizes, numbers and functions of numbers."""
    return _follows(text, _is_size)


def is_quick(text: str) -> bool:
    """Whether an expression that `is_arithmetic` is small enough to be computed: not many parts, few terms.

    Terms are those of sums, products and powers when everything is multiplied out. A function of sizes is one term;
    divisions look for what their operands have in common, in as many steps as these have terms, multiplied.
    """
    node = ast.parse(text.strip(), mode="eval").body
    waiting: list[tuple[ast.expr, list[ast.expr] | None]] = [(node, None)]
    terms: list[int] = []
    leaves = 0
    while waiting:
        node, parts = waiting.pop()
        if parts is None:
            parts = [] if _is_size(node) else _PARTS[type(node)](node) or []
            leaves += not parts
            if leaves > _MOST_LEAVES:
                return False
            waiting.append((node, parts))
            waiting.extend((part, None) for part in parts)
            continue
        held = terms[len(terms) - len(parts) :]
        del terms[len(terms) - len(parts) :]
        count = _terms(node, held)
        if count > _MOST_TERMS:
            return False
        terms.append(count)
    return True


def _terms(node: ast.expr, held: list[int]) -> int:
    """Terms of a node whose parts have so many, the last part first; a division that takes too many has too many."""
    if not held:
        return 1
    name = ""
    if isinstance(node, ast.BinOp):
        name = type(node.op).__name__
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
    if name in _POWERS | {"pow"}:
        return int(held[-1] ** min(_exponent(node), _MOST_TERMS))
    if name in {"Mult", "Mul", "Div"}:
        return math.prod(held)
    if name in _DIVISIONS:
        return 1 if math.prod(held) <= _MOST_COMMON else _MOST_TERMS + 1
    return sum(held)


def is_guard(text: str) -> bool:
    """Whether a guard does nothing but compare sizes of inputs with each other and with numbers."""
    return _follows(text, _is_part_of_input)


def _follows(text: str, is_leaf: Callable[[ast.expr], bool]) -> bool:
    """Whether a text is arithmetic and comparisons over leaves."""
    if len(text) > _LONGEST:
        return False
    try:
        waiting: list[tuple[ast.expr, int]] = [(ast.parse(text.strip(), mode="eval").body, 1)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    while waiting:
        node, exponent = waiting.pop()
        if is_leaf(node):
            continue
        parts = _PARTS[type(node)](node) if type(node) in _PARTS else None
        exponent *= _exponent(node)
        if parts is None or exponent > _MOST_EXPONENTS:
            return False
        waiting.extend((part, exponent) for part in parts)
    return True


def _exponent(node: ast.expr) -> int:
    """By how much a node multiplies the length of the numbers in it: a power of a power soon has no end."""
    match node:
        case ast.BinOp(op=ast.Pow(), right=power):
            return max(1, abs(_small(power) or 0))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[_, power]) if name in _POWERS | {"pow"}:
            return max(1, abs(_small(power) or 0))
    return 1


def _constant(node: ast.Constant) -> list[ast.expr] | None:
    if isinstance(node.value, int):
        return [] if abs(node.value) < 1 << 64 else None
    return [] if isinstance(node.value, float) else None


def _binary(node: ast.BinOp) -> list[ast.expr] | None:
    if isinstance(node.op, ast.Pow | ast.LShift) and not _is_small(node.right):
        return None
    return [node.left, node.right]


def _call(node: ast.Call) -> list[ast.expr] | None:
    match node.func:
        case ast.Name(id=name) if name in _FUNCTIONS:
            if not _are_assumptions(node.keywords):
                return None
        case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in MATH_FUNCTIONS and not node.keywords:
            pass
        case _:
            return None
    if name in _POWERS | {"pow"} and (len(node.args) != 2 or not _is_small(node.args[1])):
        return None
    return node.args


_PARTS: dict[type, Callable[..., list[ast.expr] | None]] = {
    ast.Constant: _constant,
    ast.UnaryOp: lambda node: [node.operand],
    ast.BinOp: _binary,
    ast.Compare: lambda node: [node.left, *node.comparators],
    ast.BoolOp: lambda node: node.values,
    ast.Tuple: lambda node: node.elts,
    ast.Call: _call,
}


def _is_small(node: ast.expr) -> bool:
    """An exponent that is a small number, so that nothing grows out of bounds while it is read."""
    return _small(node) is not None


def _small(node: ast.expr) -> int | None:
    """A small number, its sign left out; `None` for anything else."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _small(operand)
        case ast.Call(func=ast.Name(id="Integer"), args=[argument]):
            return _small(argument)
        case ast.Constant(value=int(value)) if abs(value) <= _MOST_EXPONENT:
            return value
    return None


def _are_assumptions(keywords: list[ast.keyword]) -> bool:
    """`positive=True`, `precision=53`: what sympy is told about a number."""
    return all(
        each.arg in _ASSUMPTIONS
        and isinstance(each.value, ast.Constant)
        and (each.value.value is None or (isinstance(each.value.value, int) and each.value.value <= _MOST_PRECISION))
        for each in keywords
    )


def _is_size(node: ast.expr) -> bool:
    """`s0`, or `Symbol('s0', …)`, or a number as text in `Float('1.5', …)`."""
    match node:
        case ast.Name(id=name):
            return name in _CONSTANTS or _SYMBOL.fullmatch(name) is not None
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str() as text)], keywords=keywords):
            plain = _are_assumptions(keywords)
            pattern = {"Symbol": _SYMBOL, "Float": _NUMBER_TEXT}.get(name)
            return plain and pattern is not None and pattern.fullmatch(text) is not None
    return False


def _is_part_of_input(node: ast.expr) -> bool:
    """`L['x']`, `L['x'].size()[0]`, `L['x'].storage_offset()`."""
    match node:
        case ast.Subscript(
            value=ast.Call(func=ast.Attribute(value=value, attr=name), args=[], keywords=[]),
            slice=ast.Constant(value=int()),
        ):
            return name in _GUARDED and _is_input(value)
        case ast.Call(func=ast.Attribute(value=value, attr="storage_offset"), args=[], keywords=[]):
            return _is_input(value)
    return _is_input(node)


def _is_input(node: ast.expr) -> bool:
    """`L['name'][0]` and the like."""
    if not isinstance(node, ast.Subscript):
        return False
    while isinstance(node, ast.Subscript):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if not isinstance(key, int) and not (isinstance(key, str) and PLAIN_NAME.fullmatch(key)):
            return False
        node = node.value
    return isinstance(node, ast.Name) and node.id == "L"
