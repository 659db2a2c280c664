"""Which parts of a record a proposal of Square changes together: a square of an image, a block of a window, columns.

What makes a square a good guess is that neighbouring pixels act alike. Time steps of a window have neighbours in time
only, and columns of a table have none. A record [D] is seen as channels times places: an image as C times H*W, so
that one square covers all channels; tables and windows as one channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

_GRID = 5
"""Bumps along each side of an image that the search under the L2 norm starts with."""


class Regions(ABC):
    """How records of one shape are divided.

    Attributes:
        channels: C, 1 but for images.
        places: P, with C * P = D.
        neighbours: Whether places of a region act alike, and therefore go to one end.
    """

    channels: int
    places: int
    neighbours = True

    @abstractmethod
    def draw(self, count: int, share: float, generator: np.random.Generator, *, least: int = 1) -> Places:
        """A region for each of `count` records, int64 [count, m], that covers about `share` of what can move.

        `least` is the shortest side of a region, where the records are that large. No place occurs twice.
        """

    @abstractmethod
    def sides(self, region: Places, generator: np.random.Generator) -> Flags:
        """Which end the places of regions [n, m] go to, bool [n, C, m]: alike where neighbours act alike."""

    def start(self, count: int, generator: np.random.Generator) -> Flags:
        """Which end everything starts at, bool [count, C, P]."""
        return self.sides(np.broadcast_to(np.arange(self.places), (count, self.places)), generator)

    def bumps(self, region: Places, generator: np.random.Generator) -> NDArray[np.float64]:
        """Moves of regions [n, m], float64 [n, C, m], each of Euclidean length 1 in every channel."""
        length = float(np.sqrt(region.shape[1]))
        return np.where(self.sides(region, generator), 1 / length, -1 / length)

    def spread(self, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Moves of everything to begin with under the L2 norm, float64 [count, C, P], of any length."""
        return np.where(self.start(count, generator), 1.0, -1.0)


class Columns(Regions):
    """Columns of a table: they have no neighbours, so that any of them make a region, each with a side of its own.

    Args:
        movable: Int64, the columns that move.
        width: D.
    """

    neighbours = False

    def __init__(self, movable: Places, width: int) -> None:
        self.channels, self.places = 1, width
        self._movable = movable

    def draw(self, count: int, share: float, generator: np.random.Generator, *, least: int = 1) -> Places:
        """Different columns, drawn evenly."""
        size = min(max(least, round(share * self._movable.size)), self._movable.size)
        return self._movable[_distinct(count, size, self._movable.size, generator)]

    def sides(self, region: Places, generator: np.random.Generator) -> Flags:
        """One draw a place."""
        return generator.random((len(region), 1, region.shape[1]), dtype=np.float32) < 0.5


class Blocks(Regions):
    """Consecutive time steps of some columns of windows [T, F]; a column goes to one end in all of these steps.

    Args:
        movable: Int64, the movable of the T * F places.
        steps: T.
        columns: F.
    """

    def __init__(self, movable: Places, steps: int, columns: int) -> None:
        self.channels, self.places = 1, steps * columns
        self._steps, self._columns = steps, columns
        self._movable = np.unique(movable % columns)

    def draw(self, count: int, share: float, generator: np.random.Generator, *, least: int = 1) -> Places:
        """A share of the window is the root of it in steps times the root of it in columns."""
        side = np.sqrt(share)
        steps = min(max(least, round(side * self._steps)), self._steps)
        size = min(max(1, round(side * self._movable.size)), self._movable.size)
        columns = self._movable[_distinct(count, size, self._movable.size, generator)]
        first = generator.integers(0, self._steps - steps + 1, size=(count, 1))
        rows = first + np.arange(steps)
        places: Places = (rows[:, :, None] * self._columns + columns[:, None, :]).reshape(count, -1)
        return places

    def sides(self, region: Places, generator: np.random.Generator) -> Flags:
        """One draw a column."""
        columns = generator.random((len(region), self._columns), dtype=np.float32) < 0.5
        return np.take_along_axis(columns, region % self._columns, axis=1)[:, None, :]


