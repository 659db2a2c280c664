"""The operators at which units end: matrix products, convolutions and recurrent layers sum over them.

Taking one term out of a sum is exact where its weight is zero. What such an operator makes are new units: the columns
of a matrix, the kernels of a convolution, the hidden units of a recurrent layer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from hauberk.compress.prune.analysis import Analysis
from hauberk.compress.prune.units import Labels, varying

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Gates of each recurrent operator: rows of W and R are gates × hidden units (iofc, zrh, i)."""


def _matmul(analysis: Analysis, node: onnx.NodeProto) -> None:
    """`A[…, M, K] @ B[…, K, N]`: K ends; M and the axes before it pass on from A; N from B."""
    first, second = node.input[:2]
    if analysis.constant(second) and len(analysis.shape(second)) == 2 and not analysis.constant(first):
        _product(analysis, node, second, inner=0)
    elif analysis.constant(first) or analysis.constant(second):
        analysis.refuse(node, f"MatMul {node.name or node.output[0]!r} has constants of another form")
    elif min(len(analysis.shape(first)), len(analysis.shape(second))) < 2:
        analysis.refuse(node, f"MatMul {node.name or node.output[0]!r} multiplies vectors")
    else:
        _attend(analysis, node)


def _gemm(analysis: Analysis, node: onnx.NodeProto) -> None:
    first, second = node.input[:2]
    if analysis.constant(first) or not analysis.constant(second) or analysis.attribute(node, "transA", 0):
        analysis.refuse(node, f"Gemm {node.name or node.output[0]!r} has no constant matrix on the right")
        return
    inner = 1 if analysis.attribute(node, "transB", 0) else 0
    _product(analysis, node, second, inner=inner)
    if len(node.input) > 2 and node.input[2]:
        _add_bias(analysis, node.input[2], analysis.axis(second, 1 - inner))


def _add_bias(analysis: Analysis, name: str, made: Labels) -> None:
    """A Gemm's bias broadcasts to the result's columns."""
    if not analysis.constant(name):
        analysis.units.freeze(made, f"{name!r}, which is added to it, is computed")
        analysis.units.freeze(analysis.of(name), f"{name!r} is added in a Gemm")
        return
    shape = analysis.shape(name)
    for axis, size in enumerate(shape):
        if size > 1 and axis == len(shape) - 1:
            analysis.units.tie(analysis.axis(name, axis), made)
        elif size > 1:
            analysis.freeze_axis(name, axis, f"{name!r} differs from record to record")


def _product(analysis: Analysis, node: onnx.NodeProto, weight: str, *, inner: int) -> None:
    """An activation times a constant matrix: its last axis ends in the matrix, whose other axis makes new units."""
    units, labels = analysis.units, analysis.of(node.input[0])
    last = labels.ndim - 1
    analysis.made.setdefault(weight, 1 - inner)
    made, before = analysis.axis(weight, 1 - inner), tuple(axis for axis in varying(labels) if axis != last)
    if before and labels.shape[last] == 1:
        reason = f"{node.op_type} {node.name or node.output[0]!r} is applied along an axis that can shrink"
        analysis.freeze_axis(weight, inner, reason)
        units.freeze(made, reason)
        analysis.put(node.output[0], labels)
        return
    if before:  # both: the same positions of the last axis go everywhere
        labels = units.tie_along(labels, before)
    units.tie(analysis.axis(weight, inner), labels.ravel())
    analysis.put(node.output[0], made.reshape([1] * last + [-1]))


