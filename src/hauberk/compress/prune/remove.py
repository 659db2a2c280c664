"""Taking units out of a graph: constants lose their positions, and what states sizes or positions is written anew.

Afterwards every tensor is compared with the shape that the analysis foretold; a difference is an error, never a result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_ir.passes.common import DeduplicateInitializersPass

from hauberk.artifact import OnnxArtifact
from hauberk.compress.core import Core
from hauberk.compress.prune.analysis import Place
from hauberk.compress.prune.dependencies import Dependencies
from hauberk.compress.prune.prepare import PROBE, drop_dead
from hauberk.compress.prune.rules_movement import is_written_shape
from hauberk.compress.prune.units import varying
from hauberk.errors import ContractError
from hauberk.graph.model import attributes
from hauberk.graph.operations import tensor_shapes

Keep = NDArray[np.bool_]


def remove(core: Core, dependencies: Dependencies, units: Iterable[int]) -> OnnxArtifact:
    """The core without these units.

    Args:
        core: What the step was given, for its signature.
        dependencies: Of the core's graph in plain form.
        units: Numbers out of `Dependencies.groups`.

    Raises:
        ContractError: The graph that is left has other shapes than the analysis foretold.
        InputError: onnx or ONNX Runtime refuses the graph that is left.
    """
    removal = _Removal(dependencies, np.unique(np.fromiter(units, np.int64)))
    model = removal.model()
    tidy = ir.from_proto(model)
    DeduplicateInitializersPass()(tidy)
    artifact = core.finished(ir.to_proto(tidy))
    removal.check(onnx.load_model_from_string(artifact.model), core.step)
    return replace(artifact, origin=core.artifact.origin, history=core.artifact.history)


class _Removal:
    """One removal: which positions each tensor keeps, and the nodes that must know."""

    def __init__(self, dependencies: Dependencies, units: NDArray[np.int64]) -> None:
        self.dependencies, self.units = dependencies, units
        self.shapes = dependencies.graph.shapes
        self.constants: dict[str, NDArray[np.generic]] = dict(dependencies.graph.constants)

    def kept(self, name: str) -> dict[int, Keep]:
        """By axis, which positions of an activation stay; axes that keep all are left out."""
        labels = self.dependencies.labels.get(name)
        if labels is None:
            return {}
        gone = np.isin(labels, self.units)
        return {axis: ~gone.ravel() for axis in varying(labels) if gone.any()}

    def kept_of_constant(self, name: str) -> dict[int, Keep]:
        """The same of a constant."""
        axes = self.dependencies.axes
        gone = {place.axis: np.isin(axes[place], self.units) for place in axes if place.constant == name}
        return {axis: ~mask for axis, mask in gone.items() if mask.any()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an activation for `PROBE` records after the removal."""
        kept = self.kept(name)
        return tuple(int(kept[axis].sum()) if axis in kept else size for axis, size in enumerate(self.shapes[name]))

    def model(self) -> onnx.ModelProto:
        """The graph without the units."""
        model = onnx.ModelProto()
        model.CopyFrom(self.dependencies.graph.model)
        del model.graph.value_info[:]
        by_constant: dict[str, list[Place]] = {}
        for place in self.dependencies.axes:
            by_constant.setdefault(place.constant, []).append(place)
        for name in by_constant:
            array = self.constants[name]
            for axis, keep in self.kept_of_constant(name).items():
                array = np.compress(keep, array, axis)
            self.constants[name] = array
        for node in model.graph.node:
            self._rewrite(node)
        tensors = [
            numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in self.constants.items()
        ]
        del model.graph.initializer[:]
        model.graph.initializer.extend(tensors)
        drop_dead(model, list(model.graph.node))
        return model

    def check(self, model: onnx.ModelProto, step: str) -> None:
        """See that what is left has the shapes that were foretold."""
        found = tensor_shapes(model, batch=PROBE)
        for name in self.dependencies.labels:
            if name in found and found[name] != self.shape(name):
                raise ContractError(
                    f"{step}: {name!r} came out as {list(found[name])} where {list(self.shape(name))} was foretold;"
                    " this graph cannot be pruned safely"
                )

    def _rewrite(self, node: onnx.NodeProto) -> None:
        """State a node's sizes and positions anew."""
        kind, result = node.op_type, node.output[0]
        if node.domain not in ("", "ai.onnx"):
            return
        if kind in ("Conv", "ConvTranspose"):
            self._regroup(node)
        elif kind in ("LSTM", "GRU", "RNN") and (kept := self.kept_of_constant(node.input[2])):
            _set(node, "hidden_size", int(kept[2].sum()))
        elif kind in ("Reshape", "Expand", "ConstantOfShape") and self.kept(result):
            self._state_target(node)
        elif kind == "Split" and any(self.kept(name) for name in node.output):
            self._state_parts(node)
        elif kind == "Slice" and self.kept(node.input[0]):
            self._state_slice(node)
        elif kind == "Gather" and self.kept(node.input[0]):
            self._state_positions(node)

    def _regroup(self, node: onnx.NodeProto) -> None:
        """Where whole groups went there are fewer; where every group lost the same channels there are as many."""
        groups = attributes(node).get("group", 1)
        before, after = self.shapes[node.input[0]][1], self.shape(node.input[0])[1]
        if groups > 1 and groups >= before // groups:
            _set(node, "group", after * groups // before)

    def _state_target(self, node: onnx.NodeProto) -> None:
        result, shape = node.output[0], self.shape(node.output[0])
        free = self.dependencies.graph.batched[result]
        if is_written_shape(self.dependencies.graph, node):
            after = np.array(shape[free[0] + 1 :], np.int64)
            self.constants[f"{result}/before"] = np.array(shape[: free[0]], np.int64)
            self.constants[f"{result}/after"] = after
            return
        position = 0 if node.op_type == "ConstantOfShape" else 1
        target = np.array(shape, np.int64)
        if node.op_type == "Reshape":
            target[list(free)] = -1
        elif free:  # an Expand that leaves the batch as it is
            target[list(free)] = 1
        node.input[position] = self._new(f"{result}/target", target)

    def _state_parts(self, node: onnx.NodeProto) -> None:
        axis = attributes(node).get("axis", 0) % len(self.shapes[node.input[0]])
        sizes = np.array([self.shape(name)[axis] for name in node.output], np.int64)
        _set(node, "num_outputs", None)
        data = node.input[0]
        del node.input[:]
        node.input.extend([data, self._new(f"{node.output[0]}/parts", sizes)])

    def _state_slice(self, node: onnx.NodeProto) -> None:
        data, shape = node.input[0], self.shapes[node.input[0]]
        starts, ends = (np.array(self.constants[name], np.int64) for name in node.input[1:3])
        named = len(node.input) > 3 and node.input[3]
        axes = np.asarray(self.constants[node.input[3]]) % len(shape) if named else np.arange(len(starts))
        for index, axis in enumerate(axes.tolist()):
            if (keep := self.kept(data).get(axis)) is not None:
                start, end, _ = slice(int(starts[index]), int(ends[index])).indices(shape[axis])
                starts[index], ends[index] = keep[:start].sum(), keep[:end].sum()
        node.input[1] = self._new(f"{node.output[0]}/starts", starts)
        node.input[2] = self._new(f"{node.output[0]}/ends", ends)

    def _state_positions(self, node: onnx.NodeProto) -> None:
        data = node.input[0]
        axis = attributes(node).get("axis", 0) % len(self.shapes[data])
        if (keep := self.kept(data).get(axis)) is None:
            return
        indices = np.asarray(self.constants[node.input[1]], np.int64) % len(keep)
        moved = np.cumsum(keep) - 1
        node.input[1] = self._new(f"{node.output[0]}/positions", moved[indices[keep[indices]]])

    def _new(self, name: str, value: NDArray[np.int64]) -> str:
        while name in self.constants:
            name += "'"
        self.constants[name] = value
        return name


def _set(node: onnx.NodeProto, name: str, value: int | None) -> None:
    """Give an attribute a value, or take it away."""
    others = [item.SerializeToString() for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(onnx.AttributeProto.FromString(item) for item in others)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))
