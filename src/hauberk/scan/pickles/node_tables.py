"""Tables of nodes that scikit-learn's native code follows without looking: trees, and trees of neighbours.

A child that does not exist makes a prediction read memory that is not its own, one that is its own ancestor makes it
endless. scikit-learn numbers children after their parents, so that is what is asked of every table. What else native
code takes on trust (that the model has as many features as its trees) is not checked here; see the documentation.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array, Survey
from hauberk.scan.pickles.entries import Context, Objection
from hauberk.scan.pickles.plain_names import Encoded
from hauberk.scan.pickles.values import NOWHERE, Blob

_CHUNK = 1 << 20
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
_NEIGHBOURS = [("idx_start", "i8", 0), ("idx_end", "i8", 8), ("is_leaf", "i8", 16), ("radius", "f8", 24)]
_NEWER = {"missing_go_to_left"}  # trees before 1.3 are without it
_READ = {
    "left_child": ("feature", "left_child", "right_child"),
    "value": ("feature_idx", "left", "right", "is_leaf", "is_categorical", "bitset_idx"),
}
"""What is read of a record, by its first field."""
_Table = npt.NDArray[Any]


def check_nodes(
    nodes: Array, features: int, context: Context, *, categories: int = 0, deepest: int | None = None
) -> int:
    """Every node of a decision tree leads to nodes, features and categories that exist.

    Args:
        nodes: The table.
        features: How many there are.
        categories: Rows of the table of categories.
        deepest: How deep it says it is; room for the way to a leaf is made for that.
        context: For the data.

    Returns:
        The highest feature that is asked for; -1 where none is.

    Raises:
        Objection: There is no node, a child does not exist or stands before its parent, a feature or category does not
            exist, or it is deeper than it says; or the table cannot be read.
    """
    if nodes.shape == (0,):
        raise Objection("a tree without nodes", rules.MEMORY)
    found = nodes.survey or survey(nodes, context)
    if found is None:
        raise Objection("a table of nodes that cannot be read", rules.UNCHECKED)
    if found.problem:
        raise Objection(found.problem, rules.MEMORY)
    if found.feature >= features:
        raise Objection(f"a node that asks for feature {found.feature} of {features}", rules.MEMORY)
    if found.category >= categories:
        raise Objection(f"a node that asks for categories {found.category} of {categories}", rules.MEMORY)
    if deepest is not None and not found.depth <= deepest <= nodes.shape[0]:
        raise Objection(f"a tree of {found.depth} levels that says it has {deepest}", rules.MEMORY)
    return found.feature


def survey(nodes: Array, context: Context) -> Survey | None:
    """Follow every node of a decision tree to its children; `None` where it is no table of nodes that can be read."""
    record = [(name, f"{inner.kind}{inner.itemsize}") for name, inner, _ in nodes.dtype.fields]
    layout = _READ.get(record[0][0] if record else "")
    if layout is None:
        return None
    if not _is_record(record, _BOOSTED if "is_leaf" in layout else _TREE):
        return Survey("a table of nodes whose fields are others than scikit-learn's")
    try:
        return _followed(nodes, layout, context)
    except Objection as objection:
        return None if objection.rule is rules.UNCHECKED else Survey(str(objection))


def _followed(nodes: Array, layout: tuple[str, ...], context: Context) -> Survey:
    feature, *sides = layout[:3]
    boosted = "is_leaf" in layout
    highest = categories = -1
    count = _rows(nodes)
    if count > _MOST_NODES and not boosted:
        raise Objection(f"{count} nodes", rules.UNCHECKED)
    below: list[tuple[_Table, _Table]] = []
    for first, table in _tables(nodes, layout, context):
        own = np.arange(first, first + len(table))
        inner = table["is_leaf"] == 0 if boosted else table[sides[0]] != -1
        for side in sides:
            child = table[side].astype(np.int64)
            if np.any(inner & ((child <= own) | (child >= count))):
                return Survey("a node whose child does not exist or is its ancestor")
            if not boosted:
                below.append((own[inner].astype(np.int32), child[inner].astype(np.int32)))
        asked = table[feature].astype(np.int64)[inner]
        if np.any(asked < 0):
            return Survey("a node that asks for a feature below 0")
        highest = max(highest, int(asked.max(initial=-1)))
        if boosted:
            rows = table["bitset_idx"][inner & (table["is_categorical"] != 0)].astype(np.int64)
            categories = max(categories, int(rows.max(initial=-1)))
    return Survey("", highest, categories) if boosted or not count else _measured(Survey("", highest), count, below)


def _measured(found: Survey, count: int, below: list[tuple[_Table, _Table]]) -> Survey:
    """How deep it is, from pairs of parents and children."""
    above = np.arange(count, dtype=np.int32)
    parents, children = (np.concatenate(each) for each in zip(*below, strict=True))
    above[children] = parents
    if len(children) != np.count_nonzero(above != np.arange(count)):
        return Survey("a node with two parents")
    depth = (above != np.arange(count)).astype(np.int32)
    while np.any(above != above[above]):  # twice as far up each time
        depth += depth[above]
        above = above[above]
    return found._replace(depth=int(depth.max(initial=0)))


def _is_record(fields: list[tuple[str, str]], known: dict[str, tuple[str, ...]]) -> bool:
    names = [name for name, _ in fields]
    all_there = names in (list(known), [name for name in known if name not in _NEWER])
    return all_there and all(kind in known[name] for name, kind in fields)


def is_table(dtype: np.dtype[Any]) -> bool:
    """Whether a record of numpy has exactly the fields, in their order, that scikit-learn keeps nodes in."""
    if dtype.names is None:
        return False
    record = [(name, f"{dtype[name].kind}{dtype[name].itemsize}") for name in dtype.names]
    aligned = all(dtype[name].byteorder in "<=|" for name in dtype.names)
    return aligned and any(_is_record(record, known) for known in (_TREE, _BOOSTED))


def check_neighbours(data: Array, order: Array, nodes: Array, bounds: Array, count: int, context: Context) -> None:
    """Follow every node of a ball tree or k-d tree to its points.

    Raises:
        Objection: Tables do not fit each other, or a node or point does not exist; or a table cannot be read.
    """
    points = data.shape[0] if len(data.shape) == 2 else -1
    fits = order.shape == (points,) and nodes.shape == (count,) and count > 0 and len(bounds.shape) == 3
    _check_record(nodes)
    if not fits or bounds.shape[1:] != (count, data.shape[1]) or (data.dtype.kind, data.dtype.itemsize) != ("f", 8):
        raise Objection("tables of a tree that do not fit each other", rules.MEMORY)
    for _, table in _tables(order, (), context):
        if np.any((table < 0) | (table >= points)):
            raise Objection("a point that does not exist", rules.MEMORY)
    for first, table in _tables(nodes, ("idx_start", "idx_end", "is_leaf"), context):
        start, end = table["idx_start"], table["idx_end"]
        right = 2 * np.arange(first, first + len(table)) + 2  # children of i are 2i + 1 and 2i + 2
        if np.any((start < 0) | (start > end) | (end > points) | ((table["is_leaf"] == 0) & (right >= count))):
            raise Objection("a node whose points or children do not exist", rules.MEMORY)


def _check_record(nodes: Array) -> None:
    """scikit-learn reads a table of neighbours by the places of its fields, whatever they are called."""
    record = [(name, f"{inner.kind}{inner.itemsize}", offset) for name, inner, offset in nodes.dtype.fields]
    if record != _NEIGHBOURS:
        raise Objection("a table of nodes whose fields are others than scikit-learn's", rules.MEMORY)


def _rows(array: Array) -> int:
    if len(array.shape) != 1:
        raise Objection("a table of nodes that is none", rules.MEMORY)
    return array.shape[0]


def _tables(array: Array, names: Sequence[str], context: Context) -> Iterator[tuple[int, _Table]]:
    """The table in pieces, each with the number of its first row; only the fields that are asked for."""
    dtype = _layout(array, names)
    first = 0
    rest = b""
    for piece in _bytes(array, context):
        data = rest + piece
        whole = len(data) - len(data) % dtype.itemsize
        rest = data[whole:]
        table = np.frombuffer(data[:whole], dtype)
        yield first, table
        first += len(table)
    if rest or first != _rows(array):
        raise Objection("a table that is cut", rules.BOUNDS)


def _layout(array: Array, names: Sequence[str]) -> np.dtype[Any]:
    if not names:
        if (array.dtype.kind, array.dtype.itemsize, array.dtype.order) != ("i", 8, "<"):
            raise Objection("a table of anything but whole numbers", rules.UNCHECKED)
        return np.dtype("<i8")
    found = {name: (inner, offset) for name, inner, offset in array.dtype.fields}
    formats = []
    for name in names:
        inner = found.get(name, (None, 0))[0]
        if inner is None or inner.kind not in "iu" or inner.order not in "<|":
            raise Objection(f"a table of nodes without {name}", rules.UNCHECKED)
        formats.append(f"<{inner.kind}{inner.itemsize}")
    offsets = [found[name][1] for name in names]
    return np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": array.dtype.itemsize})


def _bytes(array: Array, context: Context) -> Iterator[bytes]:
    source = array.source
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, str):
        yield source.encode("latin-1")
    elif isinstance(source, Encoded):
        decoder = codecs.getincrementaldecoder("utf-8")()
        for piece in _pieces(source, context):
            yield decoder.decode(piece).encode("latin-1")
    elif isinstance(source, Blob) and source.offset != NOWHERE:
        yield from _pieces(source, context)
    else:
        raise Objection("a table of nodes that was not kept", rules.UNCHECKED)


def _pieces(blob: Blob, context: Context) -> Iterator[bytes]:
    for start in range(0, blob.length, _CHUNK):
        context.reporter.check_time()
        yield context.read(blob.offset + start, min(_CHUNK, blob.length - start))
