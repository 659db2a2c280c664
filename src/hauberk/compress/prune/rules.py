"""What each operator ties, passes on and freezes.

A rule reads the labels of a node's inputs and gives labels to its outputs. Four things can happen to a unit:

- it is **passed on**: activations, reshapes, slices, pooling over other axes;
- it **ends**: a matrix product, a convolution or a recurrent layer sums over it, weight by weight;
- it is **tied**: elements that meet in one result come and go together;
- it is **frozen**: an operator averages over it (a normalisation, a softmax, a mean), so that taking one out changes
  the others; or names its position; or is not known here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from hauberk.compress.prune.analysis import Analysis
from hauberk.compress.prune.prepare import PlainGraph
from hauberk.compress.prune.rules_contraction import CONTRACTIONS
from hauberk.compress.prune.units import Labels, reshape_like, reshaped, varying

Rule = Callable[[Analysis, onnx.NodeProto], None]

_UNARY = [
    "Abs",
    "Cast",
    "Ceil",
    "Celu",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
    "Sin",
    "Cos",
    "IsNaN",
    "IsInf",
]
_ELEMENTWISE = [
    "Add",
    "And",
    "Clip",
    "Div",
    "Dropout",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
]
_OVER_SPACE = ["AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"]
_REDUCTIONS = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "ArgMax",
    "ArgMin",
]


def apply_rule(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Give a node's results their labels, and freeze what its rule does not let go."""
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    nested = any(item.HasField("g") or item.graphs for item in node.attribute)
    if rule is None or nested:
        analysis.refuse(node, f"{node.op_type} {node.name or node.output[0]!r} is not understood")
        return
    rule(analysis, node)
    for name in node.output:
        if name and name not in analysis.labels:
            analysis.labels[name] = analysis.units.fixed(len(analysis.shape(name)), f"{name!r} is a by-product")


def _unary(analysis: Analysis, node: onnx.NodeProto) -> None:
    analysis.put(node.output[0], analysis.of(node.input[0]))


