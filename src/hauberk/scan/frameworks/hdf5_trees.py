"""B-trees of version 1 in an HDF5 file, which lead to the links of a group or to the chunks of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hauberk.scan.frameworks.hdf5_objects import Reader
from hauberk.scan.frameworks.hdf5_values import NotFollowedError, number

LINKS, CHUNKS = 0, 1
_NODES_MOST = 1 << 20


@dataclass
class Node:
    """A node of a tree.

    Attributes:
        level: 0 for one whose children are what the tree is for.
        keys: Bytes of each key; one more than there are children.
        children: Addresses.
    """

    level: int
    keys: list[bytes]
    children: list[int]


def nodes(reader: Reader, root: int, kind: int, key: int, rank: int) -> Iterator[Node]:
    """All nodes, each before its children, in the order of the keys.

    Args:
        reader: The file.
        root: Address of the first node.
        kind: `LINKS` or `CHUNKS`.
        key: Bytes of a key.
        rank: Half of the children that a node has at the most.

    Raises:
        NotFollowedError: A node is none, or its neighbours are not those that it names.
        CutError: It ends before it should.
    """
    step, lead = key + reader.offset_size, 8 + 2 * reader.offset_size
    waiting: list[tuple[int, int | None]] = [(root, None)]
    seen: set[int] = set()
    last: dict[int, tuple[int, int]] = {}  # of each level the node that came last, and who should follow it
    while waiting:
        at, expected = waiting.pop()
        head = reader.read(at, lead)
        level, count = head[5], number(head, 6, 2)
        fits = head[:4] == b"TREE" and head[4] == kind and (expected is None or level == expected)
        if not fits or at in seen or len(seen) > _NODES_MOST or count > 2 * rank:
            raise NotFollowedError(f"no node of a tree at byte {at}")
        seen.add(at)
        before, following = last.get(level, (reader.undefined, at))
        if reader.offset(head, 8) != before or following != at:
            raise NotFollowedError(f"a node of a tree with other neighbours at byte {at}")
        last[level] = (at, reader.offset(head, 8 + reader.offset_size))
        data = reader.read(at + lead, 2 * rank * step + key)  # a node has room for all that it may ever hold
        found = Node(
            level,
            [data[index * step : index * step + key] for index in range(count + 1)],
            [reader.offset(data, index * step + key) for index in range(count)],
        )
        yield found
        if level:
            waiting += [(child, level - 1) for child in reversed(found.children)]
    if any(following != reader.undefined for _, following in last.values()):
        raise NotFollowedError("a tree whose last node has a neighbour")
