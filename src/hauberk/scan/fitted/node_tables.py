"""Tables of nodes that scikit-learn's native code follows without looking: those of its decision trees.

A child that does not exist makes a prediction read memory that is not its own, one that is its own ancestor makes it
endless. scikit-learn numbers children after their parents, so that is what is asked of every table.

Sources: scikit-learn 1.9 `tree/_tree.pyx`, `tree/_utils.pxd`, `ensemble/_hist_gradient_boosting/common.pyx` and
`_predictor.pyx`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_MOST_NODES = 1 << 24  # of a tree whose depth is measured, at some 30 bytes each
# The records of scikit-learn 1.x. It copies one table into another field by field in their order, whatever they are
# called and however long they are, so that only exactly these types in this order mean what they say.
_INDEX = ("i8", "i4")  # of 64 and of 32 bits
_TREE = {
    "left_child": _INDEX, "right_child": _INDEX, "feature": _INDEX, "threshold": ("f8",), "impurity": ("f8",),
    "n_node_samples": _INDEX, "weighted_n_node_samples": ("f8",), "missing_go_to_left": ("u1",),
}  # fmt: skip
_BOOSTED = {
    "value": ("f8",), "count": ("u4",), "feature_idx": _INDEX, "num_threshold": ("f8",), "missing_go_to_left": ("u1",),
    "left": ("u4",), "right": ("u4",), "gain": ("f8",), "depth": ("u4",), "is_leaf": ("u1",), "bin_threshold": ("u1",),
    "is_categorical": ("u1",), "bitset_idx": ("u4",),
}  # fmt: skip
_NEWER = {"missing_go_to_left"}  # trees before 1.3 are without it
_READ = {
    "left_child": ("feature", "left_child", "right_child"),
    "value": ("feature_idx", "left", "right", "is_leaf", "is_categorical", "bitset_idx"),
}
"""What is read of a record, by its first field."""
Rows = npt.NDArray[Any]


class Field(NamedTuple):
    """A field of a record.

    Attributes:
        name: Of the field.
        kind: numpy's letter, and how many bytes it has: `i8`.
        order: Of bytes: `<`, `>` or `|`.
        offset: Of its first byte in the record.
    """

    name: str
    kind: str
    order: str
    offset: int


class Survey(NamedTuple):
    """What following the nodes of a table gave.

    Attributes:
        problem: What is wrong with it; empty where nothing is.
        boosted: It is a table of histogram-based boosting, not of a decision tree.
        feature: The highest that a node asks for; -1 where none does.
        category: The highest row of the table of categories that a node asks for; -1 where none does.
        depth: Steps from the first node to the last one below it.
    """

    problem: str
    boosted: bool = False
    feature: int = -1
    category: int = -1
    depth: int = 0


class UnreadableTableError(Exception):
    """A table that cannot be looked at here, whatever is in it."""


class CutTableError(Exception):
    """A table with fewer or more rows than it says."""


def survey(fields: tuple[Field, ...], itemsize: int, shape: tuple[int, ...], pieces: Iterable[bytes]) -> Survey | None:
    """Follow every node to its children.

    Args:
        fields: Of a record, in their order.
        itemsize: Bytes of a record.
        shape: Of the table.
        pieces: Its bytes, in pieces of any size.

    Returns:
        What was found; `None` where it cannot be read.
    """
    layout = _READ.get(fields[0].name if fields else "", ())
    boosted = "is_leaf" in layout
    if not _is_record(fields, _BOOSTED if boosted else _TREE):
        return Survey("a table of nodes whose fields are others than scikit-learn's", boosted)
    if len(shape) != 1 or not shape[0]:
        return Survey("a tree without nodes", boosted)
    try:
        return _followed(rows(layout_of(fields, itemsize, layout), shape[0], pieces), layout, shape[0])
    except CutTableError as error:
        return Survey(str(error), boosted)
    except UnreadableTableError:
        return None


def layout_of(fields: Iterable[Field], itemsize: int, names: tuple[str, ...]) -> np.dtype[Any]:
    """A dtype that reads some fields of a record.

    Raises:
        UnreadableTableError: One is not there, or no whole number in the order of bytes that is read here.
    """
    found = {field.name: field for field in fields}
    for name in names:
        if name not in found or found[name].kind[0] not in "iu" or found[name].order not in "<|":
            raise UnreadableTableError(f"a table of nodes without {name}")
    return np.dtype(
        {
            "names": list(names),
            "formats": [f"<{found[name].kind}" for name in names],
            "offsets": [found[name].offset for name in names],
            "itemsize": itemsize,
        }
    )


def rows(dtype: np.dtype[Any], count: int, pieces: Iterable[bytes]) -> Iterator[tuple[int, Rows]]:
    """A table piece by piece, each with the number of its first row.

    Args:
        dtype: Of a row.
        count: Rows that there must be.
        pieces: Bytes.

    Raises:
        CutTableError: There are fewer or more.
    """
    first = 0
    rest = b""
    for piece in pieces:
        data = rest + piece
        whole = len(data) - len(data) % dtype.itemsize
        rest = data[whole:]
        table = np.frombuffer(data[:whole], dtype)
        yield first, table
        first += len(table)
    if rest or first != count:
        raise CutTableError("a table that is cut")


def _followed(tables: Iterator[tuple[int, Rows]], layout: tuple[str, ...], count: int) -> Survey:
    feature, *sides = layout[:3]
    boosted = "is_leaf" in layout
    highest = categories = -1
    if count > _MOST_NODES:
        raise UnreadableTableError(f"{count} nodes")
    below: list[tuple[Rows, Rows]] = []
    for first, table in tables:
        own = np.arange(first, first + len(table))
        inner = table["is_leaf"] == 0 if boosted else table[sides[0]] != -1
        for side in sides:
            child = table[side].astype(np.int64)
            if np.any(inner & ((child <= own) | (child >= count))):
                return Survey("a node whose child does not exist or is its ancestor", boosted)
            below.append((own[inner].astype(np.int32), child[inner].astype(np.int32)))
        asked = table[feature].astype(np.int64)[inner]
        if np.any(asked < 0):
            return Survey("a node that asks for a feature below 0", boosted)
        highest = max(highest, int(asked.max(initial=-1)))
        if boosted:
            found = table["bitset_idx"][inner & (table["is_categorical"] != 0)].astype(np.int64)
            categories = max(categories, int(found.max(initial=-1)))
    return _measured(Survey("", boosted, highest, categories), count, below)


def _measured(found: Survey, count: int, below: list[tuple[Rows, Rows]]) -> Survey:
    """How deep it is, from pairs of parents and children."""
    own = np.arange(count, dtype=np.int32)
    above = own.copy()
    parents, children = (np.concatenate(each) for each in zip(*below, strict=True))
    above[children] = parents
    if len(children) != np.count_nonzero(above != own):
        return Survey("a node with two parents", found.boosted)
    depth = (above != own).astype(np.int32)
    while np.any(above != above[above]):  # twice as far up each time
        depth += depth[above]
        above = above[above]
    return found._replace(depth=int(depth.max(initial=0)))


def _is_record(fields: Iterable[Field], known: dict[str, tuple[str, ...]]) -> bool:
    kinds = [(field.name, field.kind) for field in fields]
    all_there = [name for name, _ in kinds] in (list(known), [name for name in known if name not in _NEWER])
    return all_there and all(kind in known[name] for name, kind in kinds)
