"""`hauberk scan PATH…`: is this file safe to open?"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.scan import FileReport, ScanLimits

_EPILOG = """\
a file's content decides what it is, never its name. unknown means that the scan could not tell, and is not safe.
exit codes: 0 every file is safe, 1 one is unsafe, 2 none is unsafe, but the scan could not decide about one, or failed
"""

_MOST = {"deadline": 1e6, "memory": 1e9, "operations": 9e18, "batch": 10**9}
"""The largest numbers that options may have."""
_LONGEST_PATH = 4096
_SHOWN_WHOLE = 30
"""Files from which on only those are shown that are not safe."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "paths", type=_named, nargs="*", metavar="PATH", help="files, and folders with all that is in them"
    )
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write the findings as SARIF 2.1.0")
    parser.add_argument("--all", action="store_true", help="show safe files of long lists, too")
    parser.add_argument(
        "--deadline", type=float, default=60.0, metavar="SECONDS", help="for each file (default: %(default)s)"
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=4.0,
        metavar="GIB",
        help="what a graph may take at its peak when it runs (default: %(default)s)",
    )
    parser.add_argument(
        "--operations",
        type=float,
        default=1e13,
        metavar="N",
        help="scalar operations that a graph may take for one run (default: %(default)g)",
    )
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="records for which both are estimated (default: %(default)s)"
    )
    parser.add_argument("--rules", action="store_true", help="show every rule instead of scanning")


def _named(text: str) -> Path:
    """A path; nothing at all, as an unset variable gives, is not taken for the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name; give '.' for the working directory")
    return Path(text)


def run(options: argparse.Namespace, output: Output) -> int:
    """Scan every file in a limited process, print what was found, and say the worst in the exit code."""
    from hauberk.files import require_writable, write_atomically

    if options.rules:
        return _show_rules(output)
    if not options.paths:
        raise InputError("nothing to scan: name files or folders")
    limits = _limits(options)
    if options.sarif is not None:
        require_writable(options.sarif)

    import hauberk
    from hauberk.scan import ScanReport, Verdict
    from hauberk.scan.report import worst
    from hauberk.scan.supervised import Supervisor, files_to_scan

    files = files_to_scan(options.paths)
    reports: list[FileReport] = []
    explained: set[str] = set()
    every = options.all or len(files) <= _SHOWN_WHOLE
    with Supervisor(limits) as supervisor, output.progress() as progress:
        for phrase in supervisor.missing:
            output.note(f"hauberk: this system does not keep the scanning process from {phrase}")
        with progress.task("scanning", total=len(files)) as task:
            for report in supervisor.scan(files):
                reports.append(report)
                task.advance()
                if every or report.verdict is not Verdict.SAFE:
                    _show(report, explained, output)
    found = ScanReport(hauberk.__version__, worst(report.verdict for report in reports), tuple(reports))
    if options.sarif is not None:
        from hauberk.scan.sarif import to_sarif

        write_atomically(options.sarif, to_sarif(found))
    counted = Counter(report.verdict for report in reports)
    output.text(", ".join(f"{counted[verdict]:,} {verdict}" for verdict in Verdict if counted[verdict]))
    output.document(found)
    return {Verdict.SAFE: 0, Verdict.UNSAFE: 1, Verdict.UNKNOWN: 2}[found.verdict]


def _limits(options: argparse.Namespace) -> ScanLimits:
    from hauberk.scan import ScanLimits

    for name, most in _MOST.items():
        value = getattr(options, name)
        if not 0 < value <= most:  # NaN is not, either
            raise InputError(f"--{name} is {value}; give a positive number, at most {most:g}")
    return ScanLimits(
        seconds=options.deadline,
        model_memory=int(options.memory * (1 << 30)),
        model_operations=int(options.operations),
        batch=options.batch,
    )


def _show(report: FileReport, explained: set[str], output: Output) -> None:
    """A file and what was found in it; why a rule matters is said once."""
    from hauberk.scan.report import Outcome, shown

    kind = shown(report.format) or "no known format"
    output.text(f"{report.verdict:8}{shown(report.path, _LONGEST_PATH)}  ({kind}, {report.size:,} bytes)")
    for finding in report.findings:
        place = f" at {finding.where}" if finding.where.startswith("byte") else f" in {finding.where}"
        where = place if finding.where else ""
        word = "note" if finding.outcome is Outcome.NOTE else finding.severity
        output.text(f"    {word:9}{shown(f'{finding.rule}: {finding.what}{where}', _LONGEST_PATH)}")
        if finding.rule in explained:
            continue
        explained.add(finding.rule)
        output.text(f"             {shown(finding.why, _LONGEST_PATH)}")
        if finding.reference:
            output.text(f"             {shown(finding.reference, _LONGEST_PATH)}")
    if report.omitted:
        output.text(f"    and {report.omitted:,} more findings")


def _show_rules(output: Output) -> int:
    from hauberk.scan.catalogue import all_rules

    rules = list(all_rules().values())
    output.table(
        ("rule", "severity", "verdict", "what"),
        [(rule.id, rule.severity, rule.outcome, rule.title) for rule in rules],
    )
    output.document([vars(rule) for rule in rules])
    return 0
