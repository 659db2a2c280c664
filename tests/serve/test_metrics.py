"""The text format, read back by a parser written from its description, not by its writer."""

from __future__ import annotations

import re

from hauberk.serve.metrics import BUCKETS, ModelMetrics, Outcome, WorkerFigures, render

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')


def parse(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels; every sample must follow the type of its family."""
    assert text.endswith("\n")
    samples, family = {}, ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
        if line.startswith("#"):
            continue
        found = SAMPLE.fullmatch(line)
        assert found, line
        name, labels, value = found.groups()
        assert name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") == family
        pairs = frozenset(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', labels or ""))
        assert (name, pairs) not in samples
        samples[name, pairs] = float(value)
    return samples


def sample(text: str, name: str, **labels: str) -> float:
    return parse(text)[name, frozenset(labels.items())]


def counted(*seconds: float) -> ModelMetrics:
    metrics = ModelMetrics()
    for value in seconds:
        metrics.count(Outcome.ANSWERED, value)
    return metrics


def shown(metrics: ModelMetrics, name: str = "flows") -> str:
    return render({name: (metrics, WorkerFigures((10, 20), waiting=3))}, own_memory=7)


def test_outcomes_are_counted_apart() -> None:
    metrics = counted(0.1, 0.1)
    metrics.count(Outcome.LIMIT, 0.1)
    text = shown(metrics)
    assert sample(text, "hauberk_requests_total", model="flows", outcome="answered") == 2
    assert sample(text, "hauberk_requests_total", model="flows", outcome="limit") == 1
    assert sample(text, "hauberk_requests_total", model="flows", outcome="invalid") == 0


def test_buckets_count_what_is_at_most_their_bound() -> None:
    seconds = (0.0001, 0.0005, 0.00051, 0.01, 3.0, 100.0)
    text = shown(counted(*seconds))
    for bound in BUCKETS:
        expected = sum(value <= bound for value in seconds)
        assert sample(text, "hauberk_request_duration_seconds_bucket", model="flows", le=f"{bound:g}") == expected
    assert sample(text, "hauberk_request_duration_seconds_bucket", model="flows", le="+Inf") == len(seconds)
    assert sample(text, "hauberk_request_duration_seconds_count", model="flows") == len(seconds)
    assert sample(text, "hauberk_request_duration_seconds_sum", model="flows") == sum(seconds)


def test_workers_are_told_of() -> None:
    metrics = ModelMetrics()
    metrics.in_flight = 4
    metrics.count_restart()
    text = shown(metrics)
    assert sample(text, "hauberk_workers", model="flows") == 2
    assert sample(text, "hauberk_worker_memory_bytes", model="flows") == 30
    assert sample(text, "hauberk_worker_restarts_total", model="flows") == 1
    assert sample(text, "hauberk_requests_waiting", model="flows") == 3
    assert sample(text, "hauberk_requests_in_flight", model="flows") == 4
    assert sample(text, "process_resident_memory_bytes") == 7


def test_a_strange_name_cannot_break_out_of_its_label() -> None:
    text = shown(counted(0.1), name='a"} 1\n\\')
    assert sample(text, "hauberk_workers", model=r"a\"} 1\n\\") == 2
