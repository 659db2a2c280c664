"""Tables of nodes in pickles, of trees and of neighbours: where their bytes lie, and trees of neighbours followed.

What is asked of the nodes of decision trees stands in `hauberk.scan.fitted.node_tables`, for all formats.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import numpy as np

from hauberk.scan.fitted import node_tables
from hauberk.scan.fitted.node_tables import CutTableError, Field, Rows, Survey, UnreadableTableError
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array
from hauberk.scan.pickles.dtypes import DType
from hauberk.scan.pickles.entries import Context, Objection
from hauberk.scan.pickles.plain_names import Encoded
from hauberk.scan.pickles.values import NOWHERE, Blob

_CHUNK = 1 << 20
_NEIGHBOURS = [("idx_start", "i8", 0), ("idx_end", "i8", 8), ("is_leaf", "i8", 16), ("radius", "f8", 24)]


def survey(nodes: Array, context: Context) -> Survey | None:
    """Follow every node of a decision tree to its children; `None` where it cannot be read."""
    try:
        return node_tables.survey(_fields(nodes.dtype), nodes.dtype.itemsize, nodes.shape, _bytes(nodes, context))
    except Objection:
        return None


def _fields(dtype: DType) -> tuple[Field, ...]:
    return tuple(
        Field(name, f"{inner.kind}{inner.itemsize}", inner.order, offset) for name, inner, offset in dtype.fields
    )


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


def _tables(array: Array, names: tuple[str, ...], context: Context) -> Iterator[tuple[int, Rows]]:
    """The table in pieces, each with the number of its first row; only the fields that are asked for."""
    if len(array.shape) != 1:
        raise Objection("a table of nodes that is none", rules.MEMORY)
    if not names and (array.dtype.kind, array.dtype.itemsize, array.dtype.order) != ("i", 8, "<"):
        raise Objection("a table of anything but whole numbers", rules.UNCHECKED)
    try:
        dtype = node_tables.layout_of(_fields(array.dtype), array.dtype.itemsize, names) if names else np.dtype("<i8")
        yield from node_tables.rows(dtype, array.shape[0], _bytes(array, context))
    except CutTableError as error:
        raise Objection(str(error), rules.BOUNDS) from None
    except UnreadableTableError as error:
        raise Objection(str(error), rules.UNCHECKED) from None


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
