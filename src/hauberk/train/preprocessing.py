"""Preprocessing fitted to the training records, and data sets that have gone through it."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hauberk.data.dataset import Dataset
from hauberk.data.images import ImageDataset
from hauberk.data.windows import newest_records, windows_of
from hauberk.errors import InputError
from hauberk.recipe import LabelledFeatures
from hauberk.schema import BooleanFeature, FeatureSpace, ImageSpace, NumberFeature, Preprocessing, RecordSchema, Scaling

PreprocessingKind = Literal["log-minmax", "minmax", "standard", "none"]

_SMALLEST_SCALE = 1e-30  # below, a column is constant for all that float32 can tell


def fit_preprocessing(
    schema: RecordSchema, numeric: NDArray[np.float32], kind: PreprocessingKind = "log-minmax"
) -> Preprocessing:
    """Fit one scaling a number to the training records. Constant columns are shifted but not stretched.

    Args:
        schema: The schema of the records.
        numeric: Float32 [N, F] with N >= 1, the numbers of the training records in schema order.
        kind: "minmax" maps the range seen to [0, 1]; "log-minmax" does so after `log(1 + x)` for numbers whose schema
            says that they are never negative, which tames counts and sizes; "standard" maps to mean 0 and standard
            deviation 1; "none" leaves numbers as they are. Truth values are never logged.

    Raises:
        InputError: The kind is unknown, there are no records, or a column's range is too wide for float32.
    """
    if kind not in get_args(PreprocessingKind):
        raise InputError(f"unknown preprocessing {kind!r}; use one of {', '.join(get_args(PreprocessingKind))}")
    if not len(numeric):
        raise InputError("preprocessing cannot be fitted to no records")
    columns = numeric.astype(np.float64).T
    return Preprocessing(
        tuple(_fit(feature, column, kind) for feature, column in zip(schema.numbers, columns, strict=True))
    )


def labelled(space: FeatureSpace, dataset: Dataset, *, window: int | None = None, stride: int = 1) -> LabelledFeatures:
    """A data set in feature space, with its targets.

    Args:
        space: Of records [D].
        dataset: The records.
        window: T, to take windows [T, D] of consecutive records, labelled by their newest one (`hauberk.data.windows`).
        stride: Take every how-manieth window.

    Raises:
        InputError: No T consecutive records are there.
    """
    features = space.transform(dataset.coded.numeric, dataset.coded.codes)
    if window is None:
        return LabelledFeatures(features, dataset.targets)
    newest = newest_records(dataset, window, stride)
    return LabelledFeatures(windows_of(features, newest, window), dataset.targets[newest])


def labelled_images(space: ImageSpace, dataset: ImageDataset) -> LabelledFeatures:
    """Images in feature space [C, S, S], with their classes."""
    return LabelledFeatures(space.transform(dataset.images), dataset.labels)


def _fit(feature: NumberFeature, column: NDArray[np.float64], kind: PreprocessingKind) -> Scaling:
    if kind == "none":
        return Scaling(logarithm=False, offset=0.0, scale=1.0)
    logarithm = kind == "log-minmax" and not isinstance(feature, BooleanFeature) and feature.low >= 0
    if logarithm:
        column = np.sign(column) * np.log1p(np.abs(column))
    if kind == "standard":
        offset, scale = float(column.mean()), float(column.std())
    else:
        offset, scale = float(column.min()), float(column.max() - column.min())
    if scale > float(np.finfo(np.float32).max):
        raise InputError(f"column {feature.name!r} spans {scale:g}, more than float32 holds; try log-minmax")
    return Scaling(logarithm=logarithm, offset=offset, scale=scale if scale > _SMALLEST_SCALE else 1.0)
