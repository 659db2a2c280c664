"""How hard a model is to evade as it is deployed: what `hauberk evaluate` does.

Nothing is chosen or changed here. The model's own graph, or an open bundle, stands the whole protocol on records of the
test split, beside its float baseline where one is given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hauberk.attacks import Classes, FeatureThreat
from hauberk.errors import InputError
from hauberk.evaluate.quality import rate_measurement
from hauberk.evaluate.robustness.certify.certificate import certify
from hauberk.evaluate.robustness.certify.figures import Certified
from hauberk.evaluate.robustness.defender import labels
from hauberk.evaluate.robustness.figures import RobustnessResult
from hauberk.evaluate.robustness.protocol import Budget, Defender, measure_robustness
from hauberk.evaluate.robustness.sampling import attacked_records
from hauberk.measurement import Machine, Measurement, this_machine
from hauberk.progress import SILENT, Progress
from hauberk.recipe import LabelledFeatures
from hauberk.requirements import Outcome, Requirement
from hauberk.schema import Decision
from hauberk.search.beyond import BackdoorFound, Extent, Natural, conditional_backdoor, under_drift
from hauberk.search.rules import DEFAULT_RADIUS, Adversary, Rules
from hauberk.search.scene import Scene
from hauberk.train.substitute import train_substitute

METRICS = ("robust_accuracy", "accuracy", "agreement")
"""What is measured here, and can be required."""


class Evaluation(msgspec.Struct, frozen=True):
    """What an evaluation found.

    Attributes:
        model: Name of what was evaluated, and of the baseline where one was given.
        baseline: What it was compared with; empty where there was nothing.
        kind: Whether a model's graph or an open bundle stood the attacks.
        origin: SHA-256 of the model's file, hex.
        created: UTC time, ISO 8601.
        machine: Where it ran.
        data: Where the records came from.
        seed: Of the split, the sample and the attacks.
        unseen: Whether the model's card shows that the model was not trained on these records.
        rules: The threat model, in words and as data.
        budget: What the adversary could spend.
        quality: Accuracy, agreement with the baseline and, of detectors, detection rate and false-positive rate on the
            whole test split, untouched.
        result: What the protocol found about the model.
        reference: The same about the baseline; `None` without one.
        certified: How many of the records that were attacked are proved to withstand every attack, known or unknown;
            `None` where the graph or the threat model allows no such proof.
        natural: What becomes of it when nobody attacks and the world changes; `None` where that was not looked at.
        backdoor: Whether something moves the model and not its baseline; `None` where that was not looked at.
        remarks: What a reader must know, one sentence each.
        outcomes: Whether each requirement holds.
        seconds: Wall-clock time of all of it.
    """

    model: str
    baseline: str
    kind: str
    origin: str
    created: str
    machine: Machine
    data: str
    seed: int
    unseen: bool
    rules: Rules
    budget: Budget
    quality: dict[str, Measurement]
    result: RobustnessResult
    reference: RobustnessResult | None
    certified: Certified | None
    natural: Natural | None
    backdoor: BackdoorFound | None
    remarks: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def met(self) -> bool:
        """Whether every requirement holds."""
        return all(outcome.holds for outcome in self.outcomes)


def require_measurable(requirements: Sequence[Requirement], *, baseline: bool) -> None:
    """Refuse requirements that nothing here can judge.

    Raises:
        InputError: Another metric than those measured, or one relative to a baseline that is not given.
    """
    for requirement in requirements:
        if requirement.metric not in METRICS:
            raise InputError(
                f"requirement {requirement.text!r}: {requirement.metric} is not measured here; measured are"
                f" {', '.join(METRICS)}"
            )
        if not baseline and (requirement.relative is not None or requirement.metric == "agreement"):
            raise InputError(f"requirement {requirement.text!r}: there is no baseline; name one with --baseline")


def evaluate(
    scene: Scene,
    data: str | Path,
    adversary: Adversary,
    requirements: Sequence[Requirement] = (),
    *,
    seed: int,
    extent: Extent | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Run the whole protocol on what a scene holds, and look at what needs no adversary.

    Args:
        scene: Who is evaluated, on which records.
        data: Where the records came from, for the record.
        adversary: Whom the model has to stand.
        requirements: What must hold, of `METRICS`.
        seed: Of the sample and of the attacks.
        extent: How far to look beside attacks; by default as the standard budget does.
        progress: Who follows.

    Raises:
        InputError: Requirements, threat model and records do not fit each other, or no attack could run.
        ContractError: The model answers NaN to a record that nobody touched.
    """
    started = time.perf_counter()
    extent = extent or Extent()
    require_measurable(requirements, baseline=scene.baseline is not None)
    rules, threat = adversary.rules(
        scene.bounds, scene.mutable, scene.shape, scene.space, records=scene.kind == "bundle"
    )
    remarks = list(scene.remarks)
    budget = adversary.budget.limited(rules.queries)
    measured = _attacked(scene, rules, threat, budget, seed, remarks, progress)
    quality = _quality(scene, seed)
    result = measured[scene.contestant.name]
    judged = {**quality, "robust_accuracy": result.robust_accuracy}
    return Evaluation(
        model=scene.contestant.name,
        baseline="" if scene.baseline is None else scene.baseline.name,
        kind=scene.kind,
        origin=scene.contestant.origin,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        data=str(data),
        seed=seed,
        unseen=scene.unseen,
        rules=rules,
        budget=budget,
        quality=quality,
        result=result,
        reference=None if scene.baseline is None else measured[scene.baseline.name],
        certified=_certified(scene, rules, threat, budget, seed, remarks),
        natural=under_drift(scene, extent, seed=seed, progress=progress),
        backdoor=conditional_backdoor(scene, extent, seed=seed, progress=progress),
        remarks=tuple(remarks),
        outcomes=tuple(requirement.judge(judged) for requirement in requirements),
        seconds=time.perf_counter() - started,
    )


