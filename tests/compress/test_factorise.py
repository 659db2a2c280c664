"""Layers that are of low rank are split without loss, others to the error that Eckart and Young foretell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.compress.factorise import Factorise, factors
from hauberk.compress.tuning import Tuning
from hauberk.errors import ContractError, InputError
from hauberk.graph.model import BATCH, assemble
from hauberk.graph.operations import operations
from hauberk.recipe import Context
from hauberk.tensors import Signature, TensorSpec


def core_of(nodes, constants, record, outputs):
    signature = Signature(
        inputs=(TensorSpec("features", "float32", (BATCH, *record)),),
        outputs=(TensorSpec("logits", "float32", (BATCH, outputs)),),
    )
    return OnnxArtifact(assemble("core", nodes, constants, signature), signature, origin="0" * 64)


def bare(record):
    return Context(np.zeros((10, *record), np.float32), (np.zeros(record, np.float32), np.ones(record, np.float32)))


def run(core, records):
    session = onnxruntime.InferenceSession(core.model, providers=["CPUExecutionProvider"])
    return session.run(None, {"features": records})[0]


def kinds(core):
    return [node.op_type for node in onnx.load_model_from_string(core.model).graph.node]


def shapes(core):
    return {tensor.name: tuple(tensor.dims) for tensor in onnx.load_model_from_string(core.model).graph.initializer}


def low_rank(generator, rows, columns, rank):
    return (generator.normal(size=(rows, rank)) @ generator.normal(size=(rank, columns))).astype(np.float32)


def assert_same(before, after, record):
    records = np.random.default_rng(5).normal(size=(6, *record)).astype(np.float32)
    expected = run(before, records)
    np.testing.assert_allclose(run(after, records), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 9), st.integers(0, 99))
def test_factors_are_the_nearest_of_their_rank(rows, columns, rank, seed):
    """Squared error: the sum of the squared singular values left out."""
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    rank = min(rank, rows, columns)
    first, second = factors(matrix, lambda values: rank)
    assert first.shape == (rows, rank)
    left_out = np.linalg.svd(matrix, compute_uv=False)[rank:]
    error = np.sum((first.astype(np.float64) @ second - matrix) ** 2)
    assert error == pytest.approx(np.sum(left_out**2), abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"transB": 1}, {"transB": 1, "alpha": 0.5, "beta": 2.0}])
def test_a_gemm_of_rank_three(options):
    generator = np.random.default_rng(0)
    weight = low_rank(generator, 20, 16, 3)
    constants = {
        "w": weight.T.copy() if options.get("transB") else weight,
        "b": generator.normal(size=16).astype(np.float32),
    }
    core = core_of([helper.make_node("Gemm", ["features", "w", "b"], ["logits"], **options)], constants, (20,), 16)
    result = Factorise(energy=0.99999, tuning=None).apply(core, bare((20,)))
    assert shapes(result) == {"b": (16,), "w/first": (20, 3), "w/second": (3, 16)}
    assert_same(core, result, (20,))


def test_a_mat_mul_over_steps():
    weight = low_rank(np.random.default_rng(0), 12, 12, 2)
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("ReduceMean", ["h", "axes"], ["logits"], keepdims=0),
    ]
    core = core_of(nodes, {"w": weight, "axes": np.array([1])}, (4, 12), 12)
    result = Factorise(energy=0.99999, tuning=None).apply(core, bare((4, 12)))
    assert operations(result.model).macs == 4 * 2 * (12 + 12)
    assert_same(core, result, (4, 12))


CONVOLUTIONS = {
    "plain": {},
    "padded": {"pads": [1, 0, 2, 1]},
    "strided": {"strides": [2, 1], "pads": [1, 1, 1, 1]},
    "dilated": {"dilations": [1, 2], "pads": [1, 2, 1, 2]},
}


@pytest.mark.parametrize("way", ["channels", "space"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_of_low_rank(way, name):
    generator, (outputs, inputs, size) = np.random.default_rng(0), (10, 8, 3)
    if way == "channels":
        weight = low_rank(generator, outputs, inputs * size * size, 2).reshape(outputs, inputs, size, size)
    else:
        weight = low_rank(generator, inputs * size, size * outputs, 2)
        weight = weight.reshape(inputs, size, size, outputs).transpose(3, 0, 1, 2).copy()
    nodes = [
        helper.make_node("Conv", ["features", "w", "b"], ["c"], **CONVOLUTIONS[name]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    core = core_of(nodes, {"w": weight, "b": generator.normal(size=outputs).astype(np.float32)}, (8, 9, 7), outputs)
    result = Factorise(energy=0.99999, tuning=None).apply(core, bare((8, 9, 7)))
    kernel = (2, 8, 3, 3) if way == "channels" else (2, 8, 3, 1)
    assert shapes(result)["w/first"] == kernel
    assert_same(core, result, (8, 9, 7))


@settings(deadline=None)
@given(st.floats(0.1, 0.999), st.integers(0, 50))
def test_the_energy_asked_for_is_kept_by_the_smallest_rank(energy, seed):
    weight = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
    values = np.linalg.svd(weight.astype(np.float64), compute_uv=False) ** 2
    rank = Factorise(energy=energy)._rank(np.sqrt(values), energy, named=False)
    assert values[:rank].sum() >= energy * values.sum() * (1 - 1e-12)
    assert rank == 1 or values[: rank - 1].sum() < energy * values.sum()


def test_the_ratio_is_a_share_of_the_full_rank(mlp):
    result = Factorise(ratio=0.25, tuning=None).apply(mlp(20, 16, 8, 2), bare((20,)))
    assert shapes(result)["w0/first"] == (20, 4)
    assert shapes(result)["w1/second"] == (2, 8)


def test_what_would_not_gain_is_left_whole(mlp):
    """8 to 2 at rank 1 has 10 weights instead of 16; at rank 2 it would have 20."""
    result = Factorise(ratio=0.5, layers={"w2": 1.0}, tuning=None).apply(mlp(20, 64, 64, 2), bare((20,)))
    assert "w2" in shapes(result)
    with pytest.raises(InputError, match="nothing to factorise"):
        Factorise(energy=1.0, tuning=None).apply(mlp(20, 16, 2), bare((20,)))


def test_training_brings_answers_back(mlp, context, answers):
    core = mlp(20, 16, 8, 2)
    truth = answers(core, context.calibration).argmax(axis=1)
    agreement = [
        (
            answers(Factorise(ratio=0.2, tuning=tuning).apply(core, context), context.calibration).argmax(axis=1)
            == truth
        ).mean()
        for tuning in (None, Tuning(epochs=30, patience=30, learning_rate=5e-3))
    ]
    assert agreement[1] > agreement[0]


def test_untrained_results_have_the_final_shape(mlp, context):
    core, step = mlp(20, 16, 8, 2), Factorise(ratio=0.25, tuning=Tuning(epochs=2))
    untrained = replace(context, trained=False, training=None)
    assert shapes(step.apply(core, untrained)) == shapes(step.apply(core, context))


def test_a_larger_file_is_an_error():
    """Two weights fewer do not pay for another node."""
    weight = np.ones((5, 4), np.float32)
    core = core_of([helper.make_node("MatMul", ["features", "w"], ["logits"])], {"w": weight}, (5,), 4)
    with pytest.raises(ContractError, match="the file's bytes were"):
        Factorise(energy=0.9, tuning=None).apply(core, bare((5,)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"energy": 0.0}, r"energy is 0\.0"),
        ({"energy": 1.1}, r"energy is 1\.1"),
        ({"ratio": 1.0}, r"ratio is 1\.0"),
        ({"layers": {"w": 2.0}}, r"energy of 'w' is 2\.0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        Factorise(**parameters)


def test_an_unknown_weight_is_refused(mlp):
    with pytest.raises(InputError, match="no weight 'w9'; weights are w0, w1"):
        Factorise(layers={"w9": 0.5}, tuning=None).apply(mlp(20, 16, 2), bare((20,)))


def tied(matrix):
    nodes = [
        helper.make_node("Gemm", ["features", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["b"]),
        helper.make_node("Gemm", ["b", "v"], ["c"]),
        helper.make_node("Gemm", ["c", "last"], ["logits"]),
    ]
    generator = np.random.default_rng(2)
    last = generator.normal(size=(32, 2)).astype(np.float32)
    return core_of(nodes, {"w": matrix, "v": low_rank(generator, 32, 32, 2), "last": last}, (32,), 2)


def test_layers_that_share_their_weights_are_left_alone_and_noted():
    core = tied(low_rank(np.random.default_rng(1), 32, 32, 2))
    result = Factorise(energy=0.9999999, tuning=None).apply(core, bare((32,)))
    assert kinds(result).count("Gemm") == 5
    assert_same(core, result, (32,))
    assert Factorise().notes(core) == (
        "Gemm 'a' stays whole: other layers share 'w'",
        "Gemm 'b' stays whole: other layers share 'w'",
    )


def test_weights_that_are_no_numbers_are_refused():
    core = tied(np.ones((32, 32), np.float32))
    model = onnx.load_model_from_string(core.model)
    for tensor in model.graph.initializer:
        if tensor.name == "v":
            tensor.CopyFrom(numpy_helper.from_array(np.full((32, 32), np.nan, np.float32), "v"))
    broken = replace(core, model=model.SerializeToString())
    with pytest.raises(InputError, match="factorise: weights 'v' are not finite"):
        Factorise(tuning=None).apply(broken, bare((32,)))
