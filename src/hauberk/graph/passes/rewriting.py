"""What passes that rewrite a graph have in common: they look at one node after the other and say what replaces it.

A pass sees every node of the main graph, in order, until nothing changes any more. For each it returns nothing (not
its business), a `Refusal` with the reason why the rewrite would be illegal here (logged), or a `Replacement`. What it
replaced and nobody uses any more is removed; what another node, a nested graph or an output of the graph still uses
stays. Nested graphs and local functions are left alone (clean-up inlines functions). A graph in which nothing was
replaced comes back untouched, byte for byte.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.graph.model import onnx_only, parse
from hauberk.recipe import Context, Step

_LOG = logging.getLogger(__name__)

_OLDEST_OPSET = 13
"""Below, axes and clipping bounds were attributes; `normalise` converts what comes from outside."""

_ROUNDS = 100
"""A bound on repetition. Every replacement leaves less to do, so that real graphs need two or three rounds."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
"""Element types whose constants numpy can compute with."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Refusal:
    """The pattern is there, but the rewrite would be illegal or would not pay; the reason, in one clause."""

    reason: str


@dataclass(frozen=True)
class Replacement:
    """What takes a node's place.

    Attributes:
        values: One for each output of the node; `None` for an output that nobody uses.
        nodes: New nodes, in order; they are inserted where the node stands.
    """

    values: tuple[ir.Value | None, ...]
    nodes: tuple[ir.Node, ...] = ()


@dataclass
class Editor:
    """One graph in the hands of a pass.

    Attributes:
        model: The model that is being rewritten.
        opset: Version of the standard operators.
        context: What the pass was given besides the graph, for passes that need records.
        memory: Room for what a pass wants to remember during one round.
    """

    model: ir.Model
    opset: int
    context: Context | None = None
    memory: dict[Any, Any] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._names.update(_names(self.model.graph))

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph

    def fresh(self, base: str) -> str:
        """A name that no value or node of the model has, `base` itself where it is free."""
        name = next(name for k in count() if (name := f"{base}_{k}" if k else base) not in self._names)
        self._names.add(name)
        return name

    def constant(self, value: Array, base: str) -> ir.Value:
        """A new initializer."""
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        tensor = ir.tensor(array, name=self.fresh(base))
        result = ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        self.graph.register_initializer(result)
        return result

    def node(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        base: str,
        *,
        like: ir.Value | None = None,
        outputs: int = 1,
        domain: str = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Node:
        """A new node, not yet in the graph; its first output is called `base` and has the type of `like`."""
        made = ir.node(
            operator, list(inputs), attributes=dict(attributes or {}), domain=domain, num_outputs=outputs, name=base
        )
        made.name = self.fresh(f"{base}/node")
        for position, value in enumerate(made.outputs):
            value.name = self.fresh(base if not position else f"{base}_{position}")
        if like is not None:
            made.outputs[0].type, made.outputs[0].shape = like.type, like.shape
        return made


class GraphPass(Step, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pass over a graph, on a copy of its own.

    Subclasses say in `change` what they do to it; the class sees to everything that must hold for all of them.
    """

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the rewritten graph, or `artifact` itself where there was nothing to do.

        Raises:
            InputError: The artifact is no graph.
        """
        graph = onnx_only(artifact, self.name)
        model = _read(graph)
        editor = Editor(model, model.opset_imports.get("", 0), context)
        if editor.opset < _OLDEST_OPSET:
            _LOG.debug("%s: opset %d is older than %d", self.name, editor.opset, _OLDEST_OPSET)
            return graph
        if not self.change(editor):
            return graph
        common.RemoveUnusedNodesPass()(model)
        return replace(graph, model=_written(model, parse(graph.model)))

    @abstractmethod
    def change(self, editor: Editor) -> bool:
        """Change the graph in place; say whether anything was changed."""


class RewritePass(GraphPass, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pass that replaces nodes one by one."""

    needs_shapes: ClassVar[bool] = True
    """Whether shapes and types of intermediate tensors are inferred before every round."""

    @abstractmethod
    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Say what replaces `node`; a `Replacement` must leave less to do than there was."""

    def change(self, editor: Editor) -> bool:
        """Go over the graph until nothing is left to do."""
        changed = False
        for _ in range(_ROUNDS):
            if self.needs_shapes:
                _infer(editor.model)
            if not self._round(editor):
                return changed
            changed = True
            common.RemoveUnusedNodesPass()(editor.model)
        _LOG.debug("%s: stopped after %d rounds", self.name, _ROUNDS)
        return changed

    def _round(self, editor: Editor) -> bool:
        editor.memory.clear()
        changed = False
        for node in tuple(editor.graph):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                continue  # dead since a replacement further up
            found = self.rewrite(node, editor)
            if isinstance(found, Refusal):
                _LOG.debug("%s: %s %r is left alone: %s", self.name, node.op_type, node.name, found.reason)
            elif found is not None:
                changed |= _replace(editor, node, found)
        return changed


def is_operator(node: ir.Node | None, *operators: str) -> bool:
    """Whether a node is one of these standard operators."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in operators


