"""The scan beside picklescan, fickling, modelscan and modelaudit: how fast, in how much memory, and who catches what.

    python benchmarks/scan.py [--rounds 7] [--docs docs/benchmarks/scan.md]

Makes the files that are timed (2.6 GB) and an environment for each scanner under `--folder` the first time, which needs
the network. Everyone is asked through its own Python interface in one process of its own, in rounds of a fresh random
order, on the same files in the page cache; then through its command line. Prints tables; 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from pathlib import Path

import msgspec

from hauberk.files import write_atomically
from hauberk.measurement import this_machine
from measured_page import fill
from scan_comparison.catches import Answers, ask_all
from scan_comparison.files import workloads
from scan_comparison.measure import scan_sparse, time_commands, time_workload
from scan_comparison.page import Results, conclude, show
from scan_comparison.scanners import CATCHERS, version_of

PARTS = ("speed", "commands", "memory", "catches")


def main() -> int:
    """Measure what is asked for, keep it, print everything that is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/scan"), help="files, environments and results")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds that are timed (default: 7)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; the rest is kept")
    parser.add_argument("--fresh", action="store_true", help="ask other scanners again about cases that are known")
    parser.add_argument("--docs", type=Path, help="fill this page with what was measured")
    options = parser.parse_args()
    kept, environments = options.folder / "results.json", options.folder.resolve() / "environments"
    results = _known(kept)
    files = list(workloads(options.folder.resolve() / "files"))
    if "speed" in options.parts:
        timed = [each for load in files for each in time_workload(load, environments, rounds=options.rounds)]
        results = msgspec.structs.replace(results, timed=timed, sizes={load.name: load.size for load in files})
        _keep(kept, results)
    if "commands" in options.parts:
        started = time_commands(files[0].paths[0], files[-1].paths[0].parent, environments, rounds=options.rounds)
        results = msgspec.structs.replace(results, started=started)
        _keep(kept, results)
    if "memory" in options.parts:
        results = msgspec.structs.replace(results, sparse=scan_sparse(options.folder))
    if "catches" in options.parts:
        answers = options.folder / "answers.jsonl"
        if options.fresh:
            answers.unlink(missing_ok=True)
        results = msgspec.structs.replace(results, caught=ask_all(environments, Answers(answers)))
    results = msgspec.structs.replace(
        results,
        machine=_machine(),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        versions={scanner.name: version_of(scanner) for scanner in CATCHERS},
    )
    _keep(kept, results)
    print(show(results))
    if options.docs:
        fill(options.docs, show(results))
    return int(any(target.met is False for target in conclude(results)))


def _keep(file: Path, results: Results) -> None:
    write_atomically(file, msgspec.json.encode(results))


def _machine() -> str:
    machine = this_machine()
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, "
        f"numpy {machine.versions['numpy']}; load {os.getloadavg()[0]:.1f} at the end"
    )


def _known(file: Path) -> Results:
    nothing = Results("", "", {}, {}, [], [], [], [])
    if not file.is_file():
        return nothing
    try:
        return msgspec.json.decode(file.read_bytes(), type=Results)
    except msgspec.ValidationError:  # written by an older form of this program
        return nothing


if __name__ == "__main__":
    sys.exit(main())
