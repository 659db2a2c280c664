"""`hauberk convert IN OUT`: a model of another framework, or at another opset, as ONNX or safetensors, compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.data_options import configure_columns, configure_model
from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.convert import Conversion

_EPILOG = """\
IN is recognised by its content: a state dict (with --arch or a card), TorchScript, .pt2, ONNX, .skops, XGBoost (JSON,
UBJSON), LightGBM (text), Keras, TFLite, or a folder with a SavedModel. It is scanned before anything reads it.
exit codes: 0 done and as the source answers, 3 done but it differs from the source (OUT is written all the same),
2 bad usage or input
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("model", type=Path, metavar="IN", help="the model file, or a folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument("--to", choices=("onnx", "safetensors"), help="what to write (default: by the suffix of OUT)")
    parser.add_argument("--opset", type=int, metavar="N", help="opset of an ONNX result (default: 20)")
    parser.add_argument(
        "--data", help="real inputs to compare on: spambase, nsl-kdd, a table, or an .npz file with one array an input"
    )
    parser.add_argument("--schema", type=Path, metavar="FILE.json", help="record schema: the range of every column")
    configure_columns(parser)
    configure_model(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs that are drawn (default: 0)")


def run(options: argparse.Namespace, output: Output) -> int:
    """Convert, show how source and result compare, and say in the exit code whether they agree."""
    from hauberk.convert import RealInputs, Wanted, convert
    from hauberk.graph.model import OPSET

    if options.seed < 0:
        raise InputError(f"--seed: {options.seed} is below 0; give 0 or more")
    real = RealInputs(
        data=options.data,
        schema=options.schema,
        label=options.label,
        benign=options.benign,
        drop=tuple(options.drop),
        preprocessing=options.preprocessing,
        seed=options.seed,
    )
    wanted = Wanted(
        to=options.to,
        arch=options.arch,
        card=options.card,
        real=real,
        opset=OPSET if options.opset is None else options.opset,
        seed=options.seed,
    )
    with output.progress() as progress:
        found = convert(options.model, options.out, wanted, progress=progress)
    _show(found, output)
    output.document(found)
    return 0 if found.comparison.holds else 3


def _show(found: Conversion, output: Output) -> None:
    comparison = found.comparison
    rows = []
    for family in comparison.families:
        labels = "-" if family.labels is None else f"{100 * family.labels:.2f} %"
        outside = str(family.outside) if family.judged else f"{family.outside} (not judged)"
        records = str(family.records) + (f" ({family.skipped} calls refused)" if family.skipped else "")
        rows.append((family.name, records, f"{family.largest:.3g}", labels, outside))
    output.text(f"{found.source.path}: {found.source.format}, the scan says {found.verdict}")
    output.text(f"compared with {comparison.framework}; allowed: {comparison.contract}")
    output.text()
    output.table(("inputs", "records", "largest difference", "labels agree", "outside"), rows)
    output.text()
    for note in found.notes:
        output.text(f"note: {note}")
    for each in comparison.differing:
        output.text(f"differs on {each.where}: {', '.join(each.source)} became {', '.join(each.result)}")
    what = f"opset {found.opset}" if found.tensors is None else f"{found.tensors} tensors"
    verdict = "answers as its source does" if comparison.holds else "DIFFERS from its source, see above"
    output.text(f"{found.result.path}: {what}, {found.result.size} bytes; {verdict}")
