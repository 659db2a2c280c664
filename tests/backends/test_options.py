"""Options refuse what ONNX Runtime would take in silence."""

from __future__ import annotations

import msgspec
import pytest

from hauberk.backends import SessionOptions
from hauberk.errors import InputError


@pytest.mark.parametrize(
    "options",
    [
        {"intra_op_threads": 0},
        {"intra_op_threads": 100_000},
        {"inter_op_threads": -1, "parallel": True},
        {"inter_op_threads": 2},
        {"graph_optimization": "everything"},
        {"log_severity": "loud"},
        {"arena_limit": 10},
        {"arena_limit": -1},
        {"arena_limit": 1 << 30, "memory_arena": False},
        {"time_limit": 0.0},
        {"time_limit": -1.0},
        {"time_limit": float("nan")},
        {"time_limit": float("inf")},
        {"time_limit": 1e9},
    ],
)
def test_absurd_values_are_refused_by_name(options):
    with pytest.raises(InputError, match=next(iter(options))):
        SessionOptions(**options)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError):
        SessionOptions(max_mem=1 << 30)


def test_options_travel_as_json_and_are_checked_on_arrival():
    options = SessionOptions(intra_op_threads=2, arena_limit=1 << 28, time_limit=None)
    assert msgspec.json.decode(msgspec.json.encode(options), type=SessionOptions) == options
    with pytest.raises(InputError, match="time_limit"):
        msgspec.json.decode(b'{"time_limit": -3.0}', type=SessionOptions)
