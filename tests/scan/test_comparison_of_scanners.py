"""`benchmarks/scan.py`: every hostile case has a class, and parts that were measured otherwise are never mixed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import msgspec
import pytest
from corpus import HOSTILE, cases

from hauberk.errors import InputError


def test_every_hostile_case_has_its_class(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    kinds = importlib.import_module("scan_comparison.catches")._kinds()
    assert {(area, case.name) for area, case in cases(HOSTILE)} == kinds.keys()


def test_parts_of_other_versions_are_not_shown_as_one(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    scan = importlib.import_module("scan")
    kept = tmp_path / "results.json"
    fresh = scan._known(kept, every=False)
    scan._with(kept, fresh, "memory", "abc", sparse=[])
    assert scan._known(kept, every=False).taken["memory"].partition(",")[0].endswith("at abc")
    assert not scan._known(kept, every=True).taken
    for changes in ({"machine": "another"}, {"versions": fresh.versions | {"picklescan": "0"}}):
        scan._with(kept, msgspec.structs.replace(fresh, **changes), "memory", "abc", sparse=[])
        with pytest.raises(InputError, match="measure every part"):
            scan._known(kept, every=False)
    kept.write_bytes(b"{}")
    with pytest.raises(InputError, match="another form"):
        scan._known(kept, every=False)
