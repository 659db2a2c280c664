"""The nodes of multi-head attention become one, for ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from hauberk.graph.passes.merge_transposes import order
from hauberk.graph.passes.rewriting import (
    Editor,
    Refusal,
    Replacement,
    RewritePass,
    constant_of,
    integer,
    is_operator,
    producer,
    rank_of,
    size_of,
    used_once,
)
from hauberk.recipe import Close, Contract

_DOMAIN = "com.microsoft"
_HEADS_FIRST = [0, 2, 1, 3]
_KEYS_TURNED = [0, 2, 3, 1]


class FuseAttention(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="fuse-attention"):
    """Recognises scaled dot-product attention with several heads and writes ONNX Runtime's own operator for it.

        heads(x) = Transpose(Reshape(x, [N, T, h, d]), (0, 2, 1, 3))
        merge(softmax(heads(q) heads(k)ᵀ · s) heads(v))
            =  com.microsoft.MultiHeadAttention(q, k, v, num_heads=h, scale=s)

    Legal when:

    1. q, k and v are float32 [N, T, h · d], split into the same number of heads of known size, and merged back the way
       they were split;
    2. the softmax is over the last axis, and the scale a constant number, multiplied or divided by, or absent;
    3. there is no mask;
    4. nobody else uses the values between.

    Off by default: the result is no standard ONNX, and runs in ONNX Runtime alone. Close, not exact.
    """

    @property
    def contract(self) -> Contract:
        """Another implementation of the same sums."""
        return Close()

    def rewrite(self, node: ir.Node, editor: Editor) -> Replacement | Refusal | None:  # noqa: PLR0911 - one return a rule
        """Recognise the last Reshape."""
        if not is_operator(node, "Reshape"):
            return None
        merged = _transposed(node.inputs[0], _HEADS_FIRST)
        weighted = producer(merged, "MatMul")
        softmax = producer(weighted.inputs[0], "Softmax") if weighted is not None else None
        if weighted is None or softmax is None:
            return None
        scores, scale = _scaled(softmax.inputs[0])
        product = producer(scores, "MatMul")
        if product is None:
            return None
        query = _heads(product.inputs[0], _HEADS_FIRST)
        key = _heads(product.inputs[1], _KEYS_TURNED)
        value = _heads(weighted.inputs[1], _HEADS_FIRST)
        if query is None or key is None or value is None:
            return Refusal("queries, keys or values are not split into heads the usual way")
        between = (node.inputs[0], merged, weighted.inputs[0], softmax.inputs[0], scores)
        if not all(used_once(each) for each in between):
            return Refusal("a value between has another user")
        if scale is None or integer(softmax, "axis", -1) not in (-1, 3):
            return Refusal("the scale is no constant number, or the softmax not over the keys")
        sizes = {(part.count, part.size) for part in (query, key, value)}
        whole = query.count * query.size
        result = node.outputs[0]
        merged_back = size_of(result, -1) == whole and size_of(result, 1) == size_of(query.source, 1)
        if len(sizes) > 1 or rank_of(result) != 3 or not merged_back:
            return Refusal("heads differ in number or size, or are not merged back")
        if any(part.source.dtype != ir.DataType.FLOAT for part in (query, key, value)):
            return Refusal("it is not float32")
        editor.graph.opset_imports.setdefault(_DOMAIN, 1)
        sources = [part.source for part in (query, key, value)]
        attributes = {"num_heads": query.count, "scale": scale}
        name = f"{result.name}_attention"
        made = editor.node("MultiHeadAttention", sources, name, like=result, domain=_DOMAIN, attributes=attributes)
        return Replacement((made.outputs[0],), (made,))


@dataclass(frozen=True)
class _Heads:
    """A value [N, T, count * size] that is split into heads."""

    source: ir.Value
    count: int
    size: int


def _transposed(value: ir.Value | None, wanted: list[int]) -> ir.Value | None:
    """What a value is the transposition of, in that order of axes."""
    node = producer(value, "Transpose")
    return node.inputs[0] if node is not None and order(node) == wanted else None


def _heads(value: ir.Value | None, wanted: list[int]) -> _Heads | None:
    split = _transposed(value, wanted)
    reshape = producer(split, "Reshape")
    source = reshape.inputs[0] if reshape is not None else None
    count, size = size_of(split, 2), size_of(split, 3)
    if source is None or count is None or size is None or rank_of(source) != 3 or rank_of(split) != 4:
        return None
    steps = size_of(source, 1)
    kept = steps is not None and steps == size_of(split, 1) and size_of(source, 2) == count * size
    return _Heads(source, count, size) if kept else None


def _scaled(value: ir.Value | None) -> tuple[ir.Value | None, float | None]:
    """The product under a scale, and the scale."""
    node = producer(value, "Div", "Mul")
    if node is None:
        return value, 1.0
    number = constant_of(node.inputs[1])
    if number is None or number.size != 1 or not float(number.reshape(())):
        return node.inputs[0], None
    scale = float(number.reshape(()))
    return node.inputs[0], 1 / scale if node.op_type == "Div" else scale
