"""Filters of system calls (seccomp): a small assembler for the kernel's packet-filter machine, and how to install one.

A filter sees the number of a call and its six arguments as numbers, never what pointers point to. It decides for the
rest of the process's life, and for all that it starts. Calls made under another architecture's numbering (32-bit or x32
calls on x86-64) would mean something else, so they end the process: no honest program makes them.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst, include/uapi/linux/{seccomp,filter,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hauberk.errors import LimitError

ALLOW = 0x7FFF0000
KILL = 0x80000000
"""The whole process."""


def refuse(number: int) -> int:
    """The call fails with an error number and does nothing."""
    return 0x00050000 | number


AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""How the kernel calls the architectures that this module knows; all of them are little-endian."""

_X32 = 0x40000000  # calls of x86-64 with this bit take pointers of 32 bits

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if false, constant

_PR_SET_SECCOMP, _FILTER = 22, 2


@dataclass(frozen=True)
class Only:
    """Allow a call only where one argument is one of these numbers, looked at as 32 bits, as the kernel does."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Without:
    """Allow a call only where an argument of 32 bits has none of these bits."""

    argument: int
    bits: int


@dataclass(frozen=True)
class With:
    """Allow a call only where an argument of 32 bits has all of these bits."""

    argument: int
    bits: int


@dataclass(frozen=True)
class Null:
    """Allow a call only where an argument of 64 bits is 0."""

    argument: int


Condition = Only | Without | With | Null
Rule = int | Condition
"""What becomes of a call: an action (`ALLOW`, `refuse(…)`), or allowed under a condition and refused otherwise."""


def machine() -> str:
    """The architecture by whose numbers this process makes its calls; empty for one that is not known here."""
    name = platform.machine()
    return name if name in AUDIT and sys.maxsize > 1 << 32 and sys.byteorder == "little" else ""


def assemble(
    rules: Mapping[int, Rule], *, otherwise: int, refused: int, beyond: tuple[int, int] | None, architecture: str
) -> bytes:
    """A filter as the kernel wants it.

    Args:
        rules: What becomes of calls, by number; those made most often first.
        otherwise: The action for all other calls.
        refused: The action where a condition does not hold.
        beyond: A number, and the action for calls from it on; for calls that are newer than the rules.
        architecture: A key of `AUDIT`.
    """
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, AUDIT[architecture], 1, 0),
        _instruction(_RETURN, KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    if architecture == "x86_64":
        program += [_instruction(_AT_LEAST, _X32, 0, 1), _instruction(_RETURN, KILL)]
    for number, rule in rules.items():
        body = [_instruction(_RETURN, rule)] if isinstance(rule, int) else _condition(rule, refused)
        program += [_instruction(_EQUAL, number, 0, len(body)), *body]
    if beyond is not None:
        program += [_instruction(_AT_LEAST, beyond[0], 0, 1), _instruction(_RETURN, beyond[1])]
    return b"".join([*program, _instruction(_RETURN, otherwise)])


def available() -> bool:
    """Whether this kernel takes filters, and this module knows the architecture."""
    if sys.platform != "linux" or not machine():
        return False
    # It looks at the pointer only where it knows filters.
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


def install(program: bytes) -> None:
    """Put this thread, and all that it starts, under a filter; needs `PR_SET_NO_NEW_PRIVS`.

    Raises:
        LimitError: The kernel refuses.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: unsigned short len; struct sock_filter *filter
    header = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(instructions))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), header, 0, 0) != 0:
        raise LimitError(f"this system refuses a filter of system calls: {os.strerror(ctypes.get_errno()).lower()}")


def _instruction(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, constant & 0xFFFFFFFF)


def _condition(rule: Condition, refused: int) -> Sequence[bytes]:
    """Ends in a decision on every way, so the number need not be loaded again."""
    low = _ARGUMENTS + 8 * rule.argument
    ends = [_instruction(_RETURN, refused), _instruction(_RETURN, ALLOW)]
    match rule:
        case Only(values=values):
            tests = [_instruction(_EQUAL, value, len(values) - position, 0) for position, value in enumerate(values)]
            return [_instruction(_LOAD, low), *tests, *ends]
        case Without(bits=bits):
            return [_instruction(_LOAD, low), _instruction(_ANY_BIT, bits, 0, 1), *ends]
        case With(bits=bits):
            return [
                _instruction(_LOAD, low), _instruction(_AND, bits), _instruction(_EQUAL, bits, 1, 0), *ends
            ]  # fmt: skip
        case Null():
            return [
                _instruction(_LOAD, low), _instruction(_EQUAL, 0, 0, 2),
                _instruction(_LOAD, low + 4), _instruction(_EQUAL, 0, 1, 0), *ends,
            ]  # fmt: skip
