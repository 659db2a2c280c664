"""Files, network and system calls closed off: every way out is tried against the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hauberk.sandbox import landlock, limits, seccomp
from hauberk.sandbox.limits import Check, Limits, offered, self_test

WALLS = Limits(read_only=("/usr",), network=False, system_calls="compute")
NOBODY = 65534

needs_walls = pytest.mark.skipif(offered(WALLS)[1] != (), reason=f"this kernel cannot refuse {offered(WALLS)[1]}")


def in_child(code: str) -> str:
    """Run code in a process of its own, which may call `apply(Limits(…))`; returns what it prints."""
    program = f"import os, resource\nfrom hauberk.sandbox.limits import Limits, apply\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return {check.name: check for check in self_test(WALLS)}


@needs_walls
@pytest.mark.parametrize("name", ["read_only", "network", "system_calls"])
def test_a_wall_holds_every_attempt(checks: dict[str, Check], name: str) -> None:
    assert checks[name].holds, checks[name].detail


@needs_walls
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_an_ordinary_user_needs_no_rights_for_it() -> None:
    code = (
        "from hauberk.sandbox import probes\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "limits = Limits(read_only=('/usr',), network=False, system_calls='compute', processes=0)\n"
        "print([(check.name, check.detail) for check in probes.check_all(limits) if not check.holds])"
    )
    assert in_child(code) == "[]"


KERNEL_MAY_LACK = {
    "a call that is not known yet",
    "setting up io_uring",
    "io_uring, which can make sockets",
    "handling page faults (userfaultfd)",
    "using the kernel's keys",
    "watching the processor (perf_event_open)",
    "loading a BPF program",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is refused some of it without any wall")
@pytest.mark.parametrize("attempts", ["on_files(folder)", "on_network()", "on_system_calls(folder, alone=True)"])
def test_every_single_attempt_succeeds_where_there_is_no_wall(attempts: str) -> None:
    """So a refusal is the wall's, and not that of a kernel which was asked for nonsense."""
    code = (
        "import pathlib, tempfile\n"
        "from hauberk.sandbox import escapes\n"
        "with tempfile.TemporaryDirectory() as place:\n"
        "    folder = pathlib.Path(place)\n"
        "    escapes.prepare(folder)\n"
        f"    for what, attempt in escapes.{attempts}.items():\n"
        "        if what != 'becoming another program' and escapes.first_through({what: attempt}) is None: print(what)"
    )
    assert set(in_child(code).splitlines()) <= KERNEL_MAY_LACK


@pytest.mark.parametrize(
    ("version", "filters", "missing", "network"),
    [
        (7, True, (), False),
        (
            1,
            True,
            (
                "moving files between folders (Landlock 2)",
                "truncating files by their path (Landlock 3)",
                "sending commands to devices (Landlock 5)",
            ),
            False,
        ),
        (4, False, ("sending commands to devices (Landlock 5)", "sockets other than TCP"), False),
        (3, False, ("sending commands to devices (Landlock 5)", "sockets (no filter of system calls)"), True),
        (0, True, ("opening files (no Landlock)",), False),
        (0, False, ("opening files (no Landlock)", "sockets (no filter of system calls)"), True),
    ],
)
def test_what_an_older_kernel_cannot_refuse_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch, version: int, filters: bool, missing: tuple[str, ...], network: bool
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: version)
    monkeypatch.setattr(seccomp, "available", lambda: filters)
    kept, found = limits.offered(Limits(files=20, read_only=("/usr",), network=False))
    assert found == missing
    assert kept == Limits(files=20, read_only=("/usr",) if version else None, network=network)


def test_without_filters_system_calls_are_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "available", lambda: False)
    kept, missing = limits.offered(Limits(system_calls="compute"))
    assert kept == Limits()
    assert missing == ("system calls beyond computing (no filter of system calls)",)


