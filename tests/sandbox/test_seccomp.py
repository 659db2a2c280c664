"""Filters of system calls: the program is followed by a second machine, and the kernel has the last word."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import LimitError
from hauberk.sandbox import calls, seccomp
from hauberk.sandbox.seccomp import ALLOW, AUDIT, KILL, Null, Only, Rule, With, Without, assemble, refuse

NO = refuse(errno.EPERM)
NEW = refuse(errno.ENOSYS)

needs_filters = pytest.mark.skipif(not seccomp.available(), reason="this kernel has no filters of system calls")
needs_x86_64 = pytest.mark.skipif(seccomp.machine() != "x86_64", reason="calls of another architecture")


def follow(program: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel's machine would return; written after the manual (Documentation/networking/filter.rst)."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, *(0,) * 6)[:6])
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator, place = 0, 0
    while True:
        code, if_true, if_false, constant = instructions[place]
        place += 1
        if code == 0x20:
            assert constant % 4 == 0  # the kernel refuses anything else
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return constant
        else:
            met = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: accumulator & constant != 0}[
                code
            ]
            place += if_true if met else if_false


WORDS = st.integers(0, (1 << 32) - 1)
LONG = st.integers(0, (1 << 64) - 1)
SMALL = st.integers(0, 7)
RULES = st.one_of(
    st.sampled_from([ALLOW, NO]),
    st.builds(Only, st.integers(0, 5), st.lists(SMALL, min_size=1, max_size=6, unique=True).map(tuple)),
    st.builds(Without, st.integers(0, 5), st.integers(1, 7)),
    st.builds(With, st.integers(0, 5), st.integers(1, 7)),
    st.builds(Null, st.integers(0, 5)),
)


def meant(rule: Rule, arguments: tuple[int, ...]) -> int:
    """What a rule says in words."""
    match rule:
        case int():
            return rule
        case Only(argument, values):
            allowed = arguments[argument] & 0xFFFFFFFF in values
        case Without(argument, bits):
            allowed = not arguments[argument] & bits
        case With(argument, bits):
            allowed = arguments[argument] & bits == bits
        case Null(argument):
            allowed = arguments[argument] == 0
    return ALLOW if allowed else NO


@given(
    rules=st.dictionaries(st.integers(0, 20), RULES, max_size=12),
    number=st.integers(0, 40),
    arguments=st.lists(st.one_of(SMALL, LONG), min_size=6, max_size=6).map(tuple),
    architecture=st.sampled_from(sorted(AUDIT)),
)
def test_a_program_does_what_its_rules_say(
    rules: dict[int, Rule], number: int, arguments: tuple[int, ...], architecture: str
) -> None:
    program = assemble(rules, otherwise=NO, refused=NO, beyond=(30, NEW), architecture=architecture)
    expected = meant(rules[number], arguments) if number in rules else NEW if number >= 30 else NO
    assert follow(program, AUDIT[architecture], number, arguments) == expected


@given(number=st.integers(0, 1 << 31), other=st.sampled_from([0x40000003, 0xC00000B7, 0]))
def test_calls_by_another_numbering_end_the_process(number: int, other: int) -> None:
    program = assemble({0: ALLOW}, otherwise=ALLOW, refused=NO, beyond=None, architecture="x86_64")
    assert follow(program, other, number) == KILL
    assert follow(program, AUDIT["x86_64"], number) == (KILL if number >= 0x40000000 else ALLOW)


@pytest.fixture(params=sorted(AUDIT))
def compute(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, str]:
    """The filter for computing, and the architecture that it was made for."""
    monkeypatch.setattr(calls, "machine", lambda: request.param)
    return calls.compute_filter(), request.param


X86_64_AND_AARCH64 = {
    # name: numbers, arguments, whether it is allowed
    "read": ((0, 63), (), True),
    "futex": ((202, 98), (), True),
    "openat to read": ((257, 56), (0, 0, os.O_RDONLY | os.O_CLOEXEC), True),
    "openat to write": ((257, 56), (0, 0, os.O_WRONLY), False),
    "openat to make": ((257, 56), (0, 0, os.O_RDONLY | os.O_CREAT), False),
    "openat2": ((437, 437), (), False),
    "a thread": ((56, 220), (0x3D0F00,), True),
    "a process": ((56, 220), (17,), False),
    "execve": ((59, 221), (), False),
    "socket": ((41, 198), (), False),
    "ptrace": ((101, 117), (), False),
    "unlinkat": ((263, 35), (), False),
    "asking for a limit": ((302, 261), (0, 7, 0), True),
    "setting a limit": ((302, 261), (0, 7, 1 << 40), False),
    "naming a thread": ((157, 167), (15,), True),
    "becoming dumpable": ((157, 167), (4, 1), False),
    "a signal to itself": ((62, 129), (os.getpid(), 6), True),
    "a signal to init": ((62, 129), (1, 9), False),
    "whether it is a terminal": ((16, 29), (0, 0x5401), True),
    "typing for a terminal (TIOCSTI)": ((16, 29), (0, 0x5412), False),
}


@pytest.mark.parametrize("what", X86_64_AND_AARCH64)
def test_the_filter_for_computing_on_both_architectures(compute: tuple[bytes, str], what: str) -> None:
    program, architecture = compute
    numbers, arguments, allowed = X86_64_AND_AARCH64[what]
    number = numbers[architecture == "aarch64"] if architecture == "aarch64" else numbers[0]
    assert follow(program, AUDIT[architecture], number, arguments) == (ALLOW if allowed else NO)


def test_calls_newer_than_the_list_and_clone3_look_like_an_older_kernel(compute: tuple[bytes, str]) -> None:
    program, architecture = compute
    assert [follow(program, AUDIT[architecture], number) for number in (435, 451, 9999)] == [NEW] * 3


@pytest.mark.parametrize(
    ("header", "column"),
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
)
def test_the_numbers_are_those_of_the_kernels_headers(header: str, column: int) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed")
    said = {}
    for line in Path(header).read_text().splitlines():
        match line.split():
            case ["#define", name, number] if name.startswith("__NR") and number.isdigit():
                said[name.removeprefix("__NR3264_").removeprefix("__NR_")] = int(number)
    named = {**calls._FREE, **calls._NETWORK}
    other_names = {"newfstatat": "fstatat"} if column else {}
    checked = {name: numbers[column] for name, numbers in named.items() if numbers[column] is not None}
    assert {name: said[other_names.get(name, name)] for name in checked} == checked


def in_child(code: str) -> int:
    """The exit code of a process of its own."""
    program = f"import os, ctypes\nfrom hauberk.sandbox.limits import Limits, apply\n{code}"
    return subprocess.run([sys.executable, "-c", program], check=False, timeout=60, capture_output=True).returncode


@needs_filters
@needs_x86_64
def test_a_call_of_x32_ends_the_process() -> None:
    call = "ctypes.CDLL(None).syscall(0x40000000 + 39)"
    assert in_child(call) == 0
    assert in_child(f"apply(Limits(system_calls='compute')); {call}") == -signal.SIGSYS


# mov eax, 20 (getpid of 32-bit programs); int 0x80; ret
INT_80 = (
    "import mmap\n"
    "page = mmap.mmap(-1, 4096, prot=7)\n"
    "page.write(bytes.fromhex('b814000000cd80c3'))\n"
    "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
)


@needs_filters
@needs_x86_64
def test_a_call_of_32_bit_programs_ends_the_process() -> None:
    if in_child(f"{INT_80}os._exit(call() != os.getpid())") != 0:
        pytest.skip("this kernel has no calls of 32-bit programs")
    assert in_child(f"{INT_80}apply(Limits(system_calls='compute')); call()") == -signal.SIGSYS


@needs_filters
def test_a_filter_that_the_kernel_does_not_take_is_an_error() -> None:
    with pytest.raises(LimitError, match="refuses a filter of system calls: invalid argument"):
        seccomp.install(struct.pack("<HBBI", 0xFFFF, 0, 0, 0))


def test_an_unknown_architecture_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert seccomp.machine() == ""
    assert not seccomp.available()
    assert ctypes.get_errno() in range(200)
