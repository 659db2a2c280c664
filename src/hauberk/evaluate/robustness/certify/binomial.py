"""How small a probability can be, given how often something happened: the bound of Clopper and Pearson.

Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", Biometrika 26
(1934). The lower bound at confidence `1 - risk` after k of n successes is the probability p at which k or more
successes have the chance `risk`: the `risk` quantile of Beta(k, n - k + 1). The tail is summed exactly, in logarithms,
and p is found by bisection from below.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hauberk.errors import InputError

_HALVINGS = 60
_CAUTION = 1e-6
"""Share of the risk that is given away, so that rounding in the logarithms cannot make the bound too high."""


@lru_cache(maxsize=65536)
def lowest_probability(successes: int, trials: int, risk: float) -> float:
    """The largest p of which "the probability is at least p" is wrong with a chance of at most `risk`.

    Args:
        successes: k, from 0 to n.
        trials: n, at least 1.
        risk: In (0, 1).

    Returns:
        In [0, 1); never above the exact bound, and below it by no more than about 1e-6 of its own size.

    Raises:
        InputError: An argument out of its range.
    """
    if trials < 1 or not 0 <= successes <= trials or not 0 < risk < 1:
        raise InputError(
            f"Clopper-Pearson: {successes} of {trials} at a risk of {risk} is not a count and a risk in (0, 1)"
        )
    if successes == 0:
        return 0.0
    many = np.arange(successes, trials + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    ways = logs[trials] - logs[many] - logs[trials - many]
    limit = np.log(risk * (1.0 - _CAUTION))
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        terms = ways + many * np.log(middle) + (trials - many) * np.log1p(-middle)
        top = terms.max()
        if top + np.log(np.exp(terms - top).sum()) <= limit:
            low = middle
        else:
            high = middle
    return low
