"""What a session may use and how it runs. Every field's effect is tested (docs/reference/runtime-hardening.md)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

from hauberk.errors import InputError

GraphOptimization = Literal["disabled", "basic", "extended", "all"]
LogSeverity = Literal["verbose", "info", "warning", "error", "fatal"]

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
        if self.time_limit is not None and not (math.isfinite(self.time_limit) and 0 < self.time_limit <= _LONGEST_RUN):
            raise InputError(
                f"session option time_limit is {self.time_limit}; give seconds up to {_LONGEST_RUN:.0f}, or None"
            )
        _check_choice("graph_optimization", self.graph_optimization, get_args(GraphOptimization))
        _check_choice("log_severity", self.log_severity, get_args(LogSeverity))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"session option {name} is {value!r}; give one of {', '.join(choices)}")
