"""`hauberk compress MODEL --recipe NAME|FILE.json --data …`: one recipe on one model, measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.search.compression import Compressed
    from hauberk.search.prepare import ModelSource

_EPILOG = """\
a recipe file is {"name": …, "steps": [{"step": "distill", …}, {"step": "quantize-static"}, …]};
docs/reference/compression.md lists steps and passes with their parameters
exit codes: 0 done, 3 a step was undone or a requirement is missed (OUT is written all the same), 2 bad usage or input
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="model file, or a folder with a card")
    parser.add_argument("--list", action="store_true", help="list the recipes that have a name")
    parser.add_argument("--recipe", metavar="NAME|FILE.json", help="a recipe by name, or a recipe file")
    parser.add_argument(
        "--data", help="spambase, nsl-kdd, digits, a .csv, .tsv, .parquet or .npz file, or a folder of images"
    )
    parser.add_argument("--out", type=Path, metavar="OUT.onnx", help="where the compressed graph is written")
    parser.add_argument("--label", metavar="COLUMN", help="label column (default: by name, else the last)")
    parser.add_argument("--benign", metavar="CLASS", help="the class that is no attack (default: by name)")
    parser.add_argument("--drop", metavar="COLUMN", action="append", default=[], help="leave a column out; repeatable")
    parser.add_argument("--card", type=Path, metavar="FILE", help="model card (default: beside the model)")
    parser.add_argument("--arch", metavar="FILE.py:CALLABLE", help="your own code that builds the network")
    parser.add_argument("--teacher", type=Path, metavar="MODEL", help="who teaches (default: the model itself)")
    parser.add_argument("--require", metavar="EXPRESSION", action="append", default=[], help="as in harden; repeatable")
    parser.add_argument(
        "--preprocessing",
        choices=("none", "minmax", "log-minmax", "standard"),
        default="none",
        help="what a model without a card expects its numbers to have gone through (default: none)",
    )
    parser.add_argument("--seed", type=int, help="seed of split and training (default: the model card's, else 0)")
    parser.add_argument("--timing", type=float, default=2.0, metavar="SECONDS", help="for latencies (default: 2)")


def run(options: argparse.Namespace, output: Output) -> int:
    """Compress, print what each step did and what it gained, and say in the exit code whether all of it holds."""
    if options.list:
        return _list(output)
    for name in ("model", "recipe", "data"):
        if getattr(options, name) is None:
            raise InputError(f"{'MODEL' if name == 'model' else '--' + name} is missing; --list shows the recipes")
    from hauberk.files import write_atomically
    from hauberk.requirements import parse_requirement
    from hauberk.search.compression import METRICS, compress, find_recipe
    from hauberk.search.material import DataSource, gather

    wanted = [parse_requirement(text, METRICS) for text in options.require]
    recipe_for = find_recipe(options.recipe)
    if not 0 < options.timing < float("inf"):
        raise InputError(f"--timing is {options.timing:g}; seconds above 0 are needed")
    source, seed = _source(options)
    data = DataSource(options.data, options.label, options.benign, tuple(options.drop))
    with output.progress() as progress:
        material = gather(source, data, seed=seed, teacher=options.teacher, progress=progress)
        made, account = compress(material, recipe_for(material.core), wanted, timing=options.timing, progress=progress)
    if options.out is not None:
        write_atomically(options.out, made.model)
    _show(account, output)
    if options.out is not None:
        output.text(f"\nwritten  {options.out}")
    output.document(account)
    return 0 if account.met else 3


def _list(output: Output) -> int:
    from hauberk.compress import CATALOGUE

    output.table(("recipe", "result"), [(name, entry.summary) for name, entry in CATALOGUE.items()])
    output.document({name: entry.summary for name, entry in CATALOGUE.items()})
    return 0


def _source(options: argparse.Namespace) -> tuple[ModelSource, int]:
    """The model, and the seed of everything."""
    from hauberk.files import require_writable
    from hauberk.ingest import find_card
    from hauberk.models import WEIGHTS_FILE, ModelCard, read_any_card
    from hauberk.search.prepare import ModelSource

    card = find_card(options.model, options.card)
    if options.out is not None:
        own_code = Path(options.arch.rpartition(":")[0]) if options.arch else None
        inputs = (options.model, options.model / WEIGHTS_FILE, card, own_code, Path(options.data), options.teacher)
        recipe = Path(options.recipe)
        if options.out.resolve() in {path.resolve() for path in (*inputs, recipe) if path is not None}:
            raise InputError(f"{options.out}: the result is made of this file; write to another")
        require_writable(options.out)
    known = read_any_card(card) if card else None
    of_records = known if isinstance(known, ModelCard) else None
    source = ModelSource(options.model, of_records, card, options.arch, options.preprocessing)
    # By default the seed of the card, so that records which the detector was tested on stay unseen.
    trained_with = known.training.split_seed if known and known.training else 0
    return source, trained_with if options.seed is None else int(options.seed)


def _show(account: Compressed, output: Output) -> None:
    from hauberk.requirements import show

    rows = []
    for record in account.steps:
        verdict = record.verdict
        agreement = "-" if verdict is None else show(verdict.agreement, "fraction")
        largest = "-" if verdict is None else f"{verdict.max_difference:.3g}"
        done = "UNDONE" if not record.kept else "kept" if record.after != record.before else "no change"
        rows.append((record.step, done, agreement, largest, f"{record.seconds:.2f} s"))
    output.table(("step", "", "agreement", "largest difference", "time"), rows)
    for record in account.steps:
        for note in record.notes:
            output.text(f"{record.step}: {note}")
    output.text()
    sizes = (
        ("parameters", account.before.parameters, account.after.parameters),
        ("operations", account.before.macs, account.after.macs),
    )
    figures = [
        (name, f"{before:,}", f"{after:,}", f"{after / before:.3f}" if before else "-") for name, before, after in sizes
    ]
    for metric, measured in account.measurements.items():
        if metric == "training_time" and not measured.value:
            continue  # nothing in the recipe trains
        reference = account.baseline.get(metric)
        before = "-" if reference is None else show(reference.value, reference.unit)
        ratio = "-" if measured.ratio is None else f"{measured.ratio.value:.3f}"
        figures.append((metric, before, show(measured.value, measured.unit), ratio))
    output.table(("", "float32", "result", "ratio"), figures)
    output.text()
    for sentence in account.verdict:
        output.text(sentence)
    if not account.unseen:
        output.text("caution: nothing shows that the model was not trained on these test records")
    for outcome in account.outcomes:
        output.text(f"  {'met   ' if outcome.holds else 'MISSED'}  {outcome.requirement}: {outcome.reason}")
