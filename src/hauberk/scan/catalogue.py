"""Every rule of the scan, by id: for documentation, and for readers of SARIF."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from hauberk.scan import examination, overlays, supervised, walk
from hauberk.scan.formats import formats
from hauberk.scan.report import Rule


@cache
def all_rules() -> dict[str, Rule]:
    """Rules by id, in alphabetical order.

    Raises:
        ValueError: Two different rules have one id.
    """
    kinds = import_module("hauberk.scan.archives.kinds").zip_kinds()
    sources = (
        *(each.rules for each in (*formats(), *kinds)),
        *(module.RULES for module in (examination, overlays, supervised, walk)),
    )
    found: dict[str, Rule] = {}
    for rule in (rule for rules in sources for rule in rules):
        if found.setdefault(rule.id, rule) != rule:
            raise ValueError(f"two rules are called {rule.id}")
    return dict(sorted(found.items()))