class Squares(Regions):
    """Squares of images [C, H, W], all channels together; each channel goes to one end. The start is vertical stripes.

    Args:
        shape: C, H and W.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.channels, self._height, self._width = shape
        self.places = self._height * self._width

    def draw(self, count: int, share: float, generator: np.random.Generator, *, least: int = 1) -> Places:
        """A square at a random place; with `least`, one whose side is odd, so that it has a middle."""
        side = max(least, 1, round(float(np.sqrt(share * self.places))))
        if least > 1:
            side += 1 - side % 2
        side = min(side, self._height, self._width)
        top = generator.integers(0, self._height - side + 1, size=(count, 1, 1))
        left = generator.integers(0, self._width - side + 1, size=(count, 1, 1))
        across = np.arange(side)
        places: Places = ((top + across[:, None]) * self._width + left + across).reshape(count, -1)
        return places

    def sides(self, region: Places, generator: np.random.Generator) -> Flags:
        """One draw a channel."""
        each = generator.random((len(region), self.channels, 1), dtype=np.float32) < 0.5
        return np.broadcast_to(each, (len(region), self.channels, region.shape[1]))

    def start(self, count: int, generator: np.random.Generator) -> Flags:
        """Vertical stripes, one draw a channel and stripe."""
        stripes = generator.random((count, self.channels, 1, self._width), dtype=np.float32) < 0.5
        whole = np.broadcast_to(stripes, (count, self.channels, self._height, self._width))
        return whole.reshape(count, self.channels, self.places)

    def bumps(self, region: Places, generator: np.random.Generator) -> NDArray[np.float64]:
        """Two bumps of opposite sign that fill the halves of the square, upright or lying, a sign a channel."""
        upright = _two_bumps(round(np.sqrt(region.shape[1])))
        lying = generator.random((len(region), 1)) < 0.5
        moves = np.where(lying, upright.T.reshape(-1), upright.reshape(-1))
        sign = np.where(generator.random((len(region), self.channels, 1)) < 0.5, 1.0, -1.0)
        found: NDArray[np.float64] = sign * moves[:, None, :]
        return found

    def spread(self, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """A grid of five by five bumps, where the image is that large."""
        side = max(1, min(self._height, self._width) // _GRID)
        down, across = self._height // side, self._width // side
        top, left = (self._height - down * side) // 2, (self._width - across * side) // 2
        moves = np.zeros((count, self.channels, self._height, self._width))
        for row in range(down):
            for column in range(across):
                rows, columns = (slice(first, first + side) for first in (top + row * side, left + column * side))
                bumps = self.bumps(np.empty((count, side**2), np.int64), generator)
                moves[:, :, rows, columns] = bumps.reshape(count, self.channels, side, side)
        return moves.reshape(count, self.channels, self.places)


def regions_of(shape: tuple[int, ...], movable: Places, width: int) -> Regions:
    """The regions of records [D] that were windows [T, F] or images [C, H, W] before, or of a table's.

    Args:
        shape: The threat's; other lengths than 2 and 3 are tables.
        movable: Int64, the columns that move.
        width: D.
    """
    if len(shape) == 2:
        return Blocks(movable, *shape)
    if len(shape) == 3:
        return Squares((shape[0], shape[1], shape[2]))
    return Columns(movable, width)


def _distinct(count: int, size: int, most: int, generator: np.random.Generator) -> Places:
    """`size` different numbers below `most` for each of `count` rows, int64 [count, size]."""
    if size == 1:
        return generator.integers(0, most, size=(count, 1))
    if size == most:
        return np.broadcast_to(np.arange(most), (count, most))
    return np.argpartition(generator.random((count, most), dtype=np.float32), size, axis=1)[:, :size]


@lru_cache(maxsize=64)
def _two_bumps(side: int) -> NDArray[np.float64]:
    """Float64 [side, side] of length 1: a bump in the upper half, the opposite of one in the lower half."""
    if side == 1:
        return np.ones((1, 1))
    both = np.concatenate([_bump(side // 2, side), -_bump(side - side // 2, side)])
    found: NDArray[np.float64] = both / np.linalg.norm(both)
    return found


def _bump(height: int, width: int) -> NDArray[np.float64]:
    """Squares around the middle laid on each other, the k-th of which, from within, adds 1 / k**2.

    At Chebyshev distance d from the middle, a place lies in all but the first d of them (section 3.4 of the paper).
    """
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    distance = np.maximum(rows[:, None], columns[None, :])
    count = max(height // 2 + 1, width // 2 + 1)
    added = 1.0 / np.arange(1, count + 1) ** 2
    heights = np.append(np.cumsum(added[::-1])[::-1], 0.0)
    found: NDArray[np.float64] = heights[distance]
    return found / np.linalg.norm(found)
