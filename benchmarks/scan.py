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

from hauberk.errors import InputError
from hauberk.files import write_atomically
from hauberk.measurement import this_machine
from measured_page import checked_out, fill
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
    try:
        results = _known(kept, every=set(options.parts) == set(PARTS))
    except InputError as error:
        parser.error(str(error))
    commit = checked_out()  # before anything is measured: the checkout may move on meanwhile
    files = list(workloads(options.folder.resolve() / "files"))
    if "speed" in options.parts:
        timed = [each for load in files for each in time_workload(load, environments, rounds=options.rounds)]
        sizes = {load.name: load.size for load in files}
        results = _with(kept, results, "speed", commit, timed=timed, sizes=sizes)
    if "commands" in options.parts:
        started = time_commands(files[0].paths[0], files[-1].paths[0].parent, environments, rounds=options.rounds)
        results = _with(kept, results, "commands", commit, started=started)
    if "memory" in options.parts:
        results = _with(kept, results, "memory", commit, sparse=scan_sparse(options.folder))
    if "catches" in options.parts:
        answers = options.folder / "answers.jsonl"
        if options.fresh:
            answers.unlink(missing_ok=True)
        results = _with(kept, results, "catches", commit, caught=ask_all(environments, Answers(answers)))
    print(show(results))
    if options.docs:
        fill(options.docs, show(results))
    return int(any(target.met is False for target in conclude(results)))


def _with(kept: Path, results: Results, part: str, commit: str, **measured: object) -> Results:
    """The results with a part that was measured just now, on record."""
    when = f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC at {commit}, load {os.getloadavg()[0]:.1f} at its end"
    taken = {name: when if name == part else results.taken.get(name, "") for name in PARTS}
    taken = {name: words for name, words in taken.items() if words}
    results = msgspec.structs.replace(results, taken=taken, **measured)
    write_atomically(kept, msgspec.json.encode(results))
    return results


def _machine() -> str:
    machine = this_machine()
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, "
        f"numpy {machine.versions['numpy']}"
    )


def _known(file: Path, *, every: bool) -> Results:
    """What was measured before, on this machine with these versions; nothing where every part is measured anew.

    Raises:
        InputError: It was measured elsewhere or with others, or another form of this program wrote it.
    """
    machine, versions = _machine(), {scanner.name: version_of(scanner) for scanner in CATCHERS}
    if every or not file.is_file():
        return Results(machine, {}, versions, {}, [], [], [], [])
    try:
        results = msgspec.json.decode(file.read_bytes(), type=Results)
    except msgspec.DecodeError as error:
        raise InputError(f"{file}: written by another form of this program ({error}); measure every part") from error
    if (results.machine, results.versions) != (machine, versions):
        raise InputError(f"{file}: measured on another machine or with other versions; measure every part")
    return results


if __name__ == "__main__":
    sys.exit(main())
