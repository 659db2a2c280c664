"""Fitted models of scikit-learn are judged alike, whatever they were saved with."""

from __future__ import annotations

import pickle

import pytest
from corpus.fitted_models import ASTRAY, by_skops

from hauberk.scan import scan_paths
from hauberk.scan.report import Verdict

# A pickle that puts something in a method's place is refused before its figures are looked at.
MODELS = {name: make for name, make, _, reference in ASTRAY if not reference.endswith("/915.html")}


@pytest.mark.parametrize("name", MODELS)
def test_pickles_and_skops_archives_are_judged_alike(name, tmp_path):
    make = MODELS[name]
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(make(), 5))
    pickled, archived = scan_paths([tmp_path / "model.pkl", by_skops(make)(tmp_path)])
    assert pickled.verdict == archived.verdict != Verdict.SAFE
    assert {finding.what.removeprefix("at its end: ") for finding in pickled.findings} == {
        finding.what for finding in archived.findings
    }
