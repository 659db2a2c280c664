"""What a model must not ask for, found by reading the file before ONNX Runtime does.

The field floor has no `onnx` package, and needs little of it: this walks the fields of the message, never copies a
tensor, and looks for the few things that reach outside the graph or blow up while it is loaded:

1. tensors whose data lie in another file (ONNX Runtime would open it);
2. operators from a domain that is neither ONNX's nor ONNX Runtime's own, nor defined in the model;
3. settings for the runtime in the model's metadata (`ort_config`, which ONNX Runtime obeys where an environment
   variable says so);
4. local functions that expand into more nodes than a detector has, or into themselves;
5. graphs for training, which no detector needs.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). A field that occurs
where protobuf would ignore it is looked at all the same; nothing that protobuf would read is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hauberk.errors import RefusedModelError
from hauberk.protobuf import fields, messages, text

_OWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_MOST_NODES = 100_000
_DEEPEST_GRAPH = 16
_SHOWN = 80  # characters of a name, in messages

_Operator = tuple[str, str]  # domain, type


@dataclass
class _Findings:
    """What a model, or one local function of it, uses."""

    operators: dict[_Operator, int] = field(default_factory=dict)
    external: list[str] = field(default_factory=list)


def admit(model: bytes) -> None:
    """Refuse a model that asks for more than to compute.

    Args:
        model: A serialised `onnx.ModelProto`.

    Raises:
        RefusedModelError: It does; or the bytes are no such message.
    """
    body, functions = _read_model(memoryview(model))
    for used in (body, *functions.values()):
        if used.external:
            raise RefusedModelError(
                f"tensor {used.external[0][:_SHOWN]!r} lies in another file; save the model with its weights inside"
            )
        for domain, kind in used.operators:
            if domain not in _OWN_DOMAINS and (domain, kind) not in functions:
                raise RefusedModelError(
                    f"operator {kind[:_SHOWN]!r} of domain {domain[:_SHOWN]!r} needs a library, which is not loaded;"
                    " use standard ones"
                )
    _count(body, functions, {}, ())


def _read_model(model: memoryview) -> tuple[_Findings, dict[_Operator, _Findings]]:
    """What the graph uses, and what each local function does."""
    body, functions = _Findings(), dict[_Operator, _Findings]()
    graphs = 0
    for number, value in messages(model):
        if number == 7:
            graphs += 1
            _read_graph(value, body, depth=0)
        elif number == 14 and text(value, 1) == "ort_config":
            raise RefusedModelError("the model brings settings for its runtime (metadata 'ort_config'); remove them")
        elif number == 20:
            raise RefusedModelError("the model brings graphs for its training; save it without training_info")
        elif number == 25:
            name = (text(value, 10), text(value, 1))
            _read_function(value, functions.setdefault(name, _Findings()))
    if graphs == 0:
        raise RefusedModelError("the model has no graph; give a serialised ONNX model")
    return body, functions


def _count(
    used: _Findings, functions: dict[_Operator, _Findings], known: dict[_Operator, int], inside: tuple[_Operator, ...]
) -> int:
    """How many nodes there are once every local function is expanded."""
    total = 0
    for operator, times in used.operators.items():
        if operator in inside or len(inside) > _DEEPEST_GRAPH:
            raise RefusedModelError(
                f"local function {operator[1][:_SHOWN]!r} uses itself, or nests too deeply; expand it first"
            )
        if operator in functions and operator not in known:
            known[operator] = _count(functions[operator], functions, known, (*inside, operator))
        total += times * known.get(operator, 1)
        if total > _MOST_NODES:
            raise RefusedModelError(f"the model has more than {_MOST_NODES} nodes, local functions expanded")
    return total


def _read_graph(graph: memoryview, found: _Findings, depth: int) -> None:
    if depth > _DEEPEST_GRAPH:
        raise RefusedModelError(f"graphs are nested more than {_DEEPEST_GRAPH} deep; flatten the model")
    _read_nodes(graph, 1, found, depth)
    for number, value in messages(graph):
        if number == 5:
            _read_tensor(value, found)
        elif number == 15:
            _read_sparse_tensor(value, found)


def _read_function(function: memoryview, found: _Findings) -> None:
    _read_nodes(function, 7, found, depth=0)
    for number, value in messages(function):
        if number == 11:  # what an attribute is where a call leaves it out
            _read_attribute(value, found, depth=0)


def _read_nodes(message: memoryview, number_of_nodes: int, found: _Findings, depth: int) -> None:
    for number, node in messages(message):
        if number != number_of_nodes:
            continue
        operator = text(node, 7), text(node, 4)
        found.operators[operator] = found.operators.get(operator, 0) + 1
        for part, attribute in messages(node):
            if part == 5:
                _read_attribute(attribute, found, depth)


def _read_attribute(attribute: memoryview, found: _Findings, depth: int) -> None:
    for number, value in messages(attribute):
        if number in {5, 10}:
            _read_tensor(value, found)
        elif number in {6, 11}:
            _read_graph(value, found, depth + 1)
        elif number in {22, 23}:
            _read_sparse_tensor(value, found)


def _read_sparse_tensor(tensor: memoryview, found: _Findings) -> None:
    for number, value in messages(tensor):
        if number in {1, 2}:
            _read_tensor(value, found)


def _read_tensor(tensor: memoryview, found: _Findings) -> None:
    name, external = memoryview(b""), False
    for number, value in fields(tensor):
        if number == 8 and isinstance(value, memoryview):
            name = value
        # An enumeration is read as 32 bits of the number that is written.
        elif number == 13 or (number == 14 and isinstance(value, int) and value & 0xFFFFFFFF == 1):
            external = True
    if external:
        found.external.append(str(name, "utf-8", "replace"))
