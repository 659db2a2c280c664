"""Ingest: a model file comes in, checked before it is read and read without running anything that it brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hauberk.ingest.load import LoadedModel, find_card, load_model

__all__ = ["LoadedModel", "find_card", "load_model"]


def __getattr__(name: str) -> object:
    # The process that parses imports its half of this package, and must not import torch for a file without tensors.
    if name in __all__:
        from hauberk.ingest import load  # noqa: PLC0415

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
