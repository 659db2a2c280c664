"""Requirements: `metric op value`, absolute or relative to the baseline, judged on confidence bounds.

    latency.p99 <= 50us                              absolute, with a unit
    size <= 40% of baseline                          relative
    robust_accuracy >= baseline - 1pt                percentage points below the baseline
    latency.p50 <= baseline - 10%                    relative to the baseline's value
    detection_rate@fpr=1% >= 95%                     a rate, as a percentage or as a fraction

The baseline is the optimised fp32 graph of the same model. A requirement on a figure that has a confidence interval
holds when the interval's unfavourable end does; one on a difference from the baseline uses the paired interval.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from hauberk.errors import InputError
from hauberk.measurement import Measurement

Kind = Literal["time", "bytes", "rate", "records/s"]

METRICS: dict[str, Kind] = {
    "latency.p50": "time",
    "latency.p99": "time",
    "throughput": "records/s",
    "size": "bytes",
    "memory.peak": "bytes",
    "load_time": "time",
    "training_time": "time",
    "accuracy": "rate",
    "auroc": "rate",
    "agreement": "rate",
    "robust_accuracy": "rate",
}
"""What can be required, and in which kind of unit; `detection_rate@fpr=…` comes on top, with any rate."""

_ABSOLUTE_ONLY = {
    "agreement": "it is agreement with the baseline already",
    "training_time": "making the baseline takes no training",
}
"""Metrics that nothing is relative to, and why: such a requirement would compare nothing with nothing."""

_UNITS: dict[Kind, dict[str, float]] = {
    "time": {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
    "bytes": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3},
    "rate": {"": 1.0, "%": 0.01, "pt": 0.01},
    "records/s": {"/s": 1.0, "records/s": 1.0, "": 1.0},
}

_DETECTION_RATE = re.compile(r"detection_rate@fpr=(\d+(?:\.\d+)?)(%?)")
_NUMBER = r"(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)"
_EXPRESSION = re.compile(r"\s*(?P<metric>[\w.@=%]+?)\s*(?P<operator><=|>=)\s*(?P<bound>.+?)\s*")
_RELATIVE = re.compile(rf"baseline\s*(?:(?P<sign>[+-])\s*{_NUMBER}\s*(?P<unit>[^\s\d]*))?")
_SHARE = re.compile(rf"{_NUMBER}\s*%\s+of\s+baseline")
_ABSOLUTE = re.compile(rf"{_NUMBER}\s*(?P<unit>[^\s\d]*)")


class Outcome(msgspec.Struct, frozen=True):
    """Whether a requirement holds, with the sentence that says why."""

    requirement: str
    holds: bool
    reason: str


class Requirement(msgspec.Struct, frozen=True):
    """One requirement, parsed.

    Attributes:
        metric: Name of the measurement.
        operator: `<=` or `>=`.
        relative: None for an absolute bound; "difference" for `baseline + value`; "ratio" for `baseline * value`.
        value: In seconds, bytes, records/s or as a fraction; for "ratio" a plain factor.
        text: As the user wrote it.
    """

    metric: str
    operator: Literal["<=", ">="]
    relative: Literal["difference", "ratio"] | None
    value: float
    text: str

    def judge(self, measured: Mapping[str, Measurement]) -> Outcome:
        """Judge a candidate's measurements; a metric that was not measured counts as missed."""
        measurement = measured.get(self.metric)
        if measurement is None:
            return Outcome(self.text, holds=False, reason=f"{self.metric} was not measured")
        if self.relative == "ratio" and measurement.ratio is None and measurement.difference is not None:
            return Outcome(
                self.text, holds=False, reason=f"{self.metric} of the baseline is 0; nothing is relative to it"
            )
        unfavourable, bound = self._compare(measurement)
        holds = unfavourable <= bound if self.operator == "<=" else unfavourable >= bound
        what = {None: self.metric, "difference": f"{self.metric} minus baseline", "ratio": f"{self.metric} / baseline"}
        centre, end, wanted = (
            show_difference(value, measurement.unit)
            if self.relative == "difference"
            else show(value, "" if self.relative == "ratio" else measurement.unit)
            for value in (self._centre(measurement), unfavourable, bound)
        )
        reason = f"{what[self.relative]} is {centre} (95 % bound {end}), required {self.operator} {wanted}"
        return Outcome(self.text, holds=holds, reason=reason)

    def _centre(self, measurement: Measurement) -> float:
        if self.relative == "difference":
            return measurement.difference.value if measurement.difference else 0.0
        if self.relative == "ratio":
            return measurement.ratio.value if measurement.ratio else 1.0
        return measurement.value

    def _compare(self, measurement: Measurement) -> tuple[float, float]:
        """The unfavourable end of what is compared, and its bound; the baseline itself compares as 0 or 1."""
        upper = self.operator == "<="
        if self.relative is None:
            end = measurement.high if upper else measurement.low
            return (measurement.value if end is None else end), self.value
        estimate = measurement.difference if self.relative == "difference" else measurement.ratio
        if estimate is None:
            return (0.0 if self.relative == "difference" else 1.0), self.value
        return (estimate.high if upper else estimate.low), self.value


