"""Training inside a step: what it learns from, that it repeats, and what it leaves alone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from hauberk.compress.teaching import distillation, teachers_lesson
from hauberk.compress.tuning import Lesson, Tuning, _batch_size, answers, tune
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.recipe import Context, LabelledFeatures

QUICK = Tuning(epochs=3, batch_size=32, learning_rate=1e-2)


def student(seed: int = 0, outputs: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, outputs))


def weights_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


def test_the_same_seed_gives_the_same_weights(context, core):
    lesson = teachers_lesson(core, context, QUICK, step="test")
    runs = []
    for seed in (0, 0, 1):
        module = student()
        tune(module, replace(context, seed=seed), QUICK, step="test", lesson=lesson)
        runs.append(weights_of(module))
    assert runs[0] == runs[1] != runs[2]


def test_threads_and_random_state_are_put_back(context):
    torch.set_num_threads(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    module = student()
    torch.manual_seed(5)
    tune(module, context, QUICK, step="test")
    assert torch.get_num_threads() == 2
    torch.testing.assert_close(torch.rand(3), expected)


def test_a_teacher_is_followed_against_the_labels(context, core):
    """With alpha 1 the labels do not count: a student told the opposite of them answers like the teacher."""
    teacher = answers(core, context.training.features)
    wrong = replace(context, training=replace(context.training, targets=1 - context.training.targets))
    module, tuning = student(), Tuning(epochs=60, batch_size=32, learning_rate=1e-2)
    tune(module, wrong, tuning, step="test", lesson=teachers_lesson(core, wrong, tuning, step="test"))
    with torch.no_grad():
        learned = module(torch.from_numpy(context.training.features)).argmax(dim=1).numpy()
    assert (learned == teacher.argmax(axis=1)).mean() > 0.9


def test_the_twin_of_a_graph_is_tuned_like_any_module(context, core):
    twin = Twin(core)
    result = tune(twin, context, QUICK, step="test")
    features = torch.from_numpy(context.validation.features)
    with torch.no_grad():
        assert not torch.allclose(twin(features), Twin(core)(features))
    assert result.epochs == 3


def test_classes_are_told_apart_by_their_logit():
    """Windows [N, 4, 3] whose largest channel is their class."""
    features = np.random.default_rng(0).normal(size=(600, 4, 3)).astype(np.float32)
    targets = features.mean(axis=1).argmax(axis=1)
    context = Context(
        calibration=features,
        bounds=(np.full((4, 3), -9, np.float32), np.full((4, 3), 9, np.float32)),
        training=LabelledFeatures(features[:500], targets[:500]),
        validation=LabelledFeatures(features[500:], targets[500:]),
        task="classification",
    )
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    result = tune(module, context, Tuning(epochs=40, learning_rate=3e-2), step="test")
    assert result.best.validation_accuracy > 0.9


def test_a_classifier_learns_from_a_teacher_of_classes():
    features = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    teacher = 4 * features[:, :3]
    records = LabelledFeatures(features, teacher.argmax(axis=1))
    bounds = (np.full(6, -9, np.float32), np.full(6, 9, np.float32))
    context = Context(features, bounds, training=records, validation=records, task="classification")
    torch.manual_seed(0)
    module, tuning = nn.Linear(6, 3), Tuning(epochs=100, learning_rate=3e-2)
    learned_by = distillation(torch.from_numpy(teacher), tuning)
    tune(module, context, tuning, step="test", lesson=Lesson(learned_by, learned_by))
    with torch.no_grad():
        learned = torch.softmax(module(torch.from_numpy(features)), dim=1).numpy()
    expected = np.exp(teacher) / np.exp(teacher).sum(axis=1, keepdims=True)
    assert np.abs(learned - expected).mean() < 0.05


def test_an_objective_of_ones_own_takes_the_place_of_all(context, core):
    module = student()

    def shrink(module: nn.Module, *_: torch.Tensor) -> torch.Tensor:
        return torch.stack([parameter.square().sum() for parameter in module.parameters()]).sum()

    def size() -> float:
        return sum(float(tensor.square().sum()) for tensor in module.state_dict().values())

    before = size()
    tune(module, context, Tuning(epochs=5, patience=5), step="test", lesson=Lesson(shrink))
    assert size() < before


def test_progress_is_told(context):
    seen = []

    class Task:
        def advance(self, steps: int = 1, **figures: float) -> None:
            seen.append((steps, sorted(figures)))

    class Follower:
        @contextmanager
        def task(self, description: str, total: int | None = None):
            seen.append((description, total))
            yield Task()

    tune(student(), replace(context, progress=Follower()), Tuning(epochs=2), step="test")
    figures = ["loss", "validation_accuracy", "validation_loss"]
    assert seen == [("training", 2), (1, figures), (1, figures)]


@pytest.mark.parametrize("missing", ["training", "validation"])
def test_missing_records_are_named(missing, context):
    with pytest.raises(InputError, match="prune: needs training and validation records"):
        tune(student(), replace(context, **{missing: None}), QUICK, step="prune")


def test_training_that_diverges_names_the_step(context):
    huge = replace(context.training, features=context.training.features * np.float32(1e38))
    with pytest.raises(InputError, match="prune: training diverged"):
        tune(student(), replace(context, training=huge), QUICK, step="prune")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"logits": -1.0}, "logits is -1.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"patience": 0}, "patience is 0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        Tuning(**parameters)


def test_tuning_is_json():
    tuning = Tuning(epochs=7, alpha=0.2)
    assert msgspec.json.decode(msgspec.json.encode(tuning), type=Tuning) == tuning


def test_answers_in_chunks_are_those_of_one_run(core):
    features = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    session = onnxruntime.InferenceSession(core.model, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"features": features})[0]
    np.testing.assert_allclose(answers(core, features), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("count", "batch"), [(10, 16), (1079, 33), (8192, 256), (1_000_000, 256)])
def test_few_records_are_taken_in_smaller_batches(count, batch):
    assert _batch_size(Tuning(batch_size=256), count) == batch


def test_no_batch_is_larger_than_asked_for():
    assert [_batch_size(Tuning(batch_size=8), count) for count in (10, 100_000)] == [8, 8]
