"""Pickles inside something else: behind junk, behind a picture, behind a broken one.

Loaders that are handed an offset, or look for one, find them. The search is bounded and asks for more than the look of
a pickle: it must ask for a name that is refused, and for one that exists or is called.
"""

from __future__ import annotations

import math

from hauberk.scan.content import BytesContent, Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.bare import Listener, asks_in_earnest
from hauberk.scan.pickles.machine import Machine
from hauberk.scan.pickles.signs import signs
from hauberk.scan.pickles.torch_names import torch_storage
from hauberk.scan.report import shown

SEARCHED = 16 << 20
"""Bytes that are searched, from the start of the search on."""
_WINDOW = 1 << 20
_FOLLOWED = 1 << 16  # bytes that a pickle is followed at least
_SECONDS = 5.0
_MOST_FOLLOWED = 5000


def first_embedded(
    content: Content, start: int, stop: int, examination: Examination | None = None
) -> tuple[int, Machine] | None:
    """The first hostile pickle that begins between two places, and where; `None` where none was seen.

    Args:
        content: Searched.
        start: The first byte.
        stop: Behind the last one.
        examination: Asked for the time; without one, the search ends by itself after a while.

    Raises:
        StopScan: Time is up.
    """
    followed = 0
    listener = Listener(examination, seconds=math.inf if examination else _SECONDS)
    rest = b""
    for at in range(start, stop, _WINDOW):
        # Forward only: going back in a compressed content costs unpacking it from its start.
        size = min(_WINDOW + _FOLLOWED, content.size - at)
        window = rest[:size] + content.read(at + len(rest[:size]), size - len(rest[:size]))
        rest = window[_WINDOW:]
        for sign in signs(window, listener.check_time):
            if sign.start >= _WINDOW:
                break
            followed += 1
            if followed > _MOST_FOLLOWED:
                return None
            if hostile := _follow(BytesContent(window), sign.start, listener, known=sign.is_protocol):
                return at + sign.start, hostile
    return None


def _follow(content: Content, start: int, listener: Listener, *, known: bool) -> Machine | None:
    """What a hostile pickle does, for readers that know arrays in the stream or for others; `None` if it is none."""
    for joblib in (False, True):
        listener.heard.clear()
        machine = Machine(content, listener, start=start, persistent=torch_storage, joblib=joblib)
        machine.run()
        # Without PROTO in front, text and noise ask for names often enough; a call of one is another matter.
        if listener.hostile and (machine.calls or known) and asks_in_earnest(machine, listener):
            return machine
        if "joblib.numpy_pickle.NumpyArrayWrapper" not in machine.names:
            break
    return None


def find_embedded(content: Content, examination: Examination, start: int) -> bool:
    """Report the first hostile pickle behind a place; returns whether there is one."""
    found = first_embedded(content, start, min(content.size, start + SEARCHED), examination)
    if found is None:
        return False
    place, machine = found
    examination.find(rules.EMBEDDED, f"begins here, asks for {shown(', '.join(machine.refused))}", at=place)
    return True


def recognise(_: bytes, content: Content) -> bool:
    """Whether a hostile pickle begins among the first bytes of something that is no other format."""
    try:
        return first_embedded(content, 0, min(content.size, SEARCHED)) is not None
    except StopScan:
        return False


def examine(content: Content, examination: Examination) -> None:
    """Report it."""
    find_embedded(content, examination, 0)
