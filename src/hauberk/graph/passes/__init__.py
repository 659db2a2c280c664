"""Passes over graphs: one file a pass, the class named like the file, each a `Step` with its contract."""

from hauberk.graph.passes.clean_up import CleanUp
from hauberk.graph.passes.strip_metadata import StripMetadata
from hauberk.recipe import Recipe

__all__ = ["CleanUp", "StripMetadata", "optimise"]


def optimise() -> Recipe:
    """The recipe of the baseline: the float32 graph, cleaned up and stripped."""
    return Recipe("float32", (CleanUp(), StripMetadata()))
