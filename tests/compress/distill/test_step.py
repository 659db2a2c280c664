"""What becomes of a student: its shape, its teacher, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from hauberk.compress import Distill, PruneStructured
from hauberk.compress.distill import GraphTeacher, Itself, Network, Pruned
from hauberk.compress.tuning import Tuning, answers
from hauberk.errors import InputError
from hauberk.recipe import LabelledFeatures


def student(*widths: int) -> Network:
    return Network("tabular-mlp", {"widths": list(widths)})


BRIEF = Tuning(epochs=1)


def test_untrained_students_have_their_final_shape_and_need_no_records(core, context):
    untrained = replace(context, trained=False, training=None, validation=None)
    graph = onnx.load_model_from_string(Distill(student=student(6, 5)).apply(core, untrained).model).graph
    shapes = [numpy_helper.to_array(tensor).shape for tensor in graph.initializer if len(tensor.dims) == 2]
    assert shapes == [(6, 20), (5, 6), (2, 5)]


def test_seed_decides_the_weights(core, context):
    step = Distill(student=student(4), tuning=BRIEF)
    assert step.apply(core, context).digest != step.apply(core, replace(context, seed=1)).digest


def test_randomness_outside_is_left_alone(core, context):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Distill(student=student(4), tuning=BRIEF).apply(core, context)
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize("missing", ["training", "validation"])
def test_missing_records_are_named(missing, core, context):
    with pytest.raises(InputError, match="needs training and validation records"):
        Distill(student=student(4)).apply(core, replace(context, **{missing: None}))


@pytest.mark.parametrize("kind", ["training", "validation"])
def test_records_of_another_width_are_refused(kind, core, context):
    narrow = LabelledFeatures(np.zeros((50, 19), np.float32), np.arange(50) % 2)
    with pytest.raises(InputError, match=f"{kind} records have 19 features, the model takes 20"):
        Distill(student=student(4)).apply(core, replace(context, **{kind: narrow}))


def test_a_student_without_units_is_refused(core, context):
    with pytest.raises(InputError, match="0 units"):
        Distill(student=student(0)).apply(core, context)


def test_a_pruned_copy_learns_with_the_weights_that_it_keeps(core, context):
    """Half of the hidden units of 20-16-8-2, those of the smallest weights gone, as `prune-structured` leaves them."""
    untrained = Distill(student=Pruned(amount=0.5)).apply(core, replace(context, trained=False))
    pruned = PruneStructured(amount=0.5, tuning=None).apply(core, context)
    features = context.calibration
    np.testing.assert_allclose(answers(untrained, features), answers(pruned, features), rtol=1e-5, atol=1e-6)
    learned = Distill(student=Pruned(amount=0.5), tuning=Tuning(epochs=30, alpha=1.0, learning_rate=1e-2)).apply(
        core, context
    )
    target = answers(core, features)
    error = [np.square(answers(each, features) - target).mean() for each in (untrained, learned)]
    assert error[1] < 0.8 * error[0]


def test_a_graph_may_learn_itself_from_another_teacher(core, mlp, context):
    teacher = mlp(20, 16, 8, 2, seed=9)
    step = Distill(student=Itself(), tuning=Tuning(epochs=10, alpha=1.0, learning_rate=1e-2), agreement=0.0)
    taught = step.apply(core, replace(context, teacher=GraphTeacher(teacher)))
    features = context.calibration
    alike = [
        (answers(each, features).argmax(axis=1) == answers(teacher, features).argmax(axis=1)).mean()
        for each in (core, taught)
    ]
    assert alike[1] > alike[0] + 0.1


def test_a_copy_without_an_amount_is_refused():
    with pytest.raises(InputError, match=r"amount is 1\.0"):
        Pruned(amount=1.0)
