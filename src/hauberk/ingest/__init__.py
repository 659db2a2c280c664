"""Ingest: a model file comes in, checked before it is read and read without running anything that it brings."""

from hauberk.ingest.load import LoadedModel, find_card, load_model

__all__ = ["LoadedModel", "find_card", "load_model"]
