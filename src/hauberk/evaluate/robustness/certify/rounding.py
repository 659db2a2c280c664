"""How far a deployed graph's float32 arithmetic can lie from the real numbers that bounds are computed with.

A node in float32 gives its exact result plus an error. The error is bounded from the sizes of its operands, and bounds
treat it as one more unknown within these limits, node by node; so what is certified is the deployed graph and not an
idealised one. For a sum of n products in **any** order, with or without fused multiply-add (Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd edition 2002, section 3.1):

    |fl(w . x) - w . x|  <=  gamma_n * |w| . |x|        gamma_n = n u / (1 - n u),  u = 2^-24

Each node is granted `FOLDED` roundings more than its own arithmetic has, because runtimes fold factors of neighbouring
nodes into weights, and constants into each other, before they start. Bounds themselves are computed in float64, whose
roundings are smaller by 2^-29; `SLACK` covers them.
"""

from __future__ import annotations

from torch import Tensor

UNIT = 2.0**-24
"""Largest relative error of one rounding to float32."""

SMALLEST = 2.0**-126
"""The smallest normal float32: below it, a result may be off by as much, or flushed to zero."""

FOLDED = 8
"""Roundings granted to every node beyond those of its own arithmetic."""

SLACK = 2.0**-40
"""What float64 sums of up to thousands of terms may be off by, relative to the sum of their sizes."""

FUNCTION_ERROR = 1e-6
"""Largest absolute error granted to a runtime's Sigmoid and Tanh, both of which lie within [-1, 1]."""


def gamma(roundings: int) -> float:
    """Largest relative error of a computation with so many roundings, those of folded constants included."""
    product = (roundings + FOLDED) * UNIT
    return product / (1.0 - product)


def error_of(magnitude: Tensor, roundings: int) -> Tensor:
    """Largest absolute error of sums whose terms have these sizes together.

    Args:
        magnitude: Float64, for each element the sum of the sizes of its terms.
        roundings: How many there are on the way to it; 0 where elements are moved and nothing is computed.
    """
    if roundings == 0:
        return magnitude.new_zeros(()).expand_as(magnitude)
    return gamma(roundings) * magnitude + (roundings + FOLDED) * SMALLEST
