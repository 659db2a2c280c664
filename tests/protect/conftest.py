"""A small provenance and what was measured at its end."""

from __future__ import annotations

import hashlib

import pytest

from hauberk.artifact import StepRecord, Verdict
from hauberk.measurement import Machine, Measurement
from hauberk.protect import DataSource
from hauberk.requirements import Outcome


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def record(step: str, before: str, after: str, **changes: object) -> StepRecord:
    fields: dict[str, object] = {
        "parameters": {"step": step},
        "contract": {"contract": "close", "rtol": 1e-4, "atol": 1e-5},
        "kept": True,
        "verdict": Verdict(True, 500, 0.995, 1e-6, "real[3]"),
        "seconds": 0.25,
    }
    return StepRecord(step=step, before=digest(before), after=digest(after), **{**fields, **changes})


@pytest.fixture
def history() -> tuple[StepRecord, ...]:
    """Admission, export, a step that was undone, quantization, merging."""
    broken = Verdict(False, 500, 0.7, 2.5, "real[8]", "the decision agrees on 70 % of 500 real records")
    admitted = {"parameters": {"file": "secret-name.safetensors", "format": "safetensors"}, "contract": None}
    return (
        record("admit", "file", "module", verdict=None, **admitted),
        record("export", "module", "graph"),
        record("distill", "graph", "graph", kept=False, verdict=broken, parameters={"widths": [32]}),
        record("quantize-static", "graph", "int8"),
        record("merge", "int8", "merged"),
    )


@pytest.fixture
def subjects() -> tuple[tuple[str, str], ...]:
    return (("model.onnx", digest("merged")),)


@pytest.fixture
def origin() -> str:
    return digest("file")


@pytest.fixture
def machine() -> Machine:
    return Machine("Some Processor", 2, 1 << 34, "Linux x86_64", "3.11.9", {"onnxruntime": "1.31.1"})


@pytest.fixture
def data() -> DataSource:
    return DataSource("spambase", digest("data"), {"training": 2758, "validation": 919, "test": 919})


@pytest.fixture
def measurements() -> dict[str, Measurement]:
    return {
        "accuracy": Measurement("accuracy", 0.9375, "fraction", 919, 0.92, 0.95),
        "latency.p50": Measurement("latency.p50", 7.1e-6, "s", 30, 7.0e-6, 7.3e-6),
        "size": Measurement("size", 66365.0, "bytes", 1),
    }


@pytest.fixture
def outcomes() -> tuple[Outcome, ...]:
    return (
        Outcome("latency.p99 <= 50us", holds=True, reason="latency.p99 is 9.1 µs"),
        Outcome("robust_accuracy >= 90%", holds=False, reason="robust_accuracy is 31.8 %, class weak-class is worst"),
    )
