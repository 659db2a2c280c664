"""Follows a model node by node, with shapes in the place of tensors, and keeps the account of what a run takes.

A value takes its bytes from the node that makes it to the last one that uses it; weights, and what depends on nothing
but weights, take theirs for good, because runtimes compute such values when they load the model. Nodes that hold graphs
are in `control`, the rules of all others in `operations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hauberk.scan.graphs import rules
from hauberk.scan.graphs.account import Account, Buffer, Held, Scope
from hauberk.scan.graphs.call import Call, rule_of
from hauberk.scan.graphs.elements import ELEMENTS, STRING
from hauberk.scan.graphs.model import Attribute, Declared, Function, Graph, Model, Node
from hauberk.scan.graphs.operations.creation import sparse_as, weights_as
from hauberk.scan.graphs.structure import Key, captured
from hauberk.scan.graphs.values import (
    MisfitError,
    PoisonedError,
    Tensor,
    TensorSequence,
    UnboundedError,
    UnmodelledError,
    Value,
    poisoned,
    tensor,
    unreached,
)
from hauberk.scan.report import shown

FREE_LENGTH = 8
"""Tensors in a sequence, or entries in a map, that a caller hands in."""

FREE_TEXT = 1024
"""Bytes of a text that a caller hands in."""

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_NOT_FOLDED = frozenset({"DequantizeLinear", "QuantizeLinear", *_RANDOM})

_HARMLESS = frozenset(
    {
        "Abs", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "Ceil", "Clip", "Compress", "Constant", "Cos",
        "Dropout", "Erf", "Exp", "Flatten", "Floor", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "Identity",
        "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Neg", "NonZero", "Not",
        "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reciprocal", "Relu", "Reshape", "Round",
        "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Tanh", "TopK",
        "Transpose", "Trilu", "Unsqueeze",
    }
)  # fmt: skip
"""Operators whose result is not much larger than their largest input (where shapes that do not fit are an error)."""

Environment = Mapping[str, Attribute]
"""Attributes that a call hands to its function."""


@dataclass(frozen=True)
class Setting:
    """Where a node stands.

    Attributes:
        opsets: Version of each domain's operators.
        environment: Attributes of the function around it; `None` in the main graph.
    """

    opsets: Mapping[str, int]
    environment: Environment | None = None


class Estimator:
    """Follows one model. `control` has what is about nodes that hold graphs."""

    def __init__(self, model: Model, account: Account, *, batch: int, size: int) -> None:
        self.account = account
        self._model = model
        self._batch, self._size = batch, size
        self.doubtful = False
        """What is followed is a branch that the assumed sizes do not take: shapes in it need not fit together."""
        self._functions: dict[Key, Function] = {
            (each.domain, each.name, each.overload): each for each in model.functions
        }
        self._last_uses: dict[int, dict[str, int]] = {}

    def run(self) -> None:
        """Follow the main graph."""
        graph = self._model.graph
        if graph is None:
            return
        scope = Scope()
        place = Node(operator="weights", at=graph.at)
        self.hold_weights(graph, scope, place)
        for declared in graph.inputs:
            if (held := scope.own.get(declared.name)) is not None:  # a default, which a caller may replace
                scope.own[declared.name] = Held(replace(held.value, constant=False))
        names = _batch_names(graph)
        for declared in graph.inputs:
            if declared.name not in scope.own:
                value = self._input(declared, names, place)
                self.hold(scope, declared.name, value, Node(operator="input", name=declared.name, at=graph.at))
        self.follow(graph.nodes, scope, [value.name for value in graph.outputs], Setting(self._model.opsets))

    def hold_weights(self, graph: Graph, scope: Scope, place: Node) -> None:
        """Weights of a graph as values."""
        for weights in graph.weights:
            self._hold_constant(scope, weights.name, weights_as(weights), place)
        for sparse in graph.sparse:
            self._hold_constant(scope, sparse.values.name, sparse_as(sparse), place)

    def _hold_constant(self, scope: Scope, name: str, value: Tensor, place: Node) -> None:
        scope.own[name] = Held(value)
        self.account.take(value.bytes, place, sure=value.exact)

    def hold(self, scope: Scope, name: str, value: Value, node: Node) -> None:
        """A value that is freed with its last use."""
        buffer = Buffer(value.bytes, value.exact, 1)
        self.account.take(buffer.size, node, sure=buffer.sure)
        scope.own[name] = Held(value, buffer)

    def _input(self, declared: Declared, names: frozenset[str], place: Node) -> Value:
        """What a caller hands in, at the assumed sizes."""
        if declared.kind == "optional" and declared.inner is not None:
            return self._input(declared.inner, names, place)
        if declared.kind in {"sequence", "optional", "map"}:
            inner = self._input(declared.inner, names, place) if declared.inner else None
            return TensorSequence(inner if isinstance(inner, Tensor) else None, FREE_LENGTH)
        if declared.kind != "tensor" or declared.dims is None or declared.element not in ELEMENTS:
            node = Node(operator="input", name=declared.name, at=place.at)
            self.account.report(rules.UNMODELLED, "it has no shape or no element type", node)
            return poisoned()
        sizes = []
        for axis, size in enumerate(declared.dims):
            if isinstance(size, int) and size > 0:
                sizes.append(size)
            else:
                is_batch = axis == 0 if not size or not isinstance(size, str) else size in names
                sizes.append(self._batch if is_batch else self._size)
        return tensor(declared.element, sizes, text=FREE_TEXT if declared.element == STRING else 0)

    def follow(self, nodes: list[Node], scope: Scope, outputs: Sequence[str], setting: Setting) -> list[Value]:
        """Follow nodes in their order; their values are freed with their last use, all of them at the end.

        Returns:
            The values of the outputs, for the caller to hold.
        """
        last_uses = self._uses(nodes)
        kept = set(outputs)
        for index, node in enumerate(nodes):
            self.account.step(node)
            self._follow_node(node, scope, setting)
            self._free_unused(node, index, last_uses, kept, scope)
        results = []
        for name in outputs:
            held = scope.find(name)
            if held is None:
                raise UnmodelledError(f"nothing computes '{shown(name)}'")
            results.append(held.value)
        for name in list(scope.own):
            self._drop(scope, name)
        return results

    def _free_unused(self, node: Node, index: int, last_uses: Mapping[str, int], kept: set[str], scope: Scope) -> None:
        for name in {*node.inputs, *node.outputs, *(captured(node) if _has_graphs(node) else ())}:
            if name and name in scope.own and name not in kept and last_uses.get(name, index) <= index:
                self._drop(scope, name)

    def _drop(self, scope: Scope, name: str) -> None:
        held = scope.own[name]
        if held.buffer is None:
            return
        held.buffer.names -= 1
        if held.buffer.names == 0:
            self.account.free(held.buffer.size, sure=held.buffer.sure)
        scope.own[name] = Held(held.value)

    def _uses(self, nodes: list[Node]) -> dict[str, int]:
        """Index of the last node that uses each name."""
        found = self._last_uses.get(id(nodes))
        if found is None:
            found = {}
            for index, node in enumerate(nodes):
                for name in (*node.inputs, *(captured(node) if _has_graphs(node) else ())):
                    found[name] = index
            self._last_uses[id(nodes)] = found
        return found

    def _follow_node(self, node: Node, scope: Scope, setting: Setting) -> None:
        inputs: list[Value | None] = []
        for name in node.inputs:
            held = scope.find(name) if name else None
            inputs.append(held.value if held is not None else None)
        attributes = _resolved(node.attributes, setting.environment)
        call = Call(
            node.operator,
            setting.opsets.get(node.domain, 1),
            inputs,
            len(node.outputs),
            attributes,
            gaps="" in node.outputs,
        )
        never = any(isinstance(each, Tensor) and each.never for each in inputs)
        results: list[Value] = []
        try:
            results = [] if never else self._told(call, node, scope, setting)
        except MisfitError:
            never = not self.doubtful
            if self.doubtful:
                self._cannot_tell(node, "")
            else:
                self.account.misfit()
        if never:
            for name in filter(None, node.outputs):
                scope.own[name] = Held(unreached())
            return
        while len(results) < len(node.outputs):
            results.append(poisoned())
        self._hold_results(node, call, results, scope)

    def _told(self, call: Call, node: Node, scope: Scope, setting: Setting) -> list[Value]:
        """What a node makes; nothing where that cannot be told, which is then reported.

        Raises:
            MisfitError: No run with the assumed sizes gets past this node.
        """
        try:
            results = list(self._results(call, node, scope, setting))
            if any(node.outputs[len(results) :]):
                raise UnmodelledError(f"its result {len(results)} is not known")  # noqa: TRY301 - like those of its rule
        except UnboundedError:
            self.account.report(rules.UNBOUNDED_SIZE, "its size depends on data that nothing bounds", node)
        except UnmodelledError as error:
            self._cannot_tell(node, str(error))
        except PoisonedError:
            if self.doubtful:
                self._cannot_tell(node, "")
        else:
            return results
        return []

    def _cannot_tell(self, node: Node, why: str) -> None:
        """Report a node that is not modelled, unless nothing can come of it.

        In a branch for sizes that are not assumed, shapes need not fit together; what matters there is only that
        nothing becomes large.
        """
        if not self.doubtful:
            self.account.report(rules.UNMODELLED, why, node)
        elif node.operator not in _HARMLESS or node.domain:
            self.account.report(rules.UNBOUNDED_SIZE, "its size cannot be told in this branch", node, doubtful=True)

    def _results(self, call: Call, node: Node, scope: Scope, setting: Setting) -> Sequence[Value]:
        from hauberk.scan.graphs.control import CONTROL  # noqa: PLC0415 - control needs the estimator's type

        function = self._functions.get((node.domain, node.operator, node.overload))
        if function is not None:
            call.operations = 0
            return self._call(function, call)
        follow_control = CONTROL.get(node.operator) if not node.domain else None
        if follow_control is not None:
            call.operations = 0
            return follow_control(self, call, node, scope, setting)
        rule = rule_of(node.domain, node.operator)
        if rule is None:
            raise UnmodelledError(f"what it takes is not known (domain '{shown(node.domain or 'ai.onnx')}')")
        try:
            results = rule(call)
        except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError) as error:
            # Rules read inputs as their operators are meant to be used; a file may give them anything.
            raise UnmodelledError("its inputs and attributes are not what it takes") from error
        if call.divides_by_zero and not self.doubtful:
            self.account.report(rules.DIVISION, "its divisor has a zero in it", node)
        if call.overflows and not self.doubtful:
            self.account.report(rules.DIVISION_OVERFLOW, "-1 in its divisor, the least number in what it divides", node)
        return results

    def _call(self, function: Function, call: Call) -> list[Value]:
        """A function where it is used: its nodes, with the call's inputs and attributes."""
        scope = Scope()
        for name, value in zip(function.inputs, call.inputs, strict=False):
            if value is not None:
                scope.own[name] = Held(value)
        environment = {**function.defaults, **call.attributes}
        setting = Setting({**self._model.opsets, **function.opsets}, environment)
        return self.follow(function.nodes, scope, function.outputs, setting)

    def _hold_results(self, node: Node, call: Call, results: Sequence[Value], scope: Scope) -> None:
        given = [each for each in call.inputs if each is not None]
        folded = all(each.constant for each in given) and node.operator not in _NOT_FOLDED and not _has_graphs(node)
        exact = all(each.exact for each in results)
        source = scope.find(node.inputs[0]) if call.view and node.inputs else None
        self.account.take(call.scratch, node, sure=exact)
        for index, (name, value) in enumerate(zip(node.outputs, results, strict=False)):
            if name:
                self._hold_result(node, index, replace(value, constant=folded), source, scope)
        elements = sum(_elements(each) for each in [*given, *results])
        self.account.work(elements if call.operations is None else call.operations, node, sure=exact)
        self.account.free(call.scratch, sure=exact)

    def _hold_result(self, node: Node, index: int, value: Value, source: Held | None, scope: Scope) -> None:
        name = node.outputs[index]
        if value.constant:
            scope.own[name] = Held(value)
            self.account.take(value.bytes, node, sure=value.exact)
        elif index == 0 and source is not None and source.buffer is not None and source.buffer.names > 0:
            source.buffer.names += 1
            scope.own[name] = Held(value, source.buffer)
        elif index == 0 and source is not None and source.buffer is None:
            scope.own[name] = Held(value)  # another shape of a weight, or of a value around this graph
        else:
            self.hold(scope, name, value, node)


def _batch_names(graph: Graph) -> frozenset[str]:
    """Names of free sizes that stand first in the shape of some input: they are the batch wherever they stand."""
    return frozenset(
        declared.dims[0]
        for declared in graph.inputs
        if declared.dims and isinstance(declared.dims[0], str) and declared.dims[0]
    )


def _resolved(attributes: Mapping[str, Attribute], environment: Environment | None) -> Mapping[str, Attribute]:
    """Attributes with those filled in that the function's caller gives; what it does not give is left out."""
    if not any(attribute.refers for attribute in attributes.values()):
        return attributes
    found = {}
    for name, attribute in attributes.items():
        if not attribute.refers:
            found[name] = attribute
        elif environment is not None and attribute.refers in environment:
            found[name] = replace(environment[attribute.refers], name=name)
    return found


def _elements(value: Value) -> int:
    if isinstance(value, Tensor):
        return value.count or 0
    return (value.item.count or 0) * value.length if value.item else 0


def _has_graphs(node: Node) -> bool:
    return any(attribute.kind in {"g", "graphs"} for attribute in node.attributes.values())
