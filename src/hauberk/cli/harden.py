"""`hauberk harden MODEL --data …`: make a small, fast, encrypted and signed bundle of a detector."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli import key_options
from hauberk.cli.data_options import configure_columns, configure_model
from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.search.findings import CandidateFindings, Findings

_EPILOG = """\
requirements are METRIC <= VALUE or METRIC >= VALUE, absolute or relative to the baseline (the optimised float32 graph):
  latency.p99 <= 50us       size <= 40% of baseline       robust_accuracy >= baseline - 1pt
  detection_rate@fpr=1% >= 95%       training_time <= 2min       latency.p50 <= baseline - 10%
exit codes: 0 every requirement met, 3 one is missed (the bundle is written all the same), 2 bad usage or input
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("model", type=Path, metavar="MODEL", help="model file, or a folder that 'hauberk train' wrote")
    parser.add_argument("--data", required=True, help="spambase, nsl-kdd, or a .csv, .tsv, .parquet or .npz file")
    configure_columns(parser)
    configure_model(parser)
    parser.add_argument("--require", metavar="EXPRESSION", action="append", default=[], help="see below; repeatable")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument(
        "--false-positive-rate",
        metavar="RATE",
        help="where the alarm threshold lies, as in 1%% (default: that of a detection_rate requirement, else 1%%)",
    )
    rate.add_argument("--alerts-per-day", type=float, metavar="N", help="false alarms a day that you can look at …")
    parser.add_argument("--records-per-day", type=float, metavar="N", help="… among this many benign records a day")
    parser.add_argument(
        "--radius", type=float, default=0.05, help="adversary's reach in feature space, L-infinity (default: 0.05)"
    )
    parser.add_argument(
        "--budget", choices=("quick", "standard", "full"), default="standard", help="what the adversary may spend"
    )
    parser.add_argument("--seed", type=int, help="seed of splits and training (default: the model card's, else 0)")
    parser.add_argument("--name", help="name of the detector in the bundle (default: the bundle's file name)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.hbk", help="the bundle to write")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="the report (default: beside the bundle)")
    key_options.configure_sealing(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Harden, print the table of candidates, and say in the exit code whether the requirements hold."""
    from hauberk.evaluate.robustness.budget import BUDGETS
    from hauberk.hardening import harden

    keys = key_options.resolve_sealing(options, output)
    with output.progress() as progress:
        hardened = harden(
            options.model,
            data=options.data,
            label=options.label,
            benign=options.benign,
            drop=options.drop,
            card=options.card,
            arch=options.arch,
            requirements=options.require,
            false_positive_rate=_false_positive_rate(options),
            radius=options.radius,
            budget=BUDGETS[options.budget],
            preprocessing=options.preprocessing,
            seed=options.seed,
            name=options.name,
            out=options.out,
            report=options.report,
            encryption=keys.encryption,
            signing=keys.signing,
            progress=progress,
        )
    _show(hardened.findings, output)
    output.text(f"\nbundle  {hardened.bundle}\nreport  {hardened.report}")
    output.document(hardened.findings)
    return 0 if hardened.findings.met else 3


def _false_positive_rate(options: argparse.Namespace) -> float | None:
    """The rate that the options ask for, as a fraction; `None` where they leave it open."""
    if (options.alerts_per_day is None) != (options.records_per_day is None):
        raise InputError("--alerts-per-day N --records-per-day M: how many false alarms among how many; give both")
    if options.alerts_per_day is not None:
        from hauberk.evaluate.quality import alert_budget

        return alert_budget(options.alerts_per_day, options.records_per_day)
    if options.false_positive_rate is None:
        return None
    text = options.false_positive_rate.strip()
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise InputError(f"--false-positive-rate: {text!r} is not a rate; try 1% or 0.01") from None


def _show(findings: Findings, output: Output) -> None:
    detection = next(name for name in findings.test if name.startswith("detection_rate@"))
    metrics = ("latency.p50", "latency.p99", "throughput", "size", detection, "robust_accuracy")
    rows = [_row(candidate, metrics) for candidate in findings.candidates]
    output.table(("candidate", *metrics, "verdict"), rows)
    output.text()
    for candidate in findings.candidates:
        for reason in candidate.reasons:
            output.text(f"{candidate.name}: {reason}")
    output.text(f"\n{findings.verdict}")
    if not findings.data.unseen:
        output.text("caution: nothing shows that the detector was not trained on these test records")
    for outcome in findings.outcomes:
        output.text(f"  {'met   ' if outcome.holds else 'MISSED'}  {outcome.requirement}: {outcome.reason}")


def _row(candidate: CandidateFindings, metrics: Sequence[str]) -> tuple[str, ...]:
    from hauberk.requirements import show

    figures = (candidate.measurements.get(name) for name in metrics)
    cells = ("-" if figure is None else show(figure.value, figure.unit) for figure in figures)
    return (candidate.name, *cells, candidate.status)
