"""Sizes that an architecture accepts: a model card may hold anything, and must not make a process run out of memory."""

from __future__ import annotations

from collections.abc import Sequence

from hauberk.errors import InputError

MAX_WIDTH = 1 << 20
"""Units, channels, features or logits of one layer."""

MAX_LAYERS = 64
MAX_WINDOW = 1 << 12
MAX_PIXELS = 1 << 12


def require_size(architecture: str, what: str, value: object, most: int = MAX_WIDTH) -> None:
    """Refuse what is no whole number from 1 to `most` (True and 2.0 included).

    Raises:
        InputError: It is not.
    """
    if type(value) is not int or not 1 <= value <= most:
        raise InputError(f"{architecture}: {what} is {value!r}; a whole number from 1 to {most} is needed")


def require_sizes(architecture: str, what: str, values: Sequence[object]) -> None:
    """Refuse a list of layers that is empty, too long, or holds an impossible size.

    Raises:
        InputError: It does.
    """
    if not 1 <= len(values) <= MAX_LAYERS:
        raise InputError(f"{architecture}: {len(values)} {what}; 1 to {MAX_LAYERS} are needed")
    for value in values:
        require_size(architecture, f"one of {what}", value)
