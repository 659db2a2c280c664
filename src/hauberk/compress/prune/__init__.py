"""Pruning: taking channels, heads and hidden units out of a graph, or setting weights in it to zero."""

from hauberk.compress.prune.sparsity import Sparsity, activation_sparsity, weight_sparsity
from hauberk.compress.prune.structured import PruneStructured
from hauberk.compress.prune.unstructured import PruneNM, PruneUnstructured, SparsifyActivations

__all__ = [
    "PruneNM",
    "PruneStructured",
    "PruneUnstructured",
    "SparsifyActivations",
    "Sparsity",
    "activation_sparsity",
    "weight_sparsity",
]
