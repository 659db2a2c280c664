"""Which integer inputs of a graph may hold any number, because no size, count or division depends on them.

An index, a code or a pixel can be tried at 2³² + 1: at worst the graph refuses it. A number of repeats cannot, because
ONNX Runtime would allocate that much, or repeat as often. Nor can what is divided: the least number divided by −1 ends
the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from hauberk.graph.model import nested_graphs, nodes

_SIZES: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BitShift": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "GRU": (4,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "LSTM": (4,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "NonMaxSuppression": (2,),
    "OneHot": (1,),
    "Pad": (1,),
    "RNN": (4,),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "ReverseSequence": (1,),
    "STFT": (1, 3),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
"""By operator, the inputs that decide how much is computed, or that ONNX Runtime believes unchecked."""

_ALL = frozenset({"Loop"})
"""Operators all of whose inputs may: how often a loop runs can depend on anything."""

_DIVISIONS = frozenset({"Div", "Mod"})

_CASTS = frozenset({"Cast", "CastLike"})

_SHAPES = frozenset({"Shape", "Size"})
"""What they answer depends on shapes alone, never on numbers."""

_FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
)

Sources = Mapping[str, set[str]]
"""By tensor, those that it is computed from."""


def unbounded(*models: onnx.ModelProto) -> frozenset[str]:
    """Names of the inputs that may hold any integer, in every one of these models.

    An input is left out if a path leads from it, through nodes of any depth, to an input that decides a size, to a
    Loop, to an operator that is not ONNX's own, or to a division; to a division of floats it may lead where nothing in
    the model is cast to an integer. Of a model with functions nothing is known.
    """
    return frozenset.intersection(*map(_unbounded, models))


def _unbounded(model: onnx.ModelProto) -> frozenset[str]:
    inputs = frozenset(value.name for value in model.graph.input)
    if model.functions:
        return frozenset()
    # Where something turns into an integer again, a division of integers may lie behind floats.
    returns = any(node.op_type in _CASTS and not _makes_floats(node) for node in nodes(model))
    sources, whole = _sources(nodes(model), casts=True), _sources(nodes(model), casts=returns)
    sizes = {name for node in nodes(model) for name in _deciding(node)}
    divided = {name for node in nodes(model) if node.op_type in _DIVISIONS for name in node.input}
    return inputs - _reached(sizes, sources) - _reached(divided, whole)


def _deciding(node: onnx.NodeProto) -> Iterable[str]:
    """Inputs of a node that decide sizes."""
    if node.op_type in _ALL or node.domain not in {"", "ai.onnx"}:
        inside = (name for graph in nested_graphs(node.attribute) for name in _used(graph))
        return [*node.input, *inside]
    return [node.input[place] for place in _SIZES.get(node.op_type, ()) if place < len(node.input)]


def _used(graph: onnx.GraphProto) -> Iterable[str]:
    """What the nodes of a graph read, at any depth."""
    for node in graph.node:
        yield from node.input
        for nested in nested_graphs(node.attribute):
            yield from _used(nested)


def _sources(every: Iterable[onnx.NodeProto], *, casts: bool) -> Sources:
    """What each tensor is computed from; without `casts`, what has become a float is computed from nothing."""
    result: dict[str, set[str]] = {}
    for node in every:
        if node.op_type in _SHAPES or (not casts and _makes_floats(node)):
            continue
        bodies = list(nested_graphs(node.attribute))
        for body in bodies:
            for value in body.input:
                result.setdefault(value.name, set()).update(node.input)
        made = {*node.input, *(value.name for body in bodies for value in body.output)}
        for name in node.output:
            result.setdefault(name, set()).update(made)
    return result


def _makes_floats(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(entry.name == "to" and entry.i in _FLOATS for entry in node.attribute)


def _reached(starts: Iterable[str], sources: Sources) -> set[str]:
    """Everything that these are computed from, they themselves included."""
    seen: set[str] = set()
    pending = list(starts)
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += sources.get(name, ())
    return seen
