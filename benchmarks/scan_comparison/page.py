"""What the comparison measured, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hauberk.measurement import Estimate
from scan_comparison.catches import Caught
from scan_comparison.measure import Sparse, Started, Timed, fastest_peer
from scan_comparison.scanners import CATCHERS, OURS

_TIMES = 3.0
_FEW_NAMES = 50
_CONSTANT = 32 << 20
"""Bytes that a scan may need more for a file that is a thousand times as large."""


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that was measured.

    Attributes:
        machine: In words.
        taken: When each part was measured and on which commit, in words.
        versions: Of the scanners.
        sizes: Bytes of every workload.
        timed: Scanners on workloads.
        started: Command lines.
        sparse: Files of 20 GiB.
        caught: Cases.
    """

    machine: str
    taken: dict[str, str]
    versions: dict[str, str]
    sizes: dict[str, int]
    timed: list[Timed]
    started: list[Started]
    sparse: list[Sparse]
    caught: list[Caught]


class Target(NamedTuple):
    """What was asked for, what was measured, and whether that is it."""

    asked: str
    measured: str
    met: bool | None


def conclude(results: Results) -> list[Target]:
    """Every target, those that are missed first."""
    targets = [_speed(results, load) for load in results.sizes if "checkpoint" in load or "small" in load]
    worst = max((each.peak - each.small for each in results.sparse), default=0)
    measured = f"{worst / 1e6:+.1f} MB against a file of 1/1000 of the size" if results.sparse else "not measured"
    targets.append(
        Target("A checkpoint of 20 GB in constant memory", measured, worst < _CONSTANT if results.sparse else None)
    )
    hostile = [case for case in results.caught if case.hostile]
    passed = [case.name for case in hostile if case.words[OURS] not in {"flagged", "undecided"}]
    measured = f"{len(hostile) - len(passed)} of {len(hostile)}" + (
        f"; called safe: {', '.join(passed)}" if passed else ""
    )
    targets.append(Target("No hostile case of the corpus called safe", measured, not passed if hostile else None))
    honest = [case for case in results.caught if not case.hostile]
    accused = [case.name for case in honest if case.words[OURS] != "clean"]
    measured = f"{len(honest) - len(accused)} of {len(honest)} safe" + (
        f"; not: {', '.join(accused)}" if accused else ""
    )
    targets.append(Target("No false alarm on an honest file of the corpus", measured, not accused if honest else None))
    return sorted(targets, key=lambda target: target.met is not False)


def _speed(results: Results, workload: str) -> Target:
    asked = f"{workload}: at least {_TIMES:g} times as fast as the fastest other scanner, one process each"
    best = fastest_peer(results.timed, workload)
    if best is None:
        return Target(asked, "not measured", None)
    scanner, timed = best
    times = timed.ratio
    if times is None:
        return Target(asked, "not measured", None)
    return Target(asked, f"{_interval(times, 1, ' times')}, {scanner.name}", times.value >= _TIMES)


