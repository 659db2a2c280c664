"""Confidence intervals, all at 95 %: DeLong for areas under the curve, bootstraps for pairs.

That for rates, Wilson's, stands in `hauberk.measurement`, because training needs it too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hauberk.measurement import NORMAL_95, Estimate, wilson


class PairedRates(NamedTuple):
    """How two rates over the same records differ."""

    difference: Estimate
    ratio: Estimate | None


def paired_rates(
    candidate: NDArray[np.bool_], baseline: NDArray[np.bool_], *, seed: int, resamples: int = 4000
) -> PairedRates:
    """Difference and ratio of two rates over the same records, by paired bootstrap over the records.

    Efron, Tibshirani, "An Introduction to the Bootstrap" (1993), percentile intervals. Only the four counts (right in
    both, in one, in none) matter, so that resampling records is one draw from a multinomial distribution. Where both
    answer alike everywhere, the interval is the point 0: that is what these records say, not that others would agree.

    Args:
        candidate: Bool [N], whether each record counts for the candidate.
        baseline: Bool [N], whether it counts for the baseline.
        seed: Seed of the resampling.
        resamples: How many resamples to draw.

    Returns:
        Candidate minus baseline, and candidate over baseline; no ratio where the baseline's rate is 0.
    """
    samples = len(candidate)
    if samples == 0:
        return PairedRates(Estimate(0.0, -1.0, 1.0), None)
    cells = np.bincount(2 * candidate.astype(np.int64) + baseline, minlength=4)
    drawn = np.random.default_rng(seed).multinomial(samples, cells / samples, size=resamples) / samples
    first, second = drawn[:, 2] + drawn[:, 3], drawn[:, 1] + drawn[:, 3]
    rate, reference = candidate.mean(), baseline.mean()
    difference = percentile_interval(float(rate - reference), first - second)
    if reference == 0:
        return PairedRates(difference, None)
    defined = second > 0
    return PairedRates(difference, percentile_interval(float(rate / reference), first[defined] / second[defined]))


def percentile_interval(value: float, resampled: NDArray[np.floating]) -> Estimate:
    """A value with the 2.5 % and 97.5 % percentiles of its bootstrap distribution, widened to hold the value."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(value=float(value), low=min(float(value), float(low)), high=max(float(value), float(high)))


class Curve(NamedTuple):
    """One model's area under the ROC curve with DeLong's structural components."""

    area: float
    of_attacks: NDArray[np.float64]
    """Float64 [attacks]: share of benign records that each attack record outranks, ties counting a half."""
    of_benign: NDArray[np.float64]
    """Float64 [benign]: share of attack records that outrank each benign record."""


def roc_curve_area(margins: NDArray[np.float32], targets: NDArray[np.int64]) -> Curve:
    """Area under the ROC curve: the chance that an attack outranks a benign record, ties counting a half.

    Args:
        margins: Float32 [N].
        targets: Int64 [N], both classes present.
    """
    attacks, benign = margins[targets == 1], margins[targets == 0]
    of_attacks = _below(np.sort(benign), attacks)
    of_benign = 1.0 - _below(np.sort(attacks), benign)
    return Curve(float(of_attacks.mean()), of_attacks, of_benign)


def _below(ordered: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each value the share of `ordered` that lies below it, equal ones counting a half."""
    twice = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    share: NDArray[np.float64] = twice / (2.0 * len(ordered))
    return share


def delong(curve: Curve) -> Estimate:
    """The area with DeLong's interval, taken on the log-odds scale so that it stays within 0 and 1.

    DeLong, DeLong, Clarke-Pearson, "Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves", Biometrics 44 (1988). Where the records are ranked perfectly (or perfectly wrong), the
    variance is 0 and says nothing; then the interval is Wilson's for as many records as the rarer class has.
    """
    variance = _covariance(curve, curve)
    rarer = min(len(curve.of_attacks), len(curve.of_benign))
    if not 0 < curve.area < 1 or rarer < 2 or variance <= 0:
        around = wilson(round(curve.area * rarer), rarer)
        return Estimate(curve.area, min(around.low, curve.area), max(around.high, curve.area))
    log_odds = math.log(curve.area / (1 - curve.area))
    half = NORMAL_95 * math.sqrt(variance) / (curve.area * (1 - curve.area))
    low, high = (1 / (1 + math.exp(-(log_odds + sign * half))) for sign in (-1, 1))
    return Estimate(value=curve.area, low=low, high=high)


def paired_areas(candidate: Curve, baseline: Curve) -> PairedRates:
    """Difference and ratio of two areas over the same records, with DeLong's covariance between them.

    The interval of the ratio is that of its first-order expansion (delta method).
    """
    first, second = _covariance(candidate, candidate), _covariance(baseline, baseline)
    shared = _covariance(candidate, baseline)
    difference = _normal(candidate.area - baseline.area, first + second - 2 * shared)
    if baseline.area == 0:
        return PairedRates(difference, None)
    ratio = candidate.area / baseline.area
    variance = (first + ratio**2 * second - 2 * ratio * shared) / baseline.area**2
    return PairedRates(difference, _normal(ratio, variance))


def _normal(value: float, variance: float) -> Estimate:
    half = NORMAL_95 * math.sqrt(max(0.0, variance))
    return Estimate(value=value, low=value - half, high=value + half)


def _covariance(first: Curve, second: Curve) -> float:
    """Covariance of two areas over the same records, from their structural components."""
    total = 0.0
    for one, other in ((first.of_attacks, second.of_attacks), (first.of_benign, second.of_benign)):
        if len(one) > 1:
            total += float((one - one.mean()) @ (other - other.mean())) / (len(one) - 1) / len(one)
    return total
