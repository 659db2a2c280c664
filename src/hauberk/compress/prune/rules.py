"""What each operator ties, passes on and freezes.

A rule reads the labels of a node's inputs and gives labels to its outputs. Four things can happen to a unit:

- it is **passed on**: activations, reshapes, slices, pooling over other axes;
- it **ends**: a matrix product, a convolution or a recurrent layer sums over it, weight by weight;
- it is **tied**: elements that meet in one result come and go together;
- it is **frozen**: an operator averages over it (a normalisation, a softmax, a mean), so that taking one out changes
  the others; or names its position; or is not known here.

Here are the rules of operators that compute; `rules_contraction.py` has those that sum over units, `rules_movement.py`
those that only move values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from hauberk.compress.prune.analysis import Analysis
from hauberk.compress.prune.rules_contraction import CONTRACTIONS
from hauberk.compress.prune.rules_movement import MOVEMENTS
from hauberk.compress.prune.units import Labels, reshape_like, varying

Rule = Callable[[Analysis, onnx.NodeProto], None]

_UNARY = [
    "Abs",
    "Cast",
    "Ceil",
    "Celu",
    "Cos",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
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
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
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
    "ArgMax",
    "ArgMin",
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


RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_OVER_SPACE, _over_space),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **CONTRACTIONS,
    **MOVEMENTS,
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": _softmax,
    "Softmax": _softmax,
}
"""Every operator that pruning understands; whatever reaches another is kept."""