def _attend(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Two activations multiplied: queries with keys, attention with values. Axes before the last two are heads."""
    units, rank = analysis.units, len(analysis.shape(node.output[0]))
    left, right = (_separated(analysis, name, rank) for name in node.input[:2])
    if left.shape[-1] > 1 and right.shape[-2] > 1:
        units.tie(left.ravel(), right.ravel())
    elif left.shape[-1] > 1 or right.shape[-2] > 1:
        units.freeze(
            left if left.shape[-1] > 1 else right, f"{node.output[0]!r} sums over it with what does not shrink"
        )
    passed = [
        (labels, varying(labels)[0], name)
        for labels, name, ends in ((left, node.input[1], rank - 1), (right, node.input[0], rank - 2))
        if varying(labels) and varying(labels)[0] != ends
    ]
    out = units.fixed(rank, f"{node.output[0]!r} sums over all that could go")
    if len(passed) == 1:
        out, axis, other = passed[0]
        if axis < rank - 2 and _size_at(analysis, other, axis, rank) > 1:
            units.freeze(out, f"{other!r} has as many that do not shrink")
    elif len(passed) == 2 and passed[0][1] == passed[1][1] < rank - 2:
        units.tie(passed[0][0], passed[1][0])
        out = passed[0][0]
    elif passed:
        for labels, _, _ in passed:
            units.freeze(labels, f"{node.output[0]!r} is a table of two axes that could both shrink")
    analysis.put(node.output[0], units.canonical(out))


def _size_at(analysis: Analysis, name: str, axis: int, rank: int) -> int:
    """Size of a tensor along an axis counted as in a tensor of that rank."""
    shape = analysis.shape(name)
    return shape[axis - rank + len(shape)] if axis >= rank - len(shape) else 1


def _separated(analysis: Analysis, name: str, rank: int) -> Labels:
    """Labels of a factor that run along its heads or along its last two axes, not along both."""
    labels = analysis.of(name)
    labels = labels.reshape((1,) * (rank - labels.ndim) + labels.shape)
    heads = tuple(axis for axis in varying(labels) if axis < rank - 2)
    rest = tuple(axis for axis in varying(labels) if axis >= rank - 2)
    if heads and rest:
        labels = analysis.units.tie_along(labels, rest if analysis.attention == "heads" else heads)
    if len(varying(labels)) > 1:
        analysis.units.freeze(labels, f"{name!r} could shrink along several axes at once")
    return labels


def _convolution(analysis: Analysis, node: onnx.NodeProto) -> None:
    """Conv and ConvTranspose: input channels end, kernels make new ones; groups go whole or lose the same channels."""
    data, weight = node.input[:2]
    if not analysis.constant(weight) or (
        len(node.input) > 2 and node.input[2] and not analysis.constant(node.input[2])
    ):
        analysis.refuse(node, f"{node.op_type} {node.name or node.output[0]!r} computes its weights")
        return
    units, rank = analysis.units, len(analysis.shape(data))
    groups = analysis.attribute(node, "group", 1)
    labels = units.tie_along(analysis.of(data), tuple(axis for axis in range(rank) if axis != 1))
    channels = np.broadcast_to(labels.ravel(), analysis.shape(data)[1])
    source, target = (1, 0) if node.op_type == "Conv" else (0, 1)
    if groups == 1:
        analysis.made.setdefault(weight, target)
        units.tie(analysis.axis(weight, source), channels)
        made = analysis.axis(weight, target)
    else:
        made = _grouped(analysis, node, channels, groups)
    if len(node.input) > 2 and node.input[2]:
        units.tie(analysis.axis(node.input[2], 0), made)
    analysis.put(node.output[0], made.reshape([1, -1] + [1] * (rank - 2)))


def _grouped(analysis: Analysis, node: onnx.NodeProto, channels: Labels, groups: int) -> Labels:
    """Input channels [groups, inputs]; weights are [outputs, inputs] (Conv) or [groups · inputs, outputs / group].

    Few channels a group (depthwise): a whole group goes, with all it reads and makes. Many: every group loses the
    same positions.
    """
    units, weight, transposed = analysis.units, node.input[1], node.op_type == "ConvTranspose"
    outputs = analysis.shape(node.output[0])[1]
    blocks = channels.reshape(groups, -1)
    if groups >= blocks.shape[1]:
        units.tie_along(blocks, (1,))
        made = np.repeat(blocks[:, 0], outputs // groups)
        analysis.made.setdefault(weight, 0)
        units.tie(analysis.axis(weight, 0), channels if transposed else made)
        analysis.freeze_axis(weight, 1, f"{weight!r} is one group's")
        return made
    units.tie_along(blocks, (0,))
    analysis.made.setdefault(weight, 1 if transposed else 0)
    if transposed:
        units.tie(analysis.axis(weight, 0), channels)
        return np.tile(analysis.axis(weight, 1), groups)
    made = analysis.axis(weight, 0)
    units.tie_along(made.reshape(groups, -1), (0,))
    units.tie(analysis.axis(weight, 1), blocks[0])
    return made


def _recurrent(analysis: Analysis, node: onnx.NodeProto) -> None:
    """LSTM, GRU, RNN: a hidden unit is one row of every gate, one column of R, and one feature of the result.

    X is [steps, batch, inputs] (with `layout` 1 the batch comes first), W [directions, gates · hidden, inputs],
    R [directions, gates · hidden, hidden], B [directions, 2 · gates · hidden], states [directions, batch, hidden],
    peepholes [directions, 3 · hidden]. Directions lose the same positions, which of them being arbitrary.
    """
    units, gates = analysis.units, GATES[node.op_type]
    names = [*node.input, *[""] * (8 - len(node.input))]
    data, weight, recurrence, bias, _, hidden_state, cell_state, peepholes = names
    if not all(analysis.constant(name) for name in (weight, recurrence, bias, peepholes) if name):
        analysis.refuse(node, f"{node.op_type} {node.name or node.output[0]!r} computes its weights")
        return
    labels = units.tie_along(analysis.of(data), (0, 1))
    units.tie(analysis.axis(weight, 2), labels.ravel())
    analysis.made.setdefault(weight, 1)
    analysis.made.setdefault(recurrence, 1)
    made = analysis.axis(recurrence, 2)
    units.tie(analysis.axis(weight, 1), np.tile(made, gates))
    units.tie(analysis.axis(recurrence, 1), np.tile(made, gates))
    if bias:
        units.tie(analysis.axis(bias, 1), np.tile(made, 2 * gates))
    if peepholes:
        units.tie(analysis.axis(peepholes, 1), np.tile(made, 3))
    for state in filter(None, (hidden_state, cell_state)):
        if analysis.constant(state):
            units.tie(analysis.axis(state, 2), made)
        else:
            units.tie(units.tie_along(analysis.of(state), (0, 1)).ravel(), made)
    for name in filter(None, node.output):
        analysis.put(name, made.reshape([1] * (len(analysis.shape(name)) - 1) + [-1]))


CONTRACTIONS: dict[str, Callable[[Analysis, onnx.NodeProto], None]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "MatMul": _matmul,
    "RNN": _recurrent,
}
