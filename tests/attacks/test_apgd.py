"""Auto-PGD: its schedule is the paper's, and it is as strong as the authors' own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hauberk.attacks import APGD, PGD, Classes, TargetedAPGD
from hauberk.attacks.apgd import checkpoints
from hauberk.errors import InputError

torch.set_num_threads(1)


def theirs(scene, name: str, radius: float, norm: str, seed: int = 0) -> float:
    """Share of records that survive one attack of the authors' ensemble, in its own implementation."""
    from pyautoattack import AutoAttack

    inputs, labels = torch.from_numpy(scene.features), torch.from_numpy(scene.targets)
    attack = AutoAttack(
        scene.model.module,
        attacks=[name],
        version="custom",
        eps=radius,
        norm={"linf": "Linf", "l2": "L2"}[norm],
        seed=seed,
    )
    attack.verbose = False
    attack.apgd.n_restarts = 1
    attack.apgd_targeted.n_target_classes = 4
    return scene.right(attack.run_standard_evaluation(inputs, labels, batch_size=1000)[0].numpy())


def test_checkpoints_are_those_of_the_paper():
    """For 100 steps: 22, then intervals of 19, 16, 13, 10, 7 and then 6."""
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.06), ("l2", 0.25)])
def test_it_is_as_strong_as_the_authors_on_two_classes(two_answers, norm, radius):
    ours = two_answers.survived(APGD(objective="cross-entropy"), radius, norm)
    other = theirs(two_answers, "apgd-ce", radius, norm)
    assert other < 0.8
    assert ours <= other + 0.01


@pytest.mark.parametrize(("attack", "name"), [(APGD(objective="dlr"), "apgd-dlr"), (TargetedAPGD(), "apgd-t")], ids=str)
@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.03), ("l2", 0.12)])
def test_it_is_as_strong_as_the_authors_on_classes(five_classes, attack, name, norm, radius):
    seeds = range(3 if name == "apgd-dlr" else 1)  # one start leaves what a seed decides
    other = np.mean([theirs(five_classes, name, radius, norm, seed) for seed in seeds])
    assert other < 0.8
    assert np.mean([five_classes.survived(attack, radius, norm, seed) for seed in seeds]) <= other + 0.01


def test_it_needs_no_step_size_to_keep_up_with_pgd(two_answers):
    assert two_answers.survived(APGD(steps=40), 0.06) <= two_answers.survived(PGD(steps=40), 0.06) + 0.005


def test_restarts_only_make_it_stronger(two_answers):
    threat = two_answers.threat(0.06)
    arguments = (two_answers.model, two_answers.features, two_answers.targets)
    one, three = (APGD(steps=5, restarts=n).run(*arguments, threat=threat) for n in (1, 3))
    assert not (three.survived & ~one.survived).any()


def test_a_targeted_attack_goes_for_every_rival_class(five_classes):
    """With one rival it leaves records standing that fall to another class."""
    assert five_classes.survived(TargetedAPGD(rivals=4), 0.03) < five_classes.survived(TargetedAPGD(rivals=1), 0.03)


def test_a_wanted_class_is_what_it_comes_to(five_classes):
    wanted = type(five_classes.model)(five_classes.model.module, Classes(5, wanted=3))
    chosen = five_classes.targets != 3
    features, targets = five_classes.features[chosen], five_classes.targets[chosen]
    for attack in (APGD(steps=40), APGD(steps=40, objective="dlr"), TargetedAPGD(steps=40)):
        found = attack.run(wanted, features, targets, threat=five_classes.threat(0.2))
        named = wanted.logits(found.adversarial).argmax(axis=1)
        assert (named[~found.survived] == 3).all()
        assert found.survived.mean() < 0.6


def test_early_stopping_saves_queries_and_decides_nothing(two_answers):
    threat = two_answers.threat(0.06)
    arguments = (two_answers.model, two_answers.features, two_answers.targets)
    early, late = (APGD(steps=50, early_stopping=stop).run(*arguments, threat=threat) for stop in (True, False))
    assert early.queries.mean() < 0.8 * late.queries.mean()
    assert np.mean(early.survived) == pytest.approx(np.mean(late.survived), abs=0.005)


@pytest.mark.parametrize(
    ("kind", "options"), [(APGD, {"steps": 0}), (APGD, {"restarts": 0}), (TargetedAPGD, {"rivals": 0})], ids=str
)
def test_options_out_of_range_are_refused(kind, options):
    with pytest.raises(InputError, match=f"attack {kind.name}: .* must be at least 1|at least 1 rival"):
        kind(**options)
