"""Quantization-aware training: what it writes, what it wins back, what it leaves alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sklearn.datasets import load_digits

from hauberk.artifact import TorchArtifact
from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize.aware import QuantizeAware, _nearer, _shared, best_scales, uniform_ends
from hauberk.compress.tuning import Tuning
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.graph.verify import verify
from hauberk.models import ResidualCNN
from hauberk.recipe import Context, LabelledFeatures, Recipe
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, train

SHORT = Tuning(epochs=8, batch_size=64, learning_rate=2e-3, alpha=0.9)


@pytest.fixture(scope="module")
def digits():
    """A residual CNN trained on scikit-learn's digits as they are (8×8): its core, context and test images."""
    torch.set_num_threads(1)
    found = load_digits()
    images = (found.images[:, None] / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    images, targets = images[order], found.target[order].astype(np.int64)
    training, validation = (LabelledFeatures(images[part], targets[part]) for part in (slice(900), slice(900, 1200)))
    torch.manual_seed(0)
    module = ResidualCNN(size=8, widths=(8, 16))
    options = TrainingOptions(epochs=8, batch_size=64, learning_rate=5e-3, task="classification")
    train(module, training, validation, options)
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", 1, 8, 8)),), (TensorSpec("logits", "float32", ("batch", 10)),)
    )
    context = Context(
        calibration=training.features,
        bounds=(np.zeros((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32)),
        training=training,
        validation=validation,
        task="classification",
    )
    return export(TorchArtifact(module.eval(), signature, "0" * 64)), context, images[1200:]


def initializers(artifact):
    graph = onnx.load_model_from_string(artifact.model).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def untrained(context):
    return replace(context, trained=False)


STEPS = [
    QuantizeAware(tuning=Tuning(epochs=2)),
    QuantizeAware(weight_bits=4, tuning=Tuning(epochs=2)),
    QuantizeAware(weight_bits=3, levels="k-means", tuning=Tuning(epochs=2)),
    QuantizeAware(weight_bits=2, levels="powers-of-two", tuning=Tuning(epochs=2)),
    QuantizeAware(weight_bits=4, ranges="tracked", tuning=Tuning(epochs=2)),
]


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_a_trained_perceptron_runs_in_integer_kernels_alone(step, core, context, fused):
    assert fused(step.apply(core, context)) == ["QuantizeLinear", "QGemm", "QGemm", "QGemm"]


@pytest.mark.parametrize("bits", [8, 2])
def test_a_residual_network_runs_in_integer_kernels_alone(digits, fused, bits):
    core, context, _ = digits
    kinds = Counter(fused(QuantizeAware(weight_bits=bits).apply(core, untrained(context))))
    assert (kinds["QLinearConv"], kinds["QLinearAdd"], kinds["QGemm"]) == (6, 2, 1)
    assert kinds["QuantizeLinear"] == 1
    assert not kinds.keys() & {"Conv", "Gemm", "Add", "DequantizeLinear", "Gather", "Cast"}


def test_untrained_at_eight_bits_it_is_static_quantization(core, context, answers):
    aware = QuantizeAware().apply(core, untrained(context))
    static = QuantizeStatic().apply(core, context)
    np.testing.assert_array_equal(answers(aware, context.calibration), answers(static, context.calibration))


@pytest.mark.parametrize("levels", ["uniform", "k-means"])
def test_training_wins_back_what_three_bits_lose(digits, answers, levels):
    core, context, images = digits
    step = QuantizeAware(weight_bits=3, levels=levels, tuning=SHORT)
    wanted = answers(core, images)
    agreement, error = {}, {}
    for trained in (False, True):
        found = answers(step.apply(core, replace(context, trained=trained)), images)
        agreement[trained] = (found.argmax(1) == wanted.argmax(1)).mean()
        error[trained] = np.square(found - wanted).mean() / np.square(wanted).mean()
    assert agreement[True] > max(0.95, agreement[False])
    assert error[True] < 0.5 * error[False]


def test_training_that_does_harm_is_undone(core, context):
    wild = QuantizeAware(tuning=Tuning(epochs=1, learning_rate=1.0))
    assert wild.apply(core, context).digest == wild.apply(core, untrained(context)).digest


def test_a_training_that_was_undone_is_said_in_the_record(core, context):
    wild = QuantizeAware(tuning=Tuning(epochs=1, learning_rate=1.0))
    useful = QuantizeAware(weight_bits=3, tuning=Tuning(epochs=20, batch_size=32))
    wild, useful = (Recipe("", (step,)).apply(core, context, verify).history[-1] for step in (wild, useful))
    assert wild.notes == ("training was undone: validation records show no gain beyond chance",)
    assert useful.notes == ()


@pytest.mark.parametrize("shared", [1, 4, 16])
def test_no_gain_is_taken_for_one_by_chance_alone_however_much_windows_share(shared):
    """Each distance is a mean over the rows of its window, as those of windows that follow each other are."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(1000, 1200 + shared - 1))
    noise = np.lib.stride_tricks.sliding_window_view(rows, shared, axis=1).mean(axis=2)
    nothing = torch.zeros(noise.shape[1])
    accepted = [_nearer(torch.from_numpy(each), nothing, shared=shared) for each in noise]
    assert 0.01 < np.mean(accepted) < 0.05
    # Six standard errors of the mean of all rows: what is there is found.
    gain = 6 / rows.shape[1] ** 0.5
    assert np.mean([_nearer(torch.from_numpy(each + gain), nothing, shared=shared) for each in noise]) > 0.95


@pytest.mark.parametrize(("count", "shared"), [(1, 1), (16, 16), (61, 16)])
def test_a_single_observation_shows_no_gain(count, shared):
    assert not _nearer(torch.ones(count), torch.zeros(count), shared=shared)


@pytest.mark.parametrize(("shape", "shared"), [((9, 5), 1), ((9, 16, 5), 16), ((9, 1, 16, 16), 1)])
def test_neighbours_share_rows_where_records_are_windows(shape, shared):
    assert _shared(np.zeros(shape, np.float32)) == shared


def test_the_written_graph_answers_as_its_twin(digits, answers):
    """Close, and not equal: a sum between two codes may fall either way (see docs/reference/twin.md)."""
    core, context, images = digits
    result = QuantizeAware(weight_bits=4, tuning=Tuning(epochs=1)).apply(core, context)
    expected = answers(result, images)
    with torch.no_grad():
        found = Twin(result)(torch.from_numpy(images)).numpy()
    assert (np.abs(found - expected).max(axis=1) < 0.05 * expected.std()).mean() > 0.9
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.99


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_biases_are_in_steps_of_the_two_scales_that_they_are_added_under(step, core, context):
    result = step.apply(core, context)
    graph, held = onnx.load_model_from_string(result.model).graph, initializers(result)
    decode = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    for gemm in (node for node in graph.node if node.op_type == "Gemm"):
        data, weight, bias = (held[decode[name].input[1]] for name in gemm.input)
        np.testing.assert_array_equal(bias, data * weight)
        assert data.shape == ()


@pytest.mark.parametrize("ranges", ["learned", "tracked"])
def test_ranges_move_in_training_and_that_of_the_input_does_not(core, context, ranges):
    narrow = replace(context, calibration=context.calibration * np.float32(0.3))
    step = QuantizeAware(weight_bits=3, ranges=ranges, tuning=Tuning(epochs=20, batch_size=32))
    before, after = (initializers(step.apply(core, replace(narrow, trained=trained))) for trained in (False, True))
    scales = {name for name in before if name.endswith("/scale") and before[name].ndim == 0}
    assert len(scales) == 3
    moved = {name for name in scales if before[name] != after[name]}
    assert moved == scales - {"features/scale"}


def test_tracked_ranges_follow_the_training_records(core, context):
    """Calibrated on small records and trained on larger ones, the range of an inner tensor grows."""
    narrow = replace(context, calibration=context.calibration * np.float32(0.3))
    step = QuantizeAware(weight_bits=4, ranges="tracked", tuning=Tuning(epochs=20, batch_size=16, learning_rate=1e-4))
    before, after = (initializers(step.apply(core, replace(narrow, trained=trained))) for trained in (False, True))
    assert after["r0/scale"] > 1.2 * before["r0/scale"]


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("levels", ["uniform", "k-means", "powers-of-two"])
def test_codes_are_as_few_as_the_bits_allow(core, context, bits, levels):
    step = QuantizeAware(weight_bits=bits, levels=levels, tuning=Tuning(epochs=1))
    books = [value for name, value in initializers(step.apply(core, context)).items() if name.endswith("/codebook")]
    assert len(books) == 3
    for book in books:
        assert book.dtype == np.int8
        assert len(book) <= 2**bits
        if levels == "powers-of-two":
            assert set(np.abs(book.astype(int))) <= {0, 1, 2, 4, 8, 16, 32, 64}


def test_levels_keep_to_seven_bits_where_kernels_saturate(core, context):
    """Two products of uint8 and a code of at most 63 fit into the int16 that such kernels add them in."""
    brief = Tuning(epochs=1, learning_rate=0.1)
    step = QuantizeAware(weight_bits=3, levels="k-means", reduced_range=True, tuning=brief)
    for where in (context, untrained(context)):
        found = initializers(step.apply(core, where))
        books = [value.astype(int) for name, value in found.items() if name.endswith("/codebook")]
        assert [np.abs(book).max() <= 63 for book in books] == [True] * 3


def test_weights_alone_leave_the_float_kernels_as_they_are(digits, fused, answers):
    core, context, images = digits
    step = QuantizeAware(weight_bits=4, activations="float32", tuning=Tuning(epochs=2))
    result = step.apply(core, context)
    kinds, before = Counter(fused(result)), Counter(fused(core))
    assert (kinds["Conv"], kinds["Gemm"]) == (before["Conv"], before["Gemm"])
    assert not kinds.keys() & {"DequantizeLinear", "Gather", "Cast", "Mul"}
    assert (answers(result, images).argmax(1) == answers(core, images).argmax(1)).mean() > 0.95


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_weights_of_recurrent_layers_lie_in_few_levels_too(kind, recurrent, calibrated, records, fused, relative_error):
    core = recurrent(kind)
    context = calibrated(core)
    windows = records(core, count=600, seed=1)
    taught = replace(
        context,
        training=LabelledFeatures(windows[:500], np.zeros(500, np.int64)),
        validation=LabelledFeatures(windows[500:], np.zeros(100, np.int64)),
        task="classification",
    )
    step = QuantizeAware(weight_bits=3, activations="float32", tuning=Tuning(epochs=20, learning_rate=3e-3))
    assert step.notes(core) == ()
    rounded, trained = (step.apply(core, replace(taught, trained=each)) for each in (False, True))
    assert fused(trained) == fused(core)
    books = [array for name, array in initializers(trained).items() if name.endswith("/codebook")]
    assert len(books) == 3  # input, hidden, and the linear layer's
    assert all(array.size <= 8 for array in books)
    unseen = records(core, seed=2)
    assert relative_error(core, trained, unseen) < 0.7 * relative_error(core, rounded, unseen)


def test_what_stays_in_float_is_said(recurrent):
    core = recurrent("LSTM")
    assert any("LSTM" in note and "stays in float" in note for note in QuantizeAware().notes(core))
    kept = QuantizeAware(weight_bits=4, activations="float32", keep_float=("logits",)).notes(core)
    assert kept == ("Gemm 'logits' stays in float: asked for",)


def test_of_the_two_weights_of_a_recurrent_layer_the_one_that_stays_in_float_is_named(recurrent):
    core = recurrent("LSTM")
    nodes = onnx.load_model_from_string(core.model).graph.node
    (output,) = (name for node in nodes if node.op_type == "LSTM" for name in node.output if name)
    step = QuantizeAware(weight_bits=4, activations="float32", keep_float=(f"{output}/input",))
    assert step.notes(core) == (f"LSTM '{output}/input' stays in float: asked for",)


def test_layers_may_stay_in_float(core, context, fused):
    assert fused(QuantizeAware(keep_float=("h1",)).apply(core, untrained(context))).count("QGemm") == 2


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_scales_have_the_least_error(bits):
    """No scale of a fine grid does better than the one that was found, beyond the grain of the search."""
    weight = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    ends = uniform_ends(bits)

    def error(scale):
        return np.square(np.clip(np.rint(weight / scale), *ends) * scale - weight).sum(axis=0)

    found = error(best_scales(weight, 1, *ends))
    best = np.min([error(scale) for scale in np.linspace(0.01, 3, 600)], axis=0)
    assert (found < 1.05 * best).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: QuantizeAware(weight_bits=5), "weight_bits is 5"),
        (lambda: QuantizeAware(levels="k-means"), "for weights of 4, 3 or 2 bits"),
        (lambda: QuantizeAware(activations="float32"), "for weights of 4, 3 or 2 bits"),
    ],
)
def test_impossible_parameters_are_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_training_needs_records(core, context):
    with pytest.raises(InputError, match="quantize-aware: needs training and validation records"):
        QuantizeAware().apply(core, replace(context, training=None))


@pytest.mark.parametrize("activations", ["uint8", "float32"])
def test_an_unknown_layer_is_named(core, context, activations):
    step = QuantizeAware(weight_bits=4, activations=activations, keep_float=("nothing",))
    with pytest.raises(InputError, match="no layer is called 'nothing'; layers are"):
        step.apply(core, context)
