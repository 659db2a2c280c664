"""numpy and joblib."""

from __future__ import annotations

from hauberk.scan.pickles.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
