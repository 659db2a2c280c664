"""Decision trees as arrays: whether whoever walks them stays inside them and comes to an end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hauberk.scan.report import Outcome, Rule, Severity

BOUNDS = Rule(
    "tree-bounds",
    "a decision tree that leads outside itself",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Libraries follow the indices of a tree without looking: it reads foreign memory, or never ends.",
    "https://cwe.mitre.org/data/definitions/129.html",
)

Integers = npt.NDArray[np.int64]


def integers(values: Any, what: str) -> Integers:
    """A list of whole numbers as an array.

    Raises:
        ValueError: It is none.
    """
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise ValueError(f"{what} are no whole numbers")
    return array.astype(np.int64)


def walk_problem(children: Sequence[Integers], inner: npt.NDArray[np.bool_]) -> str:
    """What is wrong with the children of a tree's nodes; empty where nothing is.

    Args:
        children: Left and right, an index of a node each; only those of inner nodes count.
        inner: Which nodes have children.

    No node may be named twice, and the first not at all; then a walk from the first node never comes back to one.
    """
    count = len(inner)
    named = np.concatenate([side[inner] for side in children])
    if named.size and (named.min() < 0 or named.max() >= count):
        return "a child that is none of its nodes"
    if np.bincount(named, minlength=count).max(initial=0) > 1 or (named == 0).any():
        return "a node that is reached in two ways"
    return ""  # circles that are left hang together with nothing, so nobody gets there
