"""Planted units that do not matter are found and go; shares, rounding and sizes are what was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hauberk.compress.core import read_core
from hauberk.compress.prune import PruneStructured
from hauberk.compress.prune.allocate import Sensitivity, by_sensitivity, over_all
from hauberk.compress.smaller import check_smaller
from hauberk.compress.tuning import Tuning, answers
from hauberk.errors import ContractError, InputError
from hauberk.graph.operations import operations
from hauberk.recipe import Context, LabelledFeatures

from .conftest import Network

SHORT = Tuning(epochs=3, patience=3)


def pruned(core, context, **parameters):
    return PruneStructured(**{"tuning": None, **parameters}).apply(core, context)


def shapes(core):
    graph = onnx.load_model_from_string(core.model).graph
    return {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def context_for(core, records=64, seed=3):
    shape = core.signature.inputs[0].shape[1:]
    features = np.random.default_rng(seed).normal(size=(records, *shape)).astype(np.float32)
    targets = np.arange(records) % core.signature.outputs[0].shape[1]
    labelled = LabelledFeatures(features, targets.astype(np.int64))
    bounds = (np.full(shape, -1, np.float32), np.ones(shape, np.float32))
    return Context(features, bounds, training=labelled, validation=labelled, task="classification")


def with_constants(core, **changes):
    """The core with constants changed by functions of their arrays."""
    model = onnx.load_model_from_string(core.model)
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            array = numpy_helper.to_array(tensor).copy()
            changes[tensor.name](array)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return replace(core, model=model.SerializeToString())


def test_half_of_every_layer_goes(core, context):
    assert shapes(pruned(core, context)) == {
        "w0": (8, 20),
        "b0": (8,),
        "w1": (4, 8),
        "b1": (4,),
        "w2": (2, 4),
        "b2": (2,),
    }


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor"])
def test_units_that_nobody_reads_go_first(importance, mlp, context):
    """8 of 16 and 4 of 8 units are cut off by zeros: without them every answer is the same."""
    dead = np.array([0, 2, 3, 7, 8, 9, 13, 15]), np.array([1, 2, 5, 6])

    def cut(units):
        def change(array):
            array[:, units] = 0

        return change

    def make_tiny(units):
        def change(array):
            array[units] *= 1e-3

        return change

    core = with_constants(mlp(20, 16, 8, 2), w1=cut(dead[0]), w2=cut(dead[1]))
    core = with_constants(core, w0=make_tiny(dead[0]), w1=make_tiny(dead[1]))
    result = pruned(core, context, importance=importance)
    np.testing.assert_allclose(answers(result, context.calibration), answers(core, context.calibration), atol=1e-5)


def test_channels_scaled_by_zero_go_first():
    """Batch normalisation that the exporter did not fold."""
    network = Network((3, 5, 4))
    network.conv(8, bias=False)
    network.batch_norm()
    scale, bias = network.nodes[-1].input[1:3]
    network.constants[scale][[1, 2, 5, 6]] = 0
    network.constants[bias][[1, 2, 5, 6]] = 0
    core = network.head()
    context = context_for(core)
    result = pruned(core, context, importance="batchnorm")
    np.testing.assert_allclose(answers(result, context.calibration), answers(core, context.calibration), atol=1e-5)


def test_batch_norm_importance_needs_batch_norm(core, context):
    with pytest.raises(InputError, match="needs batch normalisation"):
        pruned(core, context, importance="batchnorm")


def test_the_control_does_not_look_at_weights(mlp, context):
    """The same units go from any weights, and others under another seed."""
    first, second = (mlp(20, 16, 8, 2, seed=seed) for seed in (0, 1))
    kept = []
    for core, seed in ((first, 0), (second, 0), (first, 1)):
        result = pruned(core, replace(context, seed=seed), importance="random")
        left, whole = (
            numpy_helper.to_array(onnx.load_model_from_string(each.model).graph.initializer[0])
            for each in (result, core)
        )
        kept.append([int(np.flatnonzero((whole == row).all(axis=1))[0]) for row in left])
    assert kept[0] == kept[1] != kept[2]


def test_global_takes_more_where_more_is_weak(mlp, context):
    def weaken(array):
        array[:12] *= 0.01

    core = with_constants(mlp(20, 16, 16, 2), w0=weaken)
    left = shapes(pruned(core, context, allocation="global", amount=0.4))
    assert left["w0"][0] < left["w1"][0]
    assert 32 - left["w0"][0] - left["w1"][0] == pytest.approx(0.4 * 32, abs=1)


def test_global_leaves_something_of_every_group():
    shares = over_all({"weak": np.full(10, 1e-9), "strong": np.ones(10)}, 0.5)
    assert max(shares.values()) <= 0.9


def test_sensitivity_takes_more_where_it_costs_less(mlp, context):
    """A second layer with as many units, of which only one is read, costs nothing to prune."""

    def cut(array):
        array[:, 1:] = 0

    core = with_constants(mlp(20, 16, 16, 2), w2=cut)
    left = shapes(pruned(core, context, allocation="sensitivity", amount=0.4))
    assert left["w1"][0] < left["w0"][0]


def test_shares_by_sensitivity_cost_alike():
    """Errors that grow linearly with slopes 1 and 3 meet where shares are as 3 to 1."""
    found = tuple(
        Sensitivity(str(slope), (0.25, 0.5, 0.75), (0.25 * slope, 0.5 * slope, 0.75 * slope)) for slope in (1, 3)
    )
    shares = by_sensitivity(found, {"1": 100, "3": 100}, 0.4)
    assert shares["1"] == pytest.approx(0.6, abs=1e-6)
    assert shares["3"] == pytest.approx(0.2, abs=1e-6)


def test_sensitivities_are_those_of_a_group_alone(core, context):
    step = PruneStructured(tuning=None)
    measured = {each.group: each for each in step.sensitivities(core, context)}
    whole = answers(core, context.calibration[:256])
    alone = pruned(core, context, layers={"w1": 0}, amount=0.5)
    error = np.sqrt(np.mean((answers(alone, context.calibration[:256]) - whole) ** 2) / np.mean(whole**2))
    assert measured["w0"].errors[1] == pytest.approx(error, rel=1e-5)


def test_single_layers_have_their_own_share(core, context):
    left = shapes(pruned(core, context, layers={"w0": 0.75, "w1": 0}))
    assert (left["w0"], left["w1"]) == ((4, 20), (8, 4))


def test_what_is_left_is_a_multiple(core, context):
    left = shapes(pruned(core, context, amount=0.6, granularity=4))
    assert (left["w0"][0], left["w1"][0]) == (8, 4)


def test_heads_go_whole():
    network = Network((4, 5))
    network.attention(4, 3)
    core = network.head()
    left = shapes(pruned(core, context_for(core)))
    assert (5, 6) in left.values()


def test_training_brings_answers_back(mlp):
    core = mlp(20, 32, 32, 2)
    context = context_for(core, records=400)
    truth = answers(core, context.calibration)
    labelled = LabelledFeatures(context.calibration, truth.argmax(axis=1))
    context = replace(context, training=labelled, validation=labelled)
    once, trained = (
        answers(pruned(core, context, tuning=tuning, iterations=2), context.calibration).argmax(axis=1)
        for tuning in (None, Tuning(epochs=30, patience=30, learning_rate=5e-3))
    )
    agreement = [(each == truth.argmax(axis=1)).mean() for each in (once, trained)]
    assert agreement[1] > agreement[0]
    assert agreement[1] > 0.9


def test_rounds_end_where_one_prune_ends(core, context):
    """1 - 0.5 = (1 - 0.2063)³: three rounds leave as many units as one."""
    assert shapes(pruned(core, context, tuning=SHORT, iterations=3)) == shapes(pruned(core, context))


def test_untrained_results_have_the_final_shape_and_need_no_labels(core, context):
    bare = replace(context, trained=False, training=None, validation=None)
    step = PruneStructured(importance="taylor", tuning=SHORT, iterations=3)
    assert shapes(step.apply(core, bare)) == shapes(step.apply(core, context))


def test_records_to_train_on_are_asked_for(core, context):
    with pytest.raises(InputError, match="needs training and validation records"):
        PruneStructured().apply(core, replace(context, training=None))


def test_the_result_is_smaller_in_every_respect(core, context):
    before, after = operations(core.model), operations(pruned(core, context).model)
    assert (after.macs, after.parameters) == (8 * 20 + 4 * 8 + 2 * 4, 8 * 21 + 4 * 9 + 2 * 5)
    assert before.macs > after.macs


@pytest.mark.parametrize("amount", [0.01])
def test_a_prune_that_gains_nothing_is_an_error(amount, core, context):
    with pytest.raises(ContractError, match="nothing was gained"):
        pruned(core, context, amount=amount)


def test_no_gain_is_named(core):
    with pytest.raises(ContractError, match="the file's bytes were"):
        check_smaller(read_core(core, "step"), read_core(core, "step").finished(read_core(core, "step").model))


def test_a_graph_with_nothing_to_prune_says_why(mlp, context):
    with pytest.raises(InputError, match=r"nothing to prune in this graph .*they are the model's answers"):
        pruned(mlp(20, 2), context)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"granularity": 0}, "granularity is 0"),
        ({"iterations": 0}, "iterations is 0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        PruneStructured(**parameters)


def test_an_unknown_group_is_refused(core, context):
    with pytest.raises(InputError, match="no group 'w9'; groups are w0, w1"):
        pruned(core, context, layers={"w9": 0.5})


def test_layers_that_stay_as_they_are_are_noted(core):
    """A layer normalisation averages over what the layer before it makes; the layer behind it can shrink."""
    network = Network((10,))
    network.linear(8)
    network.layer_norm()
    network.relu()
    network.linear(6)
    network.relu()
    (note,) = PruneStructured(tuning=None).notes(network.head())
    assert "keeps all units: LayerNormalization" in note
    assert PruneStructured(tuning=None).notes(core) == ()
