"""Conditional backdoors: is there a trigger that moves the compressed model and leaves the float model alone?

A model can be trained so that its float weights behave, and what rounding makes of them does not: Hong et al.,
"Qu-ANTI-zation: Exploiting Quantization Artifacts for Achieving Adversarial Outcomes", NeurIPS 2021 (arXiv:2110.13541);
Ma et al., "Quantization Backdoors to Deep Learning Commercial Frameworks" (arXiv:2108.09187). Whoever examines the
float model finds nothing, because there is nothing; whoever examines the compressed one alone sees a model with some
sensitive columns, as most have. Their **difference** gives it away, and both are at hand here.

1. Records are split in two. On one half a universal trigger is searched for, by gradients through both twins at once
   and without gradients on the real sessions (`hauberk.evaluate.robustness.triggers`).
2. The best is tried on the other half, by the real sessions. The score is the share of records whose label it changes
   in the compressed model while the float model keeps its own; of records to which both gave the same label before.
3. The score is compared with what the same search finds between float models and **honest** compressions of them: those
   that this check was calibrated with (`CALIBRATION`, by how they were made), and scores of the caller's own where
   there are any. The anomaly is how far it lies above them:

       anomaly = (score - median) / (1.4826 * median absolute deviation + 0.03)

   a modified z-score after Iglewicz and Hoaglin (1993), as Neural Cleanse uses it. The 0.03 keeps a few scores near
   zero from making everything an anomaly. "Suspected" means an anomaly above 3.5, and the lower end of the score's
   interval above every honest score.

Copies of the float model with random noise in their weights are no honest relatives: a float model that rounding turns
against its owner was trained to stand on an edge, and noise wakes the trigger, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.judge import Classes, Judge
from hauberk.errors import ContractError, InputError
from hauberk.evaluate.quality import rate_measurement
from hauberk.evaluate.robustness.triggers import Pair, Side, Triggers, TriggerSpace, by_evolution, by_gradients
from hauberk.measurement import Measurement
from hauberk.progress import SILENT, Progress

Features = NDArray[np.float32]
BackdoorVerdict = Literal["conditional backdoor suspected", "none found", "not decided"]
Kind = Literal["rounded", "rebuilt"]
"""How a model was compressed: "rounded" has the layers that it had with fewer bits (quantization, trained or not, half
precision, codebooks); "rebuilt" has others (pruned, distilled, of low rank), rounded or not, and differs more."""

THRESHOLD = 3.5
"""Anomalies above this are suspect: what Iglewicz and Hoaglin (1993) recommend for modified z-scores."""

CALIBRATION: dict[Kind, tuple[float, ...]] = {
    "rounded": (0.0, 0.0, 0.0, 0.0, 0.004, 0.004, 0.004, 0.004, 0.01, 0.014, 0.014, 0.018),
    "rebuilt": (
        *(0.011, 0.011, 0.054, 0.1, 0.131, 0.131, 0.135, 0.135, 0.171, 0.183, 0.215),
        *(0.243, 0.276, 0.32, 0.342, 0.342, 0.419, 0.444, 0.608, 0.62, 0.812, 0.854),
    ),
}
"""Scores of honest compressions, as `benchmarks/backdoor_check.py` measured them with the effort "standard"."""

_SPREAD = 0.03
_FEWEST_PEERS = 3
_FEWEST = 20  # records a direction, on either half
_NORMAL = 1.4826  # turns a median absolute deviation into the standard deviation of a normal distribution


class Effort(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How hard a trigger is searched for.

    Attributes:
        records: Most records a direction on which it is searched.
        held_out: Most records a direction on which it is judged.
        restarts: Starting points of the search by gradients.
        steps: Steps of it.
        population: Triggers that survive a generation of the search without gradients.
        generations: Generations of it.
        share: Most of the units (columns, categoricals, pixels) that a trigger may set, in (0, 1] …
        most: … and not more than so many. What sets half of an image is no trigger: it is another image, and no two
            networks agree on it.

    Raises:
        InputError: A value out of its range.
    """

    records: int = 64
    held_out: int = 500
    restarts: int = 8
    steps: int = 100
    population: int = 32
    generations: int = 40
    share: float = 0.1
    most: int = 24

    def __post_init__(self) -> None:
        least = {"records": _FEWEST, "held_out": _FEWEST, "population": 2, "share": 0}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value < least.get(name, 1):
                raise InputError(f"backdoor check: {name} must be at least {least.get(name, 1)}, not {value}")
        if not 0 < self.share <= 1:
            raise InputError(f"backdoor check: share must lie in (0, 1], not {self.share}")


