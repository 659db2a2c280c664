"""A checkpoint of 8 GB takes the memory of one of 8 MB: the scan reads what matters and no more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sparse import sparse_checkpoint, sparse_safetensors

ONE_SCAN = """
import sys
from pathlib import Path
from hauberk.scan import scan_paths
report, = scan_paths([Path(sys.argv[1])])
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(report.verdict.value, report.format, int(peak) * 1024)
"""
"""Of its own memory: `ru_maxrss` begins with that of the process that started it."""


def scanned(path):
    done = subprocess.run([sys.executable, "-c", ONE_SCAN, str(path)], capture_output=True, text=True, check=True)
    verdict, form, peak = done.stdout.split()
    return verdict, form, int(peak)


@pytest.mark.parametrize(("form", "make"), [("pytorch-zip", sparse_checkpoint), ("safetensors", sparse_safetensors)])
def test_memory_does_not_grow_with_the_weights(form, make, tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    make(small, 8 << 20)
    make(large, 8 << 30)
    if large.stat().st_blocks * 512 > 64 << 20:
        pytest.skip("this file system has no holes")
    results = [scanned(path) for path in (small, large)]
    os.truncate(large, 0)
    assert [result[:2] for result in results] == [("safe", form)] * 2
    assert results[1][2] - results[0][2] < 16 << 20
