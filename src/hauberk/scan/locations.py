"""The names of files beside a model, as far as they are followed: what every reader takes to the same place."""

from __future__ import annotations

_LONGEST = 1024


def plain_location(location: str) -> str | None:
    """The location as it is followed; `None` where it leaves the folder, or readers could differ on where it leads."""
    parts = location.split("/")
    plain = (
        0 < len(location.encode("utf-8", "surrogateescape")) <= _LONGEST
        and location.isprintable()
        and not any(letter in location for letter in '\\:*?"<>|')
        and not any(part in {"", ".", ".."} or part != part.strip(" ") or part.endswith(".") for part in parts)
    )
    return location if plain else None


def hidden(location: str) -> bool:
    """Whether a part of a location begins with a dot: there lie settings and keys, and no exporter's weights."""
    return location.startswith(".") or "/." in location
