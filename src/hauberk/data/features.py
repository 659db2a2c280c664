"""Records that are features already, of any shape: windows, images, whatever a model reads, as one NPZ file.

The arrays are `features`, numbers [N, *shape], and `labels` [N], names or class indices. Tables [N, D] have names and a
schema and are read by `load_splits`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hauberk.data.labels import BENIGN_NAMES
from hauberk.data.readers import NPZ_ERRORS, is_unnamed, read_arrays, read_bytes, sha256
from hauberk.data.splits import stratified_split
from hauberk.errors import InputError
from hauberk.recipe import LabelledFeatures

FEWEST_RECORDS = 50
_SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class FeatureSplits:
    """The three parts of records that are features already.

    Attributes:
        training: What is learned from.
        validation: What training stops by.
        test: What is looked at once, at the end.
        classes: Names of the classes, in the order of their indices.
        digest: SHA-256 of the file, hex.
        seed: Seed of the split.
        name: Name of the data.
    """

    training: LabelledFeatures
    validation: LabelledFeatures
    test: LabelledFeatures
    classes: tuple[str, ...]
    digest: str
    seed: int
    name: str


def holds_features(path: Path, columns: Collection[str] = ()) -> bool:
    """Whether a file is an NPZ of features rather than of a table's columns; False for all else.

    Its `features` have a shape of two sizes or more; or they are [N, D] without `names`, for a model whose columns have
    names.

    Args:
        path: The file.
        columns: Names of the columns that the model was trained on, where they are known.
    """
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive, archive.open("features.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape = read(member)[0]
            named = "names.npy" in archive.namelist()
    except NPZ_ERRORS:
        return False  # whoever reads it as a table says what is wrong with it
    if len(shape) != 2:
        return len(shape) > 2
    return not named and not all(is_unnamed(column, shape[1]) for column in columns)


def load_features(path: Path, *, benign: str | None = None, seed: int = 0) -> FeatureSplits:
    """Read features of any shape with their labels, and split them by class: 60, 20 and 20 %.

    Args:
        path: An NPZ file; nothing in it is unpickled.
        benign: The class that is no attack; it becomes class 0. By default whole numbers are class indices as they
            are, and of two names the usual one is benign (normal, ham, …); all else is in the order of names.
        seed: Seed of the split.

    Raises:
        InputError: It cannot be read, an array is missing or of another kind, a value is not finite, there are too few
            records, or there is no class `benign`.
    """
    content = read_bytes(path)
    arrays = read_arrays(content, str(path), ("features", "labels"))
    if len(arrays) < 2:
        raise InputError(f"{path}: needs the arrays 'features' [N, *shape] and 'labels' [N]")
    given, labels = arrays["features"], arrays["labels"]
    if given.ndim < 2 or given.dtype.kind not in "biuf" or labels.shape != given.shape[:1]:
        raise InputError(
            f"{path}: 'features' is {given.dtype} {list(given.shape)} and 'labels' {list(labels.shape)};"
            " give numbers [N, *shape] and one label a record"
        )
    if len(given) < FEWEST_RECORDS:
        raise InputError(f"{path}: {len(given)} records; at least {FEWEST_RECORDS} are needed")
    features = np.ascontiguousarray(given, dtype=np.float32)
    if not np.isfinite(features).all():
        raise InputError(f"{path}: record {int(np.argwhere(~np.isfinite(features))[0][0])} holds what is not finite")
    targets, classes = _classes(labels, benign, path)
    rows = stratified_split(targets, _SHARES, seed)
    training, validation, test = (LabelledFeatures(features[part], targets[part]) for part in rows)
    for part, kind in ((training, "training"), (validation, "validation"), (test, "test")):
        if len(np.unique(part.targets)) < len(classes):
            raise InputError(f"{path}: a class has no record left for the {kind} split; give more of it")
    name = path.name.partition(".")[0]
    return FeatureSplits(training, validation, test, classes=classes, digest=sha256(content), seed=seed, name=name)


def _classes(labels: NDArray[np.generic], benign: str | None, path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class indices int64 [N], and the names of the classes."""
    if labels.dtype.kind not in "biuU":
        raise InputError(f"{path}: 'labels' is {labels.dtype}; give names or whole numbers")
    found = np.unique(labels)
    names = [str(name) for name in found]
    order = list(range(len(names)))
    if benign is None and labels.dtype.kind == "U" and len(names) == 2:
        usual = [name for name in names if name.lower() in BENIGN_NAMES]
        benign = usual[0] if len(usual) == 1 else None
    if benign is not None:
        if benign not in names:
            raise InputError(f"{path}: no record is of class {benign!r}; there are {', '.join(names[:20])}")
        order.insert(0, order.pop(names.index(benign)))
    elif labels.dtype.kind != "U" and names != [str(index) for index in range(len(names))]:
        raise InputError(f"{path}: classes are {', '.join(names[:20])}; number them from 0 without a gap, or name them")
    if len(names) < 2:
        raise InputError(f"{path}: all records are of class {names[0]!r}; at least two classes are needed")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[np.searchsorted(found, labels)], tuple(names[index] for index in order)
