"""What one record costs, from a bare ONNX Runtime call to a dict of raw values. One thread, one process, interleaved.

    python benchmarks/latency.py [--seconds 20] [--settings] [--json]

`--settings` times the session options against their defaults instead: what each control costs. All differences are
paired: of the same rounds, with a 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

import hauberk
from hauberk.backends import SessionOptions
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency
from hauberk.measurement import Estimate, this_machine
from hauberk.schema.coding import Coded
from reference_detector import WIDTHS, Reference, build_reference, describe_machine, raw_record

TARGET = 3e-6
"""The most that `Detector.predict` on coded arrays may add to a bare run of the same graph, in seconds."""

BATCH = 256
BARE = "InferenceSession.run, deployed graph"
CODED = "Detector.predict, coded arrays"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="time to spend (default: 20)")
    parser.add_argument("--settings", action="store_true", help="time session options instead of ways to call")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        reference = build_reference(Path(folder))
        runners, baseline = (settings(reference), "defaults") if options.settings else (ways(reference), BARE)
        result = measure_latency(runners, baseline=baseline, batch=BATCH, seconds=options.seconds)
    added = None if options.settings else result.measurements[CODED]["latency.p50"].difference
    if options.json:
        document = {"machine": this_machine(), "data": reference.data, "baseline": baseline, "result": result}
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        print(f"{machine}\n")
        print(f"TabularMLP {'-'.join(map(str, WIDTHS))} on {reference.data}, one record, 1 thread\n")
        print(table(result, baseline))
        if added is not None:
            print(f"\n{verdict(added)}")
    return 0


def ways(reference: Reference) -> dict[str, Runner]:
    """The same answer from seven places."""
    import onnxruntime

    plain = onnxruntime.SessionOptions()
    plain.intra_op_num_threads = plain.inter_op_num_threads = 1
    core, merged, deployed = (
        onnxruntime.InferenceSession(model, plain, providers=["CPUExecutionProvider"])
        for model in (reference.core, reference.merged, reference.deployed)
    )
    detector = _open(reference)
    schema, coded = detector.schema, reference.records.coded
    one, many = (Coded(coded.numeric[:n].copy(), coded.codes[:n].copy()) for n in (1, BATCH))
    names = [spec.name for spec in detector.manifest.inputs]

    def feeds(records: Coded) -> dict[str, Any]:
        return {name: getattr(records, name) for name in names}

    features = [reference.space.transform(*records) for records in (one, many)]
    tensors = [torch.from_numpy(array) for array in features]

    @torch.inference_mode()
    def eager(index: int) -> torch.Tensor:
        result: torch.Tensor = reference.module(tensors[index])
        return result

    raw = [raw_record(schema, reference.records, row) for row in range(BATCH)]
    return {
        "torch eager, core": Runner(lambda: eager(0), lambda: eager(1)),
        "InferenceSession.run, core": _both(lambda x: core.run(None, {"features": x}), *features),
        "InferenceSession.run, parts merged and no more": _both(lambda x: merged.run(None, x), feeds(one), feeds(many)),
        BARE: _both(lambda x: deployed.run(None, x), feeds(one), feeds(many)),
        CODED: _both(detector.predict, one, many),
        "Detector.predict, dict of raw values": _both(detector.predict, raw[0], raw),
    }


def settings(reference: Reference) -> dict[str, Runner]:
    """The default options, and each of them changed alone."""
    coded = reference.records.coded
    one, many = (Coded(coded.numeric[:n].copy(), coded.codes[:n].copy()) for n in (1, BATCH))
    changes: dict[str, dict[str, Any]] = {
        "defaults": {},
        "time_limit=None": {"time_limit": None},
        "memory_arena=False": {"memory_arena": False},
        "arena_limit=64 MiB": {"arena_limit": 64 << 20},
        "graph_optimization='disabled'": {"graph_optimization": "disabled"},
        "graph_optimization='basic'": {"graph_optimization": "basic"},
        "intra_op_threads=2": {"intra_op_threads": 2},
        "intra_op_threads=2, spinning=True": {"intra_op_threads": 2, "spinning": True},
        "parallel=True, inter_op_threads=2": {"parallel": True, "inter_op_threads": 2},
    }
    return {name: _both(_open(reference, **change).predict, one, many) for name, change in changes.items()}


def table(result: LatencyResult, baseline: str) -> str:
    """A Markdown table."""
    lines = [
        f"| | p50 | p99 | minus {baseline}, p50 | {BATCH} records |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, figures in result.measurements.items():
        p50, p99 = (f"{figures[metric].value * 1e6:.2f} µs" for metric in ("latency.p50", "latency.p99"))
        many = f"{BATCH / figures['throughput'].value * 1e6:.0f} µs"
        lines.append(f"| {name} | {p50} | {p99} | {show_difference(figures['latency.p50'].difference)} | {many} |")
    lines.append(f"\n{result.rounds} rounds; the baseline against itself strays by {100 * result.noise:.1f} %.")
    return "\n".join(lines)


def show_difference(difference: Estimate | None) -> str:
    """A paired difference with its interval."""
    if difference is None:
        return "–"
    value, low, high = (f"{1e6 * seconds:+.2f}" for seconds in (difference.value, difference.low, difference.high))
    return f"{value} µs ({low} … {high})"


def verdict(added: Estimate) -> str:
    """Target, measured, met."""
    return (
        f"Target: Detector.predict on coded arrays adds at most {TARGET * 1e6:g} µs to the bare run. "
        f"Measured: {show_difference(added)}. {'Met' if added.high <= TARGET else 'Missed'}."
    )


def _open(reference: Reference, **changes: Any) -> hauberk.Detector:
    keys = reference.keys
    return hauberk.open(reference.bundle, key=keys.encryption, trust=keys.policy, options=SessionOptions(**changes))


def _both(call: Callable[[Any], object], one: object, many: object) -> Runner:
    return Runner(lambda: call(one), lambda: call(many))


if __name__ == "__main__":
    sys.exit(main())
