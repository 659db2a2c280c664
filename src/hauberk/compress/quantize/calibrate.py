"""Ranges of activations from calibration records: min-max, percentile, entropy, mean squared error.

Records go through ONNX Runtime in chunks. The first pass finds the lowest and the highest value of every tensor, which
is all that min-max needs; the others take a second pass that counts values in `BINS` equal bins between these ends, so
memory does not grow with the number of records. A calibrator then cuts the ends off where rare values would cost the
frequent ones their resolution.

- percentile: the ends leave `1 - percentile / 100` of all values outside, on either side.
- entropy: the threshold on |x| that loses least information, by the divergence of Kullback and Leibler between the
  values and their quantized form (Migacz 2017, "8-bit inference with TensorRT"). With few values, bins are merged.
- mse: the ends that give the least mean squared error of rounding and clipping together (Banner et al. 2019, "Post
  training 4-bit quantization of convolutional networks for rapid-deployment", arXiv:1810.05723, searched instead of
  derived).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hauberk.errors import InputError
from hauberk.graph.model import run, session

Calibrator = Literal["min-max", "percentile", "entropy", "mse"]

BINS = 2048
_LARGEST_CHUNK = 8192
_CHUNK_BYTES = 1 << 27  # of watched activations in one run
_THRESHOLDS = 240  # candidates of the entropy calibrator
_VALUES_A_BIN = 100  # on average, for the entropy calibrator to tell bins apart
_FLOOR = 1e-4  # least probability of a bin in Q; without one a single clipped value would rule a threshold out
_SHRINKS = np.linspace(0.02, 1.0, 99)


@dataclass(frozen=True)
class Histogram:
    """How often values of a tensor fall into equal bins.

    Attributes:
        low, high: The lowest and the highest value.
        counts: Int64 [BINS], of the bins between them; all zero where only the ends are known.
    """

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin, float64 [BINS]."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        middles: NDArray[np.float64] = (edges[:-1] + edges[1:]) / 2
        return middles


def observe_ranges(
    model: onnx.ModelProto,
    names: Collection[str],
    records: NDArray[np.float32],
    *,
    calibrator: Calibrator = "min-max",
    percentile: float = 99.99,
) -> dict[str, tuple[float, float]]:
    """The range of tensors over records, as ONNX Runtime computes them.

    Args:
        model: The core.
        names: Tensors to watch; the graph's input may be among them.
        records: Float32 [N, *shape], N at least 1.
        calibrator: How ends are chosen.
        percentile: For the calibrator of that name, above 50 and at most 100.

    Returns:
        By name; NaN or infinite ends where a tensor overflows.
    """
    watch = _Watch(model, names)
    ends: dict[str, tuple[float, float]] = {}
    for name, values in watch.values(records):
        before = ends.get(name, (np.inf, -np.inf))
        ends[name] = float(np.minimum(before[0], values.min())), float(np.maximum(before[1], values.max()))
    if calibrator == "min-max" or not np.isfinite(list(ends.values())).all():
        return ends
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in ends}
    for name, values in watch.values(records):
        low, high = ends[name]
        if high > low:
            counts[name] += np.histogram(values, bins=BINS, range=(low, high))[0]
    return {
        name: choose(Histogram(low, high, counts[name]), calibrator, percentile) for name, (low, high) in ends.items()
    }


def observe_means(
    model: onnx.ModelProto, names: Collection[str], records: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """The mean of tensors over records, place by place: float32 with the shape of one record's tensor, by name."""
    sums: dict[str, NDArray[np.float64]] = {}
    for name, values in _Watch(model, names).values(records):
        total = values.sum(axis=0, dtype=np.float64)
        sums[name] = sums[name] + total if name in sums else total
    return {name: (total / len(records)).astype(np.float32) for name, total in sums.items()}


