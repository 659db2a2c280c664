"""`hauberk data list` and `hauberk data describe NAME`: the data sets that can be asked for by name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hauberk.cli.output import Output
from hauberk.errors import InputError

if TYPE_CHECKING:
    from hauberk.data import KnownDataSet, Splits
    from hauberk.schema import Feature


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "exit codes: 0 done, 2 bad usage or input"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="which data sets are known, and whether their files are here")
    describe = actions.add_parser("describe", help="files wanted, origin, licence, columns and classes of one")
    describe.add_argument("name", metavar="NAME", help="as 'hauberk data list' shows it")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace, output: Output) -> int:
    """List or describe."""
    from hauberk.data import KNOWN

    if options.action == "list":
        _list(output)
        return 0
    if options.name not in KNOWN:
        raise InputError(f"no data set is called {options.name!r}; known are {', '.join(KNOWN)}")
    _describe(KNOWN[options.name], output)
    return 0


def _list(output: Output) -> None:
    from hauberk.data import KNOWN

    problems = {name: _problem(known) for name, known in KNOWN.items()}
    output.table(
        ("NAME", "FILES", "WHAT"),
        [(name, "missing" if problems[name] else "here", known.title) for name, known in KNOWN.items()],
    )
    for problem in filter(None, problems.values()):
        output.text()
        output.text(problem)
    output.document([
        {"name": name, "title": known.title, "problem": problems[name]} for name, known in KNOWN.items()
    ])  # fmt: skip


def _describe(known: KnownDataSet, output: Output) -> None:
    from hauberk.data import load_splits

    problem = _problem(known)
    output.text(f"{known.name}: {known.title}")
    output.text()
    for what, words in (
        ("published by", known.publisher),
        ("cite as", known.citation),
        ("licence", known.licence),
        ("adversary", known.adversary),
    ):
        output.text(f"{what:<14}{words}")
    output.text()
    output.table(("FILE", "RECORDS", "SHA-256"), [(f.name, f"{f.records:,}", f.sha256) for f in known.files])
    if problem:
        output.text()
        output.text(problem)
    splits = None if problem else load_splits(known.name)
    if splits is not None:
        _describe_records(splits, output)
    output.document({
        "name": known.name,
        "title": known.title,
        "publisher": known.publisher,
        "citation": known.citation,
        "licence": known.licence,
        "adversary": known.adversary,
        "files": [{"name": f.name, "records": f.records, "sha256": f.sha256} for f in known.files],
        "problem": problem,
        "schema": splits.training.schema if splits else None,
        "classes": _class_counts(splits) if splits else None,
    })  # fmt: skip


def _describe_records(splits: Splits, output: Output) -> None:
    rows = []
    for feature in splits.training.schema.features:
        kind = str(feature.__struct_config__.tag)
        rows.append((feature.name, kind, _values(feature), "yes" if feature.mutable else "no"))
    output.text()
    output.table(("COLUMN", "TYPE", "IN TRAINING", "MUTABLE"), rows)
    output.text()
    output.table(
        (splits.training.label.name.upper(), "TRAINING", "VALIDATION", "TEST"),
        [
            (name, f"{counts['training']:,}", f"{counts['validation']:,}", f"{counts['test']:,}")
            for name, counts in _class_counts(splits).items()
        ],
    )


def _values(feature: Feature) -> str:
    from hauberk.schema import BooleanFeature, CategoricalFeature

    if isinstance(feature, CategoricalFeature):
        return f"{len(feature.categories)} categories"
    return "false or true" if isinstance(feature, BooleanFeature) else f"{feature.low:,} to {feature.high:,}"


def _class_counts(splits: Splits) -> dict[str, dict[str, int]]:
    """Records of each class in each split (seed 0)."""
    parts = {"training": splits.training, "validation": splits.validation, "test": splits.test}
    return {
        name: {part: int((dataset.labels == index).sum()) for part, dataset in parts.items()}
        for index, name in enumerate(splits.training.label.classes)
    }


def _problem(known: KnownDataSet) -> str | None:
    """Why the data set cannot be loaded, in one line, or `None`."""
    from hauberk.data import check_files

    try:
        check_files(known)
    except InputError as error:
        return str(error)
    return None
