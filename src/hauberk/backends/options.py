"""What a session may use and how it runs. Every field's effect is tested (docs/reference/runtime-hardening.md)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

from hauberk.errors import InputError

GraphOptimization = Literal["disabled", "basic", "extended", "all"]
LogSeverity = Literal["verbose", "info", "warning", "error", "fatal"]
Precision = Literal["float32", "bfloat16"]
Provider = Literal["cpu", "cuda", "tensorrt"]

_MOST_THREADS = 1024
_LONGEST_RUN = 24 * 3600.0
_SMALLEST_ARENA = 1 << 20


class SessionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of a session, checked when they are built: ONNX Runtime itself takes absurd values in silence.

    Attributes:
        intra_op_threads: Threads that share the work of one operator, the calling one included.
        inter_op_threads: Threads that run independent operators at the same time; more than one needs `parallel`.
        parallel: Run independent operators at the same time instead of one after the other.
        spinning: Let idle worker threads burn their core while they wait: lower latency with several threads, at ten
            times the processor time.
        graph_optimization: How much ONNX Runtime rewrites the graph when it loads it.
        memory_arena: Keep freed memory for the next run instead of returning it.
        arena_limit: The most bytes that the arena of this session may hold for what runs compute; weights, and what is
            computed while the model is loaded, do not count. `None` is no limit.
        time_limit: Seconds that one run may take before it is stopped between two operators; `None` is no limit.
        log_severity: The least severity that ONNX Runtime writes to standard error. Its errors are raised in any case.
        validate: Check the model before and while it is loaded, strictly.
        provider: What computes. "cuda" and "tensorrt" need the package `onnxruntime-gpu` in place of `onnxruntime`, and
            a graphics card; operators that they lack stay on the processor.

    Raises:
        InputError: A value is out of range, or two contradict each other.
    """

    intra_op_threads: int = 1
    inter_op_threads: int = 1
    parallel: bool = False
    spinning: bool = False
    graph_optimization: GraphOptimization = "all"
    memory_arena: bool = True
    arena_limit: int | None = None
    time_limit: float | None = 60.0
    log_severity: LogSeverity = "fatal"
    validate: bool = True
    provider: Provider = "cpu"

    def __post_init__(self) -> None:
        for name in ("intra_op_threads", "inter_op_threads"):
            if not 1 <= getattr(self, name) <= _MOST_THREADS:
                raise InputError(f"session option {name} is {getattr(self, name)}; give 1 to {_MOST_THREADS}")
        if self.inter_op_threads > 1 and not self.parallel:
            raise InputError(
                f"session option inter_op_threads is {self.inter_op_threads}, but operators run one after the other; "
                "set parallel=True or leave it at 1"
            )
        if self.arena_limit is not None:
            if not self.memory_arena:
                raise InputError("session option arena_limit limits the arena, which memory_arena=False switches off")
            if self.arena_limit < _SMALLEST_ARENA:
                raise InputError(
                    f"session option arena_limit is {self.arena_limit}; give {_SMALLEST_ARENA} bytes or more"
                )
        _check_time_limit(self.time_limit)
        _check_choice("graph_optimization", self.graph_optimization, get_args(GraphOptimization))
        _check_choice("log_severity", self.log_severity, get_args(LogSeverity))
        _check_choice("provider", self.provider, get_args(Provider))


class OpenVinoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of an OpenVINO session.

    Attributes:
        threads: Threads that share the work of one run, the calling one included.
        streams: Runs that may go on at the same time, each with its share of the threads.
        precision: What floating-point operators compute in; "bfloat16" needs a processor that has it. It is about twice
            as fast on large layers and moves logits by 0.4 % of their size or so: measure it before you lean on it.
        time_limit: Seconds that one run may take before it is stopped between two operators; a `Loop` counts as one.
            It makes every run start on another thread, which costs 10 µs, so `None`, no limit, is the default.
        validate: Check the model before it is loaded, strictly.

    Raises:
        InputError: A value is out of range.
    """

    threads: int = 1
    streams: int = 1
    precision: Precision = "float32"
    time_limit: float | None = None
    validate: bool = True

    def __post_init__(self) -> None:
        for name in ("threads", "streams"):
            if not 1 <= getattr(self, name) <= _MOST_THREADS:
                raise InputError(f"session option {name} is {getattr(self, name)}; give 1 to {_MOST_THREADS}")
        if self.streams > self.threads:
            raise InputError(f"session option streams is {self.streams}, more than the {self.threads} threads")
        _check_choice("precision", self.precision, get_args(Precision))
        _check_time_limit(self.time_limit)


def _check_time_limit(limit: float | None) -> None:
    if limit is not None and not (math.isfinite(limit) and 0 < limit <= _LONGEST_RUN):
        raise InputError(f"session option time_limit is {limit}; give seconds up to {_LONGEST_RUN:.0f}, or None")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"session option {name} is {value!r}; give one of {', '.join(choices)}")
