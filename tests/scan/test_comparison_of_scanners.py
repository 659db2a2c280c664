"""`benchmarks/scan.py` sorts the corpus into classes: one for every hostile case."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from corpus import HOSTILE, cases


def test_every_hostile_case_has_its_class(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    kinds = importlib.import_module("scan_comparison.catches")._kinds()
    assert {(area, case.name) for area, case in cases(HOSTILE)} == kinds.keys()
