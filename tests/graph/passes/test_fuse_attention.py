"""FuseAttention: a reference detector's attention, compared by verification, and attention of another kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.artifact import TorchArtifact
from hauberk.graph.export import export
from hauberk.graph.model import parse
from hauberk.graph.passes import FuseAttention
from hauberk.graph.verify import verify
from hauberk.models import WindowTransformer
from hauberk.recipe import Context, Recipe
from hauberk.tensors import Signature, TensorSpec


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", 8, 6)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
    )
    module = WindowTransformer(6, window=8, width=16, heads=2, layers=2, outputs=2).eval()
    return export(TorchArtifact(module, signature, "0" * 64))


def test_every_layer_s_attention_is_one_node(transformer, operators):
    records = np.random.default_rng(0).random((64, 8, 6), dtype=np.float32)
    context = Context(calibration=records, bounds=(np.zeros((8, 6), np.float32), np.ones((8, 6), np.float32)))
    result = Recipe("r", (FuseAttention(),)).apply(transformer, context, verify)
    assert result.history[0].kept, result.history[0].verdict.reason
    left = operators(result)
    assert (left.count("MultiHeadAttention"), left.count("Softmax"), left.count("Transpose")) == (2, 0, 0)


def test_a_softmax_over_queries_is_no_attention(transformer, context_of):
    proto = parse(transformer.model)
    for node in proto.graph.node:
        if node.op_type == "Softmax":
            node.attribute[0].i = 2
    other = type(transformer)(proto.SerializeToString(), transformer.signature, transformer.origin)
    assert FuseAttention().apply(other, context_of(4)) is other


@pytest.mark.parametrize(("merge", "left"), [("0, 4, 8", ["MultiHeadAttention"]), ("1, -1, 8", None)])
def test_heads_must_be_merged_back_as_they_were_split(graph_artifact, rewritten, merge, left):
    """[1, N · T, 8] holds the same numbers as [N, T, 8], and is another shape."""
    split = " ".join(
        f"{name}r = Reshape({name}, split) {name}t = Transpose<perm = {order}>({name}r)"
        for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))
    )
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[n,4,8] q, float[n,4,8] k, float[n,4,8] v)'
        f" => (float[a,b,8] y) <int64[4] split = {{0, 4, 2, 4}}, int64[3] merge = {{{merge}}}> {{ {split}"
        " s = MatMul(qt, kt) p = Softmax(s) w = MatMul(p, vt) t = Transpose<perm = [0, 2, 1, 3]>(w)"
        " y = Reshape(t, merge) }"
    )
    before = graph_artifact(text)
    found = rewritten(FuseAttention(), before)
    assert found == left if left else "MultiHeadAttention" not in found
