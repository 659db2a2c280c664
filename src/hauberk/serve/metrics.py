"""Figures of a running server in the Prometheus text format, version 0.0.4.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/. Labels take only names that the server knows
beforehand, so that no client can make the number of series grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, in seconds."""


class Outcome(StrEnum):
    """How an inference request ended."""

    ANSWERED = "answered"
    INVALID = "invalid"
    """The request was no good: malformed, too large, not fitting the schema."""
    FAILED = "failed"
    """The model or its worker failed."""
    LIMIT = "limit"
    """The request took more time or memory than it may."""
    OVERLOADED = "overloaded"
    """No worker was free in time, or the queue was full."""


class ModelMetrics:
    """Counters of one model.

    Attributes:
        in_flight: Inference requests that are being answered right now.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._outcomes: Counter[Outcome] = Counter(dict.fromkeys(Outcome, 0))
        self._restarts = 0
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, outcome: Outcome, seconds: float) -> None:
        """Count one request, and the seconds from its arrival to its answer."""
        self._outcomes[outcome] += 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def count_restart(self) -> None:
        """Count a worker that is gone and has to be replaced."""
        self._restarts += 1

    def outcomes(self) -> Mapping[str, int]:
        """Requests by outcome."""
        return {outcome.value: number for outcome, number in self._outcomes.items()}

    def restarts(self) -> int:
        """Workers that had to be replaced."""
        return self._restarts

    def histogram(self) -> tuple[list[int], float]:
        """Requests by bucket, each counting those of the smaller ones too, and the sum of their seconds."""
        cumulative, total = [], 0
        for number in self._buckets:
            total += number
            cumulative.append(total)
        return cumulative, self._seconds


class WorkerFigures:
    """What a scrape finds out about the workers of one model.

    Args:
        memory: Resident bytes of each live worker.
        waiting: Requests that wait for a worker.
    """

    def __init__(self, memory: Iterable[int], waiting: int) -> None:
        self.memory = tuple(memory)
        self.waiting = waiting


def render(models: Mapping[str, tuple[ModelMetrics, WorkerFigures]], own_memory: int) -> str:
    """Everything as text.

    Args:
        models: Counters and workers by model name.
        own_memory: Resident bytes of the listening process.
    """
    families = [
        _family(
            "hauberk_requests_total",
            "counter",
            "Inference requests by outcome.",
            (
                (f'model="{_escape(name)}",outcome="{outcome}"', number)
                for name, (metrics, _) in models.items()
                for outcome, number in metrics.outcomes().items()
            ),
        ),
        _durations({name: metrics for name, (metrics, _) in models.items()}),
    ]
    simple = (
        ("hauberk_requests_in_flight", "gauge", "Inference requests being answered.", lambda m, _: m.in_flight),
        ("hauberk_requests_waiting", "gauge", "Inference requests waiting for a worker.", lambda _, w: w.waiting),
        ("hauberk_workers", "gauge", "Live worker processes.", lambda _, w: len(w.memory)),
        ("hauberk_worker_restarts_total", "counter", "Workers that had to be replaced.", lambda m, _: m.restarts()),
        ("hauberk_worker_memory_bytes", "gauge", "Resident memory of the workers.", lambda _, w: sum(w.memory)),
    )
    families += [
        _family(name, kind, text, ((f'model="{_escape(model)}"', value(*both)) for model, both in models.items()))
        for name, kind, text, value in simple
    ]
    families.append(
        _family(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the listening process.",
            (("", own_memory),),
        )
    )
    return "".join(families)


def _durations(models: Mapping[str, ModelMetrics]) -> str:
    name = "hauberk_request_duration_seconds"
    lines = [f"# HELP {name} Seconds from an inference request's arrival to its answer.", f"# TYPE {name} histogram"]
    for model, metrics in models.items():
        label = f'model="{_escape(model)}"'
        cumulative, seconds = metrics.histogram()
        bounds = [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]
        lines += [
            f'{name}_bucket{{{label},le="{bound}"}} {number}' for bound, number in zip(bounds, cumulative, strict=True)
        ]
        lines += [f"{name}_sum{{{label}}} {seconds!r}", f"{name}_count{{{label}}} {cumulative[-1]}"]
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
