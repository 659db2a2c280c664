"""A product with one-hot columns becomes a look-up of the rows that they select."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from hauberk.graph.passes.linear import Doubles, Layer, read_layer
from hauberk.graph.passes.rewriting import (
    Array,
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    fits,
    integer,
    is_operator,
    producer,
    rank_of,
    size_of,
)
from hauberk.recipe import Close, Contract

_MOST_ROWS = 1 << 16
"""A table of more rows than this is not built: the values that codes are compared with lie too far apart."""

_LARGER = 4
"""How many times the numbers of the rows of weights that it replaces a table may hold, where it is not small anyway."""
_SMALL = 1 << 18

_EXACT_INTEGERS = 1 << 24
"""Below this magnitude float32 holds every integer, so that comparing codes as floats equals comparing them as such."""

_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


@dataclass(frozen=True)
class _OneHot:
    """Columns that are 1 where a code has a certain value and 0 elsewhere.

    Attributes:
        codes: Int64 or int32 [..., C].
        column: For each one-hot column, which of the C codes it looks at; int64 [T].
        value: For each one-hot column, the code that lights it; int64 [T].
    """

    codes: ir.Value
    column: Array
    value: Array


class OneHotToGather(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="one-hot-to-gather"):
    """Replaces the product of one-hot columns with weights by a Gather of table rows and a sum.

        concat(x, onehot(codes)) W + b  =  x W_x + (table[code₁ + offset₁] + table[code₂ + offset₂] + …)

    Row v of a code's part of the table is the sum of the weight rows of all columns that value v lights (usually one).
    Each part begins and ends with a row of zeros, and codes are clamped to it: a code that lights no column, however
    far out of range, adds nothing and cannot make the Gather fail. The bias lies in the first part of the table.

    Legal when:

    1. the one-hot columns are `Cast(Equal(codes, constants))`, the codes int64 or int32 [..., 1] spread over the
       columns by broadcasting, or [..., C] cast to float32 and spread by a product with a 0/1 matrix of one 1 a column
       (exact for all codes that a column looks for, below 2**24 in magnitude);
    2. they are the input of a Gemm or MatMul, alone or as one part of a Concat along the columns, whose other users, if
       any, keep it;
    3. the weights are finite: a zero times infinity would be NaN in the product and is nothing in the look-up;
    4. the table is not many times as large as the weights that it replaces (values that lie far apart leave it empty
       rows), and every code has a neighbour in its type that lights nothing.

    Close, not exact: sums are taken in another order.
    """

    @property
    def contract(self) -> Contract:
        """Sums in another order."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:
        """Take the first one-hot part out of a layer's input."""
        layer = _layer(node)
        if layer is None:
            return None
        concat = producer(node.inputs[0], "Concat")
        parts = list(concat.inputs) if concat is not None else [node.inputs[0]]
        rank = rank_of(node.inputs[0])
        if rank is None or (concat is not None and integer(concat, "axis") % rank != rank - 1):
            return None
        start = 0
        for position, part in enumerate(parts):
            width = size_of(part, -1)
            if width is None or rank_of(part) != rank:
                return None
            found = _one_hot(part, rank)
            if isinstance(found, Refusal):
                return found
            if found is not None:
                rest = [value for k, value in enumerate(parts) if k != position and value is not None]
                rows = slice(start, start + width)
                return _looked_up(node, layer, found, rows, rest, editor)
            start += width
        return None


def _layer(node: ir.Node) -> Layer | None:
    """The layer, weights only; its bias may be anything and is read by `_looked_up`."""
    if not is_operator(node, "Gemm", "MatMul") or (rank_of(node.inputs[0]) or 0) < 2:
        return None
    if node.op_type == "Gemm" and node.attributes.get_float("beta", 1.0) != 1.0:
        return None
    bare = ir.node(node.op_type, node.inputs[:2], attributes=dict(node.attributes))
    layer = read_layer(bare)
    for position in range(2):
        bare.replace_input_with(position, None)
    return None if layer is None else Layer(node, layer.weight, None, layer.dtype)


