"""`benchmarks/resnet_teacher.py`: small networks go through all of it, and its verdict can go either way."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="the extra 'images' is not installed")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def resnet_teacher():
    torch.set_num_threads(1)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("resnet_teacher")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_a_student_is_taught_and_judged_beside_one_on_labels_alone(resnet_teacher, tmp_path):
    plan = resnet_teacher.Plan(
        size=16, teacher_epochs=1, epochs=1, seeds=1, images=10, teacher="resnet18", student="residual-cnn"
    )
    outcome = resnet_teacher.compare(plan, tmp_path)
    assert len(outcome.truth) == 20
    assert outcome.teacher.parameters == 11_176_842  # ResNet-18 of ten classes, batch normalisation folded
    ((taught, alone),) = outcome.pairs
    assert taught.parameters == alone.parameters < 100_000
    assert {file.stem for file in (tmp_path / plan.key).glob("*.json")} == {"taught-0", "labels-alone-0"}
    again = resnet_teacher.compare(plan, tmp_path)
    assert again.pairs == outcome.pairs
    assert again.teacher.answers == outcome.teacher.answers


def test_networks_are_made_anew_where_the_sources_have_changed(resnet_teacher, monkeypatch):
    plan = resnet_teacher.Plan()
    before = plan.key
    assert resnet_teacher.Plan(seeds=1).key == before
    monkeypatch.setattr(resnet_teacher.sources, "of_measuring", lambda: "other")
    assert plan.key != before


@pytest.mark.parametrize(
    ("taught", "alone", "verdict"),
    [(0.9, 0.6, "helped"), (0.6, 0.9, "did harm"), (0.8, 0.8, "no difference")],
    ids=["better", "worse", "the same"],
)
def test_the_verdict_follows_the_answers(resnet_teacher, taught, alone, verdict):
    truth = np.arange(300) % 10
    random = np.random.default_rng(0)

    def judged(name, seed, share):
        answers = np.where(random.random(len(truth)) < share, truth, (truth + 1) % 10)
        return resnet_teacher.Judged(name, seed, 1.0, 10, answers.tolist())

    pairs = tuple((judged("taught", seed, taught), judged("labels alone", seed, alone)) for seed in range(3))
    outcome = resnet_teacher.Outcome(truth, judged("teacher", 0, 1.0), pairs)
    assert verdict in outcome.verdict()
    assert outcome.accuracy(outcome.teacher) == 1.0
    assert outcome.agreement(pairs[0][0]) == outcome.accuracy(pairs[0][0])  # this teacher is always right
