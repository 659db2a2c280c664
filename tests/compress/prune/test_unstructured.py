"""Zeros: which, how many, and that training leaves them alone."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hauberk.compress.prune import (
    PruneNM,
    PruneUnstructured,
    SparsifyActivations,
    activation_sparsity,
    weight_sparsity,
)
from hauberk.compress.prune.unstructured import largest, largest_of_block
from hauberk.compress.tuning import Tuning
from hauberk.errors import InputError

from .conftest import Network
from .test_structured import context_for

SHORT = Tuning(epochs=3)


def arrays(core):
    graph = onnx.load_model_from_string(core.model).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


@given(st.integers(1, 300), st.floats(0, 0.99), st.integers(0, 9))
def test_the_smallest_go(size, share, seed):
    array = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    mask = largest(array, share)
    assert size - mask.sum() == round(share * size)
    assert np.abs(array[mask]).min(initial=np.inf) >= np.abs(array[~mask]).max(initial=0)


@given(st.integers(1, 3), st.integers(4, 6), st.integers(1, 17), st.integers(0, 9))
def test_n_of_every_m_stay(n, m, inputs, seed):
    """Block by block, in a loop."""
    array = np.random.default_rng(seed).normal(size=(3, inputs, 2)).astype(np.float32)
    mask = largest_of_block(array, 1, n=n, m=m)
    for output in range(3):
        for tap in range(2):
            for start in range(0, inputs, m):
                block = array[output, start : start + m, tap]
                best = np.sort(np.abs(block))[::-1][:n]
                np.testing.assert_array_equal(np.sort(np.abs(block[mask[output, start : start + m, tap]]))[::-1], best)


@pytest.mark.parametrize("tuning", [None, SHORT])
def test_the_share_of_zeros_is_what_was_asked_for(tuning, core, context):
    result = PruneUnstructured(amount=0.8, tuning=tuning).apply(core, context)
    found = weight_sparsity(result.model)
    assert found.weights == 20 * 16 + 16 * 8 + 8 * 2
    assert found.zeros == round(0.8 * found.weights)


def test_uniform_asks_it_of_every_layer(core, context):
    result = PruneUnstructured(amount=0.5, allocation="uniform", layers={"w2": 0}, tuning=None).apply(core, context)
    assert weight_sparsity(result.model).by_weight == {"w0": 0.5, "w1": 0.5, "w2": 0.0}


def test_what_is_left_is_untouched_without_training(core, context):
    before, after = arrays(core), arrays(PruneUnstructured(tuning=None).apply(core, context))
    for name, array in after.items():
        np.testing.assert_array_equal(array[array != 0], before[name][array != 0])


def test_training_changes_what_is_left(core, context):
    before, after = arrays(core), arrays(PruneUnstructured(amount=0.5, tuning=SHORT).apply(core, context))
    assert not np.array_equal(after["w0"][after["w0"] != 0], before["w0"][after["w0"] != 0])


def test_rounds_end_at_the_amount(core, context):
    result = PruneUnstructured(amount=0.8, iterations=3, tuning=SHORT).apply(core, context)
    assert weight_sparsity(result.model).share == pytest.approx(0.8, abs=0.002)


def test_two_of_four(core, context):
    """Along the inputs of each layer; torch stores [outputs, inputs]."""
    for name, array in arrays(PruneNM(tuning=SHORT).apply(core, context)).items():
        if name.startswith("w"):
            kept = (array.reshape(array.shape[0], -1, 4) != 0).sum(axis=-1)
            assert (kept == 2).all()


def test_recurrent_weights_and_kernels_count(context):
    network = Network((4, 5))
    network.recurrent("LSTM", 3)
    core = network.head()
    result = PruneUnstructured(amount=0.5, tuning=None).apply(core, context_for(core))
    assert weight_sparsity(result.model).weights == 12 * 5 + 12 * 3 + 12 * 3


def test_zeros_compress(core, context):
    result = PruneUnstructured(amount=0.9, tuning=None).apply(core, context)
    found = weight_sparsity(result.model)
    assert found.size == len(result.model)
    assert len(zlib.decompress(zlib.compress(result.model, 9))) == found.size
    assert found.compressed < 0.6 * weight_sparsity(core.model).compressed


def test_zeros_behind_relu_are_counted(core, context):
    """ONNX Runtime is asked for the same tensors."""
    model = onnx.load_model_from_string(core.model)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(names, {"features": context.calibration})
    found = activation_sparsity(core, context.calibration)
    assert found == {name: pytest.approx((value == 0).mean()) for name, value in zip(names, expected, strict=True)}


def test_a_penalty_makes_feature_maps_sparser(core, context):
    step = SparsifyActivations(strength=1.0, tuning=Tuning(epochs=20, patience=20))
    before, after = (activation_sparsity(each, context.calibration) for each in (core, step.apply(core, context)))
    assert np.mean(list(after.values())) > np.mean(list(before.values())) + 0.1


def test_feature_maps_need_relu(as_core, context):
    linear = as_core([helper.make_node("MatMul", ["features", "w"], ["logits"])], {"w": np.ones((20, 2), np.float32)})
    with pytest.raises(InputError, match="no Relu"):
        SparsifyActivations().apply(linear, context)


@pytest.mark.parametrize("step", [PruneUnstructured(), PruneNM(), SparsifyActivations()])
def test_records_to_train_on_are_asked_for(step, core, context):
    with pytest.raises(InputError, match="needs training and validation records"):
        step.apply(core, replace(context, validation=None))


def test_weights_to_prune_are_needed(as_core, context):
    nodes = [
        helper.make_node("ReduceMean", ["features", "axes"], ["m"]),
        helper.make_node("Tile", ["m", "n"], ["logits"]),
    ]
    bare = as_core(nodes, {"axes": np.array([1]), "n": np.array([1, 2])})
    with pytest.raises(InputError, match="nothing to prune"):
        PruneUnstructured(tuning=None).apply(bare, context)


@pytest.mark.parametrize(
    ("step", "parameters", "message"),
    [
        (PruneUnstructured, {"amount": 1.0}, r"amount is 1\.0"),
        (PruneUnstructured, {"iterations": 0}, "iterations is 0"),
        (PruneUnstructured, {"layers": {"w": -0.1}}, "share of 'w' is -0.1"),
        (PruneNM, {"n": 4}, "4 of 4 makes no sense"),
        (SparsifyActivations, {"strength": 0.0}, r"strength is 0\.0"),
    ],
)
def test_parameters_out_of_range_are_refused(step, parameters, message):
    with pytest.raises(InputError, match=message):
        step(**parameters)


def test_an_unknown_weight_is_refused(core, context):
    with pytest.raises(InputError, match="no weight 'w9'; weights are w0, w1, w2"):
        PruneUnstructured(layers={"w9": 0.5}, tuning=None).apply(core, context)
