"""Any step that trains can learn under attack: what it keeps of a robust detector's robustness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hauberk.attacks import PGD, FeatureThreat, WhiteBox
from hauberk.compress import PruneStructured, QuantizeAware
from hauberk.compress.teaching import class_weights, hard_loss, teachers_lesson
from hauberk.compress.tuning import Robust, Tuning, answers
from hauberk.errors import InputError
from hauberk.graph.twin import Twin
from hauberk.schema import Decision

ROBUST = Robust(radius=0.05, steps=3)
COPYING = Robust(radius=0.05, steps=3, answers="attacked")


def robust_accuracy(artifact, spambase) -> float:
    threat = FeatureThreat.from_space(spambase.space, 0.05)
    model = WhiteBox(Twin(artifact).eval(), Decision())
    test = spambase.test.sample(500, 0)
    return float(PGD(steps=20).run(model, test.features, test.targets, threat=threat).survived.mean())


def test_pruning_under_attack_stays_more_robust(spambase, robust_detector):
    """More than where what is left is trained on the records as they are."""
    found = []
    for robust in (None, ROBUST):
        tuning = Tuning(epochs=6, learning_rate=3e-3, made_up=0.0, robust=robust)
        pruned = PruneStructured(amount=0.75, tuning=tuning).apply(robust_detector, spambase.context)
        found.append(robust_accuracy(pruned, spambase))
    plain, under_attack = found
    assert under_attack > plain + 0.005


def test_quantizing_under_attack_keeps_robustness(spambase, robust_detector):
    """At most one point is lost, with weights of 4 bits."""
    tuning = Tuning(epochs=4, batch_size=64, learning_rate=5e-4, robust=ROBUST)
    step = QuantizeAware(weight_bits=4, activations="float32", tuning=tuning)
    quantized = step.apply(robust_detector, spambase.context)
    assert robust_accuracy(quantized, spambase) > robust_accuracy(robust_detector, spambase) - 0.01


def test_training_stops_by_attacked_records(spambase, robust_detector):
    """Its judge is the class-weighted cross-entropy of attacked records: higher than that of the records themselves."""
    tuning = Tuning(robust=ROBUST)
    module = Twin(robust_detector).eval()
    features, targets = (torch.from_numpy(part[:300]) for part in (spambase.test.features, spambase.test.targets))
    lost = []
    for mutable in (True, False):
        context = replace(spambase.context, mutable=np.full(spambase.space.width, mutable))
        judge = teachers_lesson(robust_detector, context, tuning, step="test").judge
        with torch.no_grad():
            lost.append(float(judge(module, features, targets, torch.arange(300))))
        hard = hard_loss(context, class_weights(context, 2, "test"))
    with torch.no_grad():
        assert lost[1] == pytest.approx(float(hard(module(features), targets)), rel=1e-5)
    assert lost[0] > lost[1] + 0.05


def test_the_answers_to_attacked_records_are_the_teachers(spambase, robust_detector):
    """The teacher itself is at no distance from what it answers; any other network is."""
    lesson = teachers_lesson(robust_detector, spambase.context, Tuning(robust=COPYING, made_up=1.0), step="test")
    assert len(lesson.records) == 2 * len(spambase.context.training)
    teacher, rows = Twin(robust_detector).eval(), torch.arange(200)
    features = torch.from_numpy(lesson.records.features[:200])
    targets = torch.zeros(200, dtype=torch.int64)
    assert float(lesson.objective(teacher, features, targets, rows).detach()) == pytest.approx(0, abs=1e-6)
    other = Twin(PruneStructured(amount=0.75).apply(robust_detector, replace(spambase.context, trained=False))).eval()
    assert float(lesson.objective(other, features, targets, rows).detach()) > 0.01


def test_a_copy_of_a_robust_detector_is_as_robust(spambase, robust_detector):
    """At most one point is lost with half of the units."""
    tuning = Tuning(epochs=6, learning_rate=3e-3, made_up=2.0, robust=COPYING)
    pruned = PruneStructured(amount=0.5, tuning=tuning).apply(robust_detector, spambase.context)
    assert robust_accuracy(pruned, spambase) > robust_accuracy(robust_detector, spambase) - 0.01


def test_a_copy_asks_any_teacher_for_its_answers_under_attack(spambase, robust_detector):
    asked = []

    class Teacher:
        def predict(self, features):
            asked.append(len(features))
            return answers(robust_detector, features)

    context = replace(spambase.context, teacher=Teacher())
    lesson = teachers_lesson(robust_detector, context, Tuning(robust=COPYING, made_up=0.0), step="test")
    before = len(asked)
    rows = torch.arange(50)
    features = torch.from_numpy(lesson.records.features[:50])
    lesson.objective(Twin(robust_detector).eval(), features, torch.zeros(50, dtype=torch.int64), rows)
    assert asked[before:] == [50]


def test_attacked_records_have_no_label(spambase):
    with pytest.raises(InputError, match=r"alpha is 0.5; where answers to attacked records are learned it is 1"):
        Tuning(alpha=0.5, robust=COPYING)
