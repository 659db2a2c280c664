"""Hints and attention against their closed forms, and that a student follows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hauberk.artifact import TorchArtifact
from hauberk.compress import Distill
from hauberk.compress.distill import Attention, GraphTeacher, Hints, Itself, Pair, Scaled
from hauberk.compress.distill.hints import Shown, attention_loss, hidden, hint_loss
from hauberk.compress.teaching import distillation
from hauberk.compress.tuning import Lesson, Tuning, tune
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.twin import Twin
from hauberk.models import ResidualCNN
from hauberk.recipe import Context, LabelledFeatures
from hauberk.tensors import Signature, TensorSpec


def test_attention_is_the_closed_form():
    teacher, student = (
        np.random.default_rng(seed).normal(size=(5, channels, 4, 3)) for seed, channels in ((0, 6), (1, 2))
    )

    def attention(tensor: np.ndarray) -> np.ndarray:
        maps = np.einsum("nchw,nchw->nhw", tensor, tensor).reshape(5, -1)
        return maps / np.sqrt((maps**2).sum(axis=1, keepdims=True))

    expected = ((attention(teacher) - attention(student)) ** 2).sum(axis=1).mean()
    assert float(attention_loss(torch.tensor(teacher), torch.tensor(student), 1)) == pytest.approx(expected, rel=1e-9)


def test_attention_does_not_ask_which_channel_it_was():
    teacher = torch.rand(4, 6, 5, dtype=torch.float64)
    assert float(attention_loss(teacher, 3 * teacher[:, torch.randperm(6)], 1)) == pytest.approx(0, abs=1e-12)
    assert float(attention_loss(teacher, teacher.flip(2), 1)) > 0.001


@pytest.mark.parametrize(("shape", "channels"), [((7, 4), 1), ((7, 4, 5), 1), ((7, 5, 4), -1), ((7, 4, 3, 2), 1)])
def test_a_hint_is_a_linear_map_of_channels(shape, channels):
    """The regressor of a 1×1 convolution: every position alike."""
    student = torch.rand(shape)
    regressor = nn.Linear(4, 6)
    moved = np.moveaxis(student.numpy(), channels, -1)
    mapped = moved @ regressor.weight.detach().numpy().T + regressor.bias.detach().numpy()
    teacher = np.random.default_rng(0).normal(size=mapped.shape).astype(np.float32)
    expected = ((teacher - mapped) ** 2).mean()
    placed = torch.from_numpy(np.moveaxis(teacher, -1, channels).copy())
    assert float(hint_loss(placed, student, regressor, channels).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def pictures() -> tuple:
    """A residual CNN of three classes on 8×8 images, and records for it."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, size=240)
    images = generator.normal(size=(240, 1, 8, 8)).astype(np.float32)
    images += targets[:, None, None, None].astype(np.float32) * np.linspace(-1, 1, 8, dtype=np.float32)
    bounds = (np.full((1, 8, 8), -9, np.float32), np.full((1, 8, 8), 9, np.float32))
    records = LabelledFeatures(images, targets)
    context = Context(images, bounds, records, records, task="classification")
    torch.manual_seed(0)
    module = ResidualCNN(1, 8, (8, 16), 3)
    tune(module, context, Tuning(epochs=8, batch_size=64, learning_rate=1e-2), step="test")
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", 1, 8, 8)),), (TensorSpec("logits", "float32", ("batch", 3)),)
    )
    return export(TorchArtifact(module.eval(), signature, "0" * 64)), context


def distances(graph, student, teacher, show, context) -> float:
    """What `show` minimises, between a finished student and its teacher, with attention's closed form."""
    pair = show.pairs[0]
    features = torch.from_numpy(context.calibration)
    with torch.no_grad():
        wanted = Twin(teacher).capture(features, [pair.teacher])[pair.teacher]
        got = Twin(graph).capture(features, [pair.student])[pair.student]
    return float(attention_loss(wanted, got, show.channels))


def test_a_student_shown_attention_has_more_of_it(pictures):
    teacher, context = pictures
    student = Distill(student=Scaled(width=0.5), tuning=Tuning(epochs=1)).apply(
        teacher, replace(context, trained=False)
    )
    pairs = (Pair(hidden(teacher)[2], hidden(student)[2]),)
    show = Attention(weight=100.0, pairs=pairs)
    tuning = Tuning(epochs=12, batch_size=64, learning_rate=1e-2, alpha=1.0, patience=12)
    taught = replace(context, teacher=GraphTeacher(teacher))
    plain, shown = (
        Distill(student=Itself(), tuning=tuning, attention=attention, agreement=0.0).apply(student, taught)
        for attention in (None, show)
    )
    assert distances(shown, student, teacher, show, context) < 0.7 * distances(plain, student, teacher, show, context)


