"""What source and result are asked: real records where the user has some, and the edges of what may come.

A table becomes features as everywhere in Hauberk: numbers in their order, scaled as the model's card (or
`preprocessing`) says, then a one-hot group for each category. An `.npz` file holds the inputs themselves, by name, or
`features` for a model with one input.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hauberk.data import load_splits
from hauberk.errors import InputError
from hauberk.files import read_bounded
from hauberk.graph import feeds
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Feeds, Trial
from hauberk.models import ModelCard
from hauberk.schema import FeatureSpace, Preprocessing, Scaling
from hauberk.schema.file import read_schema
from hauberk.tensors import Signature
from hauberk.train import PreprocessingKind, fit_preprocessing, labelled

_LARGEST_ARRAYS = 1 << 32
_RECORDS = 4096
_NPZ_ERRORS = (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class RealInputs:
    """Where real inputs come from.

    Attributes:
        data: A data set by name, a table, or an `.npz` file of inputs; `None` where there is none.
        schema: A record schema (`schema.json`): the range of every column.
        label: Label column of a table.
        benign: The class that is no attack.
        drop: Columns to leave out.
        preprocessing: What the numbers of a table go through where no model card says so.
        seed: Of the split.
    """

    data: str | Path | None = None
    schema: Path | None = None
    label: str | None = None
    benign: str | None = None
    drop: tuple[str, ...] = ()
    preprocessing: PreprocessingKind = "none"
    seed: int = 0


def samples(asked: RealInputs, signature: Signature, card: ModelCard | None) -> Samples:
    """Real inputs of a model, and the range of each.

    Args:
        asked: Where they come from.
        signature: What the model takes.
        card: The model's card, where it has one.

    Raises:
        InputError: The data cannot be read, or the model takes something else.
    """
    if asked.data is None:
        return _from_schema(asked, signature, card)
    path = Path(asked.data)
    if path.suffix == ".npz" and path.is_file():
        arrays = _arrays(path)
        names = {spec.name for spec in signature.inputs}
        if arrays.keys() >= names:
            return _of({name: arrays[name] for name in names}, signature, str(path))
        if "names" not in arrays and len(names) == 1 and "features" in arrays:
            return _of({names.pop(): arrays["features"]}, signature, str(path))
    return _from_table(asked, signature, card)


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(io.BytesIO(read_bounded(path, _LARGEST_ARRAYS)), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _NPZ_ERRORS as error:
        raise InputError(f"{path}: not an .npz file of plain arrays, as numpy.savez writes it") from error


def _of(arrays: Mapping[str, NDArray[np.generic]], signature: Signature, where: str) -> Samples:
    wanted = {spec.name: spec.dtype for spec in signature.inputs}
    cast = {
        name: array.astype(np.float32) if (wanted[name], array.dtype.kind) == ("float32", "f") else array
        for name, array in arrays.items()
    }
    try:
        return Samples.of(cast, signature)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _one_row(signature: Signature, what: str) -> tuple[str, int]:
    """Name and width of a model's one input float32 [batch, D]."""
    specs = signature.inputs
    if len(specs) == 1 and specs[0].dtype == "float32" and len(specs[0].shape) == 2:
        width = specs[0].shape[1]
        if isinstance(width, int):
            return specs[0].name, width
    raise InputError(
        f"{what}: a table gives rows of numbers, and the model takes"
        f" {', '.join(f'{spec.name} {spec.dtype} {list(spec.shape)}' for spec in specs) or 'nothing'};"
        " give --data as an .npz file with one array an input"
    )


def _from_table(asked: RealInputs, signature: Signature, card: ModelCard | None) -> Samples:
    name, width = _one_row(signature, str(asked.data))
    schema = card.schema if card else read_schema(asked.schema) if asked.schema else None
    splits = load_splits(
        asked.data or "",
        label=asked.label,
        benign=asked.benign,
        drop=asked.drop,
        schema=schema,
        seed=asked.seed,
    )
    training = splits.training
    fitted = (
        card.preprocessing if card else fit_preprocessing(training.schema, training.coded.numeric, asked.preprocessing)
    )
    space = FeatureSpace(training.schema, fitted)
    if space.width != width:
        raise InputError(f"{asked.data}: the data has {space.width} features, the model takes {width}")
    rows = np.linspace(0, len(training) - 1, min(len(training), _RECORDS)).round().astype(np.int64)
    features = labelled(space, training).features[rows]
    low, high = (bound.astype(np.float64) for bound in space.bounds)
    return replace(Samples.of({name: features}, signature), low={name: low}, high={name: high})


def _from_schema(asked: RealInputs, signature: Signature, card: ModelCard | None) -> Samples:
    """Ranges without records."""
    if card is not None:
        space = card.space
    elif asked.schema is not None:
        schema = read_schema(asked.schema)
        if asked.preprocessing != "none":
            raise InputError(f"{asked.schema}: a schema alone fits no preprocessing; give --data, too")
        plain = tuple(Scaling(logarithm=False, offset=0.0, scale=1.0) for _ in schema.numbers)
        space = FeatureSpace(schema, Preprocessing(plain))
    else:
        return Samples()
    name, width = _one_row(signature, str(asked.schema or "the model card"))
    if space.width != width:
        raise InputError(f"the schema makes {space.width} features, the model takes {width}")
    low, high = (bound.astype(np.float64) for bound in space.bounds)
    return Samples(low={name: low}, high={name: high})


def trials(
    signature: Signature, given: Samples, fits: Callable[[Feeds], bool], *, extremes: bool, seed: int
) -> list[Trial]:
    """Everything that any model is asked.

    Args:
        signature: What it takes.
        given: Real inputs and ranges.
        fits: Whether the source takes some inputs; looks for sizes of free dimensions.
        extremes: Whether special values of float32 are tried, too.
        seed: Of everything drawn.
    """
    tried = feeds.trials(signature, fits, given, extremes=extremes, seed=seed)
    some = next((trial.feeds for trial in tried if trial.family.startswith("random")), None)
    if some is not None:
        tried.append(Trial("zeros", 0, {name: np.zeros_like(array) for name, array in some.items()}))
    return tried
