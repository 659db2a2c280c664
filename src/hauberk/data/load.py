"""`load_splits`: from the name of a data set or a file to coded training, validation and test records."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.data.dataset import Dataset
from hauberk.data.infer import infer_schema
from hauberk.data.known import KnownDataSet, SourceFile
from hauberk.data.labels import class_names, encode_labels, find_label, make_label
from hauberk.data.nsl_kdd import NSL_KDD
from hauberk.data.readers import parse_table, read_bytes, sha256
from hauberk.data.spambase import SPAMBASE
from hauberk.data.splits import Splits, block_split, stratified_split
from hauberk.data.table import Table, count_missing, first_missing
from hauberk.errors import InputError, SchemaError
from hauberk.schema import Coder, Label, RecordSchema

KNOWN: dict[str, KnownDataSet] = {known.name: known for known in (SPAMBASE, NSL_KDD)}
"""The data sets that can be asked for by name."""

FEWEST_RECORDS = 50
"""With fewer, no figure measured on the test split would mean anything."""


@dataclass(frozen=True)
class _Source:
    """What was read, before anything is split or inferred; `test` is a test file of its own."""

    name: str
    table: Table
    test: Table | None
    digest: str
    label: str
    benign: str | None
    classes: tuple[str, ...] = ()
    mutable: Callable[[str], bool] = lambda _: True
    booleans: frozenset[str] = frozenset()


def load_splits(
    source: str | Path,
    *,
    label: str | None = None,
    benign: str | None = None,
    schema: RecordSchema | None = None,
    drop: Collection[str] = (),
    seed: int = 0,
    block: int = 1,
) -> Splits:
    """Load a data set and split it into training, validation and test records.

    60 % of the records are for training, 20 % for validation and 20 % for test, each class with the same shares; a
    data set with a test file of its own splits the rest 80 to 20. The split depends on the seed and on the order of
    the records, not on the file's format. Unless a schema is given, ranges and categories come from the training rows
    alone.

    Args:
        source: "spambase" (comes with Hauberk), "nsl-kdd" (read from the folder that the environment variable
            `HAUBERK_DATA` names), or the path of a .csv, .tsv (both also .gz), .parquet or .npz file.
        label: The label column; by default one with a usual name (label, class, target, …), else the last.
        benign: The class that means "nothing is wrong"; by default one with a usual name (normal, benign, 0, …).
        schema: Use this schema instead of inferring one; columns that it does not name are ignored.
        drop: Columns to leave out.
        seed: Seed of the split.
        block: With more than 1, this many consecutive records stay together in one part, and classes have their shares
            only as far as blocks have them: for windows (`hauberk.data.windows`), which must not lie in two parts.

    Raises:
        InputError: The source cannot be read or has the wrong digest, has too few records or classes, or has missing
            or infinite values, or text that is no category; or the seed is not one that torch takes, too.
        SchemaError: Records do not fit the schema that was given.
    """
    if not 0 <= seed < 1 << 63:
        raise InputError(f"the seed of a split is {seed}; a whole number from 0 to 2**63 - 1 is needed")
    if block < 1:
        raise InputError(f"a block of a split is {block} records; at least 1 is needed")
    if schema is not None and schema.label is not None:
        benign = benign or schema.label.benign
    found = _read_source(source, label, benign, drop, None if schema is None else schema.label)
    texts = class_names(found.table, found.label)
    if len(texts) < FEWEST_RECORDS:
        raise InputError(f"{found.table.where}: {len(texts)} records; at least {FEWEST_RECORDS} are needed")
    made = _label(found, texts, schema)
    labels = encode_labels(made, texts, found.table.where)
    shares = (0.8, 0.2) if found.test is not None else (0.6, 0.2, 0.2)
    rows = stratified_split(labels, shares, seed) if block == 1 else block_split(len(labels), shares, block, seed)
    if not all(map(len, rows)):
        raise InputError(f"{found.table.where}: {len(labels)} records are too few for blocks of {block} in every split")
    features = found.table.without({found.label})
    if schema is None:
        _require_plain(features)
        schema = _inferred(found, features.take(rows[0]), made)
    else:
        schema = RecordSchema(features=schema.features, label=made)
    coder = Coder(schema)
    everything = _dataset(found, features, labels, coder)
    training, validation = everything.take(rows[0]), everything.take(rows[1])
    test = everything.take(rows[2]) if found.test is None else _test_file(found, found.test, made, coder)
    for part, name in ((training, "training"), (validation, "validation"), (test, "test")):
        _require_both_kinds(part, name, found.table.where)
    return Splits(training, validation, test, digest=found.digest, seed=seed, name=found.name, block=block)


def check_files(known: KnownDataSet) -> list[tuple[SourceFile, bytes]]:
    """The files of a known data set with their content, in order.

    Raises:
        InputError: The folder is not known, or a file is missing or not the published one; the message says which
            files are wanted, with their digests, and who publishes them.
    """
    wanted = " and ".join(f"{file.name} (SHA-256 {file.sha256})" for file in known.files)
    folder = known.folder()
    if folder is None:
        raise InputError(
            f"{known.name}: set HAUBERK_DATA to the folder that holds {known.name}/ with {wanted}, "
            f"published by the {known.publisher}"
        )
    contents = []
    for file in known.files:
        path = folder / file.name
        if not path.is_file():
            raise InputError(
                f"{known.name}: {path} is not there; wanted are {wanted}, published by the {known.publisher}"
            )
        content = read_bytes(path)
        if sha256(content) != file.sha256:
            raise InputError(
                f"{known.name}: {path} has SHA-256 {sha256(content)}, not {file.sha256}; "
                f"get the file published by the {known.publisher}"
            )
        contents.append((file, content))
    return contents


def _read_source(
    source: str | Path, label: str | None, benign: str | None, drop: Collection[str], expected: Label | None
) -> _Source:
    """Read records; `expected` is the schema's label, which is taken where none is asked for."""
    asked = label or (None if expected is None else expected.name)
    known = KNOWN.get(source) if isinstance(source, str) else None
    if known is not None:
        return _read_known(known, asked, benign, drop)
    path = Path(source)
    if not path.exists():
        raise InputError(
            f"{source}: no such file, and no data set of that name; known are {', '.join(KNOWN)}, and digits (images)"
        )
    content = read_bytes(path)
    table = _drop(parse_table(content, path), drop)
    if label is None and asked is not None and path.suffix.lower() == ".npz" and asked not in table.columns:
        table = table.renamed("label", asked)  # its array of labels has no name of its own
    name = path.name.partition(".")[0] or path.name
    return _Source(name, table, None, sha256(content), find_label(table, asked), benign)


