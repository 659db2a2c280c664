"""Pruning: taking weights, channels, heads and hidden units out of a graph."""