def test_what_is_asked_for_and_not_there_is_an_error_and_never_skipped() -> None:
    code = (
        "from hauberk.sandbox import landlock, seccomp\n"
        "landlock.version = lambda: 0\n"
        "seccomp.available = lambda: False\n"
        "for wanted in ({'read_only': ()}, {'network': False}, {'system_calls': 'compute'}):\n"
        "    try: apply(Limits(**wanted))\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    assert in_child(code).splitlines() == [
        "LimitError this system has no Landlock, which would close files off",
        "LimitError this system has no filters of system calls, or not for this architecture",
        "LimitError this system has no filters of system calls, or not for this architecture",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_paths_that_a_user_may_not_look_into_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    code = (
        "import sys\n"
        "from hauberk.sandbox.landlock import runtime_paths\n"
        f"sys.path.append({str(tmp_path / 'closed' / 'inner')!r})\n"
        f"os.setuid({NOBODY})\n"
        "print([path for path in runtime_paths() if 'inner' in path])"
    )
    assert in_child(code) == "[]"


@needs_walls
def test_a_path_that_is_not_there_is_named() -> None:
    code = "try: apply(Limits(read_only=('/nowhere',)))\nexcept Exception as error: print(error)"
    assert in_child(code) == "/nowhere: cannot be left readable: no such file or directory"


@needs_walls
def test_a_process_with_threads_is_not_half_closed_off() -> None:
    code = (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "try: apply(Limits(network=False))\n"
        "except Exception as error: print(error)"
    )
    assert "only before a process starts threads" in in_child(code)


@needs_walls
def test_behind_the_walls_python_still_computes_imports_and_starts_threads() -> None:
    code = (
        "from hauberk.sandbox.landlock import runtime_paths\n"
        "apply(Limits(read_only=runtime_paths(), network=False, system_calls='compute', file_size=0))\n"
        "import threading, numpy, msgspec, time\n"
        "thread = threading.Thread(target=time.sleep, args=(0.01,)); thread.start(); thread.join()\n"
        "print(int((numpy.eye(300) @ numpy.eye(300)).sum()))"
    )
    assert in_child(code) == "300"


@needs_walls
def test_whoever_is_to_be_alone_starts_no_thread() -> None:
    code = (
        "import _thread\n"
        "apply(Limits(system_calls='alone'))\n"
        "try: print(_thread.start_new_thread(int, ()))\n"
        "except RuntimeError as error: print(error)"
    )
    assert in_child(code) == "can't start new thread"


@needs_walls
def test_whoever_is_to_be_alone_is_tried_with_threads() -> None:
    (check,) = (each for each in self_test(Limits(system_calls="alone")) if each.name == "system_calls")
    assert check.holds, check.detail


@needs_walls
def test_what_is_open_already_stays_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    code = (
        "import socket\n"
        f"file = os.open({str(tmp_path / 'file')!r}, os.O_RDWR)\n"
        "memory = os.memfd_create('m'); os.write(memory, b'more')\n"
        "one, other = socket.socketpair()\n"
        "apply(Limits(read_only=(), network=False, system_calls='compute'))\n"
        "os.write(one.fileno(), b'!')\n"
        "os.pwrite(file, b'C', 0)\n"
        "print(os.pread(file, 7, 0), open(f'/proc/self/fd/{memory}', 'rb').read(), os.read(other.fileno(), 1))"
    )
    assert in_child(code) == "b'Content' b'more' b'!'"
    assert (tmp_path / "file").read_text() == "Content"


@needs_walls
def test_root_cannot_lift_a_limit_behind_the_filter() -> None:
    code = (
        "apply(Limits(files=32, system_calls='compute'))\n"
        "try: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "except ValueError as error: print(error)"
    )
    assert in_child(code) == "not allowed to raise maximum limit"


@needs_walls
def test_abort_still_works_behind_the_filter() -> None:
    """What a library does when it sees that its memory is damaged must not be refused."""
    code = (
        "import os; from hauberk.sandbox.limits import Limits, apply; apply(Limits(system_calls='compute')); os.abort()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -6


@pytest.mark.parametrize(("mapped", "printed"), [(None, "refused"), (7 << 30, "6")])
def test_a_mapping_of_a_large_file_gets_the_address_space_that_it_needs(mapped: int | None, printed: str) -> None:
    code = (
        "import mmap\n"
        "memory = os.memfd_create('m'); os.ftruncate(memory, 6 << 30)\n"
        f"apply(Limits(memory=1 << 28, mapped={mapped}))\n"
        "try: print(len(mmap.mmap(memory, 0, prot=mmap.PROT_READ)) >> 30)\n"
        "except OSError: print('refused')"
    )
    assert in_child(code) == printed
