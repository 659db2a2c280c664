"""An operator of TensorFlow Lite with what it is given and what it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hauberk.scan.frameworks.flatbuffer import Table

Shape = tuple[int, ...]
FLOAT, WHOLE_32, BYTE, WHOLE_64, TRUTH, SHORT, SIGNED_BYTE = 0, 2, 3, 4, 6, 7, 9
QUANTIZED = frozenset({BYTE, SHORT, SIGNED_BYTE})
NUMBERS_MOST = 64
"""Shapes, axes and places that an operator is given at once: no kernel takes as many dimensions."""


class Tensor(NamedTuple):
    """A tensor of a model.

    Attributes:
        kind: Number of its type.
        shape: As stored.
        numbers: Its whole numbers where it is a constant of 32 or 64 bits; `None` otherwise.
        quantized: Whether its scales and zero points, if it needs any, are there and make sense.
        scales: The one for all of it, or the least and the largest of its parts; empty where its numbers are plain.
        open: The shape once more, with -1 for sizes that are known only when the model runs; empty where all are.
    """

    kind: int
    shape: Shape
    numbers: Callable[[], npt.NDArray[np.int64] | None]
    quantized: bool = True
    scales: tuple[float, ...] = ()
    open: Shape = ()


class Call(NamedTuple):
    """An operator with what it is given and what it gives; inputs that are left out are `None`."""

    inputs: Sequence[Tensor | None]
    outputs: Sequence[Tensor]
    options: Table | None

    def option(self, field: int, width: int = 4, default: int = 0) -> int:
        """A number of the options."""
        return self.options.scalar(field, width, default, signed=True) if self.options else default

    def listed(self, field: int) -> list[int]:
        """Numbers of 32 bits in a list of the options.

        Raises:
            ValueError: There are too many.
        """
        if self.options and (count := self.options.vector(field, 4)[1]) > NUMBERS_MOST:
            raise ValueError(f"options of {count} numbers")
        return [int(each) for each in self.options.numbers(field, "<i4")] if self.options else []

    def given(self, count: int) -> list[Tensor]:
        """Exactly so many inputs, none of them left out.

        Raises:
            ValueError: There are others.
        """
        there = [each for each in self.inputs if each is not None]
        if len(there) != count or len(self.inputs) != count:
            raise ValueError(f"{len(self.inputs)} inputs, {count} expected")
        return there

    def constant(self, index: int) -> list[int]:
        """Whole numbers of an input that stands in the model.

        Raises:
            ValueError: It does not, or there are too many.
        """
        tensor = self.inputs[index]
        if tensor and 0 in tensor.shape:
            return []
        if tensor and (count := math.prod(tensor.shape)) > NUMBERS_MOST:
            raise ValueError(f"{count} figures")
        numbers = tensor.numbers() if tensor else None
        if tensor is None or numbers is None or len(numbers) != math.prod(tensor.shape):
            raise ValueError("its figures are known only when the model runs")
        return [int(each) for each in numbers]
