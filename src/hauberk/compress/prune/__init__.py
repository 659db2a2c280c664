"""Pruning: taking channels, heads and hidden units out of a graph, or setting weights in it to zero."""

from hauberk.compress.prune.structured import PruneStructured

__all__ = ["PruneStructured"]
