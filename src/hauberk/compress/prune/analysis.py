"""The walk over a graph in progress: what rules read and write while they find out what depends on what."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from hauberk.compress.prune.prepare import PlainGraph
from hauberk.compress.prune.units import Labels, Units, reshape_like
from hauberk.graph.model import attributes

Attention = Literal["heads", "dimensions"]
"""What of an attention layer is removed: whole heads, or the same dimensions of every head."""


@dataclass(frozen=True)
class Place:
    """Positions of a unit along one axis of a constant.

    Attributes:
        constant: Name of the initializer.
        axis: The axis along which the positions go.
    """

    constant: str
    axis: int


@dataclass
class Analysis:
    """The walk in progress: what rules read and write."""

    graph: PlainGraph
    attention: Attention
    units: Units = field(default_factory=Units)
    labels: dict[str, Labels] = field(default_factory=dict)
    axes: dict[Place, Labels] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    """By contracted constant in graph order, the axis along which it makes new units (-1: it makes none)."""
    pinned: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By tensor, axes along which nothing may be removed because a node names positions there."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor for `PROBE` records."""
        return self.graph.shapes[name]

    def constant(self, name: str) -> bool:
        """Whether a tensor is an initializer."""
        return name in self.graph.constants

    def of(self, name: str) -> Labels:
        """Canonical labels of an activation, or of a constant that depends on at most one axis."""
        if name in self.labels:
            return self.units.canonical(self.labels[name])
        shape = self.shape(name)
        wide = [axis for axis, size in enumerate(shape) if size > 1]
        if len(wide) == 1 and np.issubdtype(self.graph.constants[name].dtype, np.floating):
            spread = [size if axis == wide[0] else 1 for axis, size in enumerate(shape)]
            return self.units.canonical(self.axis(name, wide[0]).reshape(spread))
        for axis in wide:
            self.freeze_axis(name, axis, f"{name!r} is read as a whole")
        return self.units.fixed(len(shape), f"{name!r} is a constant")

    def axis(self, constant: str, axis: int) -> Labels:
        """The unit of each position along an axis of a constant, [size]."""
        place = Place(constant, axis)
        if place not in self.axes:
            self.axes[place] = self.units.fresh(self.shape(constant)[axis])
        return self.axes[place]

    def freeze_axis(self, constant: str, axis: int, reason: str) -> None:
        """Keep every position along an axis of a constant."""
        self.units.freeze(self.axis(constant, axis), reason)

    def attribute(self, node: onnx.NodeProto, name: str, default: Any = None) -> Any:
        """An attribute of a node."""
        return attributes(node).get(name, default)

    def integers(self, node: onnx.NodeProto, position: int) -> NDArray[np.int64] | None:
        """A constant whole-number input of a node; `None` where it is left out or computed."""
        if len(node.input) <= position or node.input[position] not in self.graph.constants:
            return None
        return np.asarray(self.graph.constants[node.input[position]], np.int64)

    def put(self, name: str, labels: Labels) -> None:
        """Give a node's result its labels."""
        self.labels[name] = reshape_like(labels, len(self.shape(name)))

    def refuse(self, node: onnx.NodeProto, reason: str) -> None:
        """Freeze whatever a node reads, and its results."""
        for name in node.input:
            if name in self.labels:
                self.units.freeze(self.labels[name], reason)
            elif name in self.graph.constants:
                for axis in range(len(self.shape(name))):
                    self.freeze_axis(name, axis, reason)
        for name in node.output:
            if name:
                self.labels[name] = self.units.fixed(len(self.shape(name)), reason)
