"""Random graphs whose every decision is hypothesis's, so that a graph that fails is shrunk to a small one.

`random_graphs.py` asks a numpy generator what to do next. Here the answers that shape the graph (which operator, which
value, how many, whether) are drawn from hypothesis, the smallest and first choice being the simplest. Weights are not:
they come from a generator with one drawn seed, because nobody reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray

from random_graphs import grown

_PARTS = 1000
"""How finely a share is drawn."""


class Drawn:
    """As much of `numpy.random.Generator` as growing a graph takes.

    Args:
        draw: Hypothesis's, in a composite strategy.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._numbers = np.random.default_rng(draw(st.integers(0, 1 << 16)))

    def integers(self, low: int, high: int | None = None, size: Any = None) -> Any:
        """A whole number of [low, high), or of [0, low); an array of them is nobody's decision."""
        if size is not None:
            return self._numbers.integers(low, high, size)
        first, end = (0, low) if high is None else (low, high)
        return self._draw(st.integers(int(first), int(end) - 1))

    def random(self) -> float:
        """A share of [0, 1). The simplest is the largest: what happens with a probability does not."""
        return 1 - (self._draw(st.integers(1, _PARTS)) / _PARTS)

    def choice(self, options: Sequence[Any], size: Any = None) -> Any:
        """One of some options; an array of them is nobody's decision."""
        if size is not None:
            return self._numbers.choice(options, size)
        return np.asarray(options)[self._draw(st.integers(0, len(options) - 1))]

    def permutation(self, count: int) -> NDArray[np.int64]:
        """An order of 0 … count - 1."""
        return np.array(self._draw(st.permutations(range(count))), np.int64)

    def exponential(self, scale: float) -> float:
        """A number of at least 0, likelier a small one, by the inverse of its distribution."""
        return -scale * float(np.log(1 - self._draw(st.integers(0, _PARTS - 1)) / _PARTS))

    def uniform(self, low: float, high: float, size: Any) -> NDArray[np.float64]:
        """Weights."""
        weights: NDArray[np.float64] = self._numbers.uniform(low, high, size)
        return weights

    def normal(self, *, size: Any) -> NDArray[np.float64]:
        """Weights."""
        weights: NDArray[np.float64] = self._numbers.normal(size=size)
        return weights


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Graphs of one to three inputs, up to 24 nodes and one to three outputs."""
    return grown(Drawn(draw))
