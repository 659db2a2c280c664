"""Measured figures: a value, its unit, how sure it is, and the machine that it was taken on."""

from __future__ import annotations

import math
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import msgspec


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value with its 95 % confidence interval, `low <= value <= high`, in the unit of its measurement."""

    value: float
    low: float
    high: float


class Measurement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A named figure, as it was measured.

    Attributes:
        name: Metric name, for example `latency.p99` or `detection_rate@fpr=1%` (see `docs/reference/metrics.md`).
        value: The figure, in `unit`. Rates are fractions in [0, 1], times are seconds, sizes are bytes.
        unit: `s`, `bytes`, `records/s`, `fraction` or `count`.
        samples: How many independent samples the figure rests on (records, timed rounds, runs).
        low: Lower end of the 95 % interval; `None` where the figure is exact (a file size).
        high: Upper end of the 95 % interval, or `None`.
        difference: Candidate minus baseline, paired over the same samples; `None` for the baseline itself.
        ratio: Candidate over baseline, paired over the same rounds; `None` for the baseline itself.
        note: What a reader must know to read the figure right, in one sentence.
    """

    name: str
    value: float
    unit: str
    samples: int
    low: float | None = None
    high: float | None = None
    difference: Estimate | None = None
    ratio: Estimate | None = None
    note: str = ""


NORMAL_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: half of 5 % lies above it."""


def wilson(successes: int, samples: int) -> Estimate:
    """A rate with its Wilson score interval, which behaves at 0 and 1 and for few samples.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927). No samples give
    the rate 0 in [0, 1]: nothing is known.
    """
    if samples == 0:
        return Estimate(value=0.0, low=0.0, high=1.0)
    rate = successes / samples
    z2 = NORMAL_95**2
    centre = (rate + z2 / (2 * samples)) / (1 + z2 / samples)
    half = NORMAL_95 / (1 + z2 / samples) * math.sqrt(rate * (1 - rate) / samples + z2 / (4 * samples**2))
    return Estimate(value=rate, low=max(0.0, min(rate, centre - half)), high=min(1.0, max(rate, centre + half)))


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where figures were taken: nothing that identifies a person or a host."""

    processor: str
    cores: int
    memory: int
    system: str
    python: str
    versions: dict[str, str]


_VERSIONS_OF_INTEREST = ("numpy", "onnxruntime", "onnx", "torch", "cryptography")


def this_machine() -> Machine:
    """Describe this machine and the versions of the libraries that decide speed and results."""
    versions = {}
    for package in _VERSIONS_OF_INTEREST:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Machine(
        processor=_processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.machine()}",
        python=".".join(str(part) for part in sys.version_info[:3]),
        versions=versions,
    )


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
