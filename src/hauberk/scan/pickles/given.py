"""What stands in what a pickle gave to objects, looked at once nothing more can be put into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hauberk.scan.pickles.entries import Reporter
from hauberk.scan.pickles.values import Bag, Frozen, Mapping

_CONTAINERS = frozenset({list, tuple, Mapping, Bag})
_LOOKED_BETWEEN = 1 << 14  # values between two looks at the clock


def everything_in(given: Iterable[object], reporter: Reporter) -> Iterator[object]:
    """Each value, and what is in lists, tuples, dictionaries and sets among them, each of these once.

    Args:
        given: Values.
        reporter: Keeps the time.
    """
    rest = list(given)
    seen: set[int] = set()
    looked = 0
    while rest:
        value = rest.pop()
        looked += 1
        if not looked % _LOOKED_BETWEEN:
            reporter.check_time()
        yield value
        items = value.items if type(value) is Frozen else value if type(value) in _CONTAINERS else ()
        if items and id(value) not in seen:
            seen.add(id(value))
            rest += items  # type: ignore[arg-type]
