"""The errors that Hauberk raises on purpose, and how they quote other libraries' errors.

Every message says what is wrong, where, and what would be right, in one line; the command line prints it as it is
and leaves with `exit_code`. Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class HauberkError(Exception):
    """Base of every error that Hauberk raises on purpose."""

    exit_code: int = 2
    """Exit code of a command that ends with this error (the table in docs/how-to/command-line.md)."""


class InputError(HauberkError):
    """A file, an option or a value handed in is not what it should be."""


class SchemaError(InputError):
    """Records do not fit the schema: a missing column, a wrong type, a NaN."""


class RefusedModelError(InputError):
    """A model file asks for more than tensors, or is not what it claims to be; nothing of it was run."""


class MissingExtraError(InputError):
    """A feature needs a package that this installation lacks; the message names the extra to install."""


class ContractError(HauberkError):
    """A step changed a model by more than its contract allows."""


class TrustError(HauberkError):
    """A key, a signature or an authentication tag does not hold. Nothing was interpreted."""


class BundleError(TrustError):
    """A bundle is not canonical, not complete, or not what its signature covers."""


class LimitError(HauberkError):
    """A limit on time or memory was reached; the work was stopped."""


def one_line(error: BaseException, most: int = 300, without: tuple[str, ...] = ()) -> str:
    """What another library's exception says, on one line, for quoting it in a message of ours.

    Args:
        error: Its type stands for it where it says nothing.
        most: Characters from which on the rest is cut off.
        without: Lines that begin so are left out, unless nothing else is said.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if not line.startswith(without)]
    text = " ".join(" ".join(told).split() or " ".join(lines).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most]}…"
