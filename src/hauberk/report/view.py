"""What the template shows: findings put in order and into words. Nothing is measured or judged here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hauberk.artifact import StepRecord
from hauberk.evaluate.quality import ClassFigures
from hauberk.evaluate.robustness.figures import AttackFigures
from hauberk.measurement import Measurement
from hauberk.report import wording
from hauberk.requirements import detection_rate
from hauberk.search.findings import CandidateFindings, Findings

LATENCY = "latency.p50"
ROBUST = "robust_accuracy"


@dataclass(frozen=True)
class Cell:
    """One figure: what it is, its value, and below it interval, comparison and note, each possibly empty."""

    title: str
    value: str
    interval: str = ""
    comparison: str = ""
    note: str = ""
    measured: bool = True


@dataclass(frozen=True)
class Tile:
    """One of the figures that a reader asks for first, and under which condition and on which data it was taken."""

    cell: Cell
    title: str
    condition: str


@dataclass(frozen=True)
class Row:
    """One metric of the recommended candidate beside the baseline's, on the test split."""

    recommended: Cell
    baseline: str


@dataclass(frozen=True)
class CandidateView:
    """One candidate; `number` stands for it where its name is too long."""

    number: int
    found: CandidateFindings
    baseline: bool
    recommended: bool
    cells: tuple[Cell, ...]

    @property
    def refused(self) -> bool:
        """Whether it is out; the recommended one never is, even where it misses a requirement."""
        return self.found.status == "refused" and not self.recommended


@dataclass(frozen=True)
class ClassRow:
    """One class: its figures, and its share handled right as percentages of a bar's length."""

    found: ClassFigures
    rate: str
    interval: str
    bar: Bar


@dataclass(frozen=True)
class Bar:
    """A share and the ends of its interval, in per cent of a bar's length."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AttackRow:
    """One attack on one candidate."""

    found: AttackFigures
    survived: str
    interval: str
    bar: Bar


@dataclass(frozen=True)
class AttackedView:
    """All attacks on one candidate, and its worst case per record where that was measured."""

    candidate: CandidateView
    worst: Cell | None
    worst_bar: Bar | None
    rows: tuple[AttackRow, ...]


@dataclass(frozen=True)
class TrainingRow:
    """What training one candidate cost, and in words what that means."""

    candidate: CandidateView
    time: str
    words: str


@dataclass(frozen=True)
class Confusion:
    """Test records by truth and answer: sums of the class counts."""

    attack_alert: int
    attack_silent: int
    benign_alert: int
    benign_silent: int


@dataclass(frozen=True)
class StepView:
    """One step of the provenance."""

    record: StepRecord
    contract: str
    parameters: str
    seconds: str
    verdict: str


@dataclass(frozen=True)
class View:
    """The whole report, in the order in which it is read."""

    findings: Findings
    state: Literal["met", "missed", "free"]
    tiles: tuple[Tile, ...]
    quality: str
    quality_title: str
    candidates: tuple[CandidateView, ...]
    columns: tuple[str, ...]
    test: tuple[Row, ...]
    classes: tuple[ClassRow, ...]
    confusion: Confusion
    attacked: tuple[AttackedView, ...]
    training: tuple[TrainingRow, ...]
    steps: tuple[StepView, ...]


def make_view(findings: Findings) -> View:
    """Put findings in order and into words."""
    quality = _quality_metric(findings)
    columns = (LATENCY, "latency.p99", "throughput", "size", quality, ROBUST, "training_time")
    candidates = tuple(
        _candidate(findings, number, found, columns) for number, found in enumerate(findings.candidates, start=1)
    )
    return View(
        findings=findings,
        state="free" if not findings.outcomes else "met" if findings.met else "missed",
        tiles=_tiles(findings, quality),
        quality=quality,
        quality_title=wording.title(quality),
        candidates=candidates,
        columns=tuple(wording.title(metric) for metric in columns),
        test=tuple(
            Row(cell_of(measurement, metric), _plain(findings.test_baseline.get(metric)))
            for metric, measurement in findings.test.items()
        ),
        classes=_classes(findings),
        confusion=_confusion(findings),
        attacked=_attacked(findings, candidates),
        training=tuple(_training(candidate) for candidate in candidates),
        steps=steps(findings.history),
    )


def steps(history: tuple[StepRecord, ...]) -> tuple[StepView, ...]:
    """A provenance in words."""
    return tuple(
        StepView(
            record=record,
            contract=wording.contract(record),
            parameters=wording.compact(record.parameters),
            seconds=wording.duration(record.seconds),
            verdict=_verdict(record),
        )
        for record in history
    )


def _verdict(record: StepRecord) -> str:
    verdict = record.verdict
    if verdict is None:
        return "nothing to compare with"
    if not verdict.holds:
        return verdict.reason
    return (
        f"holds on {verdict.compared:,} records: agreement {wording.figure(verdict.agreement, 'fraction')}, "
        f"largest difference {verdict.max_difference:.3g} ({verdict.worst_input})"
    )


def _quality_metric(findings: Findings) -> str:
    """The quality of the plot: the detection rate that the threshold is set for, else what was measured."""
    measured = {metric for candidate in findings.candidates for metric in candidate.measurements}
    wanted = detection_rate(findings.threshold.target_false_positive_rate)
    others = sorted(metric for metric in measured if metric.startswith("detection_rate@"))
    return next((metric for metric in (wanted, *others, "accuracy", "auroc") if metric in measured), wanted)


def _candidate(findings: Findings, number: int, found: CandidateFindings, columns: tuple[str, ...]) -> CandidateView:
    return CandidateView(
        number=number,
        found=found,
        baseline=number == 1,
        recommended=found.name == findings.recommended,
        cells=tuple(
            cell_of(found.measurements[metric], metric)
            if metric in found.measurements
            else Cell(wording.title(metric), "–", measured=False)
            for metric in columns
        ),
    )


def _tiles(findings: Findings, quality: str) -> tuple[Tile, ...]:
    """The figures that a reader asks for first: the test split's where it has them."""
    recommended = next((found for found in findings.candidates if found.name == findings.recommended), None)
    measured = {} if recommended is None else recommended.measurements
    tiles = []
    for metric in (LATENCY, "size", quality, ROBUST):
        source = findings.test if metric in findings.test else measured
        if metric in source:
            data = "test split" if source is findings.test else "validation data" if metric in (quality, ROBUST) else ""
            condition = ", ".join(filter(None, (wording.condition(metric), data)))
            tiles.append(Tile(cell_of(source[metric], metric), wording.short_title(metric), condition))
    return tuple(tiles)


