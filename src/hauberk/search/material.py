"""What one recipe is tried with: a model's core, and records of the shape that it reads.

The model says what a record is. Columns [D] and windows [T, D] of consecutive records are made from a table, images
from files as the model's card says; any shape may come as features (`hauberk.data.features`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import OnnxArtifact
from hauberk.compress.distill import GraphTeacher
from hauberk.data import BLOCK_WINDOWS, Splits, load_digits, load_image_folder, load_splits
from hauberk.data.features import holds_features, load_features
from hauberk.errors import InputError
from hauberk.graph.model import record_shape
from hauberk.ingest import load_model
from hauberk.models import ImageCard, ModelCard
from hauberk.progress import SILENT, Progress
from hauberk.recipe import Context, LabelledFeatures, Task
from hauberk.schema import FeatureSpace
from hauberk.search.prepare import (
    ModelSource,
    calibration_records,
    clean_core,
    require_same_meaning,
    same_split,
    unseen_by,
)
from hauberk.train import fit_preprocessing, labelled, labelled_images

_MOST_WINDOWS = 20_000
"""Windows of a split: every how-manieth is taken where there are more, as each holds T records."""


@dataclass(frozen=True)
class DataSource:
    """Where records come from.

    Attributes:
        source: "spambase", "nsl-kdd", a table (`.csv`, `.tsv`, `.parquet`, `.npz`), an `.npz` of features, "digits", or
            a folder of images.
        label: Label column; by default by its name, else the last.
        benign: The class that is no attack; by default by its name.
        drop: Columns to leave out.
    """

    source: str | Path
    label: str | None = None
    benign: str | None = None
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """What a recipe starts from.

    Attributes:
        core: The optimised float32 core graph.
        context: Records to calibrate, train and validate with; the core, or another model, teaches.
        test: Records that nothing is fitted to here.
        unseen: Whether the model's card shows that the model was not trained on them either.
        space: How a record becomes features, where the model reads single records of a known schema.
        splits: These records as they were before, likewise.
    """

    core: OnnxArtifact
    context: Context
    test: LabelledFeatures
    unseen: bool = False
    space: FeatureSpace | None = None
    splits: Splits | None = None


@dataclass(frozen=True)
class _Records:
    """The three parts of the data in the model's feature space, with what is known of it."""

    training: LabelledFeatures
    validation: LabelledFeatures
    test: LabelledFeatures
    bounds: tuple[np.ndarray, np.ndarray]
    mutable: np.ndarray | None
    task: Task
    unseen: bool = False
    space: FeatureSpace | None = None
    splits: Splits | None = None


def gather(
    source: ModelSource,
    data: DataSource,
    *,
    seed: int,
    teacher: Path | None = None,
    progress: Progress = SILENT,
) -> Material:
    """Admit a model, read records for it, and make a clean graph of it.

    Args:
        source: The model.
        data: The records.
        seed: Of the split and of everything random.
        teacher: Another model that teaches in steps that learn from a teacher, with its card beside it or as ONNX; by
            default the model itself does.
        progress: Who follows.

    Raises:
        RefusedModelError: A model file holds more than a model.
        InputError: A file is not what it should be, or model, teacher and data do not fit each other.
        ContractError: The exported graph does not answer what the module answers.
    """
    with progress.task("admitting"):
        loaded = load_model(source.path, card=source.card_path, arch=source.arch)
    shape = record_shape(loaded.artifact.signature, str(source.path))
    outputs = loaded.artifact.signature.outputs[0].shape[-1]
    path = Path(data.source)
    if data.source == "digits" or path.is_dir():
        found = _from_images(data, loaded.card, outputs, seed)
    elif holds_features(path, () if source.card is None else [each.name for each in source.card.schema.features]):
        found = _from_features(path, source, data, shape, outputs, seed)
    else:
        found = _from_table(source, data, shape, seed)
    _require_shape(source, shape, found.training)
    context = Context(
        calibration=calibration_records(found.training, seed),
        bounds=found.bounds,
        training=found.training,
        validation=found.validation,
        benign=source.card.decision.benign if source.card else 0,
        threshold=source.card.decision.threshold if source.card else 0.0,
        task=found.task,
        mutable=found.mutable,
        seed=seed,
        progress=progress,
    )
    with progress.task("exporting"):
        core = clean_core(loaded.artifact, context)
        taught_by = core if teacher is None else _teacher(teacher, shape, context)
    taught = replace(context, teacher=GraphTeacher(taught_by))
    return Material(core, taught, found.test, found.unseen, found.space, found.splits)


