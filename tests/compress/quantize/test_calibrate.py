"""Calibrators against numpy on all values at once, and the bound on what they keep in memory."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from scipy import stats

from hauberk.compress.quantize import calibrate
from hauberk.compress.quantize.calibrate import BINS, Histogram, choose, observe_ranges
from hauberk.errors import InputError


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0])


@pytest.fixture
def values() -> np.ndarray:
    """Mostly within [-1, 1] with a few far outliers, as activations are."""
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(size=50_000) / 3, generator.uniform(-20, 30, size=20)])


def test_min_max_is_the_range_of_all_records(mlp, answers):
    """More records than are run at once."""
    core = mlp(20, 16, 8, 2)
    records = np.random.default_rng(6).normal(size=(20_000, 20)).astype(np.float32)
    records[-1, 0] = 50.0
    model = onnx.load_model_from_string(core.model)
    ranges = observe_ranges(model, {"features", "r0"}, records)
    assert ranges["features"] == (float(records.min()), 50.0)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    hidden = np.maximum(records @ constants["w0"].T + constants["b0"], 0)
    assert ranges["r0"] == pytest.approx((0.0, float(hidden.max())), rel=1e-5)


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentile_is_that_of_numpy(values, percentile):
    low, high = choose(histogram(values), "percentile", percentile)
    width = (values.max() - values.min()) / BINS
    assert low == pytest.approx(np.percentile(values, 100 - percentile), abs=1.001 * width)
    assert high == pytest.approx(np.percentile(values, percentile), abs=1.001 * width)


def test_percentile_100_is_min_max(values):
    assert choose(histogram(values), "percentile", 100.0) == pytest.approx((values.min(), values.max()))


@pytest.mark.parametrize("percentile", [50.0, 100.1, float("nan")])
def test_a_percentile_that_is_none_is_refused(values, percentile):
    with pytest.raises(InputError, match="above 50 and at most 100"):
        choose(histogram(values), "percentile", percentile)


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    return float(np.mean((scale * (np.clip(np.round(values / scale) + zero, 0, 255) - zero) - values) ** 2))


def test_mse_is_the_best_range_that_a_search_over_all_values_finds(values):
    chosen = squared_error(values, *choose(histogram(values), "mse"))
    lows, highs = np.linspace(values.min(), -0.1, 40), np.linspace(0.1, values.max(), 40)
    best = min(squared_error(values, low, high) for low, high in itertools.product(lows, highs))
    assert chosen <= 1.05 * best
    assert chosen < squared_error(values, values.min(), values.max())


def test_mse_of_evenly_spread_values_is_min_max():
    even = np.linspace(-1, 3, 100_000)
    assert choose(histogram(even), "mse") == pytest.approx((-1, 3), abs=0.05)


def divergence(values: np.ndarray, threshold: float, levels: int, largest: float) -> float:
    """KL of clipped values from their quantized form, by scipy, on the bins that a histogram of |x| has."""
    counts, edges = np.histogram(np.abs(values), BINS, (0, largest))
    counts[0] = 0
    width = int(np.searchsorted(edges, threshold - 1e-9))
    reference = counts[:width].astype(float)
    coded = np.zeros(width)
    for group in np.split(np.arange(width), np.unique(-(-np.arange(1, levels) * width // levels))):
        filled = group[reference[group] > 0]
        if len(filled):
            coded[filled] = reference[filled].sum() / len(filled)
    reference[-1] += counts[width:].sum()
    return float(stats.entropy(reference, np.maximum(coded / coded.sum(), 1e-4)))


def test_entropy_finds_a_threshold_that_no_other_beats():
    """One-sided values, of which every candidate's divergence is computed a second time."""
    values = np.abs(np.random.default_rng(1).standard_t(3, size=250_000)) + 1e-3
    low, high = choose(histogram(values), "entropy")
    largest = values.max()
    assert low == pytest.approx(values.min())
    candidates = largest * np.linspace(300, BINS, 60).astype(int) / BINS
    divergences = [divergence(values, threshold, 256, largest) for threshold in candidates]
    assert divergence(values, high, 256, largest) <= 1.05 * min(divergences)
    assert high < 0.9 * largest


def test_entropy_cuts_both_sides_at_one_magnitude(values):
    low, high = choose(histogram(values), "entropy")
    assert -low == pytest.approx(high)
    assert high < 15


def test_entropy_of_few_values_is_min_max():
    """Chance is no information: what lies in a bin of three values says little."""
    few = np.random.default_rng(2).normal(size=6_000)
    assert choose(histogram(few), "entropy") == pytest.approx((few.min(), few.max()))


@pytest.mark.parametrize("calibrator", ["min-max", "percentile", "entropy", "mse"])
def test_a_constant_is_its_own_range(calibrator, mlp):
    model = onnx.load_model_from_string(mlp(20, 8, 2).model)
    ranges = observe_ranges(model, {"features"}, np.full((30, 20), 2.5, np.float32), calibrator=calibrator)
    assert ranges["features"] == (2.5, 2.5)


@pytest.mark.parametrize("calibrator", ["percentile", "entropy", "mse"])
def test_chunks_make_no_difference(calibrator, mlp, monkeypatch):
    model = onnx.load_model_from_string(mlp(20, 8, 2).model)
    records = np.random.default_rng(7).normal(size=(500, 20)).astype(np.float32)
    whole = observe_ranges(model, {"features", "r0"}, records, calibrator=calibrator)
    monkeypatch.setattr(calibrate, "_CHUNK_BYTES", 20 * 4 * 7)
    in_parts = observe_ranges(model, {"features", "r0"}, records, calibrator=calibrator)
    for name, ends in whole.items():
        assert in_parts[name] == pytest.approx(ends, rel=1e-5)
