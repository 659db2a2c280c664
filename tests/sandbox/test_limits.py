"""Every limit is tried against the real kernel, in processes that can be thrown away."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hauberk.errors import InputError
from hauberk.sandbox.limits import MEBIBYTE, Check, Limits, self_test

ALL = Limits(memory=256 * MEBIBYTE, cpu_seconds=1, files=32, file_size=1000, processes=0)
NOBODY = 65534


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return {check.name: check for check in self_test(ALL)}


@pytest.mark.parametrize(
    "name", ["memory", "cpu_seconds", "files", "file_size", "core", "unreadable", "privileges", "orphans"]
)
def test_a_limit_bites(checks: dict[str, Check], name: str) -> None:
    assert checks[name].holds, checks[name].detail


def test_the_process_limit_bites_unless_root(checks: dict[str, Check]) -> None:
    assert checks["processes"].holds == (os.geteuid() != 0)


def test_only_what_is_set_is_tested() -> None:
    names = {check.name for check in self_test(Limits(files=64))}
    assert names == {"files", "core", "unreadable", "privileges", "orphans"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory", 64 * MEBIBYTE),
        ("files", 32),
        ("file_size", 1000),
        ("read_only", ("/usr",)),
        ("network", False),
        ("system_calls", "compute"),
    ],
)
def test_without_its_limit_the_attempt_succeeds(name: str, value: object) -> None:
    """The probes themselves are honest: where nothing limits, they say so."""
    code = (
        "import hauberk.sandbox.probes as probes\n"
        "probes.apply = lambda limits: None\n"
        f"print(probes.check({name!r}, probes.Limits({name}={value!r})).holds)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def in_child(code: str, *, prelude: str = "") -> str:
    """Run code after `apply(limits)` in a process of its own; returns what it prints."""
    program = f"{prelude}\nimport os, resource\nfrom hauberk.sandbox.limits import Limits, apply\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_limits_cannot_be_lifted_again() -> None:
    code = (
        "apply(Limits(memory=1 << 28, files=64))\n"
        "print([resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)])"
    )
    assert in_child(code) == "[(268435456, 268435456), (64, 64)]"


def test_a_stricter_limit_from_outside_stays() -> None:
    code = "apply(Limits(files=64))\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))"
    prelude = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    assert in_child(code, prelude=prelude) == "(40, 40)"


def test_limits_are_inherited_by_children() -> None:
    code = (
        "apply(Limits(file_size=10))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(resource.getrlimit(resource.RLIMIT_FSIZE)[0])\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert in_child(code) == "10"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("concealed", [False, True])
def test_the_same_user_cannot_read_a_limited_process(concealed: bool) -> None:
    reader, writer = os.pipe()
    victim = os.fork()
    if victim == 0:
        os.setuid(NOBODY)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from hauberk.sandbox.limits import _PR_SET_DUMPABLE, _prctl, conceal

        _prctl(_PR_SET_DUMPABLE, 1)  # setuid switched it off
        if concealed:
            conceal()
        os.write(writer, b"1")
        time.sleep(30)
        os._exit(0)
    os.read(reader, 1)
    spy = os.fork()
    if spy == 0:
        os.setuid(NOBODY)
        try:
            os.close(os.open(f"/proc/{victim}/mem", os.O_RDONLY))
            os._exit(0)
        except OSError:
            os._exit(1)
    refused = os.waitstatus_to_exitcode(os.waitpid(spy, 0)[1]) == 1
    os.kill(victim, 9)
    os.waitpid(victim, 0)
    assert refused == concealed


@pytest.mark.parametrize(
    "wrong", [{"memory": 1000}, {"memory": 1 << 62}, {"files": 0}, {"cpu_seconds": 0}, {"file_size": -1}]
)
def test_absurd_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Limits(**wrong)


def test_a_limited_process_still_reads_its_own_files(tmp_path: Path) -> None:
    """Not being dumpable hides `/proc/self` from others; a worker reads its bundle through it."""
    (tmp_path / "bundle").write_text("content")
    code = (
        f"file = os.open({str(tmp_path / 'bundle')!r}, os.O_RDONLY)\n"
        "apply(Limits(files=64))\n"
        "print(open(f'/proc/self/fd/{file}').read())"
    )
    assert in_child(code) == "content"
