"""Which records are attacked."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.recipe import LabelledFeatures

Goal = Literal["any", "evade", "false-alarm"]
"""What the adversary is after: any wrong answer, an attack that raises no alarm, or an alarm where nothing is wrong."""


def records_of(records: LabelledFeatures, goal: Goal) -> LabelledFeatures:
    """The records that a goal is about: all of them, attack records (1) alone, or benign ones (0) alone.

    Raises:
        InputError: There is none.
    """
    if goal == "any":
        found = records
    else:
        rows = np.flatnonzero(records.targets == (1 if goal == "evade" else 0))
        found = LabelledFeatures(records.features[rows], records.targets[rows])
    if not len(found):
        kind = {"any": "", "evade": "attack ", "false-alarm": "benign "}[goal]
        raise InputError(f"robustness: there is no {kind}record to attack; give some, or another goal than {goal}")
    return found


def attacked_records(records: LabelledFeatures, goal: Goal, most: int, seed: int) -> LabelledFeatures:
    """The records that the protocol attacks: at most so many of those that the goal is about.

    Raises:
        InputError: There is none.
    """
    about = records_of(records, goal)
    rows = stratified_sample(about.targets, most, seed)
    return LabelledFeatures(about.features[rows], about.targets[rows])


def stratified_sample(targets: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Indices int64 [at most `most`], ascending, with the share of each class that `targets` has, to the record."""
    if len(targets) <= most:
        return np.arange(len(targets))
    generator = np.random.default_rng(seed)
    classes, counts = np.unique(targets, return_counts=True)
    exact = most * counts / len(targets)
    wanted = np.floor(exact).astype(np.int64)
    wanted[np.argsort(wanted - exact, kind="stable")[: most - wanted.sum()]] += 1  # to those that lost most of one
    parts = [
        generator.choice(np.flatnonzero(targets == label), count, replace=False)
        for label, count in zip(classes[::-1], wanted[::-1], strict=True)
    ]
    return np.sort(np.concatenate(parts))
