"""How fast models answer, compared in one process: interleaved rounds, paired ratios, and a bound for the noise.

Each round calls every model in a fresh random order, so that a change of clock speed or a busy neighbour hits all of
them alike and cancels in the ratio of that round. The baseline runs twice under two names; whatever difference these
two show is noise. Pin the threads of every model before timing it: unpinned thread pools fight each other.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.evaluate.intervals import percentile_interval
from hauberk.measurement import Estimate, Measurement
from hauberk.progress import SILENT, Progress

_RESAMPLES = 500
_LEAST_ROUNDS = 10
_MOST_CALLS = 50
"""Single-record calls timed for one model in one round."""
_MOST_BATCHES = 5
_UNTIMED = 3
"""Calls before the timed ones of a round: they bring a model's weights back into the cache."""

Nanoseconds = NDArray[np.float64]
Clock = Callable[[], int]


@dataclass(frozen=True)
class Runner:
    """A model ready to be timed.

    Attributes:
        one: Answers one record.
        many: Answers one batch of records; its size is handed to `measure_latency`.
    """

    one: Callable[[], object]
    many: Callable[[], object]


class LatencyResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast every model is.

    Attributes:
        measurements: By model, then by metric: `latency.p50`, `latency.p99` (seconds, one call of `Runner.one`) and
            `throughput` (records/s), each with a bootstrap interval and, except for the baseline, a ratio to it.
        noise: How far the ratio of the baseline to itself reaches from 1, over `latency.p50` and `throughput`. A
            model is slower beyond noise where the near end of its ratio is further from 1 than this.
        noise_by_metric: The same for each metric alone; `latency.p99` is by far the noisiest.
        rounds: How many rounds were timed.
        timer: What reading the clock costs, in seconds; it is taken off every timing.
    """

    measurements: dict[str, dict[str, Measurement]]
    noise: float
    noise_by_metric: dict[str, float]
    rounds: int
    timer: float


def measure_latency(
    runners: Mapping[str, Runner],
    *,
    baseline: str,
    again: Runner | None = None,
    records: int = 1,
    batch: int = 256,
    seconds: float = 2.0,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    progress: Progress = SILENT,
) -> LatencyResult:
    """Time models against each other.

    Args:
        runners: The models, by name.
        baseline: Name of the one that ratios refer to.
        again: A second, independently built runner of the baseline; then the noise covers what differs between two
            sessions of the same graph, such as where their memory lies. The baseline's own runner by default.
        records: Records that `Runner.one` answers; more than one only where a graph takes no fewer.
        batch: Records that `Runner.many` answers.
        seconds: Time to spend in all; at least 10 rounds are timed, however long they take.
        seed: Seed of the order of calls and of the bootstrap.
        clock: Nanoseconds since whenever.
        progress: Who follows.

    Raises:
        InputError: The baseline is not among the models, or the time or the batch is not a number above 0.
    """
    if baseline not in runners:
        raise InputError(f"latency: the baseline {baseline!r} is not among the models: {', '.join(runners)}")
    if not 0 < seconds < math.inf or batch < 1:
        raise InputError(f"latency: seconds and batch must be above 0 and finite, not {seconds} and {batch}")
    # The baseline's second run is kept under None, which no model can be called.
    entrants: dict[str | None, Runner] = dict(runners.items())
    entrants[None] = again or runners[baseline]
    generator = np.random.default_rng(seed)
    with _no_garbage_collection():
        stopwatch = _Stopwatch(clock)
        timings = _time_rounds(entrants, stopwatch, seconds=seconds, generator=generator, progress=progress)
    rounds = len(timings[None].one)
    weights = generator.multinomial(rounds, np.full(rounds, 1 / rounds), size=_RESAMPLES).astype(np.int32)
    figures = {name: _figures(timing, weights, batch) for name, timing in timings.items()}
    repeated = _measurements(figures[None], figures[baseline], weights, records, batch)
    noise = {metric: _reach(measurement.ratio) for metric, measurement in repeated.items()}
    return LatencyResult(
        measurements={
            name: _measurements(figures[name], None if name == baseline else figures[baseline], weights, records, batch)
            for name in runners
        },
        noise=max(noise["latency.p50"], noise["throughput"]),
        noise_by_metric=noise,
        rounds=rounds,
        timer=stopwatch.overhead * 1e-9,
    )


class _Timings(NamedTuple):
    """Nanoseconds of every timed call: float64 [rounds, calls a round]."""

    one: Nanoseconds
    many: Nanoseconds


def _time_rounds(
    entrants: Mapping[str | None, Runner],
    stopwatch: _Stopwatch,
    *,
    seconds: float,
    generator: np.random.Generator,
    progress: Progress,
) -> dict[str | None, _Timings]:
    """Warm everything up, then time rounds until the time is spent."""
    deadline = stopwatch.clock() + seconds * 1e9
    share = 1e9 * seconds / (2 * len(entrants) * 4 * _LEAST_ROUNDS)
    counts = {
        name: (
            _calls_for(share, stopwatch.warm_up(runner.one), _MOST_CALLS),
            _calls_for(share, stopwatch.warm_up(runner.many), _MOST_BATCHES),
        )
        for name, runner in entrants.items()
    }
    one: dict[str | None, list[list[int]]] = {name: [] for name in entrants}
    many: dict[str | None, list[list[int]]] = {name: [] for name in entrants}
    names = list(entrants)
    with progress.task("timing") as task:
        while len(one[None]) < _LEAST_ROUNDS or stopwatch.clock() < deadline:
            order = [names[index] for index in generator.permutation(len(names))]
            for name in order:
                one[name].append(stopwatch.time_calls(entrants[name].one, counts[name][0], untimed=_UNTIMED))
            for name in order:
                many[name].append(stopwatch.time_calls(entrants[name].many, counts[name][1], untimed=1))
            task.advance()
    return {
        name: _Timings(*(np.maximum(np.array(calls) - stopwatch.overhead, 1.0) for calls in (one[name], many[name])))
        for name in entrants
    }


def _calls_for(share: float, nanoseconds: float, most: int) -> int:
    """How many calls of that length fit into a share of a round."""
    return int(min(most, max(1, share // max(nanoseconds, 1.0))))


class _Stopwatch:
    """Times calls with one clock, and knows what reading it costs.

    Attributes:
        overhead: Nanoseconds between two readings with nothing in between, the median of 1,000.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.overhead = float(np.median([-(clock() - clock()) for _ in range(1000)]))

    def time_calls(self, call: Callable[[], object], count: int, *, untimed: int) -> list[int]:
        """Nanoseconds of each of `count` calls, after a few untimed ones (never more than the timed)."""
        clock = self.clock
        for _ in range(min(untimed, count)):
            call()
        taken = []
        for _ in range(count):
            started = clock()
            call()
            taken.append(clock() - started)
        return taken

    def warm_up(self, call: Callable[[], object]) -> float:
        """Call for 20 ms and at least twice; the median time of a call in nanoseconds."""
        taken: list[int] = []
        started = self.clock()
        while len(taken) < 2 or (self.clock() - started < 20_000_000 and len(taken) < 2000):
            taken.extend(self.time_calls(call, 1, untimed=0))
        return float(np.median(taken))


