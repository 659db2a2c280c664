"""Fuzzes one parser of the scan, or all of them in turn.

    python fuzz/run.py TARGET… [--seconds 600] [--driver atheris] [--folder build/fuzz]
    python fuzz/run.py TARGET --again FILE…
    python fuzz/run.py --list
    python fuzz/run.py --report [--docs docs/benchmarks/scan.md]

With atheris (`pip install atheris`) inputs grow along the coverage of `hauberk.scan`; the driver `mutations` needs no
package and knows no coverage. Inputs that were complained about are kept under `TARGET/found`, one for each kind of
complaint; the corpus that grew is kept under `TARGET/corpus` and is where the next run goes on. Exit code 1 where
something was found. The process of a target has 4 GiB; its resident memory is noted as it goes. Seconds are processor
time of the target and of what it starts: other work on the machine changes nothing but how long one waits.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "benchmarks"))

from targets import TARGETS, Complaint, Run, Target, seeds

from measured_page import checked_out, fill

_MEMORY = 4 << 30
_GROWN = 1.5
"""Resident memory at the end over that at a fifth of the time: more than this is growth."""
_AGAIN = 120.0
"""Seconds of processor time without coverage for a target whose memory grew with it."""
_KINDS = 50
"""Kinds of complaints after which a target has enough."""


def main() -> int:
    """Run what is asked for, print a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="see --list; all where none is named")
    parser.add_argument("--seconds", type=float, default=600.0, help="of processor time for each target (default: 600)")
    parser.add_argument("--wait", type=float, default=7200.0, help="seconds on the wall, likewise (default: 7200)")
    parser.add_argument("--driver", choices=("atheris", "mutations"), default="atheris")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seed", type=int, default=0, help="of the draws; another one goes other ways")
    parser.add_argument("--again", type=Path, nargs="+", metavar="FILE", help="try these inputs alone")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--report", action="store_true", help="print what earlier runs found, as Markdown")
    parser.add_argument("--docs", type=Path, help="with --report: fill this page with it")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        print("\n".join(TARGETS))
        return 0
    if options.report:
        text = report(options.folder)
        print(text)
        if options.docs:
            fill(options.docs, text, "fuzzed")
        return 0
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; see --list")
    if options.again and len(options.targets) != 1:
        parser.error("--again needs the one target that the files are inputs of")
    if options.again:
        return _again(TARGETS[options.targets[0]], options.again)
    if options.child:
        return _child(TARGETS[options.targets[0]], options)
    found = [_watched(TARGETS[name], options) for name in options.targets or TARGETS]
    return int(any(found))


# --- the parent: starts a target in a process of its own, follows its memory, sums up


def _watched(target: Target, options: argparse.Namespace) -> bool:
    folder = options.folder / target.name
    count = seeds(target, folder / "corpus")
    if not count:
        print(f"{target.name}: no seed of {', '.join(target.formats)}; nothing run")
        return False
    (folder / "found").mkdir(exist_ok=True)
    began, commit = time.time(), checked_out()  # before it runs: the checkout may move on meanwhile
    log, memory, code = _observe(target, options, options.driver, options.seconds)
    summary = _sum_up(target, options.driver, log, memory, code)
    summary |= {"waited": round(time.time() - began), "commit": commit, "seeds": count}
    if options.driver == "atheris" and _grew(memory):
        # atheris keeps something of each comparison that it traces; what the target keeps is seen without it.
        log, memory, code = _observe(target, options, "mutations", _AGAIN)
        summary |= {"grew": _grew(memory), "memory_without_coverage": _early_and_end(memory)}
        summary["ended"] = summary["ended"] or _how_it_ended(log, code)
    files = sorted(file for file in (folder / "found").glob("*.txt") if file.stat().st_mtime >= began)
    summary["kinds"] = [file.read_text().strip()[:300] for file in files]
    summaries = folder / "runs.jsonl"
    with summaries.open("a") as file:
        file.write(json.dumps(summary) + "\n")
    print(json.dumps(summary))
    return bool(summary["kinds"] or summary["ended"] or summary["grew"])


Memory = list[tuple[float, int]]
"""Processor time and resident memory of a process, as it goes."""


