"""How accuracy falls with the radius, and the headroom with the steps: what a believable attack must show.

Accuracy has to fall to what cannot move at all, and more steps must not end much lower than those that were taken
(Carlini et al., "On Evaluating Adversarial Robustness", 2019, arXiv:1902.06705, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from hauberk.attacks import PGD, FeatureThreat, WhiteBox
from hauberk.attacks.batch import without_ball
from hauberk.attacks.square import Square
from hauberk.evaluate.quality import rate_measurement
from hauberk.evaluate.robustness.arena import Arena
from hauberk.evaluate.robustness.defender import Defender
from hauberk.evaluate.robustness.figures import Curves, RadiusPoint, StepPoint
from hauberk.evaluate.robustness.sampling import stratified_sample
from hauberk.evaluate.robustness.trial import Trial
from hauberk.measurement import wilson

Features = NDArray[np.float32]
Flags = NDArray[np.bool_]

_RECORDS = 250
"""Records of a curve: enough for an interval of 6 points, and every radius costs a search."""
_QUERIES = 200
"""Of the search at each radius, a record."""
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200)
_FRACTIONS = (0.25, 0.5, 1.0)
_DOUBLINGS = 12
"""From the radius on, at most: 0.05 becomes 205, far beyond any box."""


@dataclass(frozen=True)
class _Scene:
    """The records of the curves, and who is attacked how."""

    features: Features
    targets: NDArray[np.int64]
    session: Defender
    module: torch.nn.Module | None
    arena: Arena

    def right(self, features: Features, rows: NDArray[np.int64]) -> Flags:
        """Whether the real session answers these records right, bool [n]."""
        return self.session.session.right(features, self.targets[rows])


def draw_curves(arena: Arena, defender: Defender, trial: Trial) -> Curves:
    """Measure both curves on some of the records under attack.

    The sweep attacks by gradients and by scores, as far as the adversary may, and what fell at a smaller radius counts
    as fallen at every larger one. At the threat model's own radius, and so beyond it, what any attack of the protocol
    beat has fallen, too: the curve is never above the worst case there.

    Args:
        arena: Records and rules.
        defender: The candidate.
        trial: What the attacks did; records that the session gets wrong untouched have fallen at radius 0.
    """
    rows = stratified_sample(arena.targets, _RECORDS, arena.seed)
    own = defender.twin if defender.twin is not None else defender.substitute
    module = own if arena.reach == "white-box" else None
    scene = _Scene(arena.features[rows], arena.targets[rows], defender, module, arena)
    queries = min(arena.budget.queries, _QUERIES) if arena.reach != "labels" else 0
    used = [f"pgd ({min(arena.budget.steps, 20)} steps)"] if module is not None else []
    used += [f"square ({queries} queries)"] if queries else []
    radii = tuple(_radii(scene, trial.clean[rows], trial.survived[rows], queries)) if used else ()
    steps = tuple(_steps(scene, trial.clean[rows], module)) if module is not None and not arena.still else ()
    return Curves(" and ".join(used), len(rows), radii, steps, tuple(_remarks(scene, radii, steps)))


def _radii(scene: _Scene, clean: Flags, survived: Flags, queries: int) -> Iterator[RadiusPoint]:
    threat = scene.arena.threat
    standing = clean.copy()
    yield _radius_point(0.0, standing)
    if threat.norm == "none" or not threat.radius:
        return
    factors = (*_FRACTIONS, *(2.0**power for power in range(1, _DOUBLINGS + 1)))
    reached = -1.0
    for factor in factors:
        if factor == 1.0:
            standing &= survived
        wider = replace(threat, radius=threat.radius * factor)
        reach = _reach(wider, scene.features)
        if not standing.any() or (factor > 1 and reach == reached):
            return
        reached = reach
        for adversarial, rows in _attacked(scene, standing, wider, queries):
            standing[rows] &= scene.right(adversarial, rows)
        yield _radius_point(wider.radius, standing)


def _reach(threat: FeatureThreat, features: Features) -> float:
    """A measure of how far records can be moved, which grows with the radius as long as that has an effect."""
    lowest, highest = threat.limits(features)
    if threat.norm != "l2":
        return float((highest - lowest).sum())
    # Single columns are free long before the ball holds the box's farthest corner.
    low, high = without_ball(threat).limits(features)
    corner = np.linalg.norm(np.maximum(high - features, features - low).astype(np.float64), axis=1)
    return min(threat.radius, float(corner.max(initial=0.0)))


def _attacked(
    scene: _Scene, standing: Flags, threat: FeatureThreat, queries: int
) -> Iterator[tuple[Features, NDArray[np.int64]]]:
    """What each attack of the sweep makes of the records that stand when it is their turn."""
    arena = scene.arena
    if scene.module is not None and (rows := np.flatnonzero(standing)).size:
        descent = PGD(steps=min(arena.budget.steps, 20), early_stopping=False)
        model = WhiteBox(scene.module, scene.session.decision)
        found = descent.run(model, scene.features[rows], scene.targets[rows], threat=threat, seed=arena.seed)
        yield found.adversarial, rows
    if queries and (rows := np.flatnonzero(standing)).size:
        search, session = Square(queries=queries), scene.session.session
        found = search.run(session, scene.features[rows], scene.targets[rows], threat=threat, seed=arena.seed)
        yield found.adversarial, rows


def _steps(scene: _Scene, clean: Flags, module: torch.nn.Module) -> Iterator[StepPoint]:
    """One restart each, with step sizes that fit their number; the last one takes more than the budget does."""
    model, everyone = WhiteBox(module, scene.session.decision), np.arange(len(scene.targets))
    budgeted = scene.arena.budget.steps
    further = next((count for count in _STEPS if count > budgeted), 2 * budgeted)
    for count in sorted({*(count for count in _STEPS if count < budgeted), budgeted, further}):
        descent = PGD(steps=count, early_stopping=False)
        found = descent.run(
            model, scene.features, scene.targets, threat=scene.arena.threat, seed=scene.arena.seed
        ).adversarial
        headroom = model.headroom(found, scene.targets)
        survived = clean & scene.right(found, everyone)
        yield StepPoint(count, float(headroom.mean()), rate_measurement("survived", survived, None, seed=0))


def _remarks(scene: _Scene, radii: tuple[RadiusPoint, ...], steps: tuple[StepPoint, ...]) -> Iterator[str]:
    """What the curves say about the attack; without a remark they look as they should."""
    if scene.arena.threat.norm == "none":
        yield "the threat model has no radius, so that there is none to sweep"
    elif len(radii) > 1 and radii[-1].survived.value > 0:
        yield (
            f"{100 * radii[-1].survived.value:.1f} % still stand at radius {radii[-1].radius:g}, where records can"
            " move no further: columns that cannot move decide about them, or the attacks of the sweep fail"
        )
    if len(steps) > 1:
        before, last = steps[-2], steps[-1]
        if (
            last.survived.value
            < wilson(round(before.survived.value * before.survived.samples), before.survived.samples).low
        ):
            yield (
                f"{last.steps} steps leave {100 * last.survived.value:.1f} %, {before.steps} steps"
                f" {100 * before.survived.value:.1f} %: the attack had not converged, give it more steps"
            )


def _radius_point(radius: float, standing: Flags) -> RadiusPoint:
    return RadiusPoint(radius, rate_measurement("survived", standing, None, seed=0))
