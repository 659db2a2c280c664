"""The operators that move values, or copy and select them: units go with their elements, or their positions are named.

None of them computes, so a unit is passed on wherever its elements can be told by number at the time of analysis. What
reads positions or sizes that the graph computes freezes what it reads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from hauberk.compress.prune.analysis import Analysis
from hauberk.compress.prune.prepare import PlainGraph
from hauberk.compress.prune.units import Labels, reshape_like, reshaped, varying


def _reshape(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements under other axes."""
    before, after = analysis.shape(node.input[0]), analysis.shape(node.output[0])
    labels = analysis.of(node.input[0])
    if node.op_type == "Reshape" and varying(labels) and analysis.integers(node, 1) is None:
        analysis.refuse(node, f"Reshape {node.name or node.output[0]!r} computes its target shape")
        return
    analysis.put(node.output[0], analysis.units.canonical(reshaped(labels, before, after)))


def _transpose(analysis: Analysis, node: onnx.NodeProto) -> None:
    labels = analysis.of(node.input[0])
    order = analysis.attribute(node, "perm", list(reversed(range(labels.ndim))))
    analysis.put(node.output[0], labels.transpose(order))


def _concat(analysis: Analysis, node: onnx.NodeProto) -> None:
    rank = len(analysis.shape(node.output[0]))
    axis, units = analysis.attribute(node, "axis") % rank, analysis.units
    parts = [analysis.of(name) for name in node.input]
    others = [max(part.shape[other] for part in parts) for other in range(rank)]
    whole = []
    for part, name in zip(parts, node.input, strict=True):
        sizes = list(others)
        sizes[axis] = analysis.shape(name)[axis]
        whole.append(np.broadcast_to(part, sizes))
    labels = np.concatenate(whole, axis)
    for other in range(rank):
        if other != axis and others[other] > 1:  # parts lie side by side: elsewhere they must stay equally long
            units.tie_along(labels, (axis,))
    analysis.put(node.output[0], units.canonical(labels))


def _split(analysis: Analysis, node: onnx.NodeProto) -> None:
    axis = analysis.attribute(node, "axis", 0) % len(analysis.shape(node.input[0]))
    labels, start = analysis.of(node.input[0]), 0
    _pin_where_joint(analysis, node.input[0], labels, axis)
    for name in node.output:
        stop = start + analysis.shape(name)[axis]
        part = labels if labels.shape[axis] == 1 else np.take(labels, range(start, stop), axis)
        analysis.put(name, part)
        start = stop


def _pin_where_joint(analysis: Analysis, name: str, labels: Labels, axis: int) -> None:
    """A tensor that could shrink along two axes must keep the one whose positions are named."""
    if labels.shape[axis] > 1 and len(varying(labels)) > 1:
        analysis.pinned[name].add(axis)


def _slice(analysis: Analysis, node: onnx.NodeProto) -> None:
    labels, shape = analysis.of(node.input[0]), analysis.shape(node.input[0])
    starts, ends = analysis.integers(node, 1), analysis.integers(node, 2)
    axes, steps = analysis.integers(node, 3), analysis.integers(node, 4)
    if starts is None or ends is None or (axes is None and len(node.input) > 3 and node.input[3]):
        analysis.refuse(node, f"Slice {node.name or node.output[0]!r} computes its positions")
        return
    axes = np.arange(len(starts)) if axes is None else axes % len(shape)
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    for axis, start, end, step in zip(axes.tolist(), starts.tolist(), ends.tolist(), steps.tolist(), strict=True):
        if labels.shape[axis] == 1:
            continue
        _pin_where_joint(analysis, node.input[0], labels, axis)
        positions = range(shape[axis])[slice(start, end, step)]
        if step != 1:
            analysis.units.freeze(labels, f"Slice {node.name or node.output[0]!r} takes every {step}th of it")
        labels = np.take(labels, positions, axis)
    analysis.put(node.output[0], labels)


