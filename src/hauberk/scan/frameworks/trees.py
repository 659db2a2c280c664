"""Decision trees as arrays: whether whoever walks them stays inside them and comes to an end."""

from __future__ import annotations

import re
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

_FIGURES = re.compile(r"[0-9]{1,18}", re.ASCII)


def figure(value: Any) -> int:
    """A natural number, as a number or in plain figures.

    Python reads `1_0`, the figures of other scripts, and spaces around them; other readers stop at them, or do not.

    Raises:
        ValueError: It is none, or written otherwise.
    """
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and _FIGURES.fullmatch(value):
        return int(value)
    raise ValueError(f"{value!r} in place of a number")


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