def show(results: Results) -> str:
    """The whole measured part of the page."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    taken = "; ".join(f"{part}: {when}" for part, when in results.taken.items())
    parts = [f"{results.machine}. Taken: {taken}.", versions + ".", _targets(results)]
    if results.timed:
        parts += ["## Speed, in one process each", _speeds(results)]
    if results.started:
        parts += ["## From the command line", _commands(results)]
    if results.sparse:
        parts += ["## Memory", _memory(results)]
    if results.caught:
        parts += ["## Who catches what", _catches(results, hostile=True)]
        parts += ["## Who accuses honest files", _catches(results, hostile=False)]
        parts += ["## Hostile and called clean", _missed(results)]
    return "\n\n".join(parts)


def _targets(results: Results) -> str:
    words = {True: "**met**", False: "**missed**", None: "not judged"}
    rows = [f"| {target.asked} | {target.measured} | {words[target.met]} |" for target in conclude(results)]
    return "\n".join(["| target | measured | |", "| --- | --- | --- |", *rows])


def _speeds(results: Results) -> str:
    rows = [
        "| files | scanner | processor time | our time times | rate | on the wall | says | rounds |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for workload, size in results.sizes.items():
        for each in results.timed:
            if each.workload != workload:
                continue
            ratio = _interval(each.ratio, 1) if each.ratio else "–"
            if "small" in workload:
                files = 1000 / each.seconds.value
                rate = f"{files:,.{0 if files >= 10 else 2}f} files/s"
            else:
                rate = f"{size / each.seconds.value / 1e6:,.0f} MB/s"
            words = ", ".join(f"{count} {word}" if len(each.words) > 1 else word for word, count in each.words.items())
            part = f" ({each.files} of the files, scaled up)" if "small" in workload and each.files < 1000 else ""
            cells = [
                workload,
                each.scanner,
                _time(each.seconds),
                ratio,
                rate,
                _time(each.wall),
                words,
                f"{each.rounds}{part}",
            ]
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _commands(results: Results) -> str:
    rows = [
        "| scanner | import | one tiny pickle | the checkpoint | the folder of small pickles |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for each in results.started:
        small = _interval(each.small, 2, " s") if each.small else each.note
        cells = [
            each.scanner,
            f"{each.imported * 1e3:.0f} ms",
            _interval(each.nothing, 2, " s"),
            _interval(each.checkpoint, 2, " s"),
            small,
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _memory(results: Results) -> str:
    rows = ["| file | size | verdict | time | peak | the same at 1/1000 |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for each in results.sparse:
        cells = [each.format, f"{each.size / 1e9:.1f} GB", each.verdict, f"{each.seconds * 1e3:.1f} ms"]
        rows.append("| " + " | ".join([*cells, f"{each.peak / 1e6:.1f} MB", f"{each.small / 1e6:.1f} MB"]) + " |")
    return "\n".join(rows)


def _catches(results: Results, *, hostile: bool) -> str:
    names = [scanner.name for scanner in CATCHERS]
    cases = [case for case in results.caught if case.hostile is hostile]
    groups: dict[str, list[Caught]] = {}
    for case in cases:
        groups.setdefault(case.area, []).append(case)
        if case.kind:
            groups.setdefault(f"{case.area} · {case.kind}", []).append(case)
    groups["all"] = cases
    rows = [f"| | cases | {' | '.join(names)} |", "| --- | ---: |" + " ---: |" * len(names)]
    for group, members in groups.items():
        cells = [_counted([case.words.get(name, "died") for case in members]) for name in names]
        title = f"&nbsp;&nbsp;{group.partition(' · ')[2]}" if " · " in group else f"**{group}**"
        rows.append(f"| {title} | {len(members)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _counted(words: Sequence[str]) -> str:
    """Flagged, undecided and clean, in this order; those that died are undecided in the worst way."""
    counts = Counter(words)
    shown = f"{counts['flagged']} / {counts['undecided'] + counts['died']} / {counts['clean']}"
    return shown + (f" ({counts['died']} died)" if counts["died"] else "")


def _missed(results: Results) -> str:
    """How many hostile cases each scanner calls clean, with the names where they are few."""
    hostile = [case for case in results.caught if case.hostile]
    certain = sum(case.certain for case in hostile)
    rows = [
        f"| | of all {len(hostile)} | of the {certain} that can only be called dangerous | which, where they are few |",
        "| --- | ---: | ---: | --- |",
    ]
    for scanner in CATCHERS:
        missed = [case for case in hostile if case.words.get(scanner.name) == "clean"]
        worst = [case.name for case in missed if case.certain]
        names = ", ".join(worst) if len(worst) <= _FEW_NAMES else ""
        rows.append(f"| {scanner.name} | {len(missed)} | {len(worst)} | {names} |")
    return "\n".join(rows)


def _time(value: Estimate) -> str:
    return _interval(value, 1, " s") if value.value > 10 else _interval(value, 1, " ms", 1e3)


def _interval(value: Estimate | None, digits: int, unit: str = "", factor: float = 1.0) -> str:
    if value is None:
        return "–"
    middle, low, high = (f"{number * factor:.{digits}f}" for number in (value.value, value.low, value.high))
    return f"{middle}{unit} ({low} … {high})"
