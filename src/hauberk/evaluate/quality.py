"""How well a detector decides: the alarm threshold, and the rates that follow from it, each with its interval.

The threshold is chosen on validation records for a false-positive rate that someone can live with. Everything else is
measured at that threshold, so that a detection rate says what would be detected in operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import ContractError, InputError
from hauberk.evaluate.intervals import PairedRates, delong, paired_areas, paired_rates, roc_curve_area
from hauberk.measurement import Estimate, Measurement, wilson
from hauberk.requirements import detection_rate


class ClassFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the records of one class fared on the test split.

    Attributes:
        name: The class as the label column names it.
        attack: Whether records of this class should raise an alert.
        records: How many there are.
        alerts: How many of them raised an alert.
        rate: Share of records handled right (alerts for attacks, silence for benign), with its interval.
        seen: Whether the class occurs in the training split.
    """

    name: str
    attack: bool
    records: int
    alerts: int
    rate: Measurement
    seen: bool


@dataclass(frozen=True)
class Answers:
    """What a model answered to the records of one split.

    Attributes:
        margins: Float32 [N], log-odds of attack.
        threshold: A record is labelled an attack where its margin reaches this.

    Raises:
        ContractError: A margin is NaN: the model's arithmetic broke down on that record.
        InputError: The margins are not float32 [N].
    """

    margins: NDArray[np.float32]
    threshold: float

    def __post_init__(self) -> None:
        check_margins(self.margins)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Int64 [N], 1 where the margin reaches the threshold; compared in float32, as the deployed graph does."""
        return (self.margins >= np.float32(self.threshold)).astype(np.int64)


def check_margins(margins: NDArray[np.float32]) -> None:
    """Refuse margins that no decision can be made on.

    Raises:
        ContractError: A margin is NaN.
        InputError: The margins are not float32 [N].
    """
    if margins.ndim != 1 or margins.dtype != np.float32:
        raise InputError(f"margins must be float32 [N], not {margins.dtype} {list(margins.shape)}")
    broken = np.flatnonzero(np.isnan(margins))
    if broken.size:
        raise ContractError(
            f"the model answers NaN to {broken.size} of {margins.size} records, first to record {broken[0]};"
            " its weights or its precision do not carry these records"
        )


def choose_threshold(margins: NDArray[np.float32], targets: NDArray[np.int64], false_positive_rate: float) -> float:
    """A threshold whose false-positive rate on these records is the largest that is at most the wanted one.

    It lies midway between the highest margin that must not raise an alert and the next one above it, so that rounding
    elsewhere (another batch size, the merged graph) does not move records across it.

    Args:
        margins: Float32 [N], of validation records.
        targets: Int64 [N], 0 benign and 1 attack.
        false_positive_rate: The wanted rate as a fraction, in (0, 1).

    Returns:
        A float32 number (as a float): comparing `margin >= threshold` in float32 gives the same labels everywhere.

    Raises:
        InputError: No benign record, a rate outside (0, 1), or so many infinite margins that no threshold will do.
        ContractError: A margin is NaN.
    """
    if not 0 < false_positive_rate < 1:
        raise InputError(f"the false-positive rate must lie between 0 and 1, not {false_positive_rate}")
    check_margins(margins)
    benign = np.sort(margins[targets == 0])[::-1]
    if not benign.size:
        raise InputError("choosing a threshold needs benign records, and the validation split has none")
    # The small surplus forgives products such as 0.29 * 100, which floats put just below the whole number.
    allowed = min(math.floor(false_positive_rate * benign.size + 1e-9), benign.size - 1)
    # Equal margins raise an alert together, so the threshold lies above the first one that may not.
    quiet = benign[allowed]
    if not np.isfinite(np.nextafter(quiet, np.float32(np.inf))):
        raise InputError(
            f"no threshold keeps the false-positive rate at {false_positive_rate:g}:"
            f" the model answers infinity to {int(np.isposinf(benign).sum())} benign records"
        )
    above = margins[(margins > quiet) & np.isfinite(margins)]
    midway = np.float32((float(quiet) + float(above.min())) / 2) if above.size else quiet
    return float(max(midway, np.nextafter(quiet, np.float32(np.inf))))


def alert_budget(alerts_per_day: float, records_per_day: float) -> float:
    """The false-positive rate that a budget of false alerts allows, where nearly all records are benign.

    Raises:
        InputError: Either number is not above 0, or there are as many alerts as records.
    """
    if not (alerts_per_day > 0 and records_per_day > 0 and math.isfinite(records_per_day)):
        raise InputError(
            f"alert budget: alerts and records a day must be above 0, not {alerts_per_day:g} and {records_per_day:g}"
        )
    if alerts_per_day >= records_per_day:
        raise InputError(
            f"alert budget: {alerts_per_day:g} alerts for {records_per_day:g} records a day is no budget;"
            " give fewer alerts than records"
        )
    return alerts_per_day / records_per_day


def measure_quality(
    answers: Answers,
    targets: NDArray[np.int64],
    *,
    false_positive_rate: float,
    baseline: Answers | None = None,
    seed: int = 0,
) -> dict[str, Measurement]:
    """Accuracy, detection rate, false-positive rate, AUROC and agreement with the baseline on one split.

    Args:
        answers: What the candidate answered, with the threshold that was chosen on validation records.
        targets: Int64 [N], 0 benign and 1 attack; both occur.
        false_positive_rate: The rate that the threshold was chosen for; it names the detection rate.
        baseline: What the baseline answered to the same records; `None` where the candidate is the baseline.
        seed: Seed of the bootstraps.

    Raises:
        InputError: Targets do not fit the margins, or one of the classes is missing.
    """
    _check_targets(answers, targets, baseline)
    attacks = targets == 1
    right = answers.labels == targets
    reference = None if baseline is None else baseline.labels == targets
    alerts, reference_alerts = answers.labels == 1, None if baseline is None else baseline.labels == 1
    measured = [
        rate_measurement("accuracy", right, reference, seed=seed),
        detection_rate_measurement(
            answers, targets, false_positive_rate=false_positive_rate, baseline=baseline, seed=seed
        ),
        rate_measurement(
            "false_positive_rate",
            alerts[~attacks],
            None if reference_alerts is None else reference_alerts[~attacks],
            seed=seed,
            note=f"at the threshold that validation records chose for {100 * false_positive_rate:g} %",
        ),
        _auroc(answers, targets, baseline),
        _agreement(answers, baseline),
    ]
    return {measurement.name: measurement for measurement in measured}


def detection_rate_measurement(
    answers: Answers,
    targets: NDArray[np.int64],
    *,
    false_positive_rate: float,
    baseline: Answers | None = None,
    seed: int = 0,
) -> Measurement:
    """Share of attack records that raise an alert; for rates besides the one of `measure_quality`.

    `answers` (and `baseline`) carry the threshold that validation records chose for `false_positive_rate`.
    """
    attacks = targets == 1
    false_positives = float((answers.labels[~attacks] == 1).mean()) if (~attacks).any() else 0.0
    return rate_measurement(
        detection_rate(false_positive_rate),
        answers.labels[attacks] == 1,
        None if baseline is None else baseline.labels[attacks] == 1,
        seed=seed,
        note=f"threshold chosen on validation records; the false-positive rate here is {100 * false_positives:.2f} %",
    )


def rate_measurement(
    name: str, counted: NDArray[np.bool_], reference: NDArray[np.bool_] | None, *, seed: int, note: str = ""
) -> Measurement:
    """A share of records with its Wilson interval, and its paired difference from the baseline.

    Args:
        name: Name of the measurement.
        counted: Bool [N], the records that count.
        reference: Bool [N], the records that count for the baseline; `None` for the baseline itself.
        seed: Seed of the paired bootstrap.
        note: What a reader must know.
    """
    rate = wilson(int(counted.sum()), len(counted))
    paired = None if reference is None else paired_rates(counted, reference, seed=seed)
    return _fraction(name, rate, len(counted), paired, note)


def class_figures(
    labels: NDArray[np.int64],
    classes: NDArray[np.int64],
    names: Sequence[str],
    *,
    benign: str,
    seen: NDArray[np.int64],
) -> tuple[ClassFigures, ...]:
    """How the records of each class fared, in the order of `names`; classes without a record are left out.

    Args:
        labels: Int64 [N], the detector's labels, 1 for attack.
        classes: Int64 [N], the records' own classes as indices into `names`.
        names: The classes as the label column names them.
        benign: The class that means "nothing is wrong".
        seen: Int64 [M], the classes of the training records.
    """
    figures = []
    trained = set(np.unique(seen).tolist())
    for index, name in enumerate(names):
        alerts = labels[classes == index] == 1
        if not alerts.size:
            continue
        attack = name != benign
        figures.append(
            ClassFigures(
                name=name,
                attack=attack,
                records=int(alerts.size),
                alerts=int(alerts.sum()),
                rate=rate_measurement("handled_right", alerts == attack, None, seed=0),
                seen=index in trained,
            )
        )
    return tuple(figures)


def _auroc(answers: Answers, targets: NDArray[np.int64], baseline: Answers | None) -> Measurement:
    curve = roc_curve_area(answers.margins, targets)
    paired = None if baseline is None else paired_areas(curve, roc_curve_area(baseline.margins, targets))
    return _fraction("auroc", delong(curve), len(targets), paired, "")


def _agreement(answers: Answers, baseline: Answers | None) -> Measurement:
    """Share of records with the baseline's label; the baseline agrees with itself by definition."""
    if baseline is None:
        return Measurement(name="agreement", value=1.0, unit="fraction", samples=len(answers.labels))
    return rate_measurement("agreement", answers.labels == baseline.labels, None, seed=0)


def _fraction(name: str, rate: Estimate, samples: int, paired: PairedRates | None, note: str) -> Measurement:
    return Measurement(
        name=name,
        value=rate.value,
        unit="fraction",
        samples=samples,
        low=rate.low,
        high=rate.high,
        difference=None if paired is None else paired.difference,
        ratio=None if paired is None else paired.ratio,
        note=note,
    )


def _check_targets(answers: Answers, targets: NDArray[np.int64], baseline: Answers | None) -> None:
    if targets.shape != answers.margins.shape:
        raise InputError(f"quality: {len(targets)} targets for {len(answers.margins)} margins; there must be as many")
    if baseline is not None and baseline.margins.shape != targets.shape:
        raise InputError(f"quality: the baseline answered {len(baseline.margins)} records of {len(targets)}")
    if set(np.unique(targets).tolist()) != {0, 1}:
        raise InputError("quality: the split must hold benign (0) and attack (1) records, and nothing else")
