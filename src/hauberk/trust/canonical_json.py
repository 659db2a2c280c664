"""JSON of which every byte counts: decoded strictly, encoded again, and compared."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hauberk.errors import TrustError

Value = TypeVar("Value")


def decode(text: bytes | memoryview, kind: type[Value], *, limit: int, what: str) -> Value:
    """Decode bounded JSON into a type; unknown fields and wrong types are refused.

    Args:
        text: UTF-8.
        kind: A struct that forbids unknown fields, or `dict[str, Any]`.
        limit: The most bytes that are looked at.
        what: How a message calls it.

    Raises:
        TrustError: Too long, nested too deeply, or not of that type.
    """
    if len(text) > limit:
        raise TrustError(f"{what}: longer than {limit} bytes")
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError:
        raise TrustError(f"{what}: nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TrustError(f"{what}: {error}") from None


def decode_canonical(text: bytes | memoryview, kind: type[Value], *, limit: int, what: str) -> Value:
    """As `decode`, and nothing but what `msgspec.json.encode` would write: no spaces, no other order, no other escapes.

    Raises:
        TrustError: As `decode`, or not canonical.
    """
    value = decode(text, kind, limit=limit, what=what)
    if msgspec.json.encode(value) != text:
        raise TrustError(f"{what}: not in canonical form")
    return value
