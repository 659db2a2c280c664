"""Ingest: a model file comes in, checked before it is read and read without running anything that it brings."""

from hauberk.ingest.load import LoadedModel, load_model

__all__ = ["LoadedModel", "load_model"]