def detection_rate(false_positive_rate: float) -> str:
    """The metric name of the detection rate at a false-positive rate given as a fraction, to six digits."""
    percent = Decimal(f"{100 * false_positive_rate:.6g}")  # as a decimal, because it writes no exponents
    return f"detection_rate@fpr={percent:f}%"


def false_positive_rate(metric: str) -> float | None:
    """The rate that a `detection_rate@fpr=…` metric names, as a fraction; `None` for any other metric."""
    match = _DETECTION_RATE.fullmatch(metric)
    return None if match is None else float(match[1]) / (100 if match[2] else 1)


def parse_requirement(text: str, measured: Collection[str] | None = None) -> Requirement:
    """Read one requirement.

    Args:
        text: As the user wrote it.
        measured: The metrics that will be measured, where these are fewer than all.

    Raises:
        InputError: Not of the form `metric op value`, an unknown metric or one that will not be measured, a unit that
            the metric does not have, or a bound relative to a baseline that the metric does not have.
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise InputError(
            f"requirement {text!r}: expected METRIC <= VALUE or METRIC >= VALUE, as in 'latency.p99 <= 50us'"
        )
    metric, kind = _metric(match["metric"], text, measured)
    operator: Literal["<=", ">="] = "<=" if match["operator"] == "<=" else ">="
    bound = match["bound"]
    if metric in _ABSOLUTE_ONLY and "baseline" in bound:
        raise InputError(f"requirement {text!r}: {_ABSOLUTE_ONLY[metric]}; give {metric} an absolute bound")
    if share := _SHARE.fullmatch(bound):
        return Requirement(metric, operator, "ratio", float(share[1]) / 100, text.strip())
    if relative := _RELATIVE.fullmatch(bound):
        return _relative(relative, metric, kind, operator, text)
    if absolute := _ABSOLUTE.fullmatch(bound):
        return Requirement(
            metric, operator, None, float(absolute[1]) * _factor(absolute["unit"], kind, text), text.strip()
        )
    raise InputError(f"requirement {text!r}: cannot read {bound!r}; try '50us', 'baseline - 1pt' or '40% of baseline'")


def _relative(match: re.Match[str], metric: str, kind: Kind, operator: Literal["<=", ">="], text: str) -> Requirement:
    if match["sign"] is None:
        return Requirement(metric, operator, "difference", 0.0, text.strip())
    sign = -1.0 if match["sign"] == "-" else 1.0
    amount, unit = float(match[2]), match["unit"]
    if unit == "%":
        return Requirement(metric, operator, "ratio", 1.0 + sign * amount / 100, text.strip())
    if kind == "rate" and unit != "pt":
        raise InputError(
            f"requirement {text!r}: give the distance of a rate in percentage points ('1pt') or relative ('1%')"
        )
    return Requirement(metric, operator, "difference", sign * amount * _factor(unit, kind, text), text.strip())


def _metric(name: str, text: str, measured: Collection[str] | None) -> tuple[str, Kind]:
    rate = false_positive_rate(name)
    exists = rate is not None or name in METRICS
    if measured is not None and name not in measured:
        what = f"{name} is not measured here" if exists else f"unknown metric {name!r}"
        raise InputError(f"requirement {text!r}: {what}; measured are {', '.join(measured)}")
    if rate is not None:
        if not 0 < rate < 1:
            raise InputError(f"requirement {text!r}: the false-positive rate must lie between 0 and 100 %")
        return detection_rate(rate), "rate"
    if not exists:
        known = ", ".join([*METRICS, "detection_rate@fpr=1%"])
        raise InputError(f"requirement {text!r}: unknown metric {name!r}; known are {known}")
    return name, METRICS[name]


def _factor(unit: str, kind: Kind, text: str) -> float:
    units = _UNITS[kind]
    if unit not in units:
        raise InputError(
            f"requirement {text!r}: unit {unit!r} does not fit; use one of {', '.join(filter(None, units))}"
        )
    return units[unit]


_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
}


def show(value: float, unit: str) -> str:
    """A figure as people read it: `7.10 µs`, `45.5 kB`, `97.30 %`."""
    if unit in _SCALES:
        scales = _SCALES[unit]
        rounded = abs(float(f"{value:.3g}"))  # 999.9 µs are shown as 1.00 ms
        factor, name = next((scale for scale in scales if rounded >= scale[0]), scales[-1])
        return f"{value:.0f} B" if name == "B" else f"{significant(value / factor)} {name}"
    if unit == "fraction":
        return f"{100 * value:.2f} %"
    if unit == "records/s":
        return f"{value:,.0f} records/s"
    return f"{significant(value)} {unit}".rstrip()


def show_difference(value: float, unit: str) -> str:
    """The difference of two figures, with its sign: `-1.20 pt` between two rates, `+1.20 ms`."""
    if unit == "fraction":
        return f"{100 * value:+.2f} pt"
    return f"{'-' if value < 0 else '+'}{show(abs(value), unit)}"


def significant(value: float) -> str:
    """Three significant digits, zeros at the end included: 0.720, 9.80, 45.5; whole numbers from a thousand on."""
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".removesuffix(".")