def _gather(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Rows of a table (an embedding), or positions of an activation named by constants."""
    data, indices = node.input[:2]
    axis = analysis.attribute(node, "axis", 0) % len(analysis.shape(data))
    chosen = analysis.integers(node, 1)
    if analysis.constant(data):
        _embedding(analysis, node, axis)
        return
    labels = analysis.of(data)
    if labels.shape[axis] > 1 and chosen is None:
        analysis.refuse(node, f"Gather {node.name or node.output[0]!r} computes its positions")
        return
    if labels.shape[axis] == 1:
        shape = [*labels.shape[:axis], *[1] * len(analysis.shape(indices)), *labels.shape[axis + 1 :]]
        analysis.put(node.output[0], labels.reshape(shape))
        return
    assert chosen is not None  # noqa: S101 - returned above
    if len(varying(labels)) > 1:
        analysis.pinned[data].add(axis)
    elif chosen.ndim != 1 or len(np.unique(chosen)) != chosen.size:
        analysis.units.freeze(np.take(labels, chosen, axis), f"Gather {node.name or node.output[0]!r} names positions")
    analysis.put(node.output[0], np.take(labels, chosen, axis))


def _embedding(analysis: Analysis, node: onnx.NodeProto, axis: int) -> None:
    table, indices = node.input[:2]
    if analysis.constant(indices) or axis != 0 or len(analysis.shape(table)) != 2:
        analysis.refuse(node, f"Gather {node.name or node.output[0]!r} from a constant is not understood")
        return
    analysis.units.freeze(analysis.of(indices), f"{indices!r} holds positions")
    analysis.freeze_axis(table, 0, f"rows of {table!r} are chosen by number")
    analysis.made.setdefault(table, 1)
    width = analysis.axis(table, 1)
    analysis.put(node.output[0], width.reshape((1,) * len(analysis.shape(indices)) + (-1,)))


def _expand(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Expand and ConstantOfShape: copies along an axis can go one by one; where several are copied, along the last."""
    name, shape = node.output[0], analysis.shape(node.output[0])
    source = node.input[0] if node.op_type == "Expand" else ""
    labels = reshape_like(analysis.of(source), len(shape)) if source else analysis.units.fixed(len(shape), "")
    known = node.input[-1] in analysis.graph.constants or is_written_shape(analysis.graph, node)
    if not known:
        analysis.refuse(node, f"{node.op_type} {node.name or name!r} computes its target shape")
        return
    if not varying(labels):
        own = analysis.shape(source) if source else ()
        before = (1,) * (len(shape) - len(own)) + own
        copied = [axis for axis, size in enumerate(shape) if before[axis] < size]
        if copied and copied[-1] not in analysis.graph.batched[name]:
            spread = [size if axis == copied[-1] else 1 for axis, size in enumerate(shape)]
            labels = analysis.units.fresh(shape[copied[-1]]).reshape(spread)
    analysis.put(name, labels)


def is_written_shape(graph: PlainGraph, node: onnx.NodeProto) -> bool:
    """Whether a node's target shape is one that `prepare` wrote, as sizes around the batch."""
    return node.input[-1] == f"{node.output[0]}/shape" and f"{node.output[0]}/after" in graph.constants


def _unchanged_beyond(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Pad and Resize: pass on what lies on axes of unchanged size, freeze the rest."""
    labels = analysis.of(node.input[0])
    before, after = analysis.shape(node.input[0]), analysis.shape(node.output[0])
    changed = [axis for axis in varying(labels) if before[axis] != after[axis]]
    if changed or (node.op_type == "Resize" and varying(labels) not in ((), (1,))):
        analysis.refuse(node, f"{node.op_type} {node.name or node.output[0]!r} changes that axis")
        return
    if node.op_type == "Resize" and varying(labels) and len(node.input) > 3 and node.input[3]:
        analysis.refuse(node, f"Resize {node.name or node.output[0]!r} states its sizes")
        return
    analysis.put(node.output[0], labels)


def _shape_of(analysis: Analysis, node: onnx.NodeProto) -> None:
    """A size that somebody reads must not change; that of the batch does not."""
    labels, rank = analysis.of(node.input[0]), len(analysis.shape(node.input[0]))
    start = analysis.attribute(node, "start", 0)
    end = analysis.attribute(node, "end", rank)
    if node.op_type == "Size" or set(range(rank)[slice(start, end)]).intersection(varying(labels)):
        analysis.units.freeze(labels, f"{node.op_type} {node.name or node.output[0]!r} reads how many there are")
    name = node.output[0]
    analysis.put(name, analysis.units.fixed(len(analysis.shape(name)), "it is a size"))


MOVEMENTS: dict[str, Callable[[Analysis, onnx.NodeProto], None]] = {
    "Concat": _concat,
    "ConstantOfShape": _expand,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Pad": _unchanged_beyond,
    "Reshape": _reshape,
    "Resize": _unchanged_beyond,
    "Shape": _shape_of,
    "Size": _shape_of,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
