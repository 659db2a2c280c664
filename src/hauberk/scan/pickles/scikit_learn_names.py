"""scikit-learn: fitted estimators of an exact list of classes."""

from __future__ import annotations

from hauberk.scan.pickles.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
