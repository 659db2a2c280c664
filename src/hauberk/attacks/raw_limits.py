"""Limits of raw numbers in feature space, and limits of features in raw numbers; both to the last one inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.decoding import Decoder
from hauberk.attacks.repair import Limits

_ATTEMPTS = 6

Features = NDArray[np.float32]
Numbers = NDArray[np.float64]
Columns = NDArray[np.int64]


def raw_limits(
    decoder: Decoder, lowest: Features, highest: Features, own: Features, source: Numbers, columns: Columns
) -> Limits:
    """The raw numbers whose encodings are the last ones within limits of the feature space.

    Args:
        decoder: Of the feature space.
        lowest: Float32 [N, M], what the features may fall to.
        highest: Float32 [N, M], what they may rise to.
        own: Float32 [N, M], the records' own features, within the limits.
        source: Float64 [N, M], the raw numbers of those.
        columns: Int64 [M], which numbers these are.

    Returns:
        Float64 [N, M] twice: legal values, or the record's own. Whole ones are exactly the last that are inside; others
        may lie a few units in the last place before it.
    """
    flat = np.tile(columns, len(own))
    ends = [
        _end(decoder, limit.ravel(), own.ravel(), source.ravel(), flat, upper=upper).reshape(own.shape)
        for limit, upper in ((lowest, False), (highest, True))
    ]
    return Limits(np.minimum(*ends), np.maximum(*ends))


def _end(decoder: Decoder, edge: Features, own: Features, source: Numbers, columns: Columns, *, upper: bool) -> Numbers:
    whole = decoder.whole[columns]
    outwards = np.where(decoder.rising[columns], 1.0, -1.0) * (1.0 if upper else -1.0)
    real = decoder.invert(edge, columns)

    def beyond(numbers: Numbers) -> NDArray[np.bool_]:
        with np.errstate(over="ignore", invalid="ignore"):
            encoded = decoder.encode(numbers.astype(np.float32), columns)
        inside: NDArray[np.bool_] = (encoded <= edge) if upper else (encoded >= edge)
        return ~(inside & np.isfinite(encoded))

    # Rounding may have put the inverse on either side of a whole number that the edge stands for: begin outside.
    found = np.where(whole, np.where(outwards > 0, np.floor(real), np.ceil(real)) + outwards, real)
    inner = edge
    for _ in range(_ATTEMPTS):
        wrong = beyond(found)
        if not wrong.any():
            break
        inner = np.nextafter(inner, own)
        found = np.where(wrong, np.where(whole, found - outwards, decoder.invert(inner, columns)), found)
    # What is still outside, and what is on the other side of the record's own value, is that value.
    wrong = beyond(found) | ~((found - source) * outwards >= 0) | (edge == own)
    return np.where(wrong, source, found)


def feature_bounds(decoder: Decoder, low: Numbers, high: Numbers) -> tuple[Features, Features]:
    """The first and the last feature [F] of each number that decodes to one within its raw bounds [F].

    The bounds count as what float32 makes of them, as records do. A feature stands for several raw numbers, and decodes
    to the plainest: at the bound itself that may be one outside, and then the next feature is the first.
    """
    columns = np.arange(len(low))
    ends = []
    for bound, inwards in ((low, np.float32(np.inf)), (high, np.float32(-np.inf))):
        number = bound.astype(np.float32)
        number = np.where(decoder.whole, np.ceil(number) if inwards > 0 else np.floor(number), number)
        feature = decoder.encode(number, columns)
        towards = np.where(decoder.rising, inwards, -inwards)
        for _ in range(_ATTEMPTS):
            decoded, exact = decoder.decode(feature, columns)
            outside = exact & ((decoded < number) if inwards > 0 else (decoded > number))
            if not outside.any():
                break
            feature = np.where(outside, np.nextafter(feature, towards), feature)
        ends.append(feature)
    return np.minimum(*ends), np.maximum(*ends)
