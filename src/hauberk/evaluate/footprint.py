"""How much room a model takes and how long it takes to load, measured in fresh processes, as production starts."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.evaluate.load_probe import Cost
from hauberk.measurement import Estimate, Measurement
from hauberk.progress import SILENT, Progress

_LEAST_RUNS = 6
"""The smallest and the largest of n runs enclose the median with probability 1 - 2 * 0.5**n: above 95 % from 6 on."""


def size_measurement(model: bytes, baseline: bytes | None = None) -> Measurement:
    """Size of a serialised graph in bytes; exact, so without an interval. `baseline` is `None` for the baseline."""
    size = len(model)
    return Measurement(
        name="size",
        value=float(size),
        unit="bytes",
        samples=1,
        difference=None if baseline is None else _exact(float(size - len(baseline))),
        ratio=None if baseline is None else _exact(size / len(baseline)),
        note="the serialised graph, before encryption",
    )


def measure_footprint(
    models: Mapping[str, bytes],
    *,
    baseline: str,
    runs: int = 7,
    seconds: float = 60.0,
    progress: Progress = SILENT,
) -> dict[str, dict[str, Measurement]]:
    """Size, load time and peak memory of models, the latter two in a fresh process each time.

    Runs of different models alternate, and run k of a model is compared with run k of the baseline.

    Args:
        models: Serialised graphs by name.
        baseline: Name of the one that differences and ratios refer to.
        runs: Processes started for each model, at least 6. The medians are reported; their intervals reach from the
            smallest to the largest run.
        seconds: Time that one process may take.
        progress: Who follows.

    Returns:
        By model, then by metric: `size`, `memory.peak` (bytes) and `load_time` (seconds).

    Raises:
        InputError: The baseline is missing, there are too few runs, or a model does not load in time.
    """
    if baseline not in models:
        raise InputError(f"footprint: the baseline {baseline!r} is not among the models: {', '.join(models)}")
    if runs < _LEAST_RUNS:
        raise InputError(f"footprint: at least {_LEAST_RUNS} runs are needed for a 95 % interval, not {runs}")
    costs: dict[str, list[Cost]] = {name: [] for name in models}
    with (
        tempfile.TemporaryDirectory(prefix="hauberk-") as folder,
        progress.task("loading in fresh processes", total=runs * len(models)) as task,
    ):
        paths = {name: Path(folder, f"{number}.onnx") for number, name in enumerate(models)}
        for name, path in paths.items():
            path.write_bytes(models[name])
        for _ in range(runs):
            for name, path in paths.items():
                costs[name].append(_load_once(name, path, seconds))
                task.advance()
    return {name: _measurements(models, costs, name, None if name == baseline else baseline) for name in models}


def _load_once(name: str, path: Path, seconds: float) -> Cost:
    command = [sys.executable, "-m", "hauberk.evaluate.load_probe", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"footprint: {name} did not load and answer one record within {seconds:g} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"footprint: {name} does not load in a fresh process: {said[-1]}")
    return msgspec.json.decode(done.stdout, type=Cost)


def _measurements(
    models: Mapping[str, bytes], costs: Mapping[str, list[Cost]], name: str, baseline: str | None
) -> dict[str, Measurement]:
    def seconds(model: str) -> NDArray[np.float64]:
        return np.array([cost.seconds for cost in costs[model]])

    def memory(model: str) -> NDArray[np.float64]:
        return np.array([cost.memory for cost in costs[model]], dtype=np.float64)

    measured = [
        size_measurement(models[name], None if baseline is None else models[baseline]),
        _median_measurement(
            "memory.peak",
            "bytes",
            memory(name),
            None if baseline is None else memory(baseline),
            "resident memory above the imports', ONNX Runtime's own set-up included",
        ),
        _median_measurement(
            "load_time",
            "s",
            seconds(name),
            None if baseline is None else seconds(baseline),
            "from the file to the first answer, in a process that has the libraries imported",
        ),
    ]
    return {measurement.name: measurement for measurement in measured}


def _median_measurement(
    name: str, unit: str, values: NDArray[np.float64], reference: NDArray[np.float64] | None, note: str
) -> Measurement:
    middle = _median(values)
    difference = ratio = None
    if reference is not None:
        difference = _median(values - reference)
        ratio = _median(values / reference) if (reference > 0).all() else None
    return Measurement(
        name=name,
        value=middle.value,
        unit=unit,
        samples=len(values),
        low=middle.low,
        high=middle.high,
        difference=difference,
        ratio=ratio,
        note=note,
    )


def _median(values: NDArray[np.float64]) -> Estimate:
    return Estimate(value=float(np.median(values)), low=float(values.min()), high=float(values.max()))


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)
