"""Codebooks: the levels, the file, what ONNX Runtime makes of it at load."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, reference
from sklearn.cluster import KMeans
from torch import nn

from hauberk.artifact import TorchArtifact
from hauberk.compress.cluster import Codebook, fitted, k_means, nearest, powers_of_two
from hauberk.compress.quantize import QuantizeWeights
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.graph.verify import verify
from hauberk.recipe import Recipe
from hauberk.tensors import Signature, TensorSpec


def decoded(artifact):
    """Float tensors of the graph by name, as onnx's own reference implementation computes them."""
    model = onnx.load_model_from_string(artifact.model)
    names = {name.removesuffix("/indices") for name in (t.name for t in model.graph.initializer) if "/indices" in name}
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(names))
    nodes = [node for node in model.graph.node if node.op_type in ("Cast", "Gather", "Mul")]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(nodes)
    values = reference.ReferenceEvaluator(model).run(None, {})
    return dict(zip(sorted(names), values, strict=True))


def test_k_means_is_as_good_as_scikit_learn_s():
    values = np.random.default_rng(0).normal(size=(100, 50)).astype(np.float32)
    levels = k_means(values, 8)
    theirs = KMeans(8, n_init=10, random_state=0).fit(values.reshape(-1, 1)).inertia_
    ours = np.square(levels[nearest(values, levels)] - values).sum()
    assert ours < 1.005 * theirs


def test_k_means_keeps_values_that_are_few_exactly():
    values = np.array([[0.5, -1, 0.5], [0.25, 0.25, -1]], np.float32)
    book = fitted(values, 2, "k-means")
    np.testing.assert_array_equal(book.levels[book.indices], values)


@pytest.mark.parametrize(
    ("entries", "levels"),
    [(2, [-1, 0]), (4, [-1, -0.5, 0, 1]), (8, [-1, -0.5, -0.25, -0.125, 0, 0.25, 0.5, 1])],
)
def test_powers_of_two(entries, levels):
    assert powers_of_two(entries).tolist() == levels


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40), st.integers(1, 16))
def test_every_value_gets_its_nearest_level(values, entries):
    array = np.array(values, np.float32)
    levels = k_means(array, entries)
    assert 1 <= len(levels) <= entries
    found = np.abs(levels[nearest(array, levels)] - array)
    np.testing.assert_allclose(found, np.abs(levels[:, None] - array).min(axis=0), atol=1e-6)


@pytest.mark.parametrize("levels", ["k-means", "powers-of-two"])
def test_the_graph_computes_with_the_nearest_levels(mlp, context, answers, levels):
    core = mlp(20, 33, 17, 2)  # odd sizes: the last byte of indices is half empty
    result = Codebook(levels=levels, smallest=64).apply(core, context)
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(core.model).graph.initializer}
    found = decoded(result)
    assert set(found) == {"w0", "w1"}  # w2 is small
    for name, value in found.items():
        assert np.abs(value - weights[name]).max() < 0.3 * np.abs(weights[name]).max()
    rebuilt = onnx.load_model_from_string(core.model)
    for tensor in rebuilt.graph.initializer:
        if tensor.name in found:
            tensor.CopyFrom(numpy_helper.from_array(found[tensor.name].astype(np.float32), tensor.name))
    plain = type(core)(rebuilt.SerializeToString(), core.signature, core.origin)
    np.testing.assert_array_equal(answers(result, context.calibration), answers(plain, context.calibration))


def test_onnx_runtime_runs_the_same_kernels_as_without(mlp, context, fused):
    core = mlp(20, 64, 32, 2)
    assert fused(Codebook().apply(core, context)) == fused(core)


def test_the_twin_of_a_codebook_graph_has_levels_to_train_and_is_written_back(mlp, context, answers):
    result = Codebook(smallest=64).apply(mlp(20, 33, 17, 2), context)
    twin = Twin(result)
    with torch.no_grad():
        found = twin(torch.from_numpy(context.calibration)).numpy()
    np.testing.assert_allclose(found, answers(result, context.calibration), rtol=1e-4, atol=1e-5)
    assert {"w0/codebook", "w1/codebook", "w0/scale"} <= {name for name, _ in twin.named_parameters()}
    np.testing.assert_array_equal(
        answers(twin.to_artifact(), context.calibration), answers(result, context.calibration)
    )


def test_the_file_is_at_most_a_fifth(context):
    torch.manual_seed(0)
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", 119)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    )
    module = nn.Sequential(nn.Linear(119, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 2)).eval()
    core = export(TorchArtifact(module, signature, "0" * 64))
    assert len(Codebook().apply(core, context).model) < 0.2 * len(core.model)


def test_more_bits_lose_less(mlp, context, answers):
    core = mlp(20, 64, 32, 2)
    before = answers(core, context.calibration)
    errors = []
    for bits in (1, 2, 3, 4):
        after = answers(Codebook(bits=bits).apply(core, context), context.calibration)
        errors.append(np.square(after - before).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 * np.square(before).mean()


def test_layers_that_keep_their_floats_are_named(mlp, context):
    """Those whose weights the graph still holds as float32 matrices."""
    core, step = mlp(20, 33, 17, 2), Codebook(smallest=64)
    assert step.notes(core) == ("Gemm 'logits' stays in float: 34 weights are too few to gain",)
    (record,) = Recipe("codebook", (step,)).apply(core, context, verify).history
    assert record.notes == step.notes(core)
    floats = [
        tensor.name
        for tensor in onnx.load_model_from_string(step.apply(core, context).model).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and min(tensor.dims, default=0) > 1 and len(tensor.dims) == 2
    ]
    assert floats == ["w2"]


def test_weights_that_are_not_finite_are_refused(as_core, context):
    weight = np.ones((20, 20), np.float32)
    weight[3, 4] = np.nan
    nodes = [
        onnx.helper.make_node("MatMul", ["features", "bad"], ["h"]),
        onnx.helper.make_node("MatMul", ["h", "w"], ["logits"]),
    ]
    with pytest.raises(InputError, match="weights 'bad' are not finite"):
        Codebook().apply(as_core(nodes, {"bad": weight, "w": np.ones((20, 2), np.float32)}), context)


@pytest.mark.parametrize("step", [Codebook(smallest=16), QuantizeWeights(smallest=16)], ids=lambda step: step.name)
def test_a_graph_that_cannot_be_brought_to_four_bits_is_refused(step, as_core, context):
    """onnx's converter wants to know the size of the batch before it writes a Gemm of opset 6 anew."""
    nodes = [onnx.helper.make_node("Gemm", ["features", "w", "b"], ["logits"])]
    constants = {"w": np.ones((20, 2), np.float32), "b": np.ones(2, np.float32)}
    core = as_core(nodes, constants, opset=6)
    with pytest.raises(InputError, match=f"{step.name}: onnx cannot bring the graph to opset 21"):
        step.apply(core, context)


@pytest.mark.parametrize("bits", [0, 5])
def test_impossible_bits_are_refused(bits):
    with pytest.raises(InputError, match="1 to 4 are right"):
        Codebook(bits=bits)
