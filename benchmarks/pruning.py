"""What pruning is worth: size, operations, latency and answers, for every form of it, beside the random control.

    python benchmarks/pruning.py [--seeds 3] [--seconds 6] [--cache FOLDER] [--only PART …]

Parts: "resnet18" (random weights: cost only), "digits" (the residual CNN: 25, 50 and 75 % of channels, once and in
rounds, beside the control), "recurrent" (half the hidden units of LSTM and GRU on windows of NSL-KDD), "attention"
(heads and hidden units of the Transformer), "sparsity" (zeros that keep the shape) and "low-rank". Latencies are ratios
to the unpruned graph in one interleaved run, one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hauberk.artifact import OnnxArtifact
from hauberk.compress import Factorise, PruneNM, PruneStructured, PruneUnstructured, SparsifyActivations
from hauberk.compress.prune import activation_sparsity, weight_sparsity
from hauberk.compress.tuning import Tuning, answers
from hauberk.evaluate.latency import Runner, measure_latency
from hauberk.graph.model import session
from hauberk.graph.operations import operations
from hauberk.graph.verify import decisions
from hauberk.recipe import Step
from reference_detector import describe_machine
from subjects import Subject, subject

TUNING = Tuning(epochs=8, batch_size=64, learning_rate=3e-3, patience=8)
RECURRENT_TUNING = Tuning(epochs=3, batch_size=256, learning_rate=1e-3, patience=2)
MANY = 256


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    seeds: int
    seconds: float
    cache: Path
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One artefact's figures; accuracy and agreement in per cent on the test split, `None` where weights are random."""

    name: str
    core: OnnxArtifact
    accuracy: float | None
    agreement: float | None
    seconds: float


def main() -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of everything that is trained (default: 3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each interleaved timing (default: 6)")
    parser.add_argument("--cache", type=Path, default=Path(".benchmarks"), help="where trained detectors are kept")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 0.75], help="of channels, for digits")
    given = parser.parse_args()
    options = Options(given.seeds, given.seconds, given.cache, tuple(given.shares))
    torch.set_num_threads(1)
    print(f"{describe_machine()}\n")
    for part in given.only:
        started = time.perf_counter()
        for line in PARTS[part](options):
            print(line, flush=True)
        print(f"\n({part}: {time.perf_counter() - started:.0f} s)\n", flush=True)
    return 0


def resnet18(options: Options) -> Iterator[str]:
    """Size, operations and latency of ResNet-18 with half its channels; weights are random."""
    yield "### ResNet-18, 224×224, random weights\n"
    found = subject("resnet18", cache=options.cache)
    context = replace(found.context, trained=False)
    rows = [Row("float32", found.core, None, None, 0.0)]
    for name, step in {
        "25 % of channels": PruneStructured(amount=0.25, tuning=None),
        "50 % of channels": PruneStructured(amount=0.5, tuning=None),
        "50 %, multiples of 16": PruneStructured(amount=0.5, granularity=16, tuning=None),
        "75 % of channels": PruneStructured(amount=0.75, tuning=None),
        "low rank, a quarter": Factorise(ratio=0.25, tuning=None),
    }.items():
        started = time.perf_counter()
        result = step.apply(found.core, context)
        assert isinstance(result, OnnxArtifact)
        rows.append(Row(name, result, None, None, time.perf_counter() - started))
    yield "| | file, kB | parameters, k | MMAC | latency, 1 | seconds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    ratios = few_latencies(rows, found)
    for row in rows:
        yield f"| {row.name} | {cost(row)} | {ratios[row.name]:.2f} | {row.seconds:.1f} |"


