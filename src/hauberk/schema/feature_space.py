"""The feature space: what the core of a detector sees after preprocessing.

The layout is [scaled numbers …, one-hot group of the 1st categorical (unknown first) …, of the 2nd …]: D columns. The
graph of `graph/preprocess.py` computes it in production; `FeatureSpace.transform` is the numpy reference for training
and for checking that graph.
"""

from __future__ import annotations

import math
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import SchemaError
from hauberk.schema.record import RecordSchema


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one number enters the feature space: `(f(x) - offset) / scale`.

    `f(x)` is `sign(x) * log(1 + |x|)` where `logarithm` is set, else `x`. Values are not clamped: clamping inside the
    model would hide gradients from an honest attack and is no defence against a dishonest one.
    """

    logarithm: bool
    offset: float
    scale: float


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `Scaling` a column of the `numeric` tensor, in schema order. Categoricals are always one-hot."""

    scalings: tuple[Scaling, ...]


class FeatureSpace:
    """A schema and its preprocessing, seen as D numeric columns.

    Args:
        schema: The record schema.
        preprocessing: As many scalings as the schema has numbers.

    Raises:
        SchemaError: Their number differs, an offset or a scale is not finite, or a scale is 0.
    """

    def __init__(self, schema: RecordSchema, preprocessing: Preprocessing) -> None:
        self.schema = schema
        self.preprocessing = preprocessing
        if len(preprocessing.scalings) != len(schema.numbers):
            raise SchemaError(
                f"preprocessing: {len(preprocessing.scalings)} scalings for {len(schema.numbers)} numbers; "
                "give one for each"
            )
        for feature, scaling in zip(schema.numbers, preprocessing.scalings, strict=True):
            if not (math.isfinite(scaling.offset) and math.isfinite(scaling.scale) and scaling.scale):
                raise SchemaError(
                    f"preprocessing: column {feature.name!r}: offset {scaling.offset} and scale {scaling.scale} "
                    "must be finite, and the scale not 0"
                )

    @cached_property
    def groups(self) -> tuple[range, ...]:
        """The columns of each categorical's one-hot group, the unknown slot first."""
        start = len(self.schema.numbers)
        groups = []
        for feature in self.schema.categoricals:
            stop = start + len(feature.categories) + 1
            groups.append(range(start, stop))
            start = stop
        return tuple(groups)

    @property
    def width(self) -> int:
        """D, the number of columns of the feature space."""
        return self.groups[-1].stop if self.groups else len(self.schema.numbers)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """A name for each of the D columns: a number's own, and `service=http` for a category's."""
        names = [feature.name for feature in self.schema.numbers]
        for feature in self.schema.categoricals:
            names += [f"{feature.name}={category}" for category in ("(unknown)", *feature.categories)]
        return tuple(names)

    @cached_property
    def mutable(self) -> NDArray[np.bool_]:
        """Bool [D]: the columns that a gradient attack may move; one-hot columns and immutable numbers are False."""
        mask = np.zeros(self.width, dtype=np.bool_)
        mask[: len(self.schema.numbers)] = [feature.mutable for feature in self.schema.numbers]
        return mask

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Float32 [D] twice: lowest and highest value of each column over the ranges seen in training."""
        numbers = self.schema.numbers
        raw = np.array([[getattr(f, "low", 0.0), getattr(f, "high", 1.0)] for f in numbers], dtype=np.float32)
        ends = self._scale(raw.reshape(len(numbers), 2).T)
        low = np.zeros(self.width, dtype=np.float32)
        high = np.ones(self.width, dtype=np.float32)
        low[: len(numbers)], high[: len(numbers)] = ends.min(axis=0), ends.max(axis=0)
        return low, high

    def transform(self, numeric: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Map coded records to the feature space.

        Args:
            numeric: Float32 [N, F].
            codes: Int64 [N, C], each in 0..len(categories).

        Returns:
            Float32 [N, D].
        """
        features = np.zeros((numeric.shape[0], self.width), dtype=np.float32)
        features[:, : numeric.shape[1]] = self._scale(numeric)
        rows = np.arange(numeric.shape[0])
        for column, group in enumerate(self.groups):
            features[rows, group.start + codes[:, column]] = 1.0
        return features

    def _scale(self, numeric: NDArray[np.float32]) -> NDArray[np.float32]:
        scalings = self.preprocessing.scalings
        logarithm = np.array([s.logarithm for s in scalings], dtype=np.bool_)
        offset = np.array([s.offset for s in scalings], dtype=np.float32)
        scale = np.array([s.scale for s in scalings], dtype=np.float32)
        logged = np.sign(numeric) * np.log1p(np.abs(numeric))
        scaled: NDArray[np.float32] = (np.where(logarithm, logged, numeric) - offset) / scale
        return scaled