def cell_of(measurement: Measurement, metric: str) -> Cell:
    """A measurement in words."""
    exact = metric == "training_time"
    return Cell(
        title=wording.title(metric),
        value=wording.duration(measurement.value) if exact else wording.figure(measurement.value, measurement.unit),
        interval=wording.interval(measurement),
        comparison=wording.against_baseline(measurement),
        note=measurement.note,
    )


def _training(candidate: CandidateView) -> TrainingRow:
    measurement = candidate.found.measurements.get("training_time")
    if measurement is None:
        return TrainingRow(candidate, "–", "not measured: out before training")
    if measurement.value == 0:
        return TrainingRow(candidate, "none", "made without training")
    return TrainingRow(candidate, wording.duration(measurement.value), measurement.note)


def _plain(measurement: Measurement | None) -> str:
    return "–" if measurement is None else wording.figure(measurement.value, measurement.unit)


def bar_of(measurement: Measurement) -> Bar:
    """A rate as the parts of a bar."""
    low = measurement.value if measurement.low is None else measurement.low
    high = measurement.value if measurement.high is None else measurement.high
    return Bar(*(round(100 * min(max(share, 0.0), 1.0), 2) for share in (measurement.value, low, high)))


def _classes(findings: Findings) -> tuple[ClassRow, ...]:
    """Benign classes first, then attacks, those that fare worst at the top."""
    ordered = sorted(findings.classes, key=lambda found: (found.attack, found.rate.value, found.name))
    return tuple(
        ClassRow(
            found=found,
            rate=wording.figure(found.rate.value, found.rate.unit),
            interval=wording.interval(found.rate),
            bar=bar_of(found.rate),
        )
        for found in ordered
    )


def _confusion(findings: Findings) -> Confusion:
    attacks = [found for found in findings.classes if found.attack]
    benign = [found for found in findings.classes if not found.attack]
    return Confusion(
        attack_alert=sum(found.alerts for found in attacks),
        attack_silent=sum(found.records - found.alerts for found in attacks),
        benign_alert=sum(found.alerts for found in benign),
        benign_silent=sum(found.records - found.alerts for found in benign),
    )


def _attacked(findings: Findings, candidates: tuple[CandidateView, ...]) -> tuple[AttackedView, ...]:
    """The recommended candidate first, then the others in their order."""
    views = []
    for candidate in sorted(candidates, key=lambda candidate: not candidate.recommended):
        attacks = findings.attacks.get(candidate.found.name)
        worst = candidate.found.measurements.get(ROBUST)
        if attacks:
            cell = cell_of(worst, ROBUST) if worst else None
            views.append(AttackedView(candidate, cell, bar_of(worst) if worst else None, _attacks(attacks)))
    return tuple(views)


def _attacks(attacks: tuple[AttackFigures, ...]) -> tuple[AttackRow, ...]:
    return tuple(
        AttackRow(
            found=found,
            survived=wording.figure(found.survived.value, found.survived.unit),
            interval=wording.interval(found.survived),
            bar=bar_of(found.survived),
        )
        for found in attacks
    )
