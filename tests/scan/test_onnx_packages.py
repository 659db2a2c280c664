"""Models that packages on PyPI ship are not accused. Install `magika` and `silero-vad` to run these; CI has neither.

Or unpack their wheels somewhere (`pip download --no-deps magika silero-vad`) and name the folder in
HAUBERK_TEST_MODELS: every .onnx below it is looked at.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from hauberk.scan.report import Verdict
from hauberk.scan.walk import scan_file


def shipped() -> list[Path]:
    folders = [Path(os.environ["HAUBERK_TEST_MODELS"])] if "HAUBERK_TEST_MODELS" in os.environ else []
    for package in ("magika", "silero_vad"):
        found = importlib.util.find_spec(package)
        folders += [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    return [path for folder in folders for path in sorted(folder.rglob("*.onnx"))]


@pytest.mark.skipif(not shipped(), reason="none of the packages is installed")
def test_models_that_packages_ship_are_safe():
    for path in shipped():
        report = scan_file(path)
        assert report.format == "onnx"
        assert report.verdict is Verdict.SAFE, (path, report.findings)
        assert not report.findings, path