def test_hints_bring_the_student_nearer_to_the_teacher(context, core):
    """The regressor's loss falls, with alpha 0 and the labels as the only other aim."""
    torch.manual_seed(0)
    student = Twin(core)
    show = Hints(weight=10.0, pairs=(Pair("r1", "r0"),))
    taught = Shown(student, core, [show], context.calibration, "test")
    losses = []
    nothing = lambda module, features, *_: 0.0 * module(features).sum()  # noqa: E731
    objective = taught.objective(nothing)

    def watched(*arguments):
        loss = objective(*arguments)
        losses.append(float(loss.detach()))
        return loss

    tune(taught, context, Tuning(epochs=20, patience=20, learning_rate=1e-2), step="test", lesson=Lesson(watched))
    assert losses[-1] < 0.2 * losses[0]


def test_the_middle_of_both_graphs_is_paired_by_itself(pictures):
    """Nothing named: the student's and the teacher's activation of the same place in the middle, shapes fitting."""
    teacher, context = pictures
    student = Distill(student=Scaled(width=0.5)).apply(teacher, replace(context, trained=False))
    twin = Twin(student)
    shown = Shown(twin, teacher, [Attention(), Hints()], context.calibration, "test")
    watched = set(twin.on_tensor)
    assert watched <= set(hidden(student)[1:4])
    (regressor,) = shown.regressors
    assert (regressor.in_features, regressor.out_features) in {(4, 8), (8, 16)}


def test_a_watched_student_is_left_as_it_was(context, core):
    twin = Twin(core)
    shown = Shown(twin, core, [Hints()], context.calibration, "test")
    assert twin.on_tensor
    assert shown.finish() is twin
    assert not twin.on_tensor


def test_hints_are_part_of_a_step_that_repeats(context, core):
    step = Distill(student=Itself(), tuning=Tuning(epochs=2), hints=Hints())
    without = Distill(student=step.student, tuning=step.tuning)
    assert step.apply(core, context).digest == step.apply(core, context).digest != without.apply(core, context).digest


@pytest.mark.parametrize(
    ("show", "message"),
    [
        (Hints(pairs=(Pair("nowhere", "r0"),)), "no tensor 'nowhere'"),
        (Hints(pairs=(Pair("r0", "nowhere"),)), "no tensor 'nowhere'"),
        (Hints(pairs=(Pair("r0", "w0"),)), "besides channels"),
        (Hints(channels=0), "name pairs of tensors"),
        (Attention(), "name pairs of tensors"),
        (Attention(pairs=(Pair("r0", "r0"),)), "no axis besides records and channels"),
    ],
)
def test_tensors_that_do_not_fit_are_named(show, message, context, core):
    with pytest.raises(InputError, match=message):
        Shown(Twin(core), core, [show], context.calibration, "test")


@pytest.mark.parametrize("kind", [Hints, Attention])
def test_a_weight_out_of_range_is_refused(kind):
    with pytest.raises(InputError, match="weight is 0"):
        kind(weight=0)


def test_base_and_hints_are_added(context, core):
    """With the regressor fixed, the objective is the sum of its parts."""
    twin = Twin(core)
    shown = Shown(twin, core, [Hints(weight=2.0, pairs=(Pair("r0", "r0"),))], context.calibration, "test")
    base = distillation(torch.zeros(300, 2), Tuning())
    features, targets = torch.from_numpy(context.training.features), torch.from_numpy(context.training.targets)
    everything = torch.arange(300)
    total = float(shown.objective(base)(shown, features, targets, everything).detach())
    middle = twin.capture(features, ["r0"])["r0"]
    expected = base(twin, features, targets, everything) + 2 * hint_loss(middle, middle, shown.regressors[0], 1)
    expected = expected.detach()
    assert total == pytest.approx(float(expected), rel=1e-6)
    assert onnx.load_model_from_string(shown.finish().to_artifact().model).graph.node


def test_a_teacher_is_no_part_of_what_is_trained(context, core):
    student = Twin(core)
    shown = Shown(student, core, [Hints(pairs=(Pair("r0", "r0"),))], context.calibration, "test")
    regressor = 16 * 16 + 16
    of_student = sum(parameter.numel() for parameter in student.parameters())
    assert sum(parameter.numel() for parameter in shown.parameters()) == of_student + regressor


def test_hints_are_compared_on_the_records_themselves_though_the_student_saw_attacked_ones_last(context, core):
    twin = Twin(core)
    shown = Shown(twin, core, [Hints(pairs=(Pair("r0", "r0"),))], context.calibration, "test")
    features = torch.from_numpy(context.training.features)

    def elsewhere(module, features, *_):
        return 0.0 * module(features + 1.0).sum()

    def here(module, features, *_):
        return 0.0 * module(features).sum()

    batch = features, torch.from_numpy(context.training.targets), torch.arange(300)
    with torch.no_grad():
        assert float(shown.objective(elsewhere)(shown, *batch)) == float(shown.objective(here)(shown, *batch))
