"""Figures and names as a reader wants them; numbers are put into words here and nowhere else."""

from __future__ import annotations

import json

from hauberk.artifact import StepRecord
from hauberk.measurement import Estimate, Measurement
from hauberk.requirements import false_positive_rate, show, show_difference, significant

_TITLES = {
    "latency.p50": "Latency, median",
    "latency.p99": "Latency, 99th percentile",
    "throughput": "Throughput",
    "size": "Size",
    "memory.peak": "Peak memory",
    "load_time": "Load time",
    "training_time": "Training time",
    "accuracy": "Accuracy",
    "auroc": "AUROC",
    "agreement": "Agreement with the original",
    "robust_accuracy": "Robust accuracy",
    "false_positive_rate": "False-positive rate",
}


def title(metric: str) -> str:
    """A metric's name in words; unknown ones as they are."""
    rate = false_positive_rate(metric)
    if rate is not None:
        return f"Detection rate at {100 * rate:g} % false positives"
    return _TITLES.get(metric, metric)


def short_title(metric: str) -> str:
    """A metric's name without its condition."""
    return "Detection rate" if false_positive_rate(metric) is not None else title(metric)


def condition(metric: str) -> str:
    """Under which condition a metric holds, or nothing."""
    rate = false_positive_rate(metric)
    if rate is not None:
        return f"at {100 * rate:g} % false positives"
    return {"latency.p50": "one record", "robust_accuracy": "worst case over all attacks"}.get(metric, "")


def figure(value: float, unit: str) -> str:
    """A value with its unit."""
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "records/s" and value >= 1e4:
        return f"{significant(value / 1e6)} M/s" if value >= 999.5e3 else f"{significant(value / 1e3)} k/s"
    return show(value, unit)


def tick(value: float, unit: str) -> str:
    """A figure beside an axis: round, and so without zeros behind the point."""
    number, space, name = figure(value, unit).partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + name


def interval(measurement: Measurement) -> str:
    """The 95 % interval, or nothing where the figure is exact."""
    if measurement.low is None or measurement.high is None:
        return ""
    return span(measurement.low, measurement.high, measurement.unit)


def span(low: float, high: float, unit: str) -> str:
    """Two ends of an interval; a unit that both have is said once."""
    (low_number, _, low_unit), (high_number, _, high_unit) = (figure(end, unit).partition(" ") for end in (low, high))
    if low_unit == high_unit:
        return f"{low_number} – {high_number} {high_unit}".rstrip()
    return f"{low_number} {low_unit} – {high_number} {high_unit}"


def ratio(estimate: Estimate) -> str:
    """A ratio to the baseline, with its interval."""
    words = f"{estimate.value:.2f} × baseline"
    return words if estimate.low == estimate.high else f"{words} ({estimate.low:.2f} – {estimate.high:.2f})"


def difference(estimate: Estimate, unit: str) -> str:
    """A difference from the baseline, with its interval; of rates in percentage points."""
    value, low, high = (_signed(show_difference(end, unit)) for end in (estimate.value, estimate.low, estimate.high))
    if unit == "fraction":  # the unit is the same of all three, and said once
        low, high = low.removesuffix(" pt"), high.removesuffix(" pt")
    return f"{value} ({low} to {high})"


def _signed(number: str) -> str:
    return number.replace("-", "−")


def against_baseline(measurement: Measurement) -> str:
    """How a figure compares with the baseline: rates by difference, everything else by ratio."""
    if measurement.unit == "fraction" and measurement.difference is not None:
        return difference(measurement.difference, measurement.unit)
    if measurement.ratio is not None:
        return ratio(measurement.ratio)
    if measurement.difference is not None:
        return difference(measurement.difference, measurement.unit)
    return ""


def contract(record: StepRecord) -> str:
    """A step's contract in one line."""
    terms = record.contract
    if not isinstance(terms, dict):
        return str(terms)
    kind = terms.get("contract")
    if kind == "exact":
        return "exact: bit for bit the same"
    if kind == "close":
        return f"close: within {terms['rtol']:g} relative and {terms['atol']:g} absolute"
    if kind == "lossy":
        words = f"lossy: agrees on at least {100 * terms['agreement']:g} % of real records"
        return words if terms.get("rms") is None else f"{words}, logits within {100 * terms['rms']:g} % (rms)"
    return compact(terms)


def compact(value: object) -> str:
    """Parameters as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def duration(seconds: float) -> str:
    """A time span, in minutes from two of them on."""
    if seconds == 0:
        return "none"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else show(seconds, "s")
