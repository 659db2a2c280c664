"""What a student is taught: the distance from a teacher, in closed form, and teachers that cannot teach."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from hauberk.compress.teaching import Distance, crossed, distillation, teachers_answers, teachers_lesson
from hauberk.compress.tuning import Tuning
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.train import cross_entropy

T, ALPHA = 3.0, 0.6


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def loss_of(student: np.ndarray, teacher: np.ndarray, targets: np.ndarray, weights=(1.0, 1.0), **changes) -> float:
    weighed = torch.tensor(weights, dtype=torch.float64)
    tuning = Tuning(**{"temperature": T, "alpha": ALPHA, "logits": 0.0, **changes})
    objective = distillation(
        torch.tensor(teacher), tuning, hard=lambda logits, targets: cross_entropy(logits, targets, weighed)
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


def test_the_squared_error_is_a_share_of_the_teachers_mean_square(logits):
    student, teacher, targets = logits
    half = np.arange(len(targets)) % 2 == 0
    objective = distillation(torch.tensor(teacher), Tuning(temperature=T, logits=0.5))
    without = distillation(torch.tensor(teacher), Tuning(temperature=T, logits=0.0))
    batch = torch.tensor(student[half]), torch.tensor(targets[half]), torch.from_numpy(np.flatnonzero(half))
    added = float(objective(nn.Identity(), *batch) - without(nn.Identity(), *batch))
    expected = 0.5 * np.square(student[half] - teacher[half]).mean() / np.square(teacher).mean()
    assert added == pytest.approx(expected, rel=1e-9)


def test_a_shift_of_all_logits_is_seen_by_the_squared_error_alone(logits):
    student, _, targets = logits
    shifted = loss_of(student, student + 5.0, targets, alpha=1.0, logits=1.0)
    assert shifted == pytest.approx(25 / np.square(student + 5.0).mean(), rel=1e-9)


def test_distances_of_records_are_those_that_are_averaged(logits):
    student, teacher, _ = (torch.tensor(values) for values in logits)
    far = Distance(teacher, Tuning(temperature=T))
    each = far.of_each(student, teacher)
    assert each.shape == (50,)
    assert float(each.mean()) == pytest.approx(float(far(student, teacher)))
    assert float(each[7]) == pytest.approx(float(far(student[7:8], teacher[7:8])))


def test_a_student_that_answers_like_the_teacher_has_no_soft_loss(logits):
    student, _, targets = logits
    assert loss_of(student, student + 5.0, targets, alpha=1.0) == pytest.approx(0, abs=1e-12)


def test_teacher_is_looked_up_by_index(logits):
    student, teacher, targets = logits
    objective = distillation(torch.tensor(teacher), Tuning(temperature=T, logits=0.0))
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
    objective = distillation(teacher, Tuning(temperature=1e4, logits=0.0))
    objective(torch.nn.Identity(), student, targets, torch.arange(50)).backward()
    expected = (student - teacher).detach() / 2 / 50
    torch.testing.assert_close(student.grad, expected, rtol=1e-3, atol=1e-6)


def test_different_numbers_of_logits_are_compared_by_their_margins(logits):
    student, teacher, targets = logits
    odds = teacher[:, 1:] - teacher[:, :1]
    assert loss_of(student, odds, targets) == pytest.approx(loss_of(student, teacher, targets), rel=1e-9)
    both = [values[:, 1:] - values[:, :1] for values in (student, teacher)]
    squared = loss_of(student, odds, targets, logits=1.0)
    assert squared == pytest.approx(loss_of(*both, targets, logits=1.0), rel=1e-9)


@dataclass(frozen=True)
class Saying:
    """A teacher of fixed answers."""

    logits: np.ndarray

    def predict(self, batch: np.ndarray) -> np.ndarray:
        return self.logits


def test_answers_to_other_records_are_refused(context, core):
    taught = replace(context, teacher=Saying(np.zeros((7, 2), np.float32)))
    with pytest.raises(InputError, match=r"prune: the teacher answers \[7, 2\] for 300 records"):
        teachers_lesson(core, taught, Tuning(made_up=0), step="prune")


def test_a_teacher_that_answers_nan_is_refused(context, core):
    logits = np.zeros((300, 2), np.float32)
    logits[4] = np.nan
    with pytest.raises(InputError, match="answer to record 4 of 300 is not finite"):
        teachers_lesson(core, replace(context, teacher=Saying(logits)), Tuning(made_up=0), step="prune")


def test_a_teacher_of_other_classes_is_refused(context, core):
    taught = replace(context, teacher=Saying(np.zeros((300, 5), np.float32)), task="classification")
    with pytest.raises(InputError, match="tells 5 classes apart, the model 2"):
        teachers_answers(core, taught.training.features, taught, "prune")


def test_made_up_records_hold_values_of_their_columns_and_are_answered_by_the_teacher(context, core):
    real = context.training.features
    lesson = teachers_lesson(core, context, Tuning(made_up=0.5), step="prune")
    features = lesson.records.features
    assert len(features) == 450
    np.testing.assert_array_equal(features[:300], real)
    assert all(np.isin(features[300:, column], real[:, column]).all() for column in range(real.shape[1]))
    assert not (features[300:, None] == real).all(axis=2).any(axis=1).all()
    everything = torch.arange(450)
    inside = lesson.objective(
        Twin(core), torch.from_numpy(features), torch.from_numpy(lesson.records.targets), everything
    )
    assert float(inside.detach()) == pytest.approx(0, abs=1e-6)


def test_nothing_is_made_up_for_labels_alone(context, core):
    lesson = teachers_lesson(core, context, Tuning(alpha=0.0), step="prune")
    np.testing.assert_array_equal(lesson.records.features, context.training.features)


def test_a_window_takes_a_column_whole_and_an_image_none():
    windows = np.arange(200 * 4 * 6, dtype=np.float32).reshape(200, 4, 6)
    made = crossed(windows, 50, seed=0)
    sources = made[:, 0] // 24  # which record a column is of
    assert (made // 24 == sources[:, None]).all()
    assert {len(set(row)) for row in sources.astype(int).tolist()} <= {1, 2}
    assert (np.diff(np.sort(sources, axis=1), axis=1) > 0).any()
    assert crossed(np.zeros((9, 3, 8, 8), np.float32), 50, seed=0).shape == (0, 3, 8, 8)


def test_labels_of_made_up_records_do_not_count(logits):
    student, teacher, targets = logits
    none = lambda part, targets: cross_entropy(part, targets, torch.ones(2, dtype=torch.float64))  # noqa: E731
    batch = torch.tensor(student), torch.tensor(targets), torch.arange(50)
    first = distillation(torch.tensor(teacher), Tuning(alpha=0.0), hard=none, labelled=20)(nn.Identity(), *batch)
    assert float(first) == pytest.approx(float(none(batch[0][:20], batch[1][:20])))
    rest = [part[20:] for part in batch]
    assert (
        float(distillation(torch.tensor(teacher), Tuning(alpha=0.0), hard=none, labelled=20)(nn.Identity(), *rest)) == 0
    )


def test_labels_are_asked_for_only_where_they_count(context, core):
    """Records of one class can be taught by a teacher alone."""
    one = replace(context, training=replace(context.training, targets=np.zeros(300, np.int64)))
    lesson = teachers_lesson(core, one, Tuning(made_up=0), step="prune")
    features = torch.from_numpy(one.training.features)
    loss = lesson.objective(lambda rows: rows[:, :2], features, torch.zeros(300, dtype=torch.int64), torch.arange(300))
    assert float(loss) > 0
    with pytest.raises(InputError, match="prune: the training records are all benign"):
        teachers_lesson(core, one, Tuning(alpha=0.9, made_up=0), step="prune")