def _looked_up(
    node: ir.Node, layer: Layer, found: _OneHot, rows: slice, rest: list[ir.Value], editor: Editor
) -> Replacement | Refusal:
    """The layer without the one-hot rows of its weights, plus the look-up."""
    old = node.outputs[0]
    bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    constant = constant_of(bias)
    if constant is not None and (
        constant.size not in (1, layer.outputs) or constant.shape[-1:] not in ((), (constant.size,))
    ):
        return Refusal("the bias is not one number for each column")
    table = _table(found, layer.weight[rows], None if constant is None else constant.astype(np.float64).reshape(-1))
    if isinstance(table, Refusal):
        return table
    rounded = fits(table.rows, layer.dtype)
    if rounded is None:
        return Refusal("the table would overflow")
    nodes, result = _look_up(found.codes, table, rounded, old, editor)
    if bias is not None and constant is None:
        nodes.append(editor.node("Add", [result, bias], f"{old.name}_biased", like=old))
        result = nodes[-1].outputs[0]
    if not rest:
        return Replacement((result,), tuple(nodes))
    source = rest[0]
    if len(rest) > 1:
        nodes.append(editor.node("Concat", rest, f"{old.name}_rest", attributes={"axis": -1}))
        source = nodes[-1].outputs[0]
    kept = fits(np.delete(layer.weight, rows, axis=0), layer.dtype)
    if kept is None:
        return Refusal("the weights would overflow")
    transposed = node.op_type == "Gemm" and integer(node, "transB")
    weight = editor.constant(kept.T if transposed else kept, f"{old.name}_weight")
    attributes = {"transB": 1} if transposed else {}
    if rank_of(node.inputs[0]) == 2:
        nodes.append(editor.node("Gemm", [source, weight, result], f"{old.name}_rest", like=old, attributes=attributes))
    else:
        nodes.append(editor.node("MatMul", [source, weight], f"{old.name}_rest", like=old))
        nodes.append(editor.node("Add", [nodes[-1].outputs[0], result], f"{old.name}_joined", like=old))
    return Replacement((nodes[-1].outputs[0],), tuple(nodes))


@dataclass(frozen=True)
class _Table:
    """Float64 rows [R, out]; where each code's part begins, and the lowest and highest row of it: int64 [C]."""

    rows: Doubles
    lowest: Array
    highest: Array
    offset: Array


def _table(found: _OneHot, weight: Doubles, bias: Doubles | None) -> _Table | Refusal:
    """One part a code: a row of zeros, the rows of its values, a row of zeros."""
    parts: list[Doubles] = []
    lowest, highest, offsets = [], [], []
    begin = 0
    ends = np.iinfo(found.codes.dtype.numpy() if found.codes.dtype is not None else np.int64)
    for code in range(int(found.column.max()) + 1):
        mine = found.column == code
        values = found.value[mine]
        if not values.size:
            return Refusal("a code lights no column at all")
        low, high = int(values.min()) - 1, int(values.max()) + 1
        if low < ends.min or high > ends.max:
            return Refusal("a value at the end of the codes' type leaves no code for nothing")
        if high - low + 1 > _MOST_ROWS:
            return Refusal("the values that codes are compared with lie too far apart for a table")
        if (begin + high - low + 1) * weight.shape[1] > max(_LARGER * weight.size, _SMALL):
            return Refusal("the table would be many times as large as the weights")
        part = np.zeros((high - low + 1, weight.shape[1]))
        np.add.at(part, values - low, weight[mine])
        parts.append(part if bias is None or parts else part + bias)
        lowest.append(low)
        highest.append(high)
        offsets.append(begin - low)
        begin += len(part)
    return _Table(np.concatenate(parts), *(np.array(v, dtype=np.int64) for v in (lowest, highest, offsets)))