def observe_magnitudes(
    model: onnx.ModelProto, names: Collection[str], records: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude of tensors over records along their last axis: float32 [width], by name."""
    largest: dict[str, NDArray[np.float32]] = {}
    for name, values in _Watch(model, names).values(records):
        found = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
        largest[name] = np.maximum(largest[name], found) if name in largest else found
    return largest


class _Watch:
    """A graph whose inner tensors can be read."""

    def __init__(self, model: onnx.ModelProto, names: Collection[str]) -> None:
        self._source = model.graph.input[0].name
        self._names = sorted(set(names) | {self._source})
        self._wanted = set(names)
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        del watched.graph.output[:]
        watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in self._names)
        self._session = session(watched.SerializeToString())

    def values(self, records: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Every watched tensor of every chunk of records."""
        start, chunk = 0, 1
        while start < len(records):
            arrays = run(self._session, {self._source: records[start : start + chunk]})
            for name, values in zip(self._names, arrays, strict=True):
                if name in self._wanted and values.size:
                    yield name, values.astype(np.float32, copy=False)
            start += chunk
            record_bytes = max(1, sum(values.nbytes for values in arrays) // min(chunk, len(records)))
            chunk = int(np.clip(_CHUNK_BYTES // record_bytes, 1, _LARGEST_CHUNK))


def choose(histogram: Histogram, calibrator: Calibrator, percentile: float = 99.99) -> tuple[float, float]:
    """The range that a calibrator chooses for a histogram; its ends lie between the lowest and the highest value.

    Raises:
        InputError: A percentile that is not above 50 and at most 100.
    """
    if calibrator == "min-max" or not histogram.counts.any():
        return histogram.low, histogram.high
    if calibrator == "percentile":
        return _percentile(histogram, percentile)
    if calibrator == "entropy":
        return _entropy(histogram)
    return _mean_squared_error(histogram)


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    if not 50 < percentile <= 100:
        raise InputError(f"percentile: {percentile:g} is not above 50 and at most 100")
    below = np.concatenate([[0.0], np.cumsum(histogram.counts) / histogram.counts.sum()])
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    share = percentile / 100
    low = edges[np.searchsorted(below, 1 - share, side="right") - 1]
    high = edges[np.searchsorted(below, share, side="left")]
    return float(low), float(high)


def _entropy(histogram: Histogram) -> tuple[float, float]:
    """The threshold t on |x| that minimises KL(P, Q): P is |x| clipped at t, Q the same on the levels that are left."""
    one_sided = histogram.low >= 0 or histogram.high <= 0
    levels = 256 if one_sided else 128
    largest = max(abs(histogram.low), abs(histogram.high))
    # The chance in a bin of few values looks like information that coarser codes would lose.
    filled = histogram.counts.sum() / _VALUES_A_BIN
    bins = next((size for size in (BINS, BINS // 2, BINS // 4, BINS // 8) if size <= filled), levels)
    counts, edges = np.histogram(np.abs(histogram.centres), bins, (0.0, largest), weights=histogram.counts)
    counts[0] = 0  # zero is coded exactly whatever the range: counting it would hide all else behind a Relu
    widths = np.unique(np.linspace(min(levels, bins), bins, _THRESHOLDS).astype(int))
    divergences = [_divergence(counts, int(width), levels) for width in widths]
    threshold = float(edges[widths[int(np.argmin(divergences))]])
    return max(histogram.low, -threshold), min(histogram.high, threshold)


def _divergence(counts: NDArray[np.float64], width: int, levels: int) -> float:
    """KL(P, Q) in nats; infinite where clipping leaves nothing."""
    kept = counts[:width]
    if not kept.any():
        return float("inf")
    reference = kept.copy()
    reference[-1] += counts[width:].sum()
    level = np.arange(width) * levels // width
    filled = kept > 0
    sums = np.bincount(level, weights=kept, minlength=levels)
    sizes = np.bincount(level, weights=filled, minlength=levels)
    coded = np.where(filled, sums[level] / np.maximum(sizes[level], 1), 0.0)
    p, q = reference / reference.sum(), coded / coded.sum()
    q = np.maximum(q, _FLOOR)  # a bin that only clipped values fill has no probability in Q
    q /= q.sum()
    inside = p > 0
    return float(np.sum(p[inside] * np.log(p[inside] / q[inside])))


def _mean_squared_error(histogram: Histogram) -> tuple[float, float]:
    """The range with the least error: both ends shrunk together first, then each by itself."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    centres, counts = histogram.centres, histogram.counts

    def best(lows: NDArray[np.float64], highs: NDArray[np.float64]) -> tuple[float, float]:
        errors = [_squared_error(centres, counts, *ends) for ends in zip(lows, highs, strict=True)]
        chosen = int(np.argmin(errors))
        return float(lows[chosen]), float(highs[chosen])

    ones = np.ones_like(_SHRINKS)
    low, high = best(low * _SHRINKS, high * _SHRINKS)
    low, high = best(low * _SHRINKS, high * ones)
    return best(low * ones, high * _SHRINKS)


def _squared_error(centres: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float) -> float:
    """Sum over bins of what coding their middle in 256 levels between the ends costs."""
    scale = (high - low) / 255
    if scale <= 0:
        return float("inf")
    zero_point = np.rint(-low / scale)
    coded = (np.clip(np.rint(centres / scale) + zero_point, 0, 255) - zero_point) * scale
    return float(np.sum(counts * np.square(coded - centres)))