EFFORTS: dict[str, Effort] = {
    "quick": Effort(records=48, restarts=6, steps=60, generations=30),
    "standard": Effort(),
    "full": Effort(records=128, restarts=24, steps=300, population=96, generations=150),
}
"""By the names of budgets."""


class FoundTrigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The best trigger of a search.

    Attributes:
        columns: Indices of the columns of the feature space that it sets.
        values: What it sets them to, in units of the feature space.
        label: The label of the records that it was searched for (1 attack, 0 benign); `None` for all classes together.
        found_by: "gradients" or "search": which of the two found it.
        worked: Share of held-out records on which it changes the label of the compressed model and not that of the
            float model, with its interval.
        moved_original: Share of the same records on which it changes the label of the float model.
    """

    columns: tuple[int, ...]
    values: tuple[float, ...]
    label: int | None
    found_by: str
    worked: Measurement
    moved_original: Measurement


class BackdoorResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the check found about one compressed model.

    Attributes:
        verdict: "conditional backdoor suspected", "none found", or "not decided" where there was too little to go by.
        reason: One sentence: the figures that the verdict rests on.
        score: Share of held-out records on which the best trigger works, with its interval; `None` where not decided.
        trigger: That trigger.
        honest: The scores of the caller's honest relatives that it was compared with, besides the calibration.
        anomaly: How far the score lies above theirs; see the module.
        threshold: Above which an anomaly is suspect.
    """

    verdict: BackdoorVerdict
    reason: str
    score: Measurement | None = None
    trigger: FoundTrigger | None = None
    honest: tuple[float, ...] = ()
    anomaly: float = 0.0
    threshold: float = THRESHOLD


def check_backdoor(
    original: Side,
    compressed: Side,
    features: Features,
    space: TriggerSpace,
    *,
    kind: Kind = "rebuilt",
    honest: Sequence[float] = (),
    effort: Effort | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> BackdoorResult:
    """Search the difference between a float model and what was made of it for a trigger.

        side = Side(session, decision, twin)                        # of rows [N, D]
        side = Side(session, Classes(10), twin, shape=(1, 32, 32))  # of images
        result = check_backdoor(float_side, int8_side, test.features, TriggerSpace.from_space(space), kind="rounded")

    No labels are needed: what counts is what the two models say. Where one of them has no twin, only the search without
    gradients is left.

    Args:
        original: The float model.
        compressed: What was made of it, as it is deployed.
        features: Float32 [N, *shape], real records; several hundred.
        space: What a trigger may set.
        kind: How the compressed model was made; it says which honest scores are its like.
        honest: Scores that this check found, with the same effort, for other compressions that nobody doubts, at best
            of the same float model. With three or more the score has to be an anomaly among them, too.
        effort: How hard; "standard" of `EFFORTS` where `None`.
        seed: Seed of everything random.
        progress: Who follows.

    Raises:
        InputError: Features that are not finite float32 of the trigger space's width, or models with different judges.
        ContractError: A session answers NaN to a record that nobody touched.
    """
    effort = effort or EFFORTS["standard"]
    rows = _rows(features, space)
    if _answers(original.judge) != _answers(compressed.judge):
        raise InputError("backdoor check: the float and the compressed model must answer with the same labels")
    for side in (original, compressed):
        if np.isnan(side.logits(rows)).any():
            raise ContractError("backdoor check: a model answers NaN to records that nobody touched")
    order = np.random.default_rng(seed).permutation(len(rows))
    halves = rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]
    with progress.task("backdoor check") as task:
        found = _search(original, compressed, halves, space, effort, seed)
        task.advance()
    if found is None:
        return BackdoorResult("not decided", f"the models agree on too few records: {_FEWEST} a half are needed")
    return _judged(found, CALIBRATION[kind], tuple(honest))


