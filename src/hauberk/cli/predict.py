"""`hauberk predict BUNDLE [FILE]`: score records with a bundle."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.key_options import configure_opening, resolve_key, resolve_policy
from hauberk.cli.output import Output

if TYPE_CHECKING:
    from hauberk.runtime import Detector, Prediction


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "exit codes: 0 scored, 2 bad usage or input, or a bundle that does not verify (nothing is written)"
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="what 'hauberk harden' wrote")
    parser.add_argument(
        "file",
        nargs="?",
        default="-",
        metavar="FILE",
        help="records: .csv, .tsv, .json or .jsonl, also gzipped (default: -, standard input)",
    )
    parser.add_argument(
        "--format",
        choices=("csv", "tsv", "json", "jsonl"),
        help="format of FILE, if its name does not say (standard input: csv)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.csv", help="write scores and labels there (default: standard output)"
    )
    configure_opening(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Score, then write; nothing is written if a record does not fit."""
    import hauberk

    with hauberk.open(options.bundle, key=resolve_key(options), trust=resolve_policy(options)) as detector:
        prediction = _predict(detector, options)
        _show(detector, prediction, options.out, output)
    return 0


def _predict(detector: Detector, options: argparse.Namespace) -> Prediction:
    from hauberk.runtime.records import format_of, predict_stream

    if options.file == "-":
        with io.FileIO(sys.stdin.fileno(), closefd=False) as raw:
            return predict_stream(detector, io.BufferedReader(raw), options.format or "csv", where="standard input")
    form = options.format or format_of(options.file)
    with Path(options.file).open("rb") as stream:
        return predict_stream(detector, stream, form, where=options.file)


def _show(detector: Detector, prediction: Prediction, out: Path | None, output: Output) -> None:
    from hauberk.files import write_atomically

    scores, labels = prediction.scores.astype(str).tolist(), prediction.labels.tolist()
    summary = {
        "detector": detector.name,
        "threshold": detector.threshold,
        "records": len(labels),
        "alerts": sum(labels),
    }
    lines = [
        "record,score,label",
        *(f"{i},{score},{label}" for i, (score, label) in enumerate(zip(scores, labels, strict=True))),
    ]
    if out is None:
        for line in lines:
            output.text(line)
        predictions = [{"score": float(score), "label": label} for score, label in zip(scores, labels, strict=True)]
        output.document({**summary, "predictions": predictions})
        return
    write_atomically(out, "".join(f"{line}\n" for line in lines).encode())
    output.text(f"{summary['alerts']:,} of {summary['records']:,} records raised an alert; scores are in {out}")
    output.document({**summary, "out": str(out)})
