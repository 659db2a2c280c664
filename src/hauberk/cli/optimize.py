"""`hauberk optimize IN.onnx OUT.onnx`: apply verified passes to any ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.optimisation import Optimisation

_EPILOG = """\
each pass is compared before and after; one that breaks its contract, or that cannot be verified, is undone.
exit codes: 0 every pass held, 3 one was undone (the file is written without it), 2 bad usage or input
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("model", type=Path, metavar="IN.onnx", help="the model")
    parser.add_argument("out", type=Path, metavar="OUT.onnx", help="the file to write; may be the same")
    parser.add_argument(
        "--passes", default="default", metavar="NAMES", help="default, all, or names separated by commas, in order"
    )
    parser.add_argument("--fix-batch", type=int, metavar="N", help="first make the graph take exactly N records")
    parser.add_argument(
        "--explain", action="store_true", help="show every pass, and time the graph after each that changed it"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE.npz",
        help="sample inputs, one array an input: real records to verify and to time on, and the range of each input",
    )
    parser.add_argument(
        "--timing", type=float, default=1.0, metavar="SECONDS", help="how long to time each version (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs that are drawn (default: 0)")


def run(options: argparse.Namespace, output: Output) -> int:
    """Optimise, show every pass, and say in the exit code whether one was undone."""
    from hauberk.optimisation import choose, optimise_file

    if options.seed < 0:
        raise InputError(f"--seed: {options.seed} is below 0; give 0 or more")
    if not 0 < options.timing < float("inf"):
        raise InputError(f"--timing is {options.timing:g}; seconds above 0 are needed")
    with output.progress() as progress:
        found = optimise_file(
            options.model,
            options.out,
            passes=choose(options.passes, options.fix_batch),
            data=options.data,
            explain=options.explain,
            seed=options.seed,
            seconds=options.timing,
            progress=progress,
        )
    _show(found, output, explain=options.explain)
    output.document(found)
    return 3 if found.undone else 0


def _show(found: Optimisation, output: Output, *, explain: bool) -> None:
    idle = [each.name for each in found.passes if each.outcome == "nothing to do"]
    shown = found.passes if explain else [each for each in found.passes if each.outcome != "nothing to do"]
    header: tuple[str, ...] = ("pass", "nodes before", "after", "outcome")
    rows: list[tuple[str, ...]] = [
        (each.name, str(each.nodes_before), str(each.nodes_after), each.outcome) for each in shown
    ]
    if explain:
        header = (*header, "latency.p50", "against the original")
        timed = [_cells(found, each.name) if each.outcome == "kept" else ("", "") for each in shown]
        rows = [(*row, *cells) for row, cells in zip(rows, timed, strict=True)]
    if rows:
        output.table(header, rows)
    if idle and not explain:
        passes = "pass" if len(idle) == 1 else "passes"
        output.text(f"{len(idle)} {'other ' if rows else ''}{passes} found nothing to do: {', '.join(idle)}")
    output.text()
    for each in found.undone:
        output.text(f"{each.name}: undone: {each.reason}")
    skipped = sum(each.verdict.skipped for each in found.passes if each.verdict)
    if skipped:
        output.text(
            f"{skipped} comparisons were left out because the graph before the pass fails on their inputs itself"
        )
    for name, model in (("original", found.source), ("result", found.result)):
        output.text(f"{name:<9} {model.path}  {model.size} bytes, {model.nodes} nodes, sha256 {model.sha256}")
        for file in model.weights:
            output.text(f"          {file.path}  {file.size} bytes, sha256 {file.sha256}")
    _show_latency(found, output)


def _show_latency(found: Optimisation, output: Output) -> None:
    """The last version against the original."""
    if found.result.sha256 == found.source.sha256:
        output.text("latency   unchanged: the result is the original, byte for byte")
        return
    if found.result.weights:
        output.text("latency   not measured: the weights lie beside the graph; two versions need not fit into memory")
        return
    if found.latency is None:
        output.text("latency   not measured: no inputs were found that the graph runs on; give some with --data")
        return
    *_, last = found.latency.measurements
    if last == "original":
        output.text("latency   unchanged: no pass changed the graph")
        return
    p50, ratio = _cells(found, last)
    call = found.latency.measurements[last]["latency.p50"].note
    output.text(f"latency   {p50} with {call}, {ratio} the original's; noise {100 * found.latency.noise:.1f} %")


def _cells(found: Optimisation, name: str) -> tuple[str, str]:
    """Median latency of a call, and its ratio to the original's."""
    from hauberk.requirements import show

    measured = found.latency.measurements.get(name) if found.latency else None
    if measured is None:
        return "", ""
    p50 = measured["latency.p50"]
    ratio = "" if p50.ratio is None else f"{p50.ratio.value:.3f} times ({p50.ratio.low:.3f} to {p50.ratio.high:.3f})"
    return show(p50.value, p50.unit), ratio