def _from_table(source: ModelSource, data: DataSource, shape: tuple[int, ...], seed: int) -> _Records:
    """Columns, or windows of consecutive records."""
    if len(shape) > 2:
        raise InputError(
            f"{source.path}: reads {list(shape)} a record, which no table gives; give --data as an .npz file with the"
            " arrays 'features' [N, …] and 'labels' [N]"
        )
    window = shape[0] if len(shape) == 2 else None
    card = source.card
    splits = load_splits(
        data.source,
        label=data.label,
        benign=data.benign,
        drop=data.drop,
        schema=card.schema if card else None,
        seed=seed,
        block=1 if window is None else window * BLOCK_WINDOWS,
    )
    require_same_meaning(card, splits.training.label)
    schema, numeric = splits.training.schema, splits.training.coded.numeric
    fitted = card.preprocessing if card else fit_preprocessing(schema, numeric, source.preprocessing)
    space = FeatureSpace(schema, fitted)
    if space.width != shape[-1]:
        raise InputError(f"{source.path}: the model takes {shape[-1]} features, the data has {space.width}")
    training, validation, test = (
        labelled(space, part, window=window, stride=1 if window is None else -(-len(part) // _MOST_WINDOWS))
        for part in (splits.training, splits.validation, splits.test)
    )
    low, high, mutable = (np.broadcast_to(each, shape).copy() for each in (*space.bounds, space.mutable))
    single = (space, splits) if window is None else (None, None)
    return _Records(training, validation, test, (low, high), mutable, "detection", unseen_by(card, splits), *single)


def _from_images(data: DataSource, card: ModelCard | ImageCard | None, outputs: object, seed: int) -> _Records:
    """Images as the card's space reads them; a feature lies where its channel's darkest and brightest pixel do."""
    if not isinstance(card, ImageCard):
        raise InputError(
            f"{data.source}: images need a model card that says how pixels become features (--card); or give --data as"
            " an .npz file with the arrays 'features' and 'labels'"
        )
    space = card.image
    if data.source == "digits":
        splits = load_digits(seed)
    else:
        splits = load_image_folder(Path(data.source), channels=space.channels, shorter_side=space.resize, seed=seed)
    if splits.training.classes != card.classes or len(card.classes) != outputs:
        raise InputError(
            f"{data.source}: classes are {', '.join(splits.training.classes)}; the model tells"
            f" {', '.join(card.classes)} apart"
        )
    training, validation, test = (
        labelled_images(space, part) for part in (splits.training, splits.validation, splits.test)
    )
    shape = training.features.shape[1:]
    mean, deviation = (np.array(each)[:, None, None] for each in (space.mean, space.deviation))
    low, high = (np.broadcast_to((level - mean) / deviation, shape).astype(np.float32) for level in (0, 1))
    unseen = same_split(card.training, splits.digest, splits.seed)
    return _Records(training, validation, test, (low, high), None, "classification", unseen)


def _from_features(
    path: Path, source: ModelSource, data: DataSource, shape: tuple[int, ...], outputs: object, seed: int
) -> _Records:
    """Records that are features already; the range of each is the card's, or the one seen in training."""
    splits = load_features(path, benign=data.benign, seed=seed)
    features = splits.training.features
    two = len(splits.classes) == 2 and outputs in (1, 2)
    if not two and len(splits.classes) != outputs:
        raise InputError(f"{path}: {len(splits.classes)} classes; the model tells {outputs} apart")
    task: Task = "detection" if two else "classification"
    if source.card is None:
        bounds = (features.min(axis=0), features.max(axis=0))
        return _Records(splits.training, splits.validation, splits.test, bounds, None, task)
    _require_shape(source, shape, splits.training)
    space = FeatureSpace(source.card.schema, source.card.preprocessing)
    _require_features(path, space, features)
    low, high, mutable = (np.broadcast_to(each, shape).copy() for each in (*space.bounds, space.mutable))
    single = space if len(shape) == 1 else None
    return _Records(splits.training, splits.validation, splits.test, (low, high), mutable, task, space=single)


def _require_shape(source: ModelSource, shape: tuple[int, ...], records: LabelledFeatures) -> None:
    if records.features.shape[1:] != shape:
        took, has = ("×".join(map(str, sizes)) for sizes in (shape, records.features.shape[1:]))
        raise InputError(f"{source.path}: the model takes {took} features, the data has {has}")


def _require_features(path: Path, space: FeatureSpace, features: NDArray[np.float32]) -> None:
    """Refuse columns as they were before the preprocessing: the model would answer them, and wrongly."""
    low, high = space.bounds
    rows = features.reshape(-1, space.width)
    share = np.mean((rows < 2 * low - high) | (rows > 2 * high - low), axis=0)
    worst = int(share.argmax())
    if share[worst] > 0.5:
        raise InputError(
            f"{path}: feature {worst} lies far outside its range in training, {low[worst]:g} to {high[worst]:g}, in"
            f" {100 * share[worst]:.0f} % of the records; an .npz without 'names' holds features as the model takes"
            " them, after preprocessing: give 'names' with columns as they were recorded"
        )


def _teacher(path: Path, shape: tuple[int, ...], context: Context) -> OnnxArtifact:
    loaded = load_model(path)
    takes = record_shape(loaded.artifact.signature, str(path))
    if takes != shape:
        raise InputError(f"{path}: the teacher takes {list(takes)} a record, the model {list(shape)}")
    return clean_core(loaded.artifact, context)
