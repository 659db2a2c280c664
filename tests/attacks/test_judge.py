"""One rule of what is right, for detectors and for classes, with its ties and its NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.attacks import Classes, WhiteBox
from hauberk.attacks.judge import check_targets, fooled, headroom, margin, right
from hauberk.errors import InputError
from hauberk.schema import Decision

ALARM = Decision(outputs=1, threshold=0.5)


def alarms(*margins: float) -> torch.Tensor:
    return torch.tensor(margins, dtype=torch.float32)[:, None]


def test_the_label_is_an_attack_where_the_margin_reaches_the_threshold():
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    logits, targets = alarms(0.5, 0.5, below, np.nan, np.nan), torch.tensor([1, 0, 1, 1, 0])
    assert right(ALARM, logits, targets).tolist() == [True, False, False, False, True]


def test_headroom_has_the_sign_of_being_right():
    logits = alarms(2.0, -1.0, -np.inf, np.inf)
    assert headroom(ALARM, logits, torch.ones(4, dtype=torch.int64)).tolist() == [1.5, -1.5, -np.inf, np.inf]
    assert headroom(ALARM, logits, torch.zeros(4, dtype=torch.int64)).tolist() == [-1.5, 1.5, np.inf, -np.inf]


def test_a_nan_is_as_bad_as_can_be_for_an_attack_record_and_as_good_for_a_benign_one():
    assert headroom(ALARM, alarms(np.nan, np.nan), torch.tensor([1, 0])).tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize(("outputs", "benign"), [(1, 0), (2, 0), (2, 1), (5, 3)])
def test_the_margin_is_the_one_of_the_decision(outputs, benign):
    logits = np.random.default_rng(0).normal(scale=30, size=(50, outputs)).astype(np.float32)
    decision = Decision(outputs=outputs, benign=benign)
    found = margin(decision, torch.from_numpy(logits))
    np.testing.assert_allclose(found.numpy(), decision.margin(logits), rtol=1e-6, atol=1e-5)
    assert found.dtype == torch.float32


def test_the_first_of_equal_logits_names_the_class():
    logits, targets = torch.tensor([[1.0, 1.0, 0.0]] * 2), torch.tensor([0, 1])
    assert right(Classes(3), logits, targets).tolist() == [True, False]
    room = headroom(Classes(3), logits, targets)
    assert room[0] == 0
    assert -1e-37 < room[1] < 0
    assert fooled(Classes(3), room, targets).tolist() == [False, True]


def test_no_class_is_right_where_a_logit_is_nan():
    logits, targets = torch.tensor([[3.0, np.nan]]), torch.tensor([0])
    assert not right(Classes(2), logits, targets).any()
    assert fooled(Classes(2), headroom(Classes(2), logits, targets), targets).all()


def test_with_a_wanted_class_every_other_answer_is_right():
    logits, targets = torch.tensor([[3.0, 1.0, 2.0], [0.0, 1.0, 4.0]]), torch.tensor([0, 0])
    judge = Classes(3, wanted=2)
    assert right(judge, logits, targets).tolist() == [True, False]
    assert headroom(judge, logits, targets).tolist() == [1.0, -3.0]


@given(
    logits=arrays.arrays(np.float32, (6, 3), elements=st.floats(-4, 4, width=16)),
    targets=arrays.arrays(np.int64, 6, elements=st.integers(0, 2)),
    wanted=st.sampled_from([None, 0, 2]),
)
def test_headroom_and_the_answer_of_classes_agree(logits, targets, wanted):
    judge, points, answers = Classes(3, wanted=wanted), torch.from_numpy(logits), torch.from_numpy(targets)
    room, correct = headroom(judge, points, answers).numpy(), right(judge, points, answers).numpy()
    assert correct.tolist() == (room >= 0).tolist()


def test_logits_of_another_width_are_refused():
    with pytest.raises(InputError, match=r"expected logits \[N, 2\] of the model, got \[4, 3\]"):
        WhiteBox(torch.nn.Linear(2, 3), Decision()).headroom(np.zeros((4, 2), np.float32), np.ones(4, np.int64))


@pytest.mark.parametrize(
    ("judge", "targets", "says"),
    [
        (Decision(), np.array([0, 2]), "record 1 has the target 2; right is 0 for benign and 1 for attack"),
        (Classes(3), np.array([0, 3]), "record 1 has the target 3; right is 0 to 2"),
        (Classes(3), np.array([-1]), "record 0 has the target -1"),
        (Classes(3), np.array([0.0]), "targets must be int64"),
    ],
)
def test_labels_that_the_judge_does_not_know_are_refused(judge, targets, says):
    with pytest.raises(InputError, match=says):
        check_targets(judge, targets)


@pytest.mark.parametrize(("outputs", "wanted"), [(1, None), (3, 3), (3, -1)])
def test_classes_that_make_no_sense_are_refused(outputs, wanted):
    with pytest.raises(InputError, match="classes"):
        Classes(outputs, wanted=wanted)
