"""FuseAttention: a reference detector's attention, compared by verification, and attention of another kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.artifact import TorchArtifact
from hauberk.graph.export import export
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
    from hauberk.graph.model import parse

    proto = parse(transformer.model)
    for node in proto.graph.node:
        if node.op_type == "Softmax":
            node.attribute[0].i = 2
    other = type(transformer)(proto.SerializeToString(), transformer.signature, transformer.origin)
    assert FuseAttention().apply(other, context_of(4)) is other
