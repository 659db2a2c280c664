"""The watchdog stops what is late, nothing else, and does not outlive its watches."""

from __future__ import annotations

import time
from types import SimpleNamespace

import onnxruntime
import pytest

from hauberk.backends import watchdog
from hauberk.backends.watchdog import Watch


def wait_until(condition, seconds: float = 10.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.005)
    return bool(condition())


@pytest.fixture
def watch() -> Watch:
    return Watch(0.05, onnxruntime.RunOptions())


def test_a_late_run_is_told_to_stop(watch):
    watch.begin()
    assert wait_until(lambda: watch.run_options.terminate)
    assert watch.end()


def test_not_before_its_time(watch):
    started = time.monotonic()
    watch.begin()
    wait_until(lambda: watch.run_options.terminate)
    assert time.monotonic() - started >= 0.05


def test_a_run_that_ended_is_left_alone(watch):
    watch.begin()
    assert not watch.end()
    time.sleep(0.15)
    assert not watch.run_options.terminate


def test_the_run_after_a_late_one_starts_afresh(watch):
    watch.begin()
    wait_until(lambda: watch.run_options.terminate)
    watch.end()
    assert not watch.run_options.terminate
    watch.begin()
    assert not watch.end()


def test_a_short_limit_is_kept_beside_a_long_one(watch):
    long = Watch(3600, onnxruntime.RunOptions())
    long.begin()
    short = Watch(0.05, onnxruntime.RunOptions())
    short.begin()
    assert wait_until(lambda: short.run_options.terminate)
    assert not long.end()


def test_a_watch_that_is_dropped_while_the_thread_looks_does_not_end_the_thread(monkeypatch):
    """It would end with an error, nobody would start another, and no limit of this process would hold any more."""
    watched = watchdog._Watchdog()
    held = [Watch(0.05, onnxruntime.RunOptions())]
    watched._watches.add(held[0])

    def drop_and_tell() -> float:
        held.clear()
        return time.monotonic()

    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=drop_and_tell))
    assert watched._look() is not None
    assert watched._look() is None


def test_the_thread_ends_with_the_last_watch(run_python):
    # In an interpreter of its own: here, other tests may hold watches.
    code = (
        "import onnxruntime, threading, time\n"
        "from hauberk.backends.watchdog import Watch\n"
        "def threads(): return [thread.name for thread in threading.enumerate()][1:]\n"
        "def wait(condition):\n"
        "    ends = time.monotonic() + 20\n"
        "    while not condition() and time.monotonic() < ends: time.sleep(0.005)\n"
        "watch = Watch(0.02, onnxruntime.RunOptions())\n"
        "print(threads())\n"
        "del watch\n"
        "wait(lambda: not threads())\n"
        "print(threads())\n"
        "again = Watch(0.02, onnxruntime.RunOptions())\n"
        "again.begin()\n"
        "wait(lambda: again.run_options.terminate)\n"
        "print(again.end())\n"
    )
    assert run_python(code).stdout == "['hauberk-watchdog']\n[]\nTrue\n"


def test_limits_hold_after_a_fork(graphs, run_python):
    code = (
        "session = Session(model, SessionOptions(time_limit=0.2))\n"
        "session.run({'times': np.array(3)})\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try: session.run({'times': np.array(2 ** 62)})\n"
        "    except Exception as error: os._exit(7 if type(error).__name__ == 'LimitError' else 8)\n"
        "    os._exit(9)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert run_python(code, graphs.counted_loop()).stdout == "7\n"
