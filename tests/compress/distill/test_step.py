"""What becomes of a student: its shape, its teacher, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from hauberk.compress import Distill
from hauberk.compress.distill import Network
from hauberk.compress.tuning import Tuning
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
