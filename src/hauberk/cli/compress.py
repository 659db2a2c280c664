"""`hauberk compress MODEL --recipe NAME|FILE.json --data …`: one recipe on one model, measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hauberk.cli.data_options import configure_columns, configure_model
from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.search.compression import Compressed
    from hauberk.search.prepare import ModelSource

_EPILOG = """\
a recipe file is {"name": …, "steps": [{"step": "distill", …}, {"step": "quantize-static"}, …]};
docs/reference/compression.md lists the steps, with links to their parameters, docs/reference/passes.md the passes
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
    configure_columns(parser)
    configure_model(parser)
    parser.add_argument("--teacher", type=Path, metavar="MODEL", help="who teaches (default: the model itself)")
    parser.add_argument("--require", metavar="EXPRESSION", action="append", default=[], help="as in harden; repeatable")
    parser.add_argument("--seed", type=int, help="seed of split and training (default: the model card's, else 0)")
    parser.add_argument("--timing", type=float, default=2.0, metavar="SECONDS", help="for latencies (default: 2)")


def run(options: argparse.Namespace, output: Output) -> int:
    """Compress, print what each step did and what it gained, and say in the exit code whether all of it holds."""
    if options.list:
        return _list(output)
    for name, hint in (
        ("model", "name a model file, or a folder with a card"),
        ("recipe", "--list shows those that have a name"),
        ("data", "say which records to measure with: spambase, nsl-kdd, digits, a file, or a folder of images"),
    ):
        if getattr(options, name) is None:
            raise InputError(f"{'MODEL' if name == 'model' else '--' + name} is missing; {hint}")
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
    """The model, and the seed of everything; that the result can be written, and over nothing that it is made of."""
    from hauberk.files import require_writable
    from hauberk.search.source import find_source, require_apart

    found = find_source(
        options.model,
        card=options.card,
        arch=options.arch,
        preprocessing=options.preprocessing,
        seed=options.seed,
    )
    if options.out is not None:
        require_apart((options.out,), found[0], (Path(options.data), options.teacher, Path(options.recipe)))
        require_writable(options.out)
    return found


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
