"""What is done where gradients mislead: what still stands is attacked again, from where the other attacks got to.

A gradient that is zero at a record (a clamp, saturation) need not be zero where transfer or a search has moved it; and
where the candidate's own gradient is zero everywhere (rounding), the gradient of a module that computes nearly the same
may lead, as in the backward pass differentiable approximation of Athalye et al. 2018 (arXiv:1802.00420).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import Attack, FeatureThreat, WhiteBox
from hauberk.attacks.base import Knowledge as Needs
from hauberk.attacks.judge import Targets
from hauberk.evaluate.robustness.arena import Arena
from hauberk.evaluate.robustness.defender import Defender
from hauberk.evaluate.robustness.figures import Knowledge
from hauberk.evaluate.robustness.trial import Attempt, Trial

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ContinuedDescent(Attack[WhiteBox]):
    """Projected gradient descent from given points instead of the records, down to the least headroom seen.

    Attributes:
        points: Float32 [N, D], where to start, inside the threat model of the records that the attack is run on.
        steps: Signed steps; each column's add up to 2.5 times half its range.
        batch_size: Records attacked together.
    """

    name: ClassVar[str] = "continued-descent"
    knowledge: ClassVar[Needs] = "white-box"

    points: Features
    steps: int = 40
    batch_size: int = 1024

    def _search(
        self,
        model: WhiteBox,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,  # noqa: ARG002 - nothing here is random
    ) -> tuple[Features, NDArray[np.int64]]:
        worst = features.copy()
        for start in range(0, len(features), self.batch_size):
            rows = slice(start, start + self.batch_size)
            worst[rows] = self._descend(model, self.points[rows], features[rows], targets[rows], threat)
        return worst, np.full(len(features), self.steps + 1, dtype=np.int64)

    def _descend(
        self, model: WhiteBox, points: Features, records: Features, targets: Targets, threat: FeatureThreat
    ) -> Features:
        lowest, highest = threat.limits(records)
        stride = 1.25 / self.steps * (highest - lowest)
        # What is stepped on is never the repaired point: whole numbers would swallow every step below half a unit.
        iterates = np.clip(points, lowest, highest)
        worst, least = records, np.full(len(points), np.inf, dtype=np.float32)
        wanted = torch.from_numpy(np.ascontiguousarray(targets))
        for _ in range(self.steps + 1):
            points = threat.project(iterates, records)
            here = torch.tensor(points, requires_grad=True)
            with torch.enable_grad():
                headroom = model.headroom_of(here, wanted)
            found = headroom.detach().numpy()
            worse = found < least
            worst, least = np.where(worse[:, None], points, worst), np.where(worse, found, least)
            if not headroom.requires_grad:
                break
            (slope,) = torch.autograd.grad(headroom.sum(), here, allow_unused=True, materialize_grads=True)
            downhill = np.sign(np.nan_to_num(slope.numpy(), nan=0.0))
            iterates = np.clip(iterates - stride * downhill, lowest, highest).astype(np.float32)
        return worst


def answer(arena: Arena, defender: Defender, baseline: Defender | None, trial: Trial) -> tuple[Trial, tuple[str, ...]]:
    """Attack what still stands from the points that attacks without the candidate's gradients have found.

    Args:
        arena: Records and rules.
        defender: The candidate whose gradients mislead.
        baseline: The baseline, where that is somebody else: its gradients are followed, too.
        trial: What happened so far.

    Returns:
        The trial with what was tried on top, and one sentence for each thing that was done.
    """
    modules: list[tuple[Knowledge, str, Defender, torch.nn.Module | None]] = [
        ("white-box", "the candidate's own twin", defender, defender.twin),
        ("substitute", "the substitute", defender, defender.substitute),
    ]
    if baseline is not None:
        modules.insert(1, ("transfer", "the baseline's twin", baseline, baseline.twin))
    done = []
    for knowledge, whose, owner, module in modules:
        standing = trial.survived
        if module is None or not standing.any():
            continue
        attempt = _continued(arena, defender, trial, WhiteBox(module, owner.decision), knowledge)
        trial = trial.after([attempt])
        fell = int(standing.sum() - trial.survived.sum())
        done.append(
            f"the gradients of {whose} were followed again, from the points that attacks without gradients had found:"
            f" {fell:,} of the {int(standing.sum()):,} records that still stood fell"
        )
    done.append(
        f"robust accuracy is the worst case over all attacks, {100 * trial.survived.mean():.1f} %, and not the"
        f" {100 * trial.at_first('white-box').mean():.1f} % that gradients alone would have reported"
    )
    return trial, tuple(done)


def _continued(arena: Arena, defender: Defender, trial: Trial, model: WhiteBox, knowledge: Knowledge) -> Attempt:
    started = time.perf_counter()
    rows = np.flatnonzero(trial.survived)
    points = _deepest(arena, defender, trial, rows)
    features, targets = arena.features[rows], arena.targets[rows]
    attack = ContinuedDescent(points=points, steps=arena.budget.steps)
    found = attack.run(model, features, targets, threat=arena.threat, seed=arena.seed)
    adversarial, survived, on_model = arena.features.copy(), trial.survived.copy(), trial.survived.copy()
    adversarial[rows] = found.adversarial
    survived[rows] = defender.session.right(found.adversarial, targets)
    on_model[rows] = found.survived
    queries = np.zeros(len(trial.clean), dtype=np.int64)
    seconds = time.perf_counter() - started
    return Attempt(attack.name, knowledge, adversarial, survived, queries, seconds, on_model, answer=True)


def _deepest(arena: Arena, defender: Defender, trial: Trial, rows: NDArray[np.int64]) -> Features:
    """Float32 [n, D]: of what attacks without the candidate's gradients made of these records, the worst for it."""
    targets = arena.targets[rows]
    worst, least = arena.features[rows].copy(), np.full(len(rows), np.inf, dtype=np.float32)
    for attempt in trial.attempts:
        if attempt.knowledge == "white-box":
            continue
        points = attempt.adversarial[rows]
        moved = (points != arena.features[rows]).any(axis=1)
        found = defender.session.headroom(points, targets)
        better = moved & (found < least)
        worst[better], least[better] = points[better], found[better]
    return worst