def digits(options: Options) -> Iterator[str]:
    """Accuracy of the residual CNN after each share, once and in rounds, beside the control."""
    yield "### Residual CNN on digits\n"
    shares = options.shares
    ways: dict[str, dict[str, object]] = {
        "l1, not trained": {"importance": "l1", "tuning": None},
        "l2, not trained": {"importance": "l2", "tuning": None},
        "taylor, not trained": {"importance": "taylor", "tuning": None},
        "random, not trained": {"importance": "random", "tuning": None},
        "taylor by sensitivity, not trained": {
            "importance": "taylor",
            "allocation": "sensitivity",
            "tuning": None,
        },
        "l1, trained": {"importance": "l1", "tuning": TUNING},
        "taylor, trained": {"importance": "taylor", "tuning": TUNING},
        "random, trained": {"importance": "random", "tuning": TUNING},
        "taylor in 3 rounds, trained": {"importance": "taylor", "iterations": 3, "tuning": TUNING},
    }
    figures: dict[str, list[list[float]]] = {name: [[] for _ in shares] for name in ways}
    whole: list[float] = []
    rows: list[Row] = []
    for seed in range(options.seeds):
        found = subject("residual-cnn", seed, cache=options.cache)
        first = measured("float32", found, found.core)
        whole.append(first.accuracy or 0.0)
        rows = rows or [first]
        for name, parameters in ways.items():
            for index, share in enumerate(shares):
                row = applied(name, found, PruneStructured(amount=share, **parameters))  # type: ignore[arg-type]
                figures[name][index].append(row.accuracy or 0.0)
                print(f"seed {seed}, {name}, {share:.0%}: {row.accuracy:.1f} %", file=sys.stderr, flush=True)
                if not seed and name == "taylor in 3 rounds, trained":
                    rows.append(replace(row, name=f"{share:.0%} of channels"))
    yield f"Accuracy in per cent, mean of {options.seeds} seeds (lowest); unpruned {spread(whole)}.\n"
    yield "| | " + " | ".join(f"{share:.0%}" for share in shares) + " |\n| --- |" + " ---: |" * len(shares)
    for name, by_share in figures.items():
        yield f"| {name} | " + " | ".join(spread(values) for values in by_share) + " |"
    yield "\nIn three rounds, seed 0:\n"
    yield from table(rows, latencies(rows, found, options), many=MANY)


def recurrent(options: Options) -> Iterator[str]:
    """Half of the hidden units of LSTM and GRU, trained again."""
    for name in ("window-lstm", "window-gru"):
        yield f"### {name}, windows of NSL-KDD\n"
        lost: dict[str, list[float]] = {}
        rows: list[Row] = []
        for seed in range(options.seeds):
            found = subject(name, seed, cache=options.cache)
            first = measured("float32", found, found.core)
            ways = {
                "half of the units": PruneStructured(importance="taylor", iterations=2, tuning=RECURRENT_TUNING),
                "half, random": PruneStructured(importance="random", iterations=2, tuning=RECURRENT_TUNING),
            }
            these = [first, *(applied(way, found, step) for way, step in ways.items())]
            for row in these[1:]:
                lost.setdefault(row.name, []).append((row.accuracy or 0.0) - (first.accuracy or 0.0))
            rows = rows or these
        yield from table(rows, latencies(rows, found, options), many=MANY)
        yield f"\nSeed 0 above. Points of accuracy gained or lost over {options.seeds} seeds:\n"
        for way, values in lost.items():
            yield f"- {way}: " + ", ".join(f"{value:+.2f}" for value in values)
        yield ""


def attention(options: Options) -> Iterator[str]:
    """Heads, or dimensions of all heads, and hidden units of the Transformer."""
    yield "### window-transformer, windows of NSL-KDD\n"
    found = subject("window-transformer", cache=options.cache)
    rows = [
        measured("float32", found, found.core),
        applied("half: heads, hidden units", found, PruneStructured(importance="taylor", tuning=RECURRENT_TUNING)),
        applied(
            "half: dimensions, hidden units",
            found,
            PruneStructured(importance="taylor", attention="dimensions", tuning=RECURRENT_TUNING),
        ),
        applied("low rank, energy 0.7", found, Factorise(energy=0.7, tuning=RECURRENT_TUNING)),
    ]
    yield from table(rows, latencies(rows, found, options), many=MANY)


def sparsity(options: Options) -> Iterator[str]:
    """Zeros that leave the shape as it is."""
    yield "### Zeros in weights and feature maps: residual CNN on digits\n"
    found = subject("residual-cnn", cache=options.cache)
    steps: dict[str, Step] = {
        "50 % of weights": PruneUnstructured(amount=0.5, tuning=TUNING),
        "90 % of weights": PruneUnstructured(amount=0.9, iterations=2, tuning=TUNING),
        "2:4": PruneNM(tuning=TUNING),
        "L1 on feature maps": SparsifyActivations(strength=1.0, tuning=TUNING),
    }
    rows = [measured("float32", found, found.core), *(applied(name, found, step) for name, step in steps.items())]
    ratios = latencies(rows, found, options)
    yield "| | zero weights | behind Relu | file, kB | zlib, kB | latency, 1 | latency, 256 | accuracy | agreement |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        zeros = weight_sparsity(row.core.model)
        behind = np.mean(list(activation_sparsity(row.core, found.test.features).values()))
        one, many = ratios[row.name]
        yield (
            f"| {row.name} | {zeros.share:.1%} | {behind:.1%} | {zeros.size / 1e3:.0f} | {zeros.compressed / 1e3:.0f}"
            f" | {one:.2f} | {many:.2f} | {row.accuracy:.1f} | {row.agreement:.1f} |"
        )


