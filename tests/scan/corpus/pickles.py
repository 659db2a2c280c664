"""Hostile pickles: every published way past scanners that is known to us, and a few that we found.

`pickle_gadgets` are functions behind one call, `pickle_structures` tricks with the machine, `pickle_models` fitted
models with tables that lead their readers astray, `pickle_numpy` what numpy believes, `pickle_costs` what takes too
long or too much, `pickle_carriers` files that hold pickles.
"""

from __future__ import annotations

from corpus import UNSAFE, Case
from corpus.pickle_bytes import writes
from corpus.pickle_carriers import CASES as CARRIERS
from corpus.pickle_costs import HOSTILE as COSTS
from corpus.pickle_gadgets import NAMED
from corpus.pickle_gadgets import RUN as GADGETS
from corpus.pickle_models import CASES as MODELS
from corpus.pickle_numpy import HOSTILE as NUMPY
from corpus.pickle_structures import OTHERS
from corpus.pickle_structures import RUN as STRUCTURES

RUN = {**GADGETS, **STRUCTURES}
"""Pickles that make the flag file when they are loaded, with where they are described."""

CASES: tuple[Case, ...] = (
    *(Case(name, writes(data), UNSAFE, reference) for name, (data, reference) in (*RUN.items(), *NAMED.items())),
    *(
        Case(name, writes(data), expected, reference)
        for name, (data, expected, reference) in {**OTHERS, **COSTS, **NUMPY}.items()
    ),
    *CARRIERS,
    *MODELS,
)