def _read_known(known: KnownDataSet, label: str | None, benign: str | None, drop: Collection[str]) -> _Source:
    files = check_files(known)
    tables = [_drop(known.parse(content, file.name), drop) for file, content in files]
    listing = "".join(f"{file.sha256}  {file.name}\n" for file, _ in files)
    return _Source(
        name=known.name,
        table=tables[0],
        test=tables[1] if known.has_test_file else None,
        digest=files[0][0].sha256 if len(files) == 1 else sha256(listing.encode()),
        label=find_label(tables[0], label or known.label),
        benign=benign or known.benign,
        classes=known.classes,
        mutable=known.mutable,
        booleans=known.booleans,
    )


def _drop(table: Table, names: Collection[str]) -> Table:
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise InputError(f"{table.where}: cannot drop {absent[0]!r}, there is no such column")
    return table.without(names)


def _label(found: _Source, texts: NDArray[Any], schema: RecordSchema | None) -> Label:
    """The label of the schema where it has one, else the data set's own, else what the records show."""
    if schema is not None and schema.label is not None and schema.label.name == found.label:
        return Label(schema.label.name, schema.label.classes, found.benign or schema.label.benign)
    made = make_label(found.label, texts, found.benign, found.table.where)
    return Label(made.name, found.classes, made.benign) if found.classes else made


def _inferred(found: _Source, training: Table, label: Label) -> RecordSchema:
    try:
        return infer_schema(training, label, mutable=found.mutable, booleans=found.booleans)
    except SchemaError as error:
        raise SchemaError(f"{training.where}: {error}") from error


def _test_file(found: _Source, table: Table, label: Label, coder: Coder) -> Dataset:
    labels = encode_labels(label, class_names(table, found.label), table.where)
    return _dataset(found, table.without({found.label}), labels, coder)


def _dataset(found: _Source, features: Table, labels: NDArray[np.int64], coder: Coder) -> Dataset:
    try:
        coded = coder.code(features)
    except SchemaError as error:
        raise SchemaError(f"{features.where}: {error}") from error
    return Dataset(found.name, coder.schema, coded, labels)


def _require_plain(features: Table) -> None:
    """Refuse missing and infinite values by name: only a schema can say what to make of them."""
    for name in features.columns:
        column = features[name]
        missing = count_missing(column)
        if missing:
            raise InputError(
                f"{features.where}: column {name!r} is missing in {missing} of {len(column)} records, first in record "
                f"{first_missing(column)}; fill it in, drop it (--drop), or give a schema with 'missing'"
            )
        infinite = int(np.count_nonzero(np.isinf(column))) if column.dtype.kind == "f" else 0
        if infinite:
            raise InputError(
                f"{features.where}: column {name!r} is infinite in {infinite} of {len(column)} records, first in "
                f"record {1 + int(np.isinf(column).argmax())}; make them finite or drop the column (--drop)"
            )


def _require_both_kinds(part: Dataset, name: str, where: str) -> None:
    attacks = int(part.targets.sum())
    if attacks in {0, len(part)}:
        kind = "attack" if attacks == 0 else "benign"
        raise InputError(f"{where}: no {kind} record is left for the {name} split; give more of them")