def low_rank(options: Options) -> Iterator[str]:
    """Layers split in two, by the energy that is kept."""
    for name, tuning in (("tabular-mlp", RECURRENT_TUNING), ("residual-cnn", TUNING)):
        yield f"### Low rank: {name}\n"
        found = subject(name, cache=options.cache)
        kept = {f"energy {energy}": Factorise(energy=energy, tuning=tuning) for energy in (0.95, 0.8, 0.6)}
        rows = [measured("float32", found, found.core), *(applied(way, found, step) for way, step in kept.items())]
        yield from table(rows, latencies(rows, found, options), many=MANY)
        yield ""


PARTS = {
    "resnet18": resnet18,
    "recurrent": recurrent,
    "digits": digits,
    "attention": attention,
    "sparsity": sparsity,
    "low-rank": low_rank,
}


def applied(name: str, found: Subject, step: Step) -> Row:
    """A step's result, measured."""
    started = time.perf_counter()
    result = step.apply(found.core, found.context)
    assert isinstance(result, OnnxArtifact)
    return replace(measured(name, found, result), seconds=time.perf_counter() - started)


def measured(name: str, found: Subject, core: OnnxArtifact) -> Row:
    """Accuracy on the test split, and how often the decision is the unpruned graph's."""
    given, before = (decisions(answers(each, found.test.features), found.context) for each in (core, found.core))
    accuracy = 100 * float((given == found.test.targets).mean())
    return Row(name, core, accuracy, 100 * float((given == before).mean()), 0.0)


def latencies(rows: list[Row], found: Subject, options: Options, many: int = MANY) -> Mapping[str, tuple[float, float]]:
    """By name, the time for one record and for many, as a ratio to the first row's."""
    features = found.test.features if len(found.test) >= many else found.context.calibration
    one, batch = np.ascontiguousarray(features[:1]), np.ascontiguousarray(features[:many])
    runners = {}
    for row in rows:
        loaded = session(row.core.model)
        runners[row.name] = Runner(
            lambda loaded=loaded: loaded.run(None, {"features": one}),  # type: ignore[misc]
            lambda loaded=loaded: loaded.run(None, {"features": batch}),  # type: ignore[misc]
        )
    result = measure_latency(runners, baseline=rows[0].name, batch=len(batch), seconds=options.seconds)

    def ratio(name: str, metric: str) -> float:
        estimate = result.measurements[name][metric].ratio
        return 1.0 if estimate is None else estimate.value

    return {row.name: (ratio(row.name, "latency.p50"), 1 / ratio(row.name, "throughput")) for row in rows}


def few_latencies(rows: list[Row], found: Subject, rounds: int = 25) -> dict[str, float]:
    """The same for one record of a slow model: medians of a few calls, models taking turns."""
    one = np.ascontiguousarray(found.test.features[:1])
    sessions = {row.name: session(row.core.model) for row in rows}
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, loaded in sessions.items():
            started = time.perf_counter()
            loaded.run(None, {"features": one})
            seconds[name].append(time.perf_counter() - started)
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    return {name: median / medians[rows[0].name] for name, median in medians.items()}


def cost(row: Row) -> str:
    """File, parameters and operations."""
    counted = operations(row.core.model)
    return f"{len(row.core.model) / 1e3:.1f} | {counted.parameters / 1e3:.1f} | {counted.macs / 1e6:.3f}"


def table(rows: list[Row], ratios: Mapping[str, tuple[float, float]], *, many: int) -> Iterator[str]:
    """A Markdown table."""
    yield f"| | file, kB | parameters, k | MMAC | latency, 1 | latency, {many} | accuracy | agreement | seconds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        one, batch = ratios[row.name]
        quality = " | ".join("–" if value is None else f"{value:.2f}" for value in (row.accuracy, row.agreement))
        yield (f"| {row.name} | {cost(row)} | {one:.2f} | {batch:.2f} | {quality} | {row.seconds:.1f} |")


def spread(values: list[float]) -> str:
    """Mean and lowest."""
    return f"{np.mean(values):.1f} ({min(values):.1f})"


if __name__ == "__main__":
    sys.exit(main())
