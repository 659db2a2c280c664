"""Any step that trains can learn under attack: what it keeps of a robust detector's robustness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hauberk.attacks import PGD, FeatureThreat, WhiteBox
from hauberk.compress import PruneStructured, QuantizeAware
from hauberk.compress.teaching import class_weights, hard_loss, teachers_lesson
from hauberk.compress.tuning import Robust, Tuning
from hauberk.graph.twin import Twin
from hauberk.schema import Decision

ROBUST = Robust(radius=0.05, steps=3)


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