def _elementwise(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Elements that meet come and go together; what is broadcast over an axis stays."""
    rank, units = len(analysis.shape(node.output[0])), analysis.units
    names = [name for name in node.input if name]
    active = [name for name in names if not analysis.constant(name)] or names[:1]
    parts = {name: reshape_like(analysis.of(name), rank) for name in active}
    axes = {axis for labels in parts.values() for axis in varying(labels)}
    result = None
    for name in sorted(active, key=lambda each: -len(varying(parts[each]))):
        shape = (1,) * (rank - len(analysis.shape(name))) + analysis.shape(name)
        if axes and all(shape[axis] == 1 for axis in axes):
            units.freeze(parts[name], f"{name!r} is broadcast")
        elif result is None:
            result = parts[name]
        else:
            units.tie(result, parts[name])
            result = np.broadcast_arrays(result, parts[name])[0]
    assert result is not None  # noqa: S101 - the input with most axes is never the one that is broadcast
    for name in names:
        if name not in parts:
            _meet_constant(analysis, name, result, rank)
    analysis.put(node.output[0], units.canonical(result))
    if node.op_type == "Dropout" and len(node.output) > 1 and node.output[1]:
        analysis.put(node.output[1], analysis.labels[node.output[0]])


def _meet_constant(analysis: Analysis, name: str, labels: Labels, rank: int) -> None:
    """A constant meets an activation: along the activation's axis their positions are one, other axes stay."""
    units, shape = analysis.units, analysis.shape(name)
    labels = units.canonical(labels)
    offset = rank - len(shape)
    met = [axis for axis in varying(labels) if axis >= offset and shape[axis - offset] > 1]
    for axis, size in enumerate(shape):
        if size > 1 and axis + offset not in met:
            analysis.freeze_axis(name, axis, f"{name!r} is added to what does not shrink along its axis {axis}")
    if len(met) == 1 and len(varying(labels)) == 1:
        units.tie(labels.ravel(), analysis.axis(name, met[0] - offset))
    elif met:
        for axis in met:
            analysis.freeze_axis(name, axis - offset, f"{name!r} meets a tensor that could shrink along two axes")
        units.freeze(labels, f"it meets {name!r} along two axes at once")


def _mixing(analysis: Analysis, node: onnx.NodeProto, axes: tuple[int, ...]) -> Labels:
    """Labels of the first input after an operator that computes jointly over axes: there, all go or none."""
    labels = analysis.units.tie_along(analysis.of(node.input[0]), axes)
    if not varying(labels):
        analysis.units.freeze(labels, f"{node.op_type} {node.name or node.output[0]!r} computes over all of it")
    return labels


def _over_space(analysis: Analysis, node: onnx.NodeProto) -> None:
    labels = _mixing(analysis, node, tuple(range(2, len(analysis.shape(node.input[0])))))
    for name in filter(None, node.output):
        analysis.put(name, labels)


def _softmax(analysis: Analysis, node: onnx.NodeProto) -> None:
    axis = analysis.attribute(node, "axis", -1) % len(analysis.shape(node.input[0]))
    analysis.put(node.output[0], _mixing(analysis, node, (axis,)))


def _reduce(analysis: Analysis, node: onnx.NodeProto) -> None:
    shape = analysis.shape(node.input[0])
    given = analysis.attribute(node, "axes")
    if node.op_type in ("ArgMax", "ArgMin"):
        given = [analysis.attribute(node, "axis", 0)]
    elif len(node.input) > 1 and node.input[1]:
        given = analysis.integers(node, 1)
        if given is None:
            analysis.refuse(node, f"{node.op_type} {node.name!r} computes its axes")
            return
    if given is None and analysis.attribute(node, "noop_with_empty_axes", 0):
        _unary(analysis, node)
        return
    axes = tuple(range(len(shape))) if given is None else tuple(int(axis) % len(shape) for axis in np.ravel(given))
    labels = _mixing(analysis, node, axes)
    if not analysis.attribute(node, "keepdims", 1):
        labels = labels.reshape([size for axis, size in enumerate(labels.shape) if axis not in axes])
    analysis.put(node.output[0], labels)


def _batch_normalization(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Each channel by itself, with four constants a channel."""
    labels = analysis.of(node.input[0])
    _channel_constants(analysis, labels, node.input[1:])
    analysis.put(node.output[0], analysis.units.canonical(labels))


def _instance_normalization(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Each channel by itself, over space."""
    labels = _mixing(analysis, node, tuple(range(2, len(analysis.shape(node.input[0])))))
    _channel_constants(analysis, labels, node.input[1:])
    analysis.put(node.output[0], analysis.units.canonical(labels))


def _channel_constants(analysis: Analysis, labels: Labels, names: list[str]) -> None:
    channels = analysis.units.tie_along(labels, tuple(axis for axis in varying(labels) if axis != 1))
    for name in names:
        if not analysis.constant(name):
            analysis.units.freeze(labels, f"{name!r}, which scales it, is computed")
        elif analysis.shape(name)[0] > 1:
            analysis.units.tie(channels.ravel() if varying(channels) else channels.ravel()[:1], analysis.axis(name, 0))


def _group_normalization(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Groups of channels are averaged over: frozen, since scale and bias are held a group before opset 21."""
    analysis.refuse(node, f"GroupNormalization {node.name or node.output[0]!r} averages over groups of channels")


def _layer_normalization(analysis: Analysis, node: onnx.NodeProto) -> None:
    rank = len(analysis.shape(node.input[0]))
    first = analysis.attribute(node, "axis", -1) % rank
    labels = _mixing(analysis, node, tuple(range(first, rank)))
    for name in node.input[1:]:
        for axis in range(len(analysis.shape(name)) if analysis.constant(name) else 0):
            analysis.freeze_axis(name, axis, f"LayerNormalization {node.name or node.output[0]!r} averages over it")
    analysis.put(node.output[0], labels)


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


RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_OVER_SPACE, _over_space),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **CONTRACTIONS,
    "BatchNormalization": _batch_normalization,
    "Concat": _concat,
    "ConstantOfShape": _expand,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "Pad": _unchanged_beyond,
    "Reshape": _reshape,
    "Resize": _unchanged_beyond,
    "Shape": _shape_of,
    "Size": _shape_of,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
"""Every operator that pruning understands; whatever reaches another is kept."""
