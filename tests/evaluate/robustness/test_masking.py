"""Self-inflicted masking, on a detector of real mail: a naive attack reports robustness, the protocol does not.

In every case the honest figure is that of the plain network by the same protocol: the forms compute what it computes on
every legal record, or within rounding.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hauberk.attacks import APGD, PGD, WhiteBox
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.schema import Decision

torch.set_num_threads(1)
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
BUDGET = Budget(records=150, steps=20, restarts=2, queries=60, attacks=("fgsm", "pgd", "apgd", "square"))
FORMS = ("relu-clamp", "rounded", "saturated", "blind INT8")


@pytest.fixture(scope="module")
def cases():
    """The cases of `benchmarks/masking_cases.py`."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("masking_cases")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def scene(cases):
    return cases.scene("spambase", records=150, epochs=8, widths=(64, 32))


@pytest.fixture(scope="module")
def graphs(scene):
    return scene.graphs()


@pytest.fixture(scope="module")
def naive(cases, scene, graphs):
    return cases.naive_figures(scene, graphs, steps=20)


@pytest.fixture(scope="module")
def found(cases, scene, graphs):
    return cases.protocol_figures(scene, graphs, BUDGET)


def test_on_the_plain_network_a_naive_attack_without_a_mistake_is_right(naive, found):
    assert naive["plain"] == pytest.approx(found["unmasked"].robust_accuracy.value, abs=0.02)
    assert found["unmasked"].clean_accuracy.value > found["unmasked"].robust_accuracy.value + 0.2


@pytest.mark.parametrize("case", [*FORMS, "edge"])
def test_the_naive_figure_is_false(case, naive, found):
    assert naive[case] > found["unmasked"].robust_accuracy.value + 0.1


@pytest.mark.parametrize("form", FORMS)
def test_the_protocol_gives_the_figure_of_the_unmasked_network(form, found):
    assert found[form].robust_accuracy.value == pytest.approx(found["unmasked"].robust_accuracy.value, abs=0.02)


@pytest.mark.parametrize("form", FORMS)
def test_our_own_twins_do_not_mask(form, found):
    """White-box attacks alone get there: straight through rounding, starts off the edge, a margin never flat."""
    best = min(each.survived.value for each in found[form].attacks if each.knowledge == "white-box")
    assert best == pytest.approx(found["unmasked"].robust_accuracy.value, abs=0.03)
    assert found[form].verdict == "no gradient masking found"


def test_a_blind_twin_is_named_and_its_figure_is_not_believed(found):
    blind, honest = found["blind INT8, blind twin"], found["blind INT8"]
    white_box = min(each.survived.value for each in blind.attacks if each.knowledge == "white-box" and not each.answer)
    assert white_box > honest.robust_accuracy.value + 0.1
    assert blind.verdict == "gradient masking"
    assert blind.robust_accuracy.value == pytest.approx(honest.robust_accuracy.value, abs=0.02)


def test_a_blind_twin_is_seen_to_be_blind(found):
    """Not from attacks alone: the share of records without any slope is measured and stated."""
    (blind,), (honest,) = found["blind INT8, blind twin"].fidelity, found["blind INT8"].fidelity
    assert blind.blind.value == 1.0
    assert honest.blind.value < 0.05


@pytest.mark.parametrize("attack", [PGD(steps=20, restarts=2), APGD(steps=20, restarts=2)], ids=lambda a: a.name)
def test_logits_that_saturate_change_nothing(attack, cases, scene):
    """Logits a thousand times too large or too small: the same records are fooled, up to rounding."""
    records = scene.records
    survived = []
    for scale in (1.0, 1e3, 1e-3):
        module = cases.Form(scene.network, before=lambda features: features, scale=scale).eval()
        model = WhiteBox(module, Decision())
        survived.append(attack.run(model, records.features, records.targets, threat=scene.threat, seed=0).survived)
    assert abs(survived[0].mean() - survived[1].mean()) <= 0.01
    assert abs(survived[0].mean() - survived[2].mean()) <= 0.01


@pytest.mark.parametrize(
    "attack",
    [PGD(steps=20, objective="cross-entropy"), APGD(steps=20, objective="cross-entropy")],
    ids=lambda attack: attack.name,
)
def test_cross_entropy_of_saturated_logits_still_has_a_slope(attack, cases, scene):
    """Where the softmax is 1 in float32 its gradient underflows; ours is that of the log-odds and does not."""
    records = scene.records
    figures = []
    for scale in (1.0, 1e3):
        module = cases.Form(scene.network, before=lambda features: features, scale=scale).eval()
        model = WhiteBox(module, Decision())
        found = attack.run(model, records.features, records.targets, threat=scene.threat, seed=0)
        figures.append(found.survived.mean())
    assert figures[1] == pytest.approx(figures[0], abs=0.02)


def test_records_on_the_edge_of_the_box_are_attacked_as_well_as_others(cases, scene):
    """Every record on a corner of the box: projection outside the gradient leaves each column its slope."""
    corners = np.round(scene.records.features)
    records = type(scene.records)(corners, scene.records.targets)
    plain = WhiteBox(scene.network, Decision())
    ours = PGD(steps=20).run(plain, corners, records.targets, threat=scene.threat, seed=0).survived.mean()
    points = cases.naive_attack(scene.network, records, clamp_inside=True, start="corner")
    naive = (plain.right(points, records.targets) & plain.right(corners, records.targets)).mean()
    assert ours <= naive - 0.05
