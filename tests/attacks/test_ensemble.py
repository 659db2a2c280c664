"""hauberk-auto: the worst case of its members, on what still stands, and an equal of AutoAttack on images."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hauberk.attacks import Classes, Ensemble, FeatureThreat, WhiteBox
from hauberk.errors import InputError

torch.set_num_threads(1)
SHORT = Ensemble(steps=20, queries=200)


def names(judge, threat) -> list[str]:
    return [member.name for member in Ensemble().members(judge, threat)]


def test_what_it_runs_depends_on_the_answers(two_answers, five_classes):
    threat = two_answers.threat(0.1)
    assert names(five_classes.model.judge, threat) == ["apgd", "apgd-targeted", "fab", "square"]
    assert names(two_answers.model.judge, threat) == ["apgd", "apgd", "fab", "square"]
    assert names(Classes(2), threat) == names(Classes(5, wanted=1), threat) == names(two_answers.model.judge, threat)
    assert names(five_classes.model.judge, five_classes.threat(0.1, "l2")) == names(five_classes.model.judge, threat)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_no_weaker_than_any_of_its_members(five_classes, norm):
    radius = {"linf": 0.03, "l2": 0.12}[norm]
    members = SHORT.members(five_classes.model.judge, five_classes.threat(radius, norm))
    alone = [five_classes.survived(member, radius, norm) for member in members]
    together = five_classes.survived(SHORT, radius, norm)
    assert together <= min(alone) + 0.005  # other seeds
    assert len(set(alone)) > 1


def test_the_next_attack_sees_only_what_stands(two_answers):
    threat = two_answers.threat(0.06)
    found = SHORT.run(two_answers.model, two_answers.features, two_answers.targets, threat=threat)
    assert 0.2 < found.survived.mean() < 0.8
    assert (found.queries[found.survived] > 260).all()
    assert np.median(found.queries[~found.survived]) < 25


@pytest.mark.parametrize("options", [{"steps": 0}, {"queries": 0}, {"batch_size": 0}], ids=str)
def test_a_budget_of_nothing_is_refused(options):
    with pytest.raises(InputError, match="attack hauberk-auto: steps, queries and batch size must be at least 1"):
        Ensemble(**options)


class Rows(torch.nn.Module):
    """A small convolutional network on rows of 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        convolutions = (
            torch.nn.Conv2d(1, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 16, 3, stride=2, padding=1),
        )
        self.layers = torch.nn.Sequential(*convolutions, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 10))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(rows.reshape(-1, 1, 8, 8))
        return logits


def test_on_images_it_is_an_equal_of_autoattack():
    """The standard set of both, with the same small budgets: at most 0.3 points more robust."""
    from pyautoattack import AutoAttack

    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int64)
    model = WhiteBox(Rows(), Classes(10))
    optimiser = torch.optim.Adam(model.module.parameters(), 5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        inputs, targets = torch.from_numpy(images[400:]), torch.from_numpy(labels[400:])
        torch.nn.functional.cross_entropy(model.module(inputs), targets).backward()
        optimiser.step()
    model.module.eval()
    features, targets, radius = images[:100], labels[:100], 0.12
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    theirs = AutoAttack(model.module, eps=radius, seed=0)
    theirs.verbose, theirs.square.n_queries = False, 200
    theirs.apgd.n_iter = theirs.apgd_targeted.n_iter = theirs.fab.n_iter = 20
    pixels = torch.from_numpy(features)
    reached = theirs.run_standard_evaluation(pixels.reshape(-1, 1, 8, 8), torch.from_numpy(targets), batch_size=100)[0]
    other = model.right(reached.reshape(-1, 64).numpy(), targets).mean()
    threat = FeatureThreat(
        radius, np.zeros(64, np.float32), np.ones(64, np.float32), np.ones(64, np.bool_), shape=(1, 8, 8)
    )
    ours = SHORT.run(model, features, targets, threat=threat).survived.mean()
    assert 0.1 < other < 0.8
    assert ours <= other + 0.003
