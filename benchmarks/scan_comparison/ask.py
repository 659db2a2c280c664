"""Asks one scanner about files, through its own Python interface. Runs in the scanner's environment, without hauberk's.

    python ask.py SCANNER

First it writes one line of JSON: how long importing took. Then it reads lines of JSON, each a list of paths, and
answers each with seconds for all of them (on the wall, and of processor time) and a word for each path: what the
scanner's own command line would have said by its exit code.

- `flagged`: it says that the file is dangerous.
- `clean`: it says that it found nothing.
- `undecided`: it failed, skipped the file or said that it could not tell.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

Scan = Callable[[str], str]


def picklescan(*, strict: bool = False) -> Scan:
    """https://github.com/mmaitre314/picklescan: exit code 2 for an error, 1 for dangerous globals, 0 otherwise."""
    from picklescan.scanner import scan_directory_path, scan_file_path

    def scan(path: str) -> str:
        found = (scan_directory_path if Path(path).is_dir() else scan_file_path)(path, strict=strict)
        if found.issues_count:
            return "flagged"
        return "undecided" if found.scan_err or not found.scanned_files else "clean"

    return scan


def picklescan_strict() -> Scan:
    """The same with `--strict`, which counts names that it does not know as dangerous."""
    return picklescan(strict=True)


def fickling() -> Scan:
    """https://github.com/trailofbits/fickling: anything above LIKELY_SAFE is exit code 1, a file it cannot parse 2.

    As its own scan of repositories does: archives by their pickles, other files as pickles.
    """
    import zipfile

    from fickling.analysis import Severity
    from fickling.loader import scan_file, scan_zip_archive

    def one(path: str) -> str:
        archive = zipfile.is_zipfile(path)
        found = list(scan_zip_archive(path, graceful=True).values()) if archive else [scan_file(path, graceful=True)]
        if any(result.severity > Severity.LIKELY_SAFE for part in found for result in part.results):
            return "flagged"
        return "undecided" if any(part.errors or not part.is_safe for part in found) or not found else "clean"

    return lambda path: _worst([one(file) for file in _files(path)])


def modelscan() -> Scan:
    """https://github.com/protectai/modelscan: 1 for issues, 2 for errors, 3 where it supports no file."""
    from modelscan.modelscan import ModelScan

    scanner = ModelScan()

    def scan(path: str) -> str:
        found = scanner.scan(path)
        if found["summary"]["total_issues"]:
            return "flagged"
        return "undecided" if found["errors"] or not found["summary"]["scanned"]["total_scanned"] else "clean"

    return scan


def modelaudit() -> Scan:
    """https://github.com/promptfoo/modelaudit: its own function for the exit code; no cache, no reporting home."""
    from modelaudit.core import scan_model_directory_or_file
    from modelaudit.core_results import determine_exit_code

    words = {0: "clean", 1: "flagged"}

    def scan(path: str) -> str:
        found = scan_model_directory_or_file(path, cache_enabled=False)
        return words.get(determine_exit_code(found), "undecided")

    return scan


def hauberk() -> Scan:
    """Ours: `unsafe`, `safe`, `unknown`."""
    from hauberk.scan import Verdict, scan_paths

    words = {Verdict.UNSAFE: "flagged", Verdict.SAFE: "clean", Verdict.UNKNOWN: "undecided"}
    return lambda path: _worst([words[report.verdict] for report in scan_paths([Path(path)])])


def _files(path: str) -> list[str]:
    if not Path(path).is_dir():
        return [path]
    return [str(Path(folder, name)) for folder, _, names in os.walk(path) for name in names]


def _worst(words: list[str]) -> str:
    return next((word for word in ("flagged", "undecided") if word in words), "clean" if words else "undecided")


SCANNERS: dict[str, Callable[[], Scan]] = {
    "hauberk": hauberk,
    "picklescan": picklescan,
    "picklescan-strict": picklescan_strict,
    "fickling": fickling,
    "modelscan": modelscan,
    "modelaudit": modelaudit,
}


def main(name: str) -> None:
    """Serve until there is nothing more to read."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a scanner prints is no answer
    sys.path.pop(0)  # the folder of this file
    started = time.perf_counter()
    scan = SCANNERS[name]()
    imported = time.perf_counter() - started
    logging.disable(logging.CRITICAL)
    print(json.dumps({"imported": imported}), file=answers, flush=True)
    for line in sys.stdin:
        paths, words = json.loads(line), []
        started, processor = time.perf_counter(), _processor()
        for path in paths:
            try:
                words.append(scan(path))
            except Exception:  # noqa: BLE001 - a scanner that fails has not decided
                words.append("undecided")
        took = {"seconds": time.perf_counter() - started, "processor": _processor() - processor}
        print(json.dumps({**took, "words": words}), file=answers, flush=True)


def _processor() -> float:
    """Seconds that this process and its ended children have spent on processors."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


if __name__ == "__main__":
    main(sys.argv[1])