def _look_up(
    codes: ir.Value, table: _Table, rows: Array, like: ir.Value, editor: Editor
) -> tuple[list[ir.Node], ir.Value]:
    """Clamp, shift, gather, sum: [..., C] codes to [..., out]."""
    dtype = codes.dtype.numpy() if codes.dtype is not None else np.dtype(np.int64)
    name = like.name or "table"
    nodes: list[ir.Node] = []

    def append(operator: str, inputs: list[ir.Value], suffix: str, **attributes: int) -> ir.Value:
        nodes.append(editor.node(operator, inputs, f"{name}_{suffix}", attributes=attributes))
        return nodes[-1].outputs[0]

    if len(set(table.lowest)) == len(set(table.highest)) == 1:
        bounds = (editor.constant(v[0].astype(dtype), f"{name}_code_bound") for v in (table.lowest, table.highest))
        clamped = append("Clip", [codes, *bounds], "clamped")
    else:
        low, high = (editor.constant(v.astype(dtype), f"{name}_code_bound") for v in (table.lowest, table.highest))
        clamped = append("Min", [append("Max", [codes, low], "raised"), high], "clamped")
    offset = editor.constant(table.offset.astype(dtype), f"{name}_offset")
    row = append("Add", [clamped, offset], "row")
    gathered = append("Gather", [editor.constant(rows, f"{name}_table"), row], "gathered", axis=0)
    # Counted from the front: ONNX Runtime 1.31 gives an empty batch another shape where the axis is negative.
    axis = editor.constant(np.array([(rank_of(codes) or 2) - 1], dtype=np.int64), f"{name}_axis")
    if len(table.offset) == 1:
        result = append("Squeeze", [gathered, axis], "selected")
    else:
        result = append("ReduceSum", [gathered, axis], "selected", keepdims=0)
    result.type, result.shape = like.type, like.shape
    return nodes, result


def _one_hot(part: ir.Value | None, rank: int) -> _OneHot | Refusal | None:  # noqa: PLR0911 - one return a rule
    """Read one-hot columns [..., T] of that many dimensions; `None` where a value is something else."""
    node = producer(part, "Cast", "OneHot")
    if node is None:
        return None
    if node.op_type == "OneHot":
        return Refusal("OneHot lets negative codes count from the end; a table would need every row twice")
    compared = producer(node.inputs[0], "Equal")
    if compared is None or integer(node, "to") != ir.DataType.FLOAT:
        return None
    first, second = compared.inputs[0], compared.inputs[1]
    if constant_of(first) is not None:
        first, second = second, first
    values = constant_of(second)
    if first is None or values is None or values.ndim > rank or values.shape[-1:] not in ((), (values.size,)):
        return None
    values = values.reshape(-1)
    if first.dtype in _INTEGERS:
        if rank_of(first) != rank or size_of(first, -1) != 1:
            return Refusal("the codes are not one column")
        return _OneHot(first, np.zeros(len(values), dtype=np.int64), values.astype(np.int64))
    return _spread(first, values, rank)


def _spread(value: ir.Value, values: Array, rank: int) -> _OneHot | Refusal | None:
    """Codes [..., C] cast to float and spread over the columns by a product with a 0/1 matrix."""
    product = producer(value, "MatMul")
    cast = producer(product.inputs[0], "Cast") if product is not None else None
    matrix = constant_of(product.inputs[1]) if product is not None else None
    if product is None or cast is None or matrix is None or cast.inputs[0] is None:
        return None
    codes = cast.inputs[0]
    if codes.dtype not in _INTEGERS or integer(cast, "to") != ir.DataType.FLOAT or rank_of(codes) != rank:
        return None
    if matrix.ndim != 2 or matrix.shape[1] != len(values) or not np.array_equal(matrix.sum(axis=0), matrix.max(axis=0)):
        return Refusal("the codes are not spread by a matrix of one 1 a column")
    if not np.isin(matrix, (0, 1)).all() or not (matrix == 1).any(axis=0).all():
        return Refusal("the codes are not spread by a matrix of one 1 a column")
    if not np.array_equal(values, np.rint(values)) or np.abs(values).max(initial=0) >= _EXACT_INTEGERS:
        return Refusal("codes are compared with values that float32 does not hold exactly")
    return _OneHot(codes, matrix.argmax(axis=0), values.astype(np.int64))
