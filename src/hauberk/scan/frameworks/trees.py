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

DEEP = Rule(
    "tree-deep",
    "a decision tree of very many levels",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Predictions walk through it level by level, but what explains or prints it goes down by recursion and ends the"
    " process. No trainer makes such trees.",
    "https://cwe.mitre.org/data/definitions/674.html",
)

Integers = npt.NDArray[np.int64]

_DOUBLINGS = 10
_DEEPEST = 1 << _DOUBLINGS
_FIGURES = re.compile(r"[0-9]{1,18}", re.ASCII)


class DeepError(Exception):
    """A tree of more levels than libraries can go down by recursion."""


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
    """A list of whole numbers as an array, small enough to be added up and multiplied by counts of what is there.

    Raises:
        ValueError: It is none, or one of them takes more than 32 bits.
    """
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise ValueError(f"{what} are no whole numbers")
    if int(array.min()) < -(1 << 31) or int(array.max()) >= 1 << 32:
        raise ValueError(f"{what} of more than 32 bits")
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


def check_depth(parents: Integers, children: Integers, count: int) -> None:
    """Whether there are few levels, by going up from all nodes at once, twice as far each time.

    Args:
        parents: Of nodes that have one.
        children: These nodes, none twice.
        count: Of all nodes.

    Raises:
        DeepError: There are many levels.
    """
    above = np.arange(count)
    above[children] = parents
    for _ in range(_DOUBLINGS + 1):
        further = above[above]
        if np.array_equal(further, above):
            return
        above = further
    raise DeepError(f"a tree of more than {_DEEPEST:,} levels")
