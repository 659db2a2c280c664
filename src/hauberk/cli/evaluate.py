"""`hauberk evaluate MODEL|BUNDLE --data …`: how hard a model is to evade, as it is deployed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli import key_options
from hauberk.cli.data_options import configure_columns, configure_model
from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.evaluate.robustness.figures import AttackFigures, RobustnessResult
    from hauberk.measurement import Measurement
    from hauberk.progress import Progress
    from hauberk.search.beyond import BackdoorFound, Extent, Natural
    from hauberk.search.evaluation import Evaluation
    from hauberk.search.rules import Adversary
    from hauberk.search.scene import Scene

_KINDS = {"evade": "attack ", "false-alarm": "benign "}
"""Which test records a goal is about; all of them otherwise."""

_SHOWN_CLASSES = 8

_EPILOG = """\
a threat model is a TOML file (docs/reference/threat-models.md), or nsl-kdd or spambase; without one, every column that
the schema calls mutable moves by at most --radius (L-infinity). requirements are on robust_accuracy, accuracy and
agreement, as in harden: robust_accuracy >= 60%, or with --baseline: robust_accuracy >= baseline - 1pt
exit codes: 0 done and every requirement met, 3 one is missed (the report is written all the same), 2 bad usage or input
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("model", type=Path, metavar="MODEL|BUNDLE", help="model file, folder with a card, or bundle")
    parser.add_argument(
        "--data",
        required=True,
        help="spambase, nsl-kdd, digits, a .csv, .tsv, .parquet or .npz file, or a folder of images",
    )
    configure_columns(parser)
    configure_model(parser)
    parser.add_argument(
        "--baseline", type=Path, metavar="MODEL", help="the float model that it was made of: attacks are transferred"
    )
    parser.add_argument("--threat", metavar="FILE.toml|NAME", help="threat model (default: a ball, see --radius)")
    parser.add_argument(
        "--radius", type=float, metavar="R", help="how far a column moves in feature space (default: 0.05)"
    )
    parser.add_argument(
        "--budget", choices=("quick", "standard", "full"), default="standard", help="what the adversary may spend"
    )
    parser.add_argument("--records", type=int, metavar="N", help="most records to attack (default: the budget's)")
    parser.add_argument(
        "--queries",
        type=int,
        metavar="N",
        help="most questions a record and attack to the model (default: the budget's)",
    )
    parser.add_argument(
        "--without",
        choices=("drift", "backdoor"),
        action="append",
        default=[],
        help="leave out what becomes of disturbed records, or the search for a conditional backdoor; repeatable",
    )
    parser.add_argument(
        "--compressed",
        choices=("rounded", "rebuilt"),
        help="how it was made of the baseline, for the search for a backdoor (default: by the shapes of its weights)",
    )
    parser.add_argument("--require", metavar="EXPRESSION", action="append", default=[], help="see below; repeatable")
    parser.add_argument("--seed", type=int, help="seed of split and attacks (default: the model card's, else 0)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page about it")
    key_options.configure_opening(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Attack, print what was found, and say in the exit code whether the requirements hold."""
    from hauberk.files import require_writable, write_atomically
    from hauberk.requirements import parse_requirement
    from hauberk.search.evaluation import METRICS, evaluate, require_measurable

    wanted = [parse_requirement(text, METRICS) for text in options.require]
    require_measurable(wanted, baseline=options.baseline is not None)
    adversary = _adversary(options)
    if options.report is not None:
        require_writable(options.report)
    with ExitStack() as stack, output.progress() as progress:
        scene, seed = _scene(options, stack, progress)
        found = evaluate(scene, options.data, adversary, wanted, seed=seed, extent=_extent(options), progress=progress)
    if options.report is not None:
        from hauberk.report.evaluation import render_evaluation

        write_atomically(options.report, render_evaluation(found).encode())
    _show(found, output)
    if options.report is not None:
        output.text(f"\nreport  {options.report}")
    output.document(found)
    return 0 if found.met else 3


def _adversary(options: argparse.Namespace) -> Adversary:
    from msgspec import structs

    from hauberk.evaluate.robustness.budget import BUDGETS
    from hauberk.search.rules import Adversary, find_threat

    budget = BUDGETS[options.budget]
    for name in ("records", "queries"):
        if getattr(options, name) is not None:
            budget = structs.replace(budget, **{name: getattr(options, name)})
    return Adversary(budget, find_threat(options.threat), options.radius)


def _extent(options: argparse.Namespace) -> Extent:
    from dataclasses import replace

    from hauberk.search.beyond import EXTENTS

    extent = replace(EXTENTS[options.budget], compressed=options.compressed)
    if "drift" in options.without:
        extent = replace(extent, drift=0)
    return replace(extent, effort=None) if "backdoor" in options.without else extent


def _scene(options: argparse.Namespace, stack: ExitStack, progress: Progress) -> tuple[Scene, int]:
    """Who is evaluated, and the seed of everything."""
    from hauberk.search.material import DataSource
    from hauberk.search.opened import is_bundle, scene_of_bundle
    from hauberk.search.scene import find_pair, scene_of_model
    from hauberk.search.source import require_apart

    bundle = is_bundle(options.model)
    if bundle and options.arch is not None:
        raise InputError(f"{options.model}: a bundle brings its own graph; leave --arch away")
    source, baseline, seed = find_pair(
        options.model,
        options.baseline,
        card=options.card,
        arch=options.arch,
        preprocessing=options.preprocessing,
        seed=options.seed,
        bundle=bundle,
    )
    if options.report is not None:
        require_apart((options.report,), source, (Path(options.data), options.baseline))
    data = DataSource(options.data, options.label, options.benign, tuple(options.drop))
    if not bundle:
        return scene_of_model(source, data, baseline=baseline, seed=seed, stack=stack, progress=progress), seed
    import hauberk

    detector = hauberk.open(
        options.model, key=key_options.resolve_key(options), trust=key_options.resolve_policy(options)
    )
    stack.enter_context(detector)
    scene = scene_of_bundle(source, detector, data, baseline=baseline, seed=seed, stack=stack, progress=progress)
    return scene, seed


def _show(found: Evaluation, output: Output) -> None:
    from hauberk.requirements import show

    result = found.result
    attacked = f"{result.clean_accuracy.samples:,} {_KINDS.get(found.rules.goal, '')}test records of {found.data}"
    output.text(f"{found.model}: {found.kind}, {attacked} attacked")
    output.text(found.rules.words)
    output.text()
    _show_quality(found, output)
    output.text()
    header = ("attack", "aimed by", "withstood", "95 % interval", "queries", "mean", "time")
    output.table(header, [*_attack_rows(result), _row("worst case", "", result.robust_accuracy)])
    if found.certified is not None:
        proved = found.certified.certified_accuracy
        output.text(
            f"proved to withstand every attack ({found.certified.method}): {_percent(proved)} ({_interval(proved)})"
        )
    output.text()
    for line in _lines(found):
        output.text(line)
    output.text(f"\n{result.verdict}: {result.reason}")
    for sentence in result.done:
        output.text(f"  {sentence}")
    if found.backdoor is not None:
        _show_backdoor(found.backdoor, output)
    if found.natural is not None:
        _show_natural(found.natural, found.model, output)
    output.text()
    for sentence in found.remarks:
        output.text(f"note: {sentence}")
    if not found.unseen:
        output.text("caution: nothing shows that the model was not trained on these test records")
    for outcome in found.outcomes:
        output.text(f"  {'met   ' if outcome.holds else 'MISSED'}  {outcome.requirement}: {outcome.reason}")
    output.text(f"\n{show(found.seconds, 's')} in all")


def _show_quality(found: Evaluation, output: Output) -> None:
    """Clean and robust figures, beside the baseline's where there is one."""
    from hauberk.requirements import show_difference

    figures = {**found.quality, "robust_accuracy": found.result.robust_accuracy}
    if found.result.robust_of_both is not None and found.reference is not None:
        figures["robust of both right"] = found.result.robust_of_both
    rows = []
    for name, measured in figures.items():
        difference = "" if measured.difference is None else show_difference(measured.difference.value, measured.unit)
        rows.append((name, _percent(measured), _interval(measured), f"{measured.samples:,}", difference))
    output.table(("", found.model, "95 % interval", "records", "against baseline" if found.baseline else ""), rows)


def _attack_rows(result: RobustnessResult) -> Iterator[tuple[str, ...]]:
    for attack in result.attacks:
        name = f"{attack.attack} (again)" if attack.answer else attack.attack
        yield _row(name, attack.knowledge, attack.survived, attack)


def _row(name: str, aimed: str, survived: Measurement, attack: AttackFigures | None = None) -> tuple[str, ...]:
    queries, mean, seconds = "", "", ""
    if attack is not None:
        queries, mean = (f"{attack.queries:,}", f"{attack.mean_queries:,.0f}") if attack.queries else ("-", "-")
        seconds = f"{attack.seconds:.2f} s"
    return (name, aimed, _percent(survived), _interval(survived), queries, mean, seconds)


def _lines(found: Evaluation) -> Iterator[str]:
    """Fidelity and curves, a line each."""
    for fidelity in found.result.fidelity:
        yield (
            f"{fidelity.module}: gives the session's label to {_percent(fidelity.agreement)} of the records and to"
            f" {_percent(fidelity.agreement_attacked)} of what attacks made of them; error of logits"
            f" {100 * fidelity.error:.3g} %; no gradient at {_percent(fidelity.blind)}"
        )
    curves = found.result.curves
    if curves is None:
        return
    if len(curves.radii) > 1:
        points = ", ".join(f"{point.radius:g}: {100 * point.survived.value:.1f} %" for point in curves.radii)
        yield f"by radius ({curves.records} records, {curves.attack}): {points}"
    if curves.steps:
        points = ", ".join(f"{point.steps}: {100 * point.survived.value:.1f} %" for point in curves.steps)
        yield f"by steps of one restart: {points}"
    for remark in curves.remarks:
        yield f"note: {remark}"


def _show_backdoor(found: BackdoorFound, output: Output) -> None:
    output.text(f"conditional backdoor ({found.kind} model): {found.result.verdict}: {found.result.reason}")
    if found.columns and found.result.verdict == "conditional backdoor suspected":
        output.text(f"  it sets {', '.join(found.columns)} (in units of the feature space)")


def _show_natural(found: Natural, model: str, output: Output) -> None:
    """What becomes of disturbed records, and alerts on classes that training never saw."""
    from hauberk.requirements import show_difference

    def against(measured: Measurement) -> str:
        return "" if measured.difference is None else show_difference(measured.difference.value, measured.unit)

    output.text(f"\nwithout an adversary, when the world changes ({found.drift.records:,} test records):")
    rows = [
        (
            each.disturbance if each.disturbance == "none" else f"{each.disturbance} {each.strength:g}",
            _percent(each.accuracy),
            _percent(each.detection_rate),
            _percent(each.false_positive_rate),
            _percent(each.unchanged),
            against(each.accuracy),
        )
        for each in found.drift.figures
        if each.model == model
    ]
    compared = "accuracy against baseline" if found.drift.baseline != model else ""
    output.table(("disturbance", "accuracy", "detected", "false alarms", "same label", compared), rows)
    classes = found.by_class
    unseen = [each for each in classes.classes if each.attack and not each.seen]
    output.text()
    header = ("alerts on", "records", "share", "95 % interval", "against baseline" if compared else "")
    output.table(
        header,
        [
            (
                each.name if each.attack else f"{each.name} (false alarms)",
                f"{each.records:,}",
                _percent(each.alerts[model]),
                _interval(each.alerts[model]),
                shown,
            )
            for each in (*classes.together, *unseen[:_SHOWN_CLASSES])
            for shown in (against(each.alerts[model]),)
        ],
    )
    if len(unseen) > _SHOWN_CLASSES:
        output.text(f"and {len(unseen) - _SHOWN_CLASSES} unseen attacks with fewer records (--report or --json)")


def _percent(measured: Measurement) -> str:
    return f"{100 * measured.value:.2f} %"


def _interval(measured: Measurement) -> str:
    if measured.low is None or measured.high is None:
        return ""
    return f"{100 * measured.low:.2f} - {100 * measured.high:.2f} %"