def producer(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these standard operators and this is its only output in use."""
    node = value.producer() if value is not None else None
    if node is None or node.graph is None or not is_operator(node, *operators):
        return None
    if value is not node.outputs[0] or any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
        return None
    return node


def used_once(value: ir.Value | None) -> bool:
    """Whether a value has one user and is no output of the graph: a rewrite of that user then leaves it dead."""
    return value is not None and not value.is_graph_output() and len(value.uses()) == 1


def constant_of(value: ir.Value | None) -> Array | None:
    """The value of a constant: an initializer that no caller can replace, or the result of a Constant node."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.dtype == ir.DataType.STRING else tensor.numpy()


def float_constant(value: ir.Value | None) -> Array | None:
    """A constant of a float type that numpy knows, all of it finite."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.dtype not in FLOATS:
        return None
    array = tensor.numpy()
    return array if np.isfinite(array).all() else None


def integer(node: ir.Node, attribute: str, default: int = 0) -> int:
    """An integer attribute."""
    found = node.attributes.get(attribute)
    return default if found is None or found.is_ref() else found.as_int()


def axes_of(node: ir.Node, position: int = 1) -> tuple[int, ...] | None:
    """The axes of a reduction, Squeeze or Unsqueeze, from its input at `position` or its attribute, where constant."""
    if len(node.inputs) > position and node.inputs[position] is not None:
        values = constant_of(node.inputs[position])
        return None if values is None else tuple(int(axis) for axis in values.reshape(-1))
    found = node.attributes.get("axes")
    return None if found is None or found.is_ref() else tuple(found.as_ints())


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is known to be float16, float32 or float64."""
    return value is not None and value.dtype in FLOATS


def keeps_shape(value: ir.Value | None, other: Array) -> bool:
    """Whether broadcasting a constant against a value is known to leave the value's shape as it is."""
    rank = rank_of(value)
    if rank is None or other.ndim > rank:
        return False
    return all(size == 1 or size_of(value, axis - other.ndim) == size for axis, size in enumerate(other.shape))


def rank_of(value: ir.Value | None) -> int | None:
    """Number of dimensions, where it is known."""
    return None if value is None or value.shape is None else len(value.shape)


def size_of(value: ir.Value | None, axis: int) -> int | None:
    """Size of one dimension, where it is known and fixed."""
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def same_shape(first: ir.Value | None, second: ir.Value | None) -> bool:
    """Whether two values are known to have the same shape, free dimensions included."""
    if first is None or second is None or first.shape is None or second.shape is None:
        return False
    sizes = [size.value if isinstance(size, ir.SymbolicDim) else size for size in (*first.shape, *second.shape)]
    half = len(first.shape)
    return len(second.shape) == half and None not in sizes and sizes[:half] == sizes[half:]


def fits(array: Array, dtype: Any) -> Array | None:
    """A folded constant in the type of the graph, unless it overflows there."""
    with np.errstate(over="ignore", invalid="ignore"):
        folded = np.asarray(array).astype(dtype)
    return folded if np.isfinite(folded).all() else None


def _replace(editor: Editor, node: ir.Node, found: Replacement) -> bool:
    """Put the replacement in the node's place; say whether that changed anything."""
    for made in found.nodes:
        editor.graph.insert_before(node, made)
    fresh = {value for made in found.nodes for value in made.outputs}
    changed = False
    for old, new in zip(node.outputs, found.values, strict=True):
        if new is None or not (old.uses() or old.is_graph_output()):
            continue
        target = new
        if old.is_graph_output():
            if not _may_take_name(new, fresh, editor.graph):
                if is_operator(node, "Identity"):
                    continue  # an output needs a node of its own
                identity = editor.node("Identity", [new], f"{old.name}_copy", like=old)
                editor.graph.insert_before(node, identity)
                target = identity.outputs[0]
            name = old.name
            old.name, target.name = editor.fresh(f"{name}_replaced"), name
            target.type, target.shape = old.type, old.shape
        elif target in fresh and target.shape is None:
            target.type, target.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, target, replace_graph_outputs=True)
        changed = True
    return changed


def _may_take_name(value: ir.Value, fresh: set[ir.Value], graph: ir.Graph) -> bool:
    """Whether a value may be renamed to an output: a node's result of this graph that is no output yet."""
    if value in fresh:
        return True
    made = value.producer()
    return made is not None and made.graph is graph and not value.is_graph_output()


def _read(artifact: OnnxArtifact) -> ir.Model:
    """The model without declared shapes of its intermediate tensors: they may be stale, and are inferred again."""
    proto = parse(artifact.model)
    forget_shapes(proto.graph)
    return ir.serde.deserialize_model(proto)


def _written(model: ir.Model, original: onnx.ModelProto) -> bytes:
    """The serialised model, its ends declared as they were: what was inferred of them is not what was promised."""
    proto = ir.serde.serialize_model(model)
    forget_shapes(proto.graph)
    redeclare(proto.graph, original.graph)
    serialised: bytes = proto.SerializeToString(deterministic=True)
    return serialised


def forget_shapes(graph: onnx.GraphProto) -> None:
    """Drop what a graph declares of intermediate tensors, but for results of other operators than ONNX's own.

    Nothing could infer those.
    """
    foreign = {name for node in graph.node if node.domain not in ("", "ai.onnx") for name in node.output}
    kept = [value for value in graph.value_info if value.name in foreign]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def redeclare(graph: onnx.GraphProto, original: onnx.GraphProto) -> None:
    """Declare the inputs and outputs of a graph as another graph does."""
    for ours, theirs in ((graph.input, original.input), (graph.output, original.output)):
        del ours[:]
        ours.extend(theirs)


def _infer(model: ir.Model) -> None:
    """Types and shapes of intermediate tensors, as far as onnx can tell."""
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


def _names(graph: ir.Graph) -> Iterator[str]:
    """Every name that a value or node of the graph or of one nested in it has."""
    for part in (graph, *graph.subgraphs()):
        for value in (*part.inputs, *part.initializers.values()):
            yield value.name or ""
        for node in part:
            yield node.name or ""
            for value in node.outputs:
                yield value.name or ""
