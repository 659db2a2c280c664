"""numpy's random generators in pickles: their positions lie inside their tables, as numpy does not look.

Sources: numpy 2.4 `random/_pickle.py`, `random/bit_generator.pyx`, `random/_philox.pyx`, `random/_mt19937.pyx`; numpy
1.17 to 1.26 name the class as a text.
"""

from __future__ import annotations

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import MAKES_ARRAYS, Array, is_scalar
from hauberk.scan.pickles.entries import Context, Entry, Objection, check_attributes, is_made, is_name
from hauberk.scan.pickles.values import Made, Mapping, Name

BIT_GENERATORS = {
    "MT19937": "numpy.random._mt19937.MT19937",
    "PCG64": "numpy.random._pcg64.PCG64",
    "PCG64DXSM": "numpy.random._pcg64.PCG64DXSM",
    "Philox": "numpy.random._philox.Philox",
    "SFC64": "numpy.random._sfc64.SFC64",
}
SEEDS = "numpy.random.bit_generator.SeedSequence"
CONSTRUCTOR = "numpy.random._pickle.__bit_generator_ctor"
_SEEDED = "numpy.random.bit_generator.__pyx_unpickle_SeedSequence"
LENGTHS = {"pos": 624, "buffer_pos": 4}
"""Positions of generators, and the words of the tables that they are positions in."""
_COST = 1 << 14  # to seed one, or to set its state, takes as long as to copy so many bytes
_LARGEST_POOL = 1024


def make_bit_generator(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """One of numpy's own, by name or class; it is seeded anew before its state is set."""
    context.copies(_COST)
    match arguments:
        case () | (None,):
            return Made(entry)
        case (str(kind),) if kind in BIT_GENERATORS:
            return Made(entry)
        case (Name() as kind,) if is_name(kind, *BIT_GENERATORS.values()):
            return Made(entry)
    raise Objection("a generator that is not known")


def make_generator(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """A `Generator` or a `RandomState` on one of them."""
    match arguments:
        case () | (_,) | (_, _):
            if not arguments or not is_made(arguments[0], CONSTRUCTOR):
                make_bit_generator(entry, arguments[:1], context)
            if arguments[1:] and not is_name(arguments[1], CONSTRUCTOR):
                raise Objection("a function that makes generators and is not known")
            return Made(entry)
    raise Objection("with arguments that no pickler writes")


def set_generator(made: Made, state: object, context: Context) -> None:
    """Its tables and positions, and what it was seeded with."""
    del made
    context.copies(_COST)
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    for part in parts:
        if type(part) is Mapping:
            _check_position(part, 2)
        elif part is not None and not is_made(part, _SEEDED):
            raise Objection("a generator's state that no pickler writes", rules.BUILD)


def _check_position(state: Mapping, levels: int) -> None:
    """Positions that lie inside their tables."""
    if not levels:
        raise Objection("a generator's state that no pickler writes", rules.BUILD)
    for key, value in state.items_of():
        if type(key) is not str:
            raise Objection("a generator's state that no pickler writes", rules.BUILD)
        if type(value) is Mapping:
            _check_position(value, levels - 1)
        elif key in LENGTHS and not (type(value) is int and 0 <= value <= LENGTHS[key]):
            raise Objection("a generator that reads beyond its table", rules.MEMORY)
        elif not (type(value) in {str, int, float} or is_made(value, *MAKES_ARRAYS) or is_scalar(value)):
            raise Objection("a generator's state that no pickler writes", rules.BUILD)


def make_seeds(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """What a generator was seeded with."""
    match arguments:
        case (kind, int(), state) if is_name(kind, SEEDS):
            made = Made(entry)
            if state is not None:
                set_seeds(made, state, context)
            return made
    raise Objection("with arguments that no pickler writes")


def set_seeds(made: Made, state: object, _: Context) -> None:
    """Entropy, counters, and a pool of the size that is said: children get one of that size."""
    del made
    match state:
        case tuple((_, int(), Made(detail=Array(shape=(length,), dtype=dtype)), int(size), tuple(), *attributes)):
            if length != size or size > _LARGEST_POOL or (dtype.kind, dtype.itemsize) != ("u", 4):
                raise Objection("a pool of another size", rules.BUILD)
            for part in attributes:
                check_attributes(part)
        case _:
            raise Objection("a state that no pickler writes", rules.BUILD)
