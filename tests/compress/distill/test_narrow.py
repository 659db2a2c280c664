"""The distillation loss against its closed form, and what becomes of a student."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from hauberk.compress import Distill
from hauberk.compress.distill import distillation
from hauberk.errors import InputError
from hauberk.recipe import LabelledFeatures

T, ALPHA = 3.0, 0.6


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def loss_of(student: np.ndarray, teacher: np.ndarray, targets: np.ndarray, weights=(1.0, 1.0), **changes) -> float:
    objective = distillation(
        torch.tensor(teacher),
        weights=torch.tensor(weights, dtype=torch.float64),
        **{"temperature": T, "alpha": ALPHA, **changes},
    )
    indices = torch.arange(len(student))
    return float(objective(torch.nn.Identity(), torch.tensor(student), torch.tensor(targets), indices))


@pytest.fixture
def logits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(7)
    student, teacher = generator.normal(size=(2, 50, 2)) * 3
    return student, teacher, generator.integers(0, 2, size=50)


def test_loss_is_the_closed_form(logits):
    student, teacher, targets = logits
    p, q = softmax(teacher / T), softmax(student / T)
    soft = (p * np.log(p / q)).sum(axis=1).mean()
    weight = np.array([0.7, 1.6])[targets]
    hard = -(weight * np.log(softmax(student)[np.arange(50), targets])).sum() / weight.sum()
    expected = ALPHA * T**2 * soft + (1 - ALPHA) * hard
    assert loss_of(student, teacher, targets, weights=(0.7, 1.6)) == pytest.approx(expected, rel=1e-9)


def test_a_student_that_answers_like_the_teacher_has_no_soft_loss(logits):
    student, _, targets = logits
    assert loss_of(student, student + 5.0, targets, alpha=1.0) == pytest.approx(0, abs=1e-12)


def test_teacher_is_looked_up_by_index(logits):
    student, teacher, targets = logits
    objective = distillation(
        torch.tensor(teacher), temperature=T, alpha=1.0, weights=torch.ones(2, dtype=torch.float64)
    )
    picked = torch.tensor([4, 2])
    loss = objective(torch.nn.Identity(), torch.tensor(student)[picked], torch.tensor(targets)[picked], picked)
    assert float(loss) == pytest.approx(loss_of(student[[4, 2]], teacher[[4, 2]], targets[[4, 2]], alpha=1.0))


def test_a_single_logit_counts_as_log_odds(logits):
    student, teacher, targets = logits
    odds = [values[:, 1:] - values[:, :1] for values in (student, teacher)]
    assert loss_of(*odds, targets) == pytest.approx(loss_of(student, teacher, targets), rel=1e-9)


def test_gradient_scale_does_not_depend_on_temperature(logits):
    """At high temperature the soft gradient tends to (s - t) / K for centred logits (Hinton et al. 2015, eq. 4)."""
    student, teacher, targets = (torch.tensor(values) for values in logits)
    student = (student - student.mean(dim=1, keepdim=True)).requires_grad_()
    teacher = teacher - teacher.mean(dim=1, keepdim=True)
    objective = distillation(teacher, temperature=1e4, alpha=1.0, weights=torch.ones(2, dtype=torch.float64))
    objective(torch.nn.Identity(), student, targets, torch.arange(50)).backward()
    expected = (student - teacher).detach() / 2 / 50
    torch.testing.assert_close(student.grad, expected, rtol=1e-3, atol=1e-6)


def test_untrained_students_have_their_final_shape_and_need_no_records(core, context):
    untrained = replace(context, trained=False, training=None, validation=None)
    graph = onnx.load_model_from_string(Distill(widths=(6, 5)).apply(core, untrained).model).graph
    shapes = [numpy_helper.to_array(tensor).shape for tensor in graph.initializer if len(tensor.dims) == 2]
    assert shapes == [(6, 20), (5, 6), (2, 5)]


def test_seed_decides_the_weights(core, context):
    step = Distill(widths=(4,), epochs=1)
    assert step.apply(core, context).digest != step.apply(core, replace(context, seed=1)).digest


def test_randomness_outside_is_left_alone(core, context):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Distill(widths=(4,), epochs=1).apply(core, context)
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize("missing", ["training", "validation"])
def test_missing_records_are_named(missing, core, context):
    with pytest.raises(InputError, match="needs training and validation records"):
        Distill(widths=(4,)).apply(core, replace(context, **{missing: None}))


@pytest.mark.parametrize("kind", ["training", "validation"])
def test_records_of_another_width_are_refused(kind, core, context):
    narrow = LabelledFeatures(np.zeros((50, 19), np.float32), np.arange(50) % 2)
    with pytest.raises(InputError, match=f"{kind} records have 19 features, the model takes 20"):
        Distill(widths=(4,)).apply(core, replace(context, **{kind: narrow}))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"alpha": 1.5}, "alpha is 1.5"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        Distill(widths=(4,), **parameters)


def test_a_student_without_units_is_refused(core, context):
    with pytest.raises(InputError, match="0 units"):
        Distill(widths=(0,)).apply(core, context)
