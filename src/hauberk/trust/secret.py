"""Bytes that must not be shown: not by `repr`, not in an error, a log or a traceback that prints local variables."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Secret bytes behind a representation that hides them.

    Pass the object, and call `reveal` only inside the expression that needs the bytes, so that no local variable ever
    holds them.
    """

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]  # a hash of a secret is a hint about it

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} is secret and is not pickled; hand over its reveal() where it must travel"
        )