class _Figure(NamedTuple):
    """One figure of one model, the same in every bootstrap resample, and round by round where that is meaningful."""

    value: float
    drawn: NDArray[np.float64]
    by_round: NDArray[np.float64] | None
    samples: int


def _figures(timings: _Timings, weights: NDArray[np.int32], batch: int) -> dict[str, _Figure]:
    """One model's figures, by metric, in seconds and records/s.

    Rounds are resampled, not calls: calls of one round share whatever the machine was doing. All models use the same
    resamples, which keeps the pairing.
    """
    once = np.ones((1, len(timings.one)), dtype=np.int32)
    one, many = timings.one * 1e-9, timings.many * 1e-9
    (p50,), (p99,) = weighted_quantiles(one, once, (0.5, 0.99))
    p50_drawn, p99_drawn = weighted_quantiles(one, weights, (0.5, 0.99))
    ((of_batch,),) = weighted_quantiles(many, once, (0.5,))
    (batch_drawn,) = weighted_quantiles(many, weights, (0.5,))
    return {
        "latency.p50": _Figure(p50, p50_drawn, np.median(one, axis=1), one.size),
        "latency.p99": _Figure(p99, p99_drawn, None, one.size),
        "throughput": _Figure(batch / of_batch, batch / batch_drawn, batch / np.median(many, axis=1), many.size),
    }


def weighted_quantiles(
    values: Nanoseconds, weights: NDArray[np.int32], shares: tuple[float, ...]
) -> NDArray[np.float64]:
    """Quantiles of all values together, with every round counted as often as it was drawn.

    Args:
        values: Float64 [rounds, calls].
        weights: Int32 [resamples, rounds], each row summing to the number of rounds.
        shares: Which quantiles, as fractions.

    Returns:
        Float64 [shares, resamples]: the smallest value that at least that share of calls does not exceed.
    """
    rounds, calls = values.shape
    order = np.argsort(values, axis=None)
    ordered, of_round = values.ravel()[order], order // calls
    quantiles = np.empty((len(shares), len(weights)))
    chunk = max(1, 2_000_000 // values.size)
    for start in range(0, len(weights), chunk):
        counted = np.cumsum(weights[start : start + chunk, of_round], axis=1, dtype=np.int32)
        for row, share in enumerate(shares):
            first = (counted >= np.ceil(share * rounds * calls)).argmax(axis=1)
            quantiles[row, start : start + chunk] = ordered[first]
    return quantiles


def _measurements(
    model: Mapping[str, _Figure],
    baseline: Mapping[str, _Figure] | None,
    weights: NDArray[np.int32],
    records: int,
    batch: int,
) -> dict[str, Measurement]:
    measured = {}
    for name, figure in model.items():
        interval = percentile_interval(figure.value, figure.drawn)
        reference = None if baseline is None else baseline[name]
        measured[name] = Measurement(
            name=name,
            value=interval.value,
            unit="records/s" if name == "throughput" else "s",
            samples=figure.samples,
            low=interval.low,
            high=interval.high,
            difference=reference
            and percentile_interval(figure.value - reference.value, figure.drawn - reference.drawn),
            ratio=reference and _ratio(figure, reference, weights),
            note=f"{batch} records a call" if name == "throughput" else _a_call(records),
        )
    return measured


def _a_call(records: int) -> str:
    return "one record a call" if records == 1 else f"{records} records a call"


def _ratio(figure: _Figure, reference: _Figure, weights: NDArray[np.int32]) -> Estimate:
    """Model over baseline: the median of one ratio a round, or the ratio over all rounds where a round is too short."""
    if figure.by_round is None or reference.by_round is None:
        return percentile_interval(figure.value / reference.value, figure.drawn / reference.drawn)
    ratios = (figure.by_round / reference.by_round)[:, None]
    ((value,),) = weighted_quantiles(ratios, np.ones((1, len(ratios)), dtype=np.int32), (0.5,))
    (drawn,) = weighted_quantiles(ratios, weights, (0.5,))
    return percentile_interval(value, drawn)


def _reach(ratio: Estimate | None) -> float:
    return 0.0 if ratio is None else max(abs(ratio.low - 1), abs(ratio.high - 1))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
