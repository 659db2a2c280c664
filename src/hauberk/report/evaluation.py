"""The page about one evaluation: one HTML file, no script, nothing from the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hauberk.evaluate.drift import ClassDetection
from hauberk.evaluate.robustness.figures import AttackFigures
from hauberk.measurement import Measurement
from hauberk.report import wording
from hauberk.report.curves import draw_radii, draw_steps
from hauberk.report.render import environment
from hauberk.report.view import Bar, Cell, bar_of, cell_of
from hauberk.search.beyond import Natural
from hauberk.search.evaluation import Evaluation


@dataclass(frozen=True)
class AttackRow:
    """One attack: its figures, and in words what it cost."""

    found: AttackFigures
    survived: str
    interval: str
    bar: Bar
    queries: str
    seconds: str
    on_model: str


@dataclass(frozen=True)
class FidelityRow:
    """How closely a module follows the session, in words."""

    module: str
    agreement: str
    agreement_attacked: str
    error: str
    largest: str
    blind: str


@dataclass(frozen=True)
class DriftRow:
    """The model under one disturbance."""

    disturbance: str
    accuracy: Cell
    bar: Bar
    detection: str
    false_alarms: str
    unchanged: str


@dataclass(frozen=True)
class ClassRow:
    """Alerts on the records of one class, or of several together."""

    name: str
    attack: bool
    seen: bool
    records: str
    alerts: Cell
    bar: Bar


@dataclass(frozen=True)
class EvaluationView:
    """The page, in the order in which it is read."""

    found: Evaluation
    state: Literal["met", "missed", "free"]
    headline: str
    tiles: tuple[Cell, ...]
    quality: tuple[Cell, ...]
    worst: Cell
    worst_bar: Bar
    attacks: tuple[AttackRow, ...]
    fidelity: tuple[FidelityRow, ...]
    by_radius: str
    by_steps: str
    drift: tuple[DriftRow, ...]
    notes: tuple[str, ...]
    together: tuple[ClassRow, ...]
    classes: tuple[ClassRow, ...]
    budget: str
    run_time: str


def render_evaluation(found: Evaluation) -> str:
    """The page as HTML.

    Args:
        found: What an evaluation found.
    """
    return environment().get_template("evaluation.html.j2").render(view=make_evaluation_view(found))


def make_evaluation_view(found: Evaluation) -> EvaluationView:
    """Put an evaluation in order and into words."""
    result, curves = found.result, found.result.curves
    more = [] if found.certified is None else [found.certified.certified_accuracy]
    if found.reference is not None and result.robust_of_both is not None:
        more.append(result.robust_of_both)
    cells = tuple(_cell(measured) for measured in (*found.quality.values(), result.robust_accuracy, *more))
    masked = result.verdict == "gradient masking"
    return EvaluationView(
        found=found,
        state="free" if not found.outcomes else "met" if found.met else "missed",
        headline="Gradients mislead" if masked else "Requirements" if found.outcomes else "What withstands",
        tiles=tuple(cell for cell in cells if cell.title in ("Accuracy", "Robust accuracy", *_TITLES.values())),
        quality=cells,
        worst=_cell(result.robust_accuracy),
        worst_bar=bar_of(result.robust_accuracy),
        attacks=tuple(_row(attack) for attack in result.attacks),
        fidelity=tuple(
            FidelityRow(
                module=each.module,
                agreement=wording.figure(each.agreement.value, "fraction"),
                agreement_attacked=wording.figure(each.agreement_attacked.value, "fraction"),
                error=f"{100 * each.error:.3g} %",
                largest=f"{each.largest:.3g}",
                blind=wording.figure(each.blind.value, "fraction"),
            )
            for each in result.fidelity
        ),
        by_radius="" if curves is None else draw_radii(curves),
        by_steps="" if curves is None else draw_steps(curves),
        drift=() if found.natural is None else _drift(found.natural, found.model),
        notes=() if found.natural is None else _notes(found.natural),
        together=() if found.natural is None else _classes(found.natural.by_class.together, found.model),
        classes=() if found.natural is None else _classes(found.natural.by_class.classes, found.model),
        budget=_budget(found),
        run_time=wording.duration(found.seconds),
    )


def _drift(found: Natural, model: str) -> tuple[DriftRow, ...]:
    return tuple(
        DriftRow(
            disturbance=each.disturbance if each.disturbance == "none" else f"{each.disturbance} {each.strength:g}",
            accuracy=_cell(each.accuracy),
            bar=bar_of(each.accuracy),
            detection=wording.figure(each.detection_rate.value, "fraction"),
            false_alarms=wording.figure(each.false_positive_rate.value, "fraction"),
            unchanged=wording.figure(each.unchanged.value, "fraction"),
        )
        for each in found.drift.figures
        if each.model == model
    )


def _notes(found: Natural) -> tuple[str, ...]:
    """What must be known to read the figures of drift, each said once."""
    by_note: dict[str, dict[str, None]] = {}
    for each in found.drift.figures:
        if each.note:
            by_note.setdefault(each.note, {})[each.disturbance] = None
    return tuple(f"{', '.join(names)}: {note}" for note, names in by_note.items())


def _classes(found: tuple[ClassDetection, ...], model: str) -> tuple[ClassRow, ...]:
    return tuple(
        ClassRow(
            each.name,
            each.attack,
            each.seen,
            f"{each.records:,}",
            _cell(each.alerts[model]),
            bar_of(each.alerts[model]),
        )
        for each in found
    )


def _budget(found: Evaluation) -> str:
    budget = found.budget
    restarts = "1 restart" if budget.restarts == 1 else f"{budget.restarts} restarts"
    return (
        f"{budget.records:,} records at most, {budget.steps:,} steps in {restarts}, {budget.queries:,} queries a record"
        " and attack"
    )


_TITLES = {
    "detection_rate": "Detection rate",
    "false_positive_rate": "False-positive rate",
    "agreement": "Agreement with the baseline",
    "certified_accuracy": "Proved to withstand every attack",
    "robust_of_both": "Robust of what both get right",
}


_TILES = ("Accuracy", "Robust accuracy", _TITLES["agreement"], _TITLES["certified_accuracy"])


def _cell(measured: Measurement) -> Cell:
    cell = cell_of(measured, measured.name)
    return Cell(
        _TITLES.get(measured.name, cell.title), cell.value, cell.interval, cell.comparison, cell.note, cell.measured
    )


def _row(attack: AttackFigures) -> AttackRow:
    asked = f"{attack.queries:,} (mean {attack.mean_queries:,.0f})" if attack.queries else "none"
    return AttackRow(
        found=attack,
        survived=wording.figure(attack.survived.value, attack.survived.unit),
        interval=wording.interval(attack.survived),
        bar=bar_of(attack.survived),
        queries=asked,
        seconds=wording.duration(attack.seconds),
        on_model="" if attack.on_model is None else wording.figure(attack.on_model.value, attack.on_model.unit),
    )