def _observe(target: Target, options: argparse.Namespace, driver: str, seconds: float) -> tuple[str, Memory, int]:
    """Run a target in a process of its own: what it prints, its memory, its exit code."""
    command = [sys.executable, __file__, target.name, "--child", "--driver", driver]
    command += ["--seconds", str(seconds), "--wait", str(options.wait)]
    command += ["--folder", str(options.folder), "--seed", str(options.seed)]
    place, started = options.folder / target.name / f"log-{driver}", time.time()
    memory: Memory = []
    with place.open("w") as log:
        # A group of its own: unpicklers that the target has started end with it.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_limit,  # noqa: PLW1509 - no threads
        )
        try:
            while process.poll() is None:
                memory.append((_processor(process.pid), _resident(process.pid)))
                if memory[-1][0] > seconds + 60 or time.time() - started > options.wait + 300:
                    break
                time.sleep(1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return place.read_text(errors="replace"), memory, process.returncode


def _early_and_end(memory: Memory) -> tuple[int, int]:
    """Resident memory at a fifth of the time and at the end; 0 where it is not known."""
    last = max((at for at, _ in memory), default=0.0)
    known = [(at, size) for at, size in memory if size]
    return next((size for at, size in known if at > last / 5), 0), known[-1][1] if known else 0


def _grew(memory: Memory) -> bool:
    early, end = _early_and_end(memory)
    return 0 < _GROWN * early < end and end - early > 64 << 20


def _processor(process: int) -> float:
    """Seconds that a process and all that it started have spent on processors; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_processor(int(child)) for child in children)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _resident(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) * 1024 if found else 0


def _sum_up(target: Target, driver: str, log: str, memory: Memory, code: int) -> dict[str, object]:
    runs = [int(number) for number in re.findall(r"^(?:#|stat::number_of_executed_units: )(\d+)\s", log, re.MULTILINE)]
    coverage = re.findall(r"cov: (\d+)", log)
    early, end = _early_and_end(memory)
    return {
        "target": target.name,
        "driver": driver,
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "seconds": round(max((at for at, _ in memory), default=0.0)),
        "inputs": max(runs, default=0),
        "coverage": int(coverage[-1]) if coverage else None,
        "memory_early": early,
        "memory_end": end,
        "grew": _grew(memory),
        "ended": _how_it_ended(log, code),
    }


def _how_it_ended(log: str, code: int) -> str:
    """Nothing where it ended by itself."""
    return "" if code == 0 else f"exit code {code}: " + " ".join(log.strip().splitlines()[-1:])[:200]


def report(folder: Path) -> str:
    """What runs found: coverage, time, commit and memory are of a target's last run, the rest is of all on record."""
    rows = [
        "| target | longest run | all runs | inputs | coverage | when (UTC) | commit | resident memory | found |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- | ---: | --- |",
    ]
    for name in TARGETS:
        file = folder / name / "runs.jsonl"
        if not file.is_file():
            continue
        runs = [json.loads(line) for line in file.read_text().splitlines()]
        last = runs[-1]
        cells = [
            f"{name}{'' if last['driver'] == 'atheris' else ' (without coverage)'}",
            f"{max(run['seconds'] for run in runs):,} s",
            f"{sum(run['seconds'] for run in runs):,} s",
            f"{sum(run['inputs'] for run in runs):,}",
            f"{last['coverage'] or '–'}",
            last["date"],
            last["commit"],
            _shown_memory(last),
            "; ".join(_found(runs)) or "nothing",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _shown_memory(run: dict[str, Any]) -> str:
    pairs = [(run["memory_early"], run["memory_end"]), run.get("memory_without_coverage")]
    shown = [f"{early >> 20} → {end >> 20} MiB" for early, end in filter(None, pairs)]
    return ", without coverage ".join(shown) + " **grew**" * run["grew"]


def _found(runs: list[dict[str, Any]]) -> Iterator[str]:
    """What the last run complained of, then what only earlier ones did."""
    now, before = _complaints(runs[-1:]), _complaints(runs[:-1])
    yield from map(_short, now)
    yield from (f"{_short(each)} (not since)" for each in before if each not in now)


def _complaints(runs: list[dict[str, Any]]) -> list[Complaint]:
    found = (each for run in runs for each in (*run["kinds"], run["ended"]) if each)
    return list(dict.fromkeys(found))


def _short(complaint: Complaint) -> str:
    """What of a complaint goes into a table; the input lies in the folder of what was found."""
    return complaint.partition(" | ")[0].replace("|", "/")[:120]


def _again(target: Target, files: list[Path]) -> int:
    run, found = target.prepare(), 0
    for file in files:
        data = file.read_bytes()
        for _, complaint in (*run.check(data), *run.rest()):
            found += 1
            print(f"{file}: {complaint}")
    print(f"{len(files)} tried, {found} complaints")
    return int(bool(found))


# --- the child: runs one target until its time is over


class _Keeper:
    """Runs the target and keeps one input for each kind of complaint, until its time is over.

    Args:
        run: The target at work.
        folder: Where to keep inputs.
        seconds: Of processor time, of this process and of those that it has started.
        wait: Seconds on the wall.
    """

    def __init__(self, run: Run, folder: Path, seconds: float, wait: float) -> None:
        self._run = run
        self._folder = folder
        self._seconds = seconds
        self._look = time.monotonic()
        self._last = self._look + wait
        self.inputs = 0
        self.over = False

    def __call__(self, data: bytes) -> None:
        if self.over:
            return
        self.inputs += 1
        try:
            for about, complaint in self._run.check(data):
                self._keep(complaint, about)
        except Exception as error:  # noqa: BLE001 - whatever escapes is a finding
            self._keep(f"escaped: {type(error).__name__}: {error}", data)
        if (now := time.monotonic()) > self._look:
            self._look = now + 0.5
            if now > self._last or _processor(os.getpid()) > self._seconds:
                self._finish()

    def _finish(self) -> None:
        """Keep what is found in inputs that still wait, then end."""
        self.over = True
        for about, complaint in self._run.rest():
            self._keep(complaint, about)
        signal.raise_signal(signal.SIGUSR1)

    def _keep(self, complaint: Complaint, data: bytes) -> None:
        kind = hashlib.sha256(re.sub(r"\d+|\[.*|\(.*|\{.*", "", complaint).encode()).hexdigest()[:16]
        file = self._folder / kind
        if file.with_suffix(".txt").exists():
            file.with_suffix(".txt").touch()  # so the parent sees that it is still so
            return
        if len(list(self._folder.iterdir())) > 2 * _KINDS:
            return
        file.write_bytes(data)
        file.with_suffix(".txt").write_text(f"{complaint}\n", errors="replace")
        print(f"FOUND {kind}: {complaint[:300]}", file=sys.stderr, flush=True)


def _child(target: Target, options: argparse.Namespace) -> int:
    folder = options.folder / target.name
    if options.driver == "atheris":
        return _with_atheris(target, folder, options)
    return _with_mutations(target, folder, options)


def _with_atheris(target: Target, folder: Path, options: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["hauberk.scan", "hauberk.protobuf"]):
        from hauberk.scan.formats import formats

        formats()  # imports every scanner
        import hauberk.scan.walk  # noqa: F401
    keeper = _Keeper(target.prepare(), folder / "found", options.seconds, options.wait)
    arguments = [
        "fuzz",
        f"-max_len={target.longest}",
        f"-seed={options.seed + 1}",
        "-timeout=3600",  # on the wall, where the process may also be paused; the target judges by processor time
        "-report_slow_units=3600",
        "-rss_limit_mb=3000",
        f"-artifact_prefix={folder / 'found'}/",
        "-print_final_stats=1",
        str(folder / "corpus"),
    ]
    atheris.Setup(arguments, keeper)
    atheris.Fuzz()  # ends the process and sums up when SIGUSR1 comes
    return 0


def _with_mutations(target: Target, folder: Path, options: argparse.Namespace) -> int:
    from mutations import mutate

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    keeper = _Keeper(target.prepare(), folder / "found", options.seconds, options.wait)
    inputs = [path.read_bytes() for path in sorted((folder / "corpus").iterdir())]
    generator = random.Random(f"{target.name}:{options.seed}")
    while not keeper.over:
        data = generator.choice(inputs)
        for _ in range(generator.choice((1, 1, 1, 2, 3, 5))):
            data = mutate(data, inputs, generator)
        keeper(data[: target.longest])
    print(f"#{keeper.inputs} DONE", file=sys.stderr)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
