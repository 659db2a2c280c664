"""Timing the scanners against each other: one process each, interleaved rounds, ratios by round."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec

from hauberk.measurement import Estimate
from scan_comparison.files import Workload
from scan_comparison.scanners import OURS, SCANNERS, Asked, Process, Scanner, run_command

TESTS = Path(__file__).parents[2] / "tests" / "scan"
"""Where files are made that tests and benchmarks share."""
_PATIENCE = 15.0
"""Seconds of a first round from which on a scanner is timed on some of the files, or in fewer rounds."""
_PART = 50
"""One file of so many is tried first, and is all where that is slow."""
_FEW = 2


class Timed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast one scanner is on one workload.

    Attributes:
        scanner: Its name.
        workload: Its name.
        seconds: Processor time for all files: median over rounds, with the least and the most. For scanners that were
            timed on a part, scaled up to all.
        wall: The same by the clock on the wall, which other work on the machine prolongs.
        ratio: Its processor time over ours, by round: median, least, most; `None` for ours.
        files: How many files were really scanned in a round.
        rounds: How often.
        words: What it says of these honest files: how many times each word.
    """

    scanner: str
    workload: str
    seconds: Estimate
    wall: Estimate
    ratio: Estimate | None
    files: int
    rounds: int
    words: dict[str, int]


class Started(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scanner's command line: start-up, and start-up with work.

    Attributes:
        scanner: Its name.
        imported: Seconds for importing its Python interface.
        nothing: Seconds for its command line on one tiny pickle; `None` where it was not done in a minute.
        checkpoint: On the checkpoint; likewise.
        small: On the folder of small pickles; likewise.
        note: Why there is no time for the folder.
        peak: Bytes of resident memory at the highest, on the checkpoint.
    """

    scanner: str
    imported: float
    nothing: Estimate | None
    checkpoint: Estimate | None
    small: Estimate | None
    note: str
    peak: int


class Sparse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Our scan of a file of many gigabytes that takes no disk.

    Attributes:
        format: Of the file.
        size: Bytes.
        seconds: In a process of its own, by the report's clock.
        peak: Bytes of resident memory at the highest.
        small: The same for a file of the same build with 1/1000 of the weights.
        verdict: What the scan says.
    """

    format: str
    size: int
    seconds: float
    peak: int
    small: int
    verdict: str


def time_workload(workload: Workload, environments: Path, *, rounds: int, seed: int = 0) -> list[Timed]:
    """Time every scanner on one workload, in one process each, a fresh random order every round.

    A round before the first is not counted: it fills the page cache and whatever the scanner makes when first used.
    """
    draw = random.Random(seed)
    with ExitStack() as stack:
        asked = {scanner.name: stack.enter_context(Asked(scanner, environments)) for scanner in SCANNERS}
        paths: dict[str, Sequence[Path]] = dict.fromkeys(asked, workload.paths)
        limit = dict.fromkeys(asked, rounds)
        for name, process in asked.items():
            few = workload.paths[: max(1, len(workload.paths) // _PART)]
            process.scan(few[:1])  # imports what it imports when it is first asked
            took = process.scan(few).seconds
            if took * len(workload.paths) / len(few) > _PATIENCE:
                paths[name], limit[name] = few, _FEW
        seconds: dict[str, list[float]] = {name: [] for name in asked}
        wall: dict[str, list[float]] = {name: [] for name in asked}
        ours: dict[str, list[float]] = {name: [] for name in asked}
        words: dict[str, tuple[str, ...]] = {}
        for number in range(rounds + 1):
            order = [name for name in asked if number <= limit[name]]
            draw.shuffle(order)
            took_now = {}
            for name in order:
                answer = asked[name].scan(paths[name])
                words[name] = answer.words
                scale = len(workload.paths) / len(paths[name])
                took_now[name] = answer.processor * scale
                if number:
                    wall[name].append(answer.seconds * scale)
            if number:
                for name in order:
                    seconds[name].append(took_now[name])
                    ours[name].append(took_now[name] / took_now[OURS])
            print(f"{workload.name}: round {number} of {rounds}", file=sys.stderr)
    return [
        Timed(
            name,
            workload.name,
            _spread(seconds[name]),
            _spread(wall[name]),
            None if name == OURS else _spread(ours[name]),
            len(paths[name]),
            len(seconds[name]),
            {word: words[name].count(word) for word in sorted(set(words[name]))},
        )
        for name in asked
    ]


def time_commands(checkpoint: Path, small: Path, environments: Path, *, rounds: int) -> list[Started]:
    """Time every scanner's command line, interleaved."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tiny = scratch / "tiny.pkl"
        tiny.write_bytes(b"\x80\x04]\x94.")
        done: dict[tuple[str, str], list[Process | None]] = {}
        for _ in range(rounds):
            for scanner in SCANNERS:
                for name, path in (("tiny", tiny), ("checkpoint", checkpoint), ("small", small)):
                    runs = done.setdefault((scanner.name, name), [])
                    if (path != small or scanner.folders) and None not in runs:
                        runs.append(run_command(scanner, path, environments, scratch))
    started = []
    for scanner in SCANNERS:
        with Asked(scanner, environments) as asked:
            imported = asked.imported
        spreads = [_of_all(done[scanner.name, name]) for name in ("tiny", "checkpoint", "small")]
        peak = max((run.peak for run in done[scanner.name, "checkpoint"] if run), default=0)
        note = "" if spreads[2] else "over 60 s" if scanner.folders else "takes no folder"
        started.append(Started(scanner.name, imported, spreads[0], spreads[1], spreads[2], note, peak))
    return started


def _of_all(runs: Sequence[Process | None]) -> Estimate | None:
    seconds = [run.seconds for run in runs if run is not None]
    return _spread(seconds) if seconds and len(seconds) == len(runs) else None


def scan_sparse(folder: Path, size: int = 20 << 30) -> list[Sparse]:
    """Scan files of 20 GiB that are holes, each in a process of its own."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    sparse = importlib.import_module("sparse")
    results = []
    for name, make in (("pytorch-zip", sparse.sparse_checkpoint), ("safetensors", sparse.sparse_safetensors)):
        small, large = folder / f"sparse-small.{name}", folder / f"sparse.{name}"
        try:
            make(small, size // 1000)
            make(large, size)
            _, _, small_peak = _one_scan(small)
            verdict, seconds, peak = _one_scan(large)
            results.append(Sparse(name, large.stat().st_size, seconds, peak, small_peak, verdict))
        finally:
            small.unlink(missing_ok=True)
            large.unlink(missing_ok=True)
    return results


_ONE_SCAN = """
import sys
from pathlib import Path
from hauberk.scan import scan_paths
report, = scan_paths([Path(sys.argv[1])])
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(report.verdict.value, report.seconds, int(peak) * 1024)
"""


def _one_scan(path: Path) -> tuple[str, float, int]:
    done = subprocess.run([sys.executable, "-c", _ONE_SCAN, str(path)], capture_output=True, text=True, check=True)
    verdict, seconds, peak = done.stdout.split()
    return verdict, float(seconds), int(peak)


def _spread(values: Sequence[float]) -> Estimate:
    """Median, least and most: with so few rounds, the honest interval."""
    return Estimate(median(values), min(values), max(values))


def fastest_peer(timed: Sequence[Timed], workload: str) -> tuple[Scanner, Timed] | None:
    """Whoever of the others took the least time on a workload."""
    others = [each for each in timed if each.workload == workload and each.scanner != OURS]
    if not others:
        return None
    best = min(others, key=lambda each: each.seconds.value)
    return next(scanner for scanner in SCANNERS if scanner.name == best.scanner), best
