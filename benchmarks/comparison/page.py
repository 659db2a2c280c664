"""The results as Markdown: targets first, then one table a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from comparison.conclude import Target
from comparison.recommend import did_nothing, loss, recommended, slower
from comparison.results import BASELINE, Result, Row
from hauberk.errors import InputError
from hauberk.measurement import Machine
from measured_page import fill


def show(results: Sequence[Result], targets: Sequence[Target]) -> str:
    """Everything that was measured, as Markdown.

    Raises:
        InputError: Results come from different machines or versions, whose times say nothing of each other.
    """
    parts = [_machine(results), _targets(targets), _summary(results), *(_table(result) for result in results)]
    return "\n\n".join(part for part in parts if part)


def write_page(page: Path, results: Sequence[Result], targets: Sequence[Target]) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        InputError: As `show`, or the page has no place for it.
    """
    fill(page, show(results, targets))


def _machine(results: Sequence[Result]) -> str:
    if not results:
        return "Nothing was measured."
    days = [result.taken for result in results]
    first, last = min(days), max(days)
    taken = f"on {first}" if first == last else f"from {first} to {last}"
    load = max(result.load for result in results)
    return (
        f"Taken {taken} on {_only_machine(results)}; one thread, load average at most {load:.1f} (1 is this benchmark)."
    )


def _only_machine(results: Sequence[Result]) -> str:
    """The machine and the versions of all results, in words."""
    detectors: dict[str, list[str]] = {}
    for result in results:
        detectors.setdefault(_described(result.machine), []).append(result.model)
    if len(detectors) > 1:
        places = "; ".join(f"{', '.join(names)} on {place}" for place, names in detectors.items())
        raise InputError(f"results of different machines or versions: {places}; time them anew with --again")
    return next(iter(detectors))


def _described(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, {versions}"


def _targets(targets: Sequence[Target]) -> str:
    lines = ["| target | measured | |", "| --- | --- | --- |"]
    for target in targets:
        said = {True: "**met**", False: "**missed**", None: "–"}[target.met]
        lines.append(f"| {_cell(target.asked)} | {_cell(target.measured)} | {said} |")
    return "\n".join(lines)


def _summary(results: Sequence[Result]) -> str:
    lines = [
        "| detector | recommended for one record | p50 | against float32 | for a batch | p50 | against float32 |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for result in results:
        one, many = recommended(result)
        alone, batch = one.one_again or one.one, many.many_again or many.many
        assert alone is not None
        assert batch is not None
        lines.append(
            f"| {result.model} | {_with_undone(one)} | {_time(alone.p50)} | {1 / alone.ratio:.2f} × |"
            f" {_with_undone(many)} | {_time(batch.p50)} | {1 / batch.ratio:.2f} × |"
        )
    return "\n".join(lines)


def _with_undone(row: Row) -> str:
    """The name of a row, with the steps of its recipe that were undone and are therefore not in the model."""
    undone = ", ".join(step["step"] for step in row.undone)
    return f"{row.name} (without {undone}, undone)" if undone else row.name


def verdict(row: Row, result: Result) -> str:
    """What the table says of a row, in a few words."""
    if row.one is None:
        return row.note if row.size else f"not made: {row.note}"
    chosen, baseline = recommended(result), result.row(BASELINE)
    said = [
        f"**recommended for {use}**"
        for use, best in (("one record", chosen.one), (f"{result.batch} records", chosen.many))
        if best.name == row.name
    ]
    if row.name == BASELINE:
        said.append("baseline")
    objections = [
        loss(row, baseline),
        did_nothing(row, baseline),
        *(slower(row, result, batch=batch) for batch in (False, True)),
    ]
    said += [objection for objection in objections if objection]
    return "; ".join(
        [*(said or ["keeps its quality; another is faster"]), *([f"note: {row.note}"] if row.note else [])]
    )


def _table(result: Result) -> str:
    lines = [
        f"## {result.model} on {result.data}",
        "",
        (
            f"| method · engine | size | MACs | 1: p50 | p99 | {result.batch}: p50 | p99 | quality | agreement |"
            " logit error | verdict |"
        ),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *(_line(row, result) for row in result.rows),
        "",
        (
            f"{result.rounds[0]} and {result.rounds[1]} rounds; the baseline against itself strays by"
            f" {100 * result.noise_one:.1f} % (one record) and {100 * result.noise_many:.1f} % (batch). Chosen by"
            f" {_records(result, test=False)} validation records, judged on {_records(result, test=True)} test records."
        ),
    ]
    return "\n".join(lines)


def _records(result: Result, *, test: bool) -> str:
    row = result.row(BASELINE)
    split = row.test if test else row.validation
    return "–" if split is None else f"{split.records:,}"


def _line(row: Row, result: Result) -> str:
    name = f"*{row.name}*" if row.kind == "peer" else row.name
    cells = [f"**{name}**" if row.name == BASELINE else name]
    cells.append(f"{row.size / 1e3:,.1f} kB" if row.size else "–")
    cells.append("–" if row.macs is None else f"{row.macs / 1e6:,.2f} M")
    for timing in (row.one, row.many):
        cells += ["–", "–"] if timing is None else [_time(timing.p50), _time(timing.p99)]
    if row.test is None:
        cells += ["–", "–", "–"]
    else:
        cells += [f"{100 * row.test.quality:.2f} %", f"{100 * row.test.agreement:.2f} %", f"{row.test.error:.4f}"]
    cells.append(_cell(verdict(row, result)))
    return f"| {' | '.join(cells)} |"


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
