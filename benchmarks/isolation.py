"""What isolation costs: loading a model file, and answers of a worker with and without walls.

    python benchmarks/isolation.py [--loads 100] [--answers 2000]

Loading is timed by the wall clock and by processor time of all processes taken together, because a busy machine
stretches the one and not the other. Answers of the two workers are asked in turns, so both see the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from hauberk.ingest import isolated, load_model
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.weights import read_checkpoint, read_safetensors
from hauberk.models import TabularMLP
from hauberk.sandbox.landlock import runtime_paths
from hauberk.sandbox.limits import GIBIBYTE, Limits, offered
from hauberk.sandbox.worker import Worker

INPUTS = 41


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=100)
    parser.add_argument("--answers", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small(folder, options.loads)
        large(folder)
    asyncio.run(workers(options.answers))


def processor_time() -> float:
    """Of this process and of those that have ended, in seconds; a fork server counts once it is stopped."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def small(folder: Path, loads: int) -> None:
    """A detector of a hundred kilobytes, in each format: the first file of a process, and the following ones."""
    (folder / "nets.py").write_text(
        f"from hauberk.models import TabularMLP\ndef make(): return TabularMLP({INPUTS}, (128, 64))\n"
    )
    state = TabularMLP(INPUTS, (128, 64)).state_dict()
    torch.save(state, folder / "zip.pt")
    torch.save(state, folder / "stream.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, folder / "a.safetensors")
    (folder / "a.onnx").write_bytes(linear())
    for name in ("a.safetensors", "zip.pt", "stream.pt", "a.onnx"):
        arch = None if name == "a.onnx" else f"{folder / 'nets.py'}:make"
        isolated.stop()
        before = processor_time(), time.perf_counter()
        load_model(folder / name, arch=arch)
        first = time.perf_counter() - before[1]
        times = [timed(lambda: load_model(folder / name, arch=arch)) for _ in range(loads)]  # noqa: B023 - called at once
        isolated.stop()
        used = processor_time() - before[0]
        print(
            f"{name:14} first {1000 * first:5.0f} ms, then {1000 * statistics.median(times):5.1f} ms"
            f" (median of {loads}); processor time of all together {1000 * used:.0f} ms"
        )


def large(folder: Path) -> None:
    """A checkpoint of 1 GiB: copying and hashing it, scanning and mapping it."""
    state = {f"layer.{number}": torch.ones(1 << 24) for number in range(16)}
    torch.save(state, folder / "large.pt")
    safetensors.torch.save_file(state, folder / "large.safetensors")
    del state
    for name, read in (("large.pt", read_checkpoint), ("large.safetensors", read_safetensors)):
        started = time.perf_counter()
        with PrivateCopy(folder / name) as copy:
            copied = time.perf_counter()
            isolated.scan(copy)
            scanned = time.perf_counter()
            read(copy)
            done = time.perf_counter()
        print(
            f"{name:18} copied and hashed in {copied - started:.2f} s, scanned in {scanned - copied:.3f} s,"
            f" read in {done - scanned:.3f} s"
        )


def timed(action: Callable[[], object]) -> float:
    """Seconds, wall clock."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def linear() -> bytes:
    """Features [batch, 41] to logits [batch, 2]."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.ones((INPUTS, 2), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised


class Session:
    """What a worker does: one run of a small graph for every question; a `hauberk.sandbox.child.Handler`."""

    greeting = b"ready"

    def __init__(self, model: bytes) -> None:
        from hauberk.backends import Session as Backend

        self._session = Backend(model)

    def answer(self, question: bytes) -> bytes:
        """Logits of float32 records."""
        records = np.frombuffer(question, np.float32).reshape(-1, INPUTS)
        logits: bytes = self._session.predict(records).tobytes()
        return logits


async def workers(answers: int) -> None:
    """Latency of a worker under resource limits only, and of one behind walls too."""
    plain = Limits(memory=GIBIBYTE, files=64, file_size=0)
    walls = msgspec.structs.replace(plain, read_only=runtime_paths(), network=False, system_calls="compute")
    kept, missing = offered(walls)
    if missing:
        print(f"this kernel cannot refuse: {', '.join(missing)}")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    running = {"without walls": await start(plain), "with walls": await start(kept)}
    question = np.zeros((1, INPUTS), np.float32).tobytes()
    times: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(answers // 50):
        for name, worker in running.items():
            for _ in range(50):
                started = time.perf_counter()
                await worker.ask(question, time_limit=10)
                times[name].append(time.perf_counter() - started)
    for name, worker in running.items():
        middle, high = np.percentile(times[name], [50, 99])
        print(f"a worker {name}: median {1e6 * middle:.0f} µs, 99th percentile {1e6 * high:.0f} µs")
        await worker.close()
    print(json.dumps({name: round(1e6 * statistics.median(found), 1) for name, found in times.items()}))


async def start(limits: Limits) -> Worker:
    """A worker that answers with logits."""
    return await Worker.start("isolation:Session", linear(), limits=limits, time_limit=60.0, longest_answer=1 << 20)


if __name__ == "__main__":
    main()