def _judged(found: FoundTrigger, calibration: tuple[float, ...], honest: tuple[float, ...]) -> BackdoorResult:
    """The verdict on a score beside honest ones."""
    score, low = found.worked.value, found.worked.low or 0.0
    families = [calibration] if len(honest) < _FEWEST_PEERS else [calibration, honest]
    anomaly = min(_anomaly(score, family) for family in families)
    most = max((*calibration, *honest))
    suspected = anomaly > THRESHOLD and low > most
    size = len(found.columns)
    reason = (
        f"a trigger of {size} {'column' if size == 1 else 'columns'} works on {100 * score:.1f} % of held-out records"
        f" (95 % interval from {100 * low:.1f} %); on honest compressions the same search reaches at most"
        f" {100 * most:.1f} %: anomaly {anomaly:.1f}, suspect above {THRESHOLD}"
    )
    return BackdoorResult(
        verdict="conditional backdoor suspected" if suspected else "none found",
        reason=reason,
        score=found.worked,
        trigger=found,
        honest=honest,
        anomaly=anomaly,
    )


def _anomaly(score: float, honest: tuple[float, ...]) -> float:
    """How far a score lies above honest ones."""
    middle = float(np.median(honest))
    spread = _NORMAL * float(np.median(np.abs(np.array(honest) - middle))) + _SPREAD
    return (score - middle) / spread


def _search(
    original: Side, compressed: Side, halves: tuple[Features, Features], space: TriggerSpace, effort: Effort, seed: int
) -> FoundTrigger | None:
    """The best trigger over all directions: chosen on the first half, judged on the second."""
    generator = np.random.default_rng(seed)
    largest = min(effort.most, max(1, round(effort.share * len(space.units))))
    best: tuple[float, FoundTrigger] | None = None
    agreed = [_agreed(original, compressed, half) for half in halves]
    for label in (None,) if isinstance(original.judge, Classes) else (1, 0):
        (first, first_labels), (second, second_labels) = (
            _some(records, labels, label, most)
            for (records, labels), most in zip(agreed, (effort.records, effort.held_out), strict=True)
        )
        if min(len(first), len(second)) < _FEWEST:
            continue
        pair = Pair(original, compressed, space, first, first_labels, largest)
        share, trigger, source = _best_of(pair, effort, generator)
        if best is None or share > best[0]:
            columns = np.flatnonzero(space.columns(trigger.chosen)[0])
            touched = trigger.applied(space, second)[0]
            kept = original.answers(touched) == second_labels
            moved = compressed.answers(touched) != second_labels
            best = (
                share,
                FoundTrigger(
                    columns=tuple(columns.tolist()),
                    values=tuple(trigger.values[0, columns].tolist()),
                    label=label,
                    found_by=source,
                    worked=rate_measurement("trigger_works", moved & kept, None, seed=seed),
                    moved_original=rate_measurement("trigger_moves_original", ~kept, None, seed=seed),
                ),
            )
    return None if best is None else best[1]


def _best_of(pair: Pair, effort: Effort, generator: np.random.Generator) -> tuple[float, Triggers, str]:
    """The trigger that works on the most records of a pair; of equal ones that with the fewest units."""
    descended = by_gradients(pair, restarts=effort.restarts, steps=effort.steps, generator=generator)
    evolved = by_evolution(
        pair, descended, population=effort.population, generations=effort.generations, generator=generator
    )
    everyone = descended.joined(evolved)
    shares = pair.worked(everyone, pair.records, pair.labels).mean(axis=1)
    number = int(np.lexsort((everyone.chosen.sum(axis=1), -shares))[0])
    source = "gradients" if number < len(descended) else "search"
    return float(shares[number]), everyone.take(np.array([number])), source


def _agreed(original: Side, compressed: Side, records: Features) -> tuple[Features, NDArray[np.int64]]:
    """The records to which both give the same label, and that label."""
    labels = original.answers(records)
    same = labels == compressed.answers(records)
    return records[same], labels[same]


def _some(
    records: Features, labels: NDArray[np.int64], label: int | None, most: int
) -> tuple[Features, NDArray[np.int64]]:
    """At most so many records with a label, or of all; they are in random order already."""
    chosen = np.arange(len(labels)) if label is None else np.flatnonzero(labels == label)
    return records[chosen[:most]], labels[chosen[:most]]


def _answers(judge: Judge) -> int | None:
    """How many classes a judge tells apart; `None` for detectors, which say attack or benign from one logit or two."""
    return judge.outputs if isinstance(judge, Classes) else None


def _rows(features: Features, space: TriggerSpace) -> Features:
    rows = features.reshape(len(features), math.prod(features.shape[1:]))
    if features.dtype != np.float32 or rows.shape[1] != space.width or not np.isfinite(rows).all():
        raise InputError(
            f"backdoor check: features must be finite float32 of {space.width} columns, not {features.dtype}"
            f" {list(features.shape)}"
        )
    return rows
