"""What Relu and Clip do to codes.

Coding keeps order, so that cutting codes is coding what has been cut:
`code(max(x, floor)) = max(code(x), code(floor))`, and alike for a ceiling.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx

from hauberk.compress.quantize.codes import Affine, encode
from hauberk.compress.quantize.layers import Constants

ACTIVATIONS = frozenset({"Relu", "Clip"})
"""Operators that the quantizer behind them does on the way, where its range ends where they cut."""


class Cut(NamedTuple):
    """The codes at which a Relu or Clip cuts.

    Attributes:
        floor: The lowest code that it lets pass; `None` where every code is as high.
        ceiling: The highest; `None` where every code is as low.
    """

    floor: int | None
    ceiling: int | None


def cut_of(node: onnx.NodeProto, code: Affine, constants: Constants) -> Cut | None:
    """Where a Relu or Clip cuts the codes of its result; `None` where its bounds are no constants.

    Args:
        node: The Relu or Clip.
        code: How its result is coded, its input too where codes are to be cut.
        constants: Of its graph.
    """
    ends: list[int | None] = []
    info = np.iinfo(code.zero_point.dtype)
    names = [*node.input[1:], "", ""][:2]
    for name, end in zip(names, (info.min, info.max), strict=True):
        if not name:
            ends.append(None)
            continue
        bound = constants.floats(name)
        if bound is None or bound.size != 1 or np.isnan(bound).any():
            return None
        ends.append(_unless(end, bound.reshape(()), code))
    if node.op_type == "Relu":
        ends[0] = _unless(info.min, np.zeros((), np.float32), code)
    return Cut(*ends)


def _unless(end: int, bound: np.ndarray[tuple[()], np.dtype[np.float32]], code: Affine) -> int | None:
    """The code of a bound; `None` where codes end there anyway."""
    with np.errstate(over="ignore"):  # exporters write the largest float where there is no bound
        found = int(encode(bound, code))
    return None if found == end else found
