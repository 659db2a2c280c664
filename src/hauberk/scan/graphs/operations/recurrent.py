"""Recurrent layers and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hauberk.scan.graphs.call import Call, rule
from hauberk.scan.graphs.elements import FLOAT, INT32
from hauberk.scan.graphs.operations.elementwise import like
from hauberk.scan.graphs.values import Tensor, UnmodelledError

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1, "DynamicQuantizeLSTM": 4}


@rule("LSTM", "GRU", "RNN")
@rule("DynamicQuantizeLSTM", domain="com.microsoft")
def recurrent(call: Call) -> Sequence[Tensor]:
    """Steps over a sequence [steps, records, inputs], or with records first where `layout` is 1."""
    source, weight, hidden_weight = call.input(0), call.input(1), call.input(2)
    if source.rank != 3 or weight.rank != 3:
        raise call.misfit(f"an input of {source.rank} dimensions")
    steps, records = source.shape[:2] if not call.integer("layout") else source.shape[1::-1]
    directions = weight.shape[0]
    hidden = call.integer("hidden_size") or hidden_weight.shape[-1]
    call.operations = float(steps * records) * (weight.elements + hidden_weight.elements) or 1.0
    call.scratch = 4.0 * steps * records * _GATES[call.operator] * hidden
    if call.integer("layout"):
        shapes = [(records, steps, directions, hidden)] + 2 * [(records, directions, hidden)]
    else:
        shapes = [(steps, directions, records, hidden)] + 2 * [(directions, records, hidden)]
    return [call.result(source.element, shape) for shape in shapes]


@rule("Attention")
def attention(call: Call) -> Sequence[Tensor]:
    """Scaled products of queries and keys: [records, heads, steps, width], or [records, steps, heads · width]."""
    query, key, value = (call.input(index) for index in range(3))
    if query.rank not in {3, 4} or key.rank != query.rank or value.rank != query.rank:
        raise UnmodelledError(f"queries of {query.rank} dimensions")
    heads = query.shape[1] if query.rank == 4 else call.integer("q_num_heads", 1)
    kv_heads = key.shape[1] if key.rank == 4 else call.integer("kv_num_heads", heads)
    if heads < 1 or kv_heads < 1:
        raise UnmodelledError(f"{heads} heads of queries, {kv_heads} of keys")
    past = call.optional(4)
    before = past.shape[-2] if past is not None and past.rank == 4 else 0
    keys = key.shape[-2] + before
    width = query.shape[-1] if query.rank == 4 else query.shape[-1] // heads
    value_width = value.shape[-1] if value.rank == 4 else value.shape[-1] // kv_heads
    records, steps = query.shape[0], query.shape[-2]
    dims = (records, heads, steps, value_width) if query.rank == 4 else (records, steps, heads * value_width)
    scores = records * heads * steps * keys
    call.operations = float(scores) * (width + value_width + 20)
    call.scratch = 8.0 * scores
    return [
        call.result(query.element, dims),
        call.result(key.element, (records, kv_heads, keys, width)),
        call.result(value.element, (records, kv_heads, keys, value_width)),
        call.result(query.element, (records, heads, steps, keys)),
    ]


@rule("RotaryEmbedding")
@rule("RotaryEmbedding", "GemmaRotaryEmbedding", "MRotaryEmbedding", domain="com.microsoft")
def rotary(call: Call) -> Sequence[Tensor]:
    """The shape of the first input."""
    return [like(call, call.input(0))]


def _heads(call: Call, name: str) -> int:
    """Heads of an attention.

    Raises:
        UnmodelledError: There are none, by which runtimes divide.
    """
    if (heads := call.integer(name)) < 1:
        raise UnmodelledError(f"{heads} heads")
    return heads


@rule("Attention", "QAttention", domain="com.microsoft")
def fused_attention(call: Call) -> Sequence[Tensor]:
    """Projection and attention in one: [records, steps, inputs] times [inputs, 3 · width]."""
    source, weight = call.input(0), call.input(1)
    if source.rank != 3 or weight.rank != 2 or not call.has(2) or call.has(8 if call.operator == "QAttention" else 4):
        raise UnmodelledError("attention without a bias, with a past, or of other dimensions")
    records, steps, _ = source.shape
    sizes = call.integers("qkv_hidden_sizes")
    width = sizes[2] if sizes and len(sizes) == 3 else weight.shape[1] // 3
    heads = _heads(call, "num_heads")
    call.operations = float(records * steps) * weight.elements + 2.0 * records * steps * steps * width
    call.scratch = 4.0 * records * steps * weight.shape[1] + 8.0 * records * heads * steps * steps
    present = call.result(FLOAT, (2, records, heads, steps, width // heads))
    return [call.result(FLOAT, (records, steps, width)), present]


@rule("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", domain="com.microsoft")
@rule("GroupQueryAttention", domain="com.microsoft")
def projected_attention(call: Call) -> Sequence[Tensor]:
    """Attention on what was projected before, with what earlier steps left."""
    query = call.input(0)
    if query.rank != 3 or (call.gaps and call.operator.startswith("Decoder")):
        raise UnmodelledError(f"queries of {query.rank} dimensions, or results without a name")
    records, steps, width = query.shape
    grouped = call.operator == "GroupQueryAttention"
    heads = _heads(call, "num_heads")
    kv_heads = _heads(call, "kv_num_heads") if grouped else heads
    if grouped and not call.has(1):
        width = width * heads // (heads + 2 * kv_heads)
    head = max(1, width // heads)
    past_at = 3 if grouped else 6
    past = call.optional(past_at)
    before = past.shape[2] if past is not None and past.rank == 4 else 0
    new = steps
    if call.has(1) and not grouped:
        key = call.input(1)
        new = key.shape[1] if key.rank == 3 else key.shape[2] if key.rank == 4 else steps
    keys = before + new
    value_width = width
    if not grouped and call.has(2):
        value = call.input(2)
        value_width = (
            value.shape[2] if value.rank == 3 else value.shape[1] * value.shape[3] if value.rank == 4 else width
        )
    scores = records * heads * steps * keys
    call.operations = float(scores) * (2 * head + 20)
    call.scratch = 8.0 * scores
    present = (records, kv_heads, keys, head)
    return [
        call.result(query.element, (records, steps, value_width)),
        call.result(query.element, present),
        call.result(query.element, (*present[:3], max(1, value_width // heads) if not grouped else head)),
        call.result(query.element, (records, heads, steps, keys)),
    ]


@rule("EmbedLayerNormalization", domain="com.microsoft")
def embedding(call: Call) -> Sequence[Tensor]:
    """A vector for each word of [records, steps], normalised."""
    words, table = call.input(0), call.input(2)
    if words.rank != 2 or table.rank != 2:
        raise UnmodelledError("words of other dimensions")
    dims = (*words.shape, table.shape[1])
    result = call.result(table.element, dims)
    call.operations = 8.0 * result.elements
    return [result, call.result(INT32, (words.shape[0],)), call.result(table.element, dims)]


@rule("CausalConvWithState")
@rule("CausalConvWithState", domain="com.microsoft")
def causal(call: Call) -> Sequence[Tensor]:
    """A convolution that looks back only, with its state."""
    source, weight = call.input(0), call.input(1)
    if source.rank != 3:
        raise UnmodelledError(f"an input of {source.rank} dimensions")
    call.operations = float(source.elements) * max(1, math.prod(weight.shape[1:]))
    kernel = weight.shape[-1] if weight.shape else 1
    return [like(call, source), call.result(source.element, (*source.shape[:2], max(0, kernel - 1)))]


@rule("GatherBlockQuantized", domain="com.microsoft")
def gather_quantized(call: Call) -> Sequence[Tensor]:
    """Rows of a table of few bits, as numbers."""
    table, indices, scales = call.input(0), call.input(1), call.input(2)
    if call.integer("gather_axis") != 0:
        raise UnmodelledError("another axis than the first")
    packing = 2 if table.element == 2 and call.integer("bits", 4) == 4 else 1
    row = math.prod(table.shape[1:]) * packing
    return [call.result(scales.element, (*indices.shape, row))]
