"""Hostile files are never safe, honest ones always are: every case of the corpus."""

from __future__ import annotations

from collections import Counter

import pytest
from corpus import HONEST, HOSTILE, Case, cases

from hauberk.scan import scan_paths
from hauberk.scan.report import worst

HOSTILE_CASES = tuple(cases(HOSTILE))
HONEST_CASES = tuple(cases(HONEST))


def verdict_of(case: Case, folder) -> tuple[str, list[str]]:
    reports = list(scan_paths([case.make(folder)]))
    found = [f"{finding.rule}: {finding.what}" for report in reports for finding in report.findings]
    return worst(report.verdict for report in reports).value, found


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{area}-{case.name}") for area, case in HOSTILE_CASES])
def test_a_hostile_file_is_never_safe(case, tmp_path):
    verdict, found = verdict_of(case, tmp_path)
    assert verdict in case.expected - {"safe"}, found
    assert not any(each.startswith("scan-failed") for each in found), found


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{area}-{case.name}") for area, case in HONEST_CASES])
def test_an_honest_file_is_not_accused(case, tmp_path):
    verdict, found = verdict_of(case, tmp_path)
    assert verdict == "safe", found


def test_the_corpus_is_as_large_as_it_claims():
    counted = Counter(area for area, _ in HOSTILE_CASES)
    assert counted["pickles"] >= 150
    assert counted["graphs"] >= 60
    assert counted["archives"] + counted["frameworks"] >= 80
    for area in (*HOSTILE, *HONEST):
        names = [case.name for where, case in (*HOSTILE_CASES, *HONEST_CASES) if where == area]
        assert len(names) == len(set(names)), area