def _attacked(
    scene: Scene,
    rules: Rules,
    threat: FeatureThreat,
    budget: Budget,
    seed: int,
    remarks: list[str],
    progress: Progress,
) -> dict[str, RobustnessResult]:
    """The whole protocol on the model and on its baseline, by name."""
    defender = scene.contestant.defender
    if defender.twin is None and rules.knowledge == "white-box" and budget.queries:
        defender = _with_substitute(scene, rules, seed, remarks, progress)
    defenders = {scene.contestant.name: defender}
    if scene.baseline is not None:
        defenders[scene.baseline.name] = scene.baseline.defender
    return measure_robustness(
        {name: _wanting(defender, rules) for name, defender in defenders.items()},
        _others(scene.test, rules),
        baseline=(scene.baseline or scene.contestant).name,
        threat=threat,
        budget=budget,
        goal=rules.goal_of_sample,
        reach=rules.knowledge,
        curves=True,
        seed=seed,
        progress=progress,
    )


def _others(records: LabelledFeatures, rules: Rules) -> LabelledFeatures:
    """The records that an adversary who is after a class attacks: not those that belong to it.

    Raises:
        InputError: All of them do.
    """
    if rules.wanted is None:
        return records
    rows = records.targets != rules.wanted
    if not rows.any():
        raise InputError(f"threat model: every test record is of the class {rules.wanted} that the adversary is after")
    return LabelledFeatures(records.features[rows], records.targets[rows])


def _with_substitute(scene: Scene, rules: Rules, seed: int, remarks: list[str], progress: Progress) -> Defender:
    """The model, which has no gradient, with a substitute that learnt its answers."""
    defender = scene.contestant.defender
    radius = rules.radius if rules.norm == "linf" else DEFAULT_RADIUS
    learnt = train_substitute(
        defender.predictor,
        scene.training,
        defender.decision,
        bounds=scene.bounds,
        radius=radius,
        seed=seed,
        progress=progress,
    )
    remarks.append(
        f"a substitute learnt the answers to {len(scene.training):,} training records and to others around them, and"
        f" gives {100 * learnt.nearby.value:.1f} % of the labels where attacks go; gradients are its own"
    )
    return replace(defender, substitute=learnt.module.eval())


def _certified(
    scene: Scene, rules: Rules, threat: FeatureThreat, budget: Budget, seed: int, remarks: list[str]
) -> Certified | None:
    """A lower bound of robust accuracy, on the records that were attacked, for graphs of single records."""
    core = scene.contestant.core
    if core is None:
        return None
    if scene.shape or rules.wanted is not None:
        what = "windows and images are" if scene.shape else "a class that the adversary is after is"
        remarks.append(f"nothing is certified: {what} not looked at here (hauberk.evaluate.robustness.certify does)")
        return None
    records = attacked_records(scene.test, rules.goal_of_sample, budget.records, seed)
    try:
        return certify(core, scene.contestant.defender.decision, records, threat).figures
    except InputError as error:
        remarks.append(f"nothing is certified: {error}")
        return None


def _wanting(defender: Defender, rules: Rules) -> Defender:
    """The same, judged by whether the class that the adversary is after is named, where there is one."""
    if rules.wanted is None:
        return defender
    if not isinstance(defender.decision, Classes):
        raise InputError(
            f"threat model {rules.name!r}: the goal {rules.goal!r} is a class, and a detector tells attack from benign"
            " only; use evade, false-alarm or any"
        )
    judge = Classes(defender.decision.outputs, rules.wanted)
    return replace(defender, decision=judge)


def _quality(scene: Scene, seed: int) -> dict[str, Measurement]:
    """What the model is worth on the whole test split, untouched."""
    judge, targets = scene.contestant.defender.decision, scene.test.targets
    named = labels(judge, scene.contestant.defender.logits(scene.test.features))
    before = None
    if scene.baseline is not None:
        rival = scene.baseline.defender
        before = labels(rival.decision, rival.logits(scene.test.features))
    counted = [("accuracy", named == targets, None if before is None else before == targets)]
    if isinstance(judge, Decision):
        for name, kind in (("detection_rate", 1), ("false_positive_rate", 0)):
            rows = targets == kind
            counted.append((name, named[rows] == 1, None if before is None else before[rows] == 1))
    if before is not None:
        counted.append(("agreement", named == before, None))
    note = "on the whole test split, untouched"
    return {name: rate_measurement(name, flags, reference, seed=seed, note=note) for name, flags, reference in counted}
