"""From the feature space back to raw numbers, exactly: which float32 does this column encode?

Scaling rounds, so several raw numbers may have one encoding, and most float32 numbers are the encoding of none. Of
several, the **plainest** is taken: for whole columns a whole number, for others the one with the fewest decimals (up to
six), as files have them; then the one nearest to the exact inverse. It depends on the feature alone, so whoever decodes
a feature gets the same raw number, and its encoding is that feature, bit for bit (but for the sign of a zero).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hauberk.schema import FeatureSpace, NumericFeature

_DECIMALS = 7
_LARGEST = np.float32(np.finfo(np.float32).max)
_LAST_ORDER = int(_LARGEST.view(np.int32))


class Decoder:
    """Encodes and decodes the numbers of a feature space.

    Args:
        space: The feature space.
        whole: Bool [F], the numbers that are whole.

    Attributes:
        whole: The same.
        rising: Bool [F], the numbers that are encoded as something larger when they become larger.
    """

    def __init__(self, space: FeatureSpace, whole: NDArray[np.bool_]) -> None:
        scalings = space.preprocessing.scalings
        self._logarithm = np.array([s.logarithm for s in scalings], dtype=np.bool_)
        self._offset = np.array([s.offset for s in scalings], dtype=np.float32)
        self._scale = np.array([s.scale for s in scalings], dtype=np.float32)
        self._real = np.array([isinstance(f, NumericFeature) for f in space.schema.numbers], dtype=np.bool_)
        self.whole = whole
        self.rising = self._scale > 0

    def encode(self, numbers: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """The features of some raw numbers [M] of columns [M], with the arithmetic of `FeatureSpace.transform`."""
        logarithm = self._logarithm[columns]
        with np.errstate(over="ignore"):
            if logarithm.any():
                logged = np.sign(numbers) * np.log1p(np.abs(numbers))
                numbers = np.where(logarithm, logged, numbers)
            encoded: NDArray[np.float32] = (numbers - self._offset[columns]) / self._scale[columns]
        return encoded

    def invert(self, features: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """The real numbers [M] that features [M] stand for, up to float64 rounding; NaN and infinities stay."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = features.astype(np.float64) * self._scale[columns] + self._offset[columns]
            logarithm = self._logarithm[columns]
            if logarithm.any():
                scaled = np.where(logarithm, np.sign(scaled) * np.expm1(np.abs(scaled)), scaled)
        return scaled

    def resolution(self, numbers: NDArray[np.float64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Raw numbers [M] that differ by more have different encodings; at least 4 units in the last place."""
        logarithm = self._logarithm[columns]
        inner = np.where(logarithm, np.log1p(np.abs(numbers)), np.abs(numbers)) + np.abs(self._offset[columns])
        slope = np.where(logarithm, 1 + np.abs(numbers), 1.0)
        found: NDArray[np.float64] = 2.0**-21 * (inner * slope + np.abs(numbers)) + 1e-40
        return found

    def nearest(self, features: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Raw numbers [M] near those that features [M] stand for, whole ones whole; NaN and infinities stay."""
        real = self.invert(features, columns)
        found: NDArray[np.float64] = np.where(self.whole[columns], np.rint(real), real)
        return found

    def decode(
        self, features: NDArray[np.float32], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The raw numbers of features.

        Args:
            features: Float32 [M]; anything, NaN included.
            columns: Int64 [M], the column of each.

        Returns:
            Float32 [M], and bool [M]: whether the feature is the encoding of that number. Where it is the encoding of
            none, the number is one whose encoding is near; it may be infinite or NaN.
        """
        return self._decode(features, columns, self.whole[columns])

    def decode_any(
        self, features: NDArray[np.float32], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Like `decode`, but a real column that may be moved to whole numbers only may hold another one already."""
        found, exact = self.decode(features, columns)
        rest = np.flatnonzero(~exact & self.whole[columns] & self._real[columns])
        if rest.size:
            nothing = np.zeros(len(rest), dtype=np.bool_)
            found[rest], exact[rest] = self._decode(features[rest], columns[rest], nothing)
        return found, exact

    def _decode(
        self, features: NDArray[np.float32], columns: NDArray[np.int64], whole: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        real = self.invert(features, columns)
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.where(whole, np.rint(real), real).astype(np.float32) + np.float32(0)
            exact = self._encodes(found, columns, features)
            # A feature that stands for 3.4 is the encoding of no whole number; only large ones lie close together.
            hopeless = whole & ~(np.abs(real - found) <= self.resolution(real, columns))
            rest = np.flatnonzero(~exact & ~hopeless & np.isfinite(real))
            found[rest], exact[rest] = self._smallest(features[rest], columns[rest], found[rest], whole[rest])
            open_ = np.flatnonzero(exact & ~whole)
            for decimals in range(_DECIMALS):
                plain = np.round(real[open_], decimals).astype(np.float32) + np.float32(0)
                fits = self._encodes(plain, columns[open_], features[open_])
                found[open_[fits]] = plain[fits]
                open_ = open_[~fits]
        return found, exact

    def _encodes(
        self, numbers: NDArray[np.float32], columns: NDArray[np.int64], features: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        fits: NDArray[np.bool_] = (self.encode(numbers, columns) == features) & np.isfinite(numbers)
        return fits

    def _smallest(
        self,
        features: NDArray[np.float32],
        columns: NDArray[np.int64],
        near: NDArray[np.float32],
        whole: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The first float32 [M], whole where it must be, whose encoding reaches the feature, and whether it is it.

        Encoding is monotone, so bisection over the float32 numbers in order finds it; the bracket grows from `near`.
        """
        rising = self.rising[columns]

        def reached(order: NDArray[np.int64], some: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
            encoded = self.encode(_from_order(order), columns[some])
            return np.where(rising[some], encoded >= features[some], encoded <= features[some])

        start = _to_order(np.clip(np.nan_to_num(near), -_LARGEST, _LARGEST))
        low, high, step = start - 4, start + 4, np.int64(4)
        growing = np.arange(len(start))
        while growing.size:
            step *= 16
            down, up = reached(low[growing], growing), ~reached(high[growing], growing)
            low[growing] = np.where(down, np.maximum(low[growing] - step, -_LAST_ORDER - 1), low[growing])
            high[growing] = np.where(up, np.minimum(high[growing] + step, _LAST_ORDER), high[growing])
            growing = growing[(down & (low[growing] >= -_LAST_ORDER)) | (up & (high[growing] < _LAST_ORDER))]
        while (active := np.flatnonzero(high - low > 1)).size:
            middle = (low[active] + high[active]) // 2
            yes = reached(middle, active)
            low[active], high[active] = np.where(yes, low[active], middle), np.where(yes, middle, high[active])
        found = _from_order(high)
        found = np.where(whole, np.ceil(found), found) + np.float32(0)
        return found, self._encodes(found, columns, features)


def _to_order(numbers: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place of each float32 in their order; 0 for zero."""
    bits = np.abs(numbers).view(np.int32).astype(np.int64)
    return np.where(numbers < 0, -bits, bits)


def _from_order(order: NDArray[np.int64]) -> NDArray[np.float32]:
    bits = np.minimum(np.abs(order), _LAST_ORDER).astype(np.int32)
    return np.copysign(bits.view(np.float32), order.astype(np.float32))
