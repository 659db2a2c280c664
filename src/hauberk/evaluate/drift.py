"""What a detector does when the world changes and nobody attacks: drift, corruption, and attacks that it never saw.

Figures stand side by side for float and compressed models over the very same disturbed records, so that the paired
difference says what compression costs there. Names and strengths of what happens to records are in
`hauberk.evaluate.disturbances`.

Nothing here is a guarantee: the disturbances are drawn at random, independently for each column, and real drift has
its own ways. Severities on one scale beside the clean figure are taken from Hendrycks and Dietterich, "Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019 (arXiv:1903.12261); frequencies that drift
while records stay what they are, from Gama et al., "A Survey on Concept Drift Adaptation", ACM Computing Surveys 46
(2014).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import Predictor
from hauberk.errors import InputError
from hauberk.evaluate.disturbances import DISTURBANCES, Disturbance, Usual, applicable
from hauberk.evaluate.quality import rate_measurement
from hauberk.measurement import Measurement
from hauberk.progress import SILENT, Progress
from hauberk.schema import Coded, Decision, FeatureSpace, Label

Flags = NDArray[np.bool_]
Labels = NDArray[np.int64]

Labelling = Callable[[Coded], Labels]
"""A model as drift sees it: from N coded records to labels int64 [N], 1 for attack. `labelling` makes one."""

_BATCH = 256
"""As elsewhere in evaluation: what dynamic INT8 answers to a record depends on the others in its batch."""


class DriftFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one model fared under one disturbance.

    Attributes:
        disturbance: Its name: "none" for the records as they are, "noise", "missing", "unknown-categories", …
        parameters: The disturbance as data, enough to repeat it.
        strength: In the unit of the disturbance; 0 for "none".
        model: Name of the model.
        accuracy: Share of records labelled right, with Wilson interval and the paired difference from the baseline
            under the same disturbance.
        detection_rate: Share of attack records that raise an alert, likewise.
        false_positive_rate: Share of benign records that raise an alert, likewise.
        unchanged: Share of records to which the model answers as it does without the disturbance, likewise.
        note: What a reader must know to read the figures right.
    """

    disturbance: str
    parameters: dict[str, Any]
    strength: float
    model: str
    accuracy: Measurement
    detection_rate: Measurement
    false_positive_rate: Measurement
    unchanged: Measurement
    note: str = ""


class DriftResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every model under every disturbance.

    Attributes:
        baseline: Name of the model that differences refer to.
        records: How many records were disturbed.
        figures: By disturbance in the order in which they were asked for ("none" first), then by model.
    """

    baseline: str
    records: int
    figures: tuple[DriftFigures, ...]


class ClassDetection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the records of one class, or of several together, fared with every model.

    Attributes:
        name: The class as the label column names it; "unseen attacks", "seen attacks" for sums of classes.
        attack: Whether these records should raise an alert.
        seen: Whether the class occurs in the training records.
        records: How many there are.
        alerts: By model, the share of them that raised an alert (for attacks the detection rate, for benign records the
            false-positive rate), with Wilson interval and the paired difference from the baseline.
    """

    name: str
    attack: bool
    seen: bool
    records: int
    alerts: dict[str, Measurement]


class DetectionByClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Detection by class, float and compressed side by side.

    Attributes:
        baseline: Name of the model that differences refer to.
        classes: Every class that has a record: unseen attacks first, then those that were trained on, then the benign
            class; within each by the number of records, most first.
        together: The same for all unseen attacks, for all seen attacks and for benign records, where there are any.
    """

    baseline: str
    classes: tuple[ClassDetection, ...]
    together: tuple[ClassDetection, ...]


def labelling(predictor: Predictor, decision: Decision, space: FeatureSpace) -> Labelling:
    """A core's session as `measure_drift` and `detection_by_class` want it: from coded records to labels.

    A logit that is NaN counts as an alert, as it does in `hauberk.runtime.Detector`.

    Args:
        predictor: The session of the core, from features to logits.
        decision: With the model's own threshold.
        space: Of the features.
    """

    def answer(coded: Coded) -> Labels:
        rows = space.transform(coded.numeric, coded.codes)
        parts = [predictor.predict(rows[first : first + _BATCH]) for first in range(0, max(len(rows), 1), _BATCH)]
        margins = decision.margin(np.concatenate(parts))
        labels: Labels = (~(margins < np.float32(decision.threshold))).astype(np.int64)  # a NaN is below nothing
        return labels

    return answer


def measure_drift(
    models: Mapping[str, Labelling],
    space: FeatureSpace,
    coded: Coded,
    targets: Labels,
    *,
    baseline: str,
    usual: Coded | None = None,
    disturbances: tuple[Disturbance, ...] = DISTURBANCES,
    seed: int = 0,
    progress: Progress = SILENT,
) -> DriftResult:
    """Disturb records and see what every model makes of the same disturbed ones.

        models = {name: labelling(session, decision, space) for name, (session, decision) in …}
        result = measure_drift(models, space, test.coded, test.targets, baseline="float32", usual=training.coded)
        for row in result.figures: row.disturbance, row.strength, row.model, row.accuracy.value, row.accuracy.low, …

    It costs one prediction of all records a model and disturbance (13 with the defaults), and little besides.

    Args:
        models: By name, the baseline among them.
        space: Schema and preprocessing; they say how columns are scaled and what stands for a missing value.
        coded: The records, N of them.
        targets: Int64 [N], 0 benign and 1 attack.
        baseline: What differences refer to.
        usual: Records that spread, median and frequencies are taken from, the training records rather; `coded` where
            `None`.
        disturbances: What is done to the records; those that cannot change records of this schema are left out.
        seed: Seed of everything random; each disturbance has its own stream, so that leaving one out changes no other.
        progress: Who follows.

    Raises:
        InputError: The baseline is missing, there are no records, targets do not fit, or a model does not give a label
            0 or 1 to each record.
    """
    _check(models, coded, targets, baseline)
    reference = Usual(space, coded if usual is None else usual)
    wanted = applicable(disturbances, space)
    figures: list[DriftFigures] = []
    with progress.task("drift", total=len(models) * (len(wanted) + 1)) as task:
        clean = {name: _labels(name, model, coded) for name, model in models.items()}
        task.advance(len(models))
        everyone = np.arange(len(targets))
        figures += _figures(None, reference, clean, clean, targets, everyone, baseline, seed)
        for disturbance in wanted:
            generator = np.random.default_rng([seed, *disturbance.name.encode(), *_bits(disturbance.strength)])
            disturbed, rows = disturbance.apply(coded, reference, generator)
            answers = {name: _labels(name, model, disturbed) for name, model in models.items()}
            task.advance(len(models))
            figures += _figures(disturbance, reference, answers, clean, targets, rows, baseline, seed)
    return DriftResult(baseline=baseline, records=len(targets), figures=tuple(figures))


def detection_by_class(
    models: Mapping[str, Labelling],
    coded: Coded,
    classes: Labels,
    label: Label,
    *,
    seen: Labels,
    baseline: str,
    seed: int = 0,
) -> DetectionByClass:
    """Alerts by class for every model: what becomes of attacks that no training record showed.

        found = detection_by_class(
            models, test.coded, test.labels, test.label, seen=training.labels, baseline="float32"
        )
        for row in found.classes: row.name, row.seen, row.records, row.alerts["int8"].value, row.alerts["int8"].low, …

    Args:
        models: By name, the baseline among them.
        coded: The records, N of them.
        classes: Int64 [N], their classes as indices into `label.classes`.
        label: Names of the classes, and which of them is benign.
        seen: Int64 [M], the classes of the training records.
        baseline: What differences refer to.
        seed: Seed of the paired bootstraps.

    Raises:
        InputError: The baseline is missing, there are no records, a class is out of range, or a model does not give a
            label 0 or 1 to each record.
    """
    benign = label.classes.index(label.benign)
    for array, what in ((classes, "a record"), (seen, "a training record")):
        if array.size and (array.min() < 0 or array.max() >= len(label.classes)):
            raise InputError(f"detection by class: {what} has a class outside 0 to {len(label.classes) - 1}")
    _check(models, coded, (classes != benign).astype(np.int64), baseline)
    answers = {name: _labels(name, model, coded) == 1 for name, model in models.items()}
    known = np.isin(classes, np.unique(seen))
    attack = classes != benign

    def row(name: str, members: Flags) -> ClassDetection:
        first = int(np.flatnonzero(members)[0])
        alerts = {model: found[members] for model, found in answers.items()}
        return ClassDetection(
            name=name,
            attack=bool(attack[first]),
            seen=bool(known[first]),
            records=int(members.sum()),
            alerts=_measurements("alerts", alerts, baseline, seed),
        )

    rows = [row(label.classes[index], classes == index) for index in np.unique(classes)]
    sums = (("unseen attacks", attack & ~known), ("seen attacks", attack & known), (label.benign, ~attack))
    return DetectionByClass(
        baseline=baseline,
        classes=tuple(sorted(rows, key=lambda found: (not found.attack, found.seen, -found.records, found.name))),
        together=tuple(row(name, members) for name, members in sums if members.any()),
    )


def _figures(
    disturbance: Disturbance | None,
    usual: Usual,
    answers: Mapping[str, Labels],
    clean: Mapping[str, Labels],
    targets: Labels,
    rows: NDArray[np.int64],
    baseline: str,
    seed: int,
) -> list[DriftFigures]:
    """One row a model; `rows` int64 [M] say which records the M answers belong to."""
    here = targets[rows]
    attacks = here == 1
    counted = {
        "accuracy": {name: labels == here for name, labels in answers.items()},
        "detection_rate": {name: labels[attacks] == 1 for name, labels in answers.items()},
        "false_positive_rate": {name: labels[~attacks] == 1 for name, labels in answers.items()},
        "unchanged": {name: labels == clean[name][rows] for name, labels in answers.items()},
    }
    measured = {metric: _measurements(metric, flags, baseline, seed) for metric, flags in counted.items()}
    return [
        DriftFigures(
            disturbance="none" if disturbance is None else disturbance.name,
            parameters={} if disturbance is None else msgspec.to_builtins(disturbance),
            strength=0.0 if disturbance is None else disturbance.strength,
            model=name,
            note="" if disturbance is None else disturbance.note(usual),
            **{metric: by_model[name] for metric, by_model in measured.items()},
        )
        for name in answers
    ]


def _measurements(metric: str, counted: Mapping[str, Flags], baseline: str, seed: int) -> dict[str, Measurement]:
    """A rate a model, those of others than the baseline with their paired difference from it."""
    return {
        name: rate_measurement(metric, flags, None if name == baseline else counted[baseline], seed=seed)
        for name, flags in counted.items()
    }


def _check(models: Mapping[str, Labelling], coded: Coded, targets: Labels, baseline: str) -> None:
    if baseline not in models:
        raise InputError(f"drift: the baseline {baseline!r} must be among the models {', '.join(map(repr, models))}")
    if not len(targets) or len(coded.numeric) != len(targets) or len(coded.codes) != len(targets):
        raise InputError(f"drift: {len(targets)} targets for {len(coded.numeric)} records; one a record is needed")
    if targets.dtype != np.int64 or not np.isin(targets, (0, 1)).all():
        raise InputError("drift: targets must be int64 [N], 0 for benign and 1 for attack")


def _labels(name: str, model: Labelling, coded: Coded) -> Labels:
    labels = np.asarray(model(coded), dtype=np.int64)
    if labels.shape != (len(coded.numeric),) or not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"drift: model {name!r} answers {len(coded.numeric)} records with labels {list(labels.shape)}; one a record"
            " is needed, 0 or 1"
        )
    return labels


def _bits(number: float) -> bytes:
    return np.float64(number).tobytes()
