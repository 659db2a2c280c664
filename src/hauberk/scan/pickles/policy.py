"""The allow-list: the names that a pickle may ask for, and what may be done with each.

Anything else is unsafe by construction: a list of what is dangerous is bypassed by what it lacks, a list of what is
harmless is not. The names stand in groups, one module each; each group says where its knowledge comes from.
"""

from __future__ import annotations

import _compat_pickle
from functools import cache

from hauberk.scan.pickles import numpy_names, plain_names, scikit_learn_names, torch_names
from hauberk.scan.pickles.entries import Entry
from hauberk.scan.pickles.values import Name

GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Python", plain_names.ENTRIES),
    ("torch", torch_names.ENTRIES),
    ("numpy and joblib", numpy_names.ENTRIES),
    ("scikit-learn", scikit_learn_names.ENTRIES),
)


@cache
def _allowed() -> dict[tuple[str, str], Entry]:
    found: dict[tuple[str, str], Entry] = {}
    for _, entries in GROUPS:
        for entry in entries:
            module, _, name = entry.name.rpartition(".")
            found[module, name] = entry
    return found


def allowed() -> dict[tuple[str, str], Entry]:
    """The allow-list, by module and name."""
    return dict(_allowed())


def resolve(module: str, name: str, protocol: int) -> Name:
    """What a pickle of this protocol gets when it asks for a name.

    Names are compared exactly: a name with dots, which the unpickler walks, is on no list. Pickles of protocol 2 and
    below may use the names of Python 2, which the unpickler maps.
    """
    entry = _allowed().get((module, name))
    if entry is not None or protocol > 2:
        return Name(module, name, entry)
    if (renamed := _compat_pickle.NAME_MAPPING.get((module, name))) is not None:
        module, name = renamed
    else:
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    return Name(module, name, _allowed().get((module, name)))
