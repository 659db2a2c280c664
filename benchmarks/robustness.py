"""Robustness that can be believed: detectors trained with and without an adversary, under the whole protocol.

    python benchmarks/robustness.py [--workers 2] [--budget standard] [--docs docs/benchmarks/robustness.md]

Trains, compresses and attacks; judges the targets; prints tables. A case is kept in `--output` as soon as it is done,
under a digest of everything that decides it, and is not done again unless that has changed. NSL-KDD is read from the
folder that `HAUBERK_DATA` names. All that was chosen was chosen on splits of the training file; the test split is
attacked once, here.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import torch

import hauberk
from hauberk.files import write_atomically
from measured_page import fill
from reference_detector import describe_machine
from robust_comparison.cases import SETTING, Case, Outcome, cases, run
from robust_comparison.page import conclude, show

_SOURCES = ("attacks", "compress", "evaluate", "graph", "models", "schema", "train", "data")


def main() -> int:
    """Run what is missing, print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/robustness"), help="where cases are kept")
    parser.add_argument("--budget", default="standard", choices=("quick", "standard", "full"))
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--workers", type=int, default=1, help="cases at a time")
    parser.add_argument("--docs", type=Path, help="fill this page with what was measured")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [case for case in cases() if options.only in case.name]
    if options.case:
        _one(next(case for case in chosen if case.name == options.case), options)
        return 0
    with ThreadPoolExecutor(options.workers) as pool:
        codes = list(pool.map(lambda case: _in_a_process(case, options), chosen))
    outcomes = [outcome for case in chosen if (outcome := _known(case, options)) is not None]
    print(show(outcomes, describe_machine()))
    if options.docs:
        fill(options.docs, show(outcomes, describe_machine()))
    return int(any(codes) or any(target.met is False for target in conclude(outcomes)))


def _in_a_process(case: Case, options: argparse.Namespace) -> int:
    """A case in an interpreter of its own, so that several do not share torch's threads and random state."""
    if _known(case, options) is not None:
        return 0
    command = [
        sys.executable,
        __file__,
        "--case",
        case.name,
        "--output",
        str(options.output),
        "--budget",
        options.budget,
    ]
    done = subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    print(f"{case.name}: {'done' if not done.returncode else 'failed'}", file=sys.stderr, flush=True)
    return done.returncode


def _one(case: Case, options: argparse.Namespace) -> None:
    key = _key(case, options)  # of the sources as they are now, not as they may be when it is done
    outcome = run(case, budget=options.budget, key=key)
    options.output.mkdir(parents=True, exist_ok=True)
    write_atomically(_file(case, options), msgspec.json.encode(outcome))


def _known(case: Case, options: argparse.Namespace) -> Outcome | None:
    file = _file(case, options)
    if not file.is_file():
        return None
    try:
        outcome = msgspec.json.decode(file.read_bytes(), type=Outcome)
    except msgspec.ValidationError:  # written by an older form of this program
        return None
    return outcome if outcome.key == _key(case, options) else None


def _file(case: Case, options: argparse.Namespace) -> Path:
    return Path(options.output, f"{case.name}.json")


def _key(case: Case, options: argparse.Namespace) -> str:
    """Digest of case, budget, settings, and all sources that decide a figure."""
    found = hashlib.sha256(msgspec.json.encode([case, options.budget, SETTING]))
    here = Path(__file__).parent
    own = [here / "robust_comparison" / "cases.py", here / "robust_training.py"]
    rooms = (Path(hauberk.__file__).parent / room for room in _SOURCES)
    for file in [*own, *(file for room in rooms for file in sorted(room.rglob("*.py")))]:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
