"""Which operators there are, which of them run code, and what a model may not use.

`operators.txt` lists what ONNX and ONNX Runtime define (see its first line for how it is made). An operator that
stands there computes on tensors and nothing else, `EPContext` and the few below excepted.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from hauberk.scan.examination import Examination
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.model import Model, Node
from hauberk.scan.graphs.structure import body, flat
from hauberk.scan.locations import plain_location
from hauberk.scan.report import shown

_EXTENSION_DOMAINS = frozenset({"ai.onnx.contrib", "com.microsoft.extensions"})
"""ONNX Runtime's extensions: Python callbacks, audio and image files, tokenizers, requests to services."""

_CODE = frozenset({"PyOp", "PyCustomOp", "PythonOp", "PythonOpGrad", "ATen", "ATenGrad", "ExternalFunction"})
"""Operators that call what the model names, wherever they are registered."""

_CODE_DOMAINS = frozenset({"org.pytorch.aten", "org.pytorch._caffe2", "pyop", "ai.onnx.python"})

_FOREIGN_PROGRAMS = frozenset({"Snpe", "EPContext"})

_OWN = frozenset({"", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})


_VERSIONED = frozenset({"", "ai.onnx.ml"})
"""Domains whose operators mean other things in other versions."""


@cache
def known_operators() -> dict[str, dict[str, int]]:
    """Operators by domain, each with the version of its domain that brought it; ONNX's own domain is ""."""
    return _table()[0]


@cache
def newest_versions() -> dict[str, int]:
    """The newest version of each domain that is known."""
    return _table()[1]


@cache
def lists() -> dict[tuple[str, str, str], int]:
    """Operators whose inputs (`in`) or outputs (`out`) end in a list: domain, name and side, and what stands before."""
    return _table()[2]


_Table = tuple[dict[str, dict[str, int]], dict[str, int], dict[tuple[str, str, str], int]]


@cache
def _table() -> _Table:
    operators: dict[str, dict[str, int]] = {}
    versions: dict[str, int] = {}
    before: dict[tuple[str, str, str], int] = {}
    domain = ""
    for line in resources.files("hauberk.scan.graphs").joinpath("operators.txt").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        name, version, *others = line.strip("[]").split()
        if line.startswith("["):
            domain = "" if name == "ai.onnx" else name
            versions[domain], operators[domain] = int(version), {}
        else:
            operators[domain][name] = int(version)
            for side, _, count in (other.partition(":") for other in others):
                before[domain, name, side] = int(count)
    return operators, versions, before


def check_operators(model: Model, examination: Examination) -> None:
    """Report operators that are not known, or known for more than computing."""
    own = {(function.domain, function.name, function.overload) for function in model.functions}
    for count, node in enumerate(model.nodes()):
        if count % 4096 == 0:
            examination.check_time()
        if (node.domain, node.operator, node.overload) not in own:
            _check_operator(node, examination)
    for function in model.functions:
        if function.name in known_operators().get(function.domain, {}) or function.name in _CODE:
            name = f"'{shown(function.name)}' of domain '{shown(function.domain)}' is an operator, too"
            examination.find(rules.FUNCTION_TWICE, name, at=function.at)
    imports = [model.opsets, *(function.opsets for function in model.functions)]
    for domain, version in {item for opsets in imports for item in opsets.items()}:
        newest = newest_versions().get(domain)
        if newest is not None and not 1 <= version <= newest and domain in {"", "ai.onnx.ml"}:
            name = domain or "ai.onnx"
            examination.find(rules.OPSET, f"version {version} of {name}; known are 1 to {newest}")
    _check_imports(model, examination)


def _check_imports(model: Model, examination: Examination) -> None:
    """That a model says the version of ONNX's operators that it uses, and its functions say the same.

    ONNX Runtime takes the newest version that it knows where none is given, and that of the model for the nodes of
    functions; other readers do not.
    """
    main = flat(model.graph.nodes) if model.graph else []
    for domain in sorted({node.domain for node in main} & _VERSIONED - model.opsets.keys()):
        examination.find(rules.OPSET, f"no version of {domain or 'ai.onnx'}, whose operators are used")
    for function in model.functions:
        for domain in sorted({node.domain for node in body(function)} & _VERSIONED):
            own, outer = function.opsets.get(domain), model.opsets.get(domain)
            if own is None or own != outer:
                what = (
                    f"function '{shown(function.name)}' uses version {own} of {domain or 'ai.onnx'}, the model {outer}"
                )
                examination.find(rules.OPSET, what, at=function.at)


def _check_operator(node: Node, examination: Examination) -> None:
    what = f"'{shown(node.operator)}' of domain '{shown(node.domain)}'"
    if node.operator in _CODE or node.domain in _EXTENSION_DOMAINS | _CODE_DOMAINS:
        examination.find(rules.EXTENSION, what, at=node.at)
    elif node.operator in _FOREIGN_PROGRAMS:
        _check_program(node, what, examination)
    elif node.domain not in _OWN and node.domain not in known_operators():
        examination.find(rules.CUSTOM_DOMAIN, what, at=node.at)
    elif node.operator not in known_operators().get(node.domain, {}):
        examination.find(rules.OPERATOR, what, at=node.at)
    else:
        for side, names in (("in", node.inputs), ("out", node.outputs)):
            if "" in names and not all(names[lists().get((node.domain, node.operator, side), len(names)) :]):
                examination.find(rules.BLANK_NAME, f"{what}, among its {side}puts", at=node.at)


def _check_program(node: Node, what: str, examination: Examination) -> None:
    """An EPContext that carries its program is opaque; one that names a file may name any."""
    embedded = node.attributes.get("embed_mode")
    cache_context = node.attributes.get("ep_cache_context")
    inside = embedded is None or embedded.value == 1  # 1 is the default: the attribute holds the program itself
    location = cache_context.value if cache_context is not None else None
    if not inside and isinstance(location, bytes):
        named = location.decode("utf-8", "replace")
        if plain_location(named) is None:
            examination.find(rules.EP_CONTEXT_PATH, f"{what} names '{shown(named)}'", at=node.at)
    examination.find(rules.EP_CONTEXT, what, at=node.at)
