"""Ctrl-C arrives, whoever swallows it on the way; each case is a process of its own that interrupts itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE = """
import signal, sys, threading, time
from hauberk.cli.interrupt import persistent_interrupt

def interrupt():
    signal.raise_signal(signal.SIGINT)
"""


def outcome(program: str, *, before: str = BEFORE) -> str:
    done = subprocess.run(
        [sys.executable, "-c", before + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


CAUGHT = """
        try:
            interrupt()
        except BaseException:
            pass
"""
SET_NAME = """
        class Attribute:
            def __set_name__(self, *_):
                interrupt()
        try:
            class Made:
                attribute = Attribute()
        except (RuntimeError, KeyboardInterrupt):  # the former with Python 3.11
            pass
"""
TWICE = """
        for wait in (interrupt, lambda: time.sleep(30)):
            try:
                wait()
            except BaseException:
                pass
"""


@pytest.mark.parametrize("swallowing", [CAUGHT, SET_NAME, TWICE], ids=["caught", "set-name", "twice"])
def test_an_interrupt_that_is_swallowed_comes_again(swallowing):
    program = f"""
try:
    with persistent_interrupt(0.1):
{swallowing}
        time.sleep(30)
        print("slept")
except KeyboardInterrupt:
    print("arrived")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    assert outcome(program) == "arrived\nTrue\n"


def test_cleaning_up_takes_as_long_as_it_takes():
    program = """
class Slow:
    def __enter__(self):
        return self
    def __exit__(self, *_):
        time.sleep(0.5)
        print("closed")
try:
    with persistent_interrupt(0.05):
        with Slow():
            try:
                interrupt()
            except BaseException as error:
                time.sleep(0.3)
                print("undone")
                raise OSError("while undoing") from error
            finally:
                time.sleep(0.3)
                print("finished")
except OSError:
    time.sleep(0.3)
    print("arrived")
"""
    assert outcome(program) == "undone\nfinished\nclosed\narrived\n"


def test_a_second_one_of_the_user_s_is_raised_at_once():
    program = """
try:
    with persistent_interrupt(60):
        try:
            interrupt()
        finally:
            interrupt()
            print("finished")
except KeyboardInterrupt:
    print("arrived")
"""
    assert outcome(program) == "arrived\n"


def test_nothing_comes_after_the_block():
    program = """
with persistent_interrupt(0.05):
    try:
        interrupt()
    except KeyboardInterrupt:
        pass
time.sleep(0.5)
print("quiet")
"""
    assert outcome(program) == "quiet\n"


HANDLER = """
def own(*_):
    print("own")
signal.signal(signal.SIGINT, own)
with persistent_interrupt():
    interrupt()
print(signal.getsignal(signal.SIGINT) is own)
"""
THREAD = """
def run():
    with persistent_interrupt():
        print("own")
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.parametrize("program", [HANDLER, THREAD], ids=["another-handler", "another-thread"])
def test_who_has_a_handler_of_his_own_keeps_it(program):
    assert outcome(program) == "own\nTrue\n"


def test_a_command_ends_although_a_library_swallows_the_first():
    program = """
import hauberk.cli, hauberk.cli.keys
def run(options, output):
    try:
        interrupt()
    except BaseException:
        pass
    time.sleep(30)
hauberk.cli.keys.run = run
print(hauberk.cli.main(["keys", "show"]))
"""
    assert outcome(program) == "130\n"


def test_where_no_thread_is_to_be_had_it_is_given_once():
    program = """
def no_thread(*_arguments, **_keywords):
    raise RuntimeError("can't start new thread")
try:
    with persistent_interrupt(0.1):
        threading.Thread.start = no_thread
        interrupt()
except KeyboardInterrupt:
    print("arrived")
"""
    assert outcome(program) == "arrived\n"


@pytest.mark.parametrize(("happens", "code"), [("interrupt()", 130), ("raise ValueError", 2)])
def test_a_closed_standard_error_changes_no_exit_code(happens, code):
    program = f"""
import os, hauberk.cli, hauberk.cli.keys
def run(options, output):
    {happens}
hauberk.cli.keys.run = run
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 2)
print(hauberk.cli.main(["keys", "show"]))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    assert outcome(program) == f"{code}\nTrue\n"
