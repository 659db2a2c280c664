"""Every compression method on every reference detector, beside eager PyTorch, ONNX Runtime, OpenVINO and the peers.

    python benchmarks/compression.py [--models NAME,…] [--quick] [--docs docs/benchmarks/compression.md]

Trains the detectors, makes one model a method, judges them on validation and test records, and times all models of one
detector in one process, interleaved, with one thread. What an earlier run made or measured is kept in `--output` and
not done again unless sources, versions or parameters behind it have changed, so that a run that was interrupted goes on
where it stopped. `--again` times anew, which is what to do on a machine that has become quiet.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import torch

from comparison import sources
from comparison.conclude import conclude
from comparison.detectors import DETECTORS, USUAL, detector
from comparison.measure import measure
from comparison.methods import Workshop
from comparison.page import show, write_page
from comparison.results import Made, Result
from hauberk.errors import InputError
from hauberk.files import write_atomically
from peers.environments import PEERS, python_of
from reference_detector import describe_machine


def main() -> int:
    """Make, measure, print; 1 where a target is missed."""
    options = _options()
    torch.set_num_threads(1)
    print(f"{describe_machine()}\n")
    models = options.models.split(",")
    unknown = [name for name in models if name not in DETECTORS]
    if unknown:
        print(f"no detector is called {', '.join(unknown)}; there are {', '.join(DETECTORS)}", file=sys.stderr)
        return 2
    key = _key(options)  # of the sources as they are now: a result of a run during which they changed is none of theirs
    if options.workers > 1:
        _make_beside_each_other([name for name in models if _known(name, options, key) is None], options)
        options.again, options.fresh = options.again or options.fresh, False
    results = []
    for name in models:
        started = time.perf_counter()
        result = run(name, options, key)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if result is not None:
            results.append(result)
    if options.build_only:
        return 0
    targets = conclude(results)
    try:
        print(show(results, targets))
        if options.docs:
            write_page(options.docs, results, targets)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return int(any(target.met is False for target in targets))


def run(name: str, options: argparse.Namespace, key: str) -> Result | None:
    """One detector: what is known is taken, the rest is made, judged and timed.

    Args:
        name: Of the detector.
        options: Of the command line.
        key: Digest of all that decides the result, as it was before anything was made.
    """
    known = _known(name, options, key)
    if known is not None:
        return known
    folder: Path = options.output / name
    found = detector(name, options.output / "detectors")
    workshop = Workshop(
        folder,
        found.subject,
        options.peers,
        limit=options.recipe_seconds,
        trains=found.trains,
        fresh=options.fresh,
    )
    made: list[Made] = []
    for part in (
        workshop.references(),
        workshop.ours(quick=options.quick),
        () if options.no_peers else workshop.peers(),
    ):
        for model in part:
            print(f"  {name}: {model.method}, {model.seconds:.0f} s {model.note}", file=sys.stderr, flush=True)
            made.append(model)
    if options.build_only:
        return None
    if not all(model.settled for model in made):
        key = ""
    result = measure(name, found, made, folder, seconds=2.0 if options.quick else options.seconds, key=key)
    write_atomically(_file(name, options), msgspec.json.encode(result))
    return result


def _file(name: str, options: argparse.Namespace) -> Path:
    return Path(options.output, name, "quick.json" if options.quick else "result.json")


def _key(options: argparse.Namespace) -> str:
    """Digest of all that decides a result."""
    parameters = [options.no_peers, options.recipe_seconds, options.seconds]
    return hashlib.sha256(msgspec.json.encode([sources.of_measuring(), parameters])).hexdigest()


def _known(name: str, options: argparse.Namespace, key: str) -> Result | None:
    """What an earlier run measured, unless something that decides it has changed since, its form included."""
    file = _file(name, options)
    if options.again or options.fresh or options.build_only or not file.is_file():
        return None
    try:
        result = msgspec.json.decode(file.read_bytes(), type=Result)
    except msgspec.ValidationError:  # written by an older form of this program
        return None
    return result if result.key == key else None


def _make_beside_each_other(models: list[str], options: argparse.Namespace) -> None:
    """Make the models of several detectors at a time, each in a process of its own; timing comes later, alone."""
    flags = [f"--output={options.output}", f"--peers={options.peers}", f"--recipe-seconds={options.recipe_seconds}"]
    flags += [flag for flag, given in (("--quick", options.quick), ("--fresh", options.fresh)) if given]
    flags += ["--no-peers"] if options.no_peers else []
    # The environments are built once, not by every worker at the same time.
    for environment in () if options.no_peers else sorted({peer.environment for peer in PEERS}):
        python_of(environment, options.peers)

    def make(name: str) -> None:
        subprocess.run([sys.executable, __file__, "--build-only", f"--models={name}", *flags], check=True)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(make, models))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(USUAL), help=f"names with commas (default: {','.join(USUAL)})")
    parser.add_argument("--quick", action="store_true", help="recipes that train nothing, and 2 s of timing")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each of the two timed runs of a detector")
    parser.add_argument("--again", action="store_true", help="time what was timed before once more")
    parser.add_argument("--fresh", action="store_true", help="make every model anew (and time it)")
    parser.add_argument("--workers", type=int, default=1, help="detectors whose models are made at the same time")
    parser.add_argument("--recipe-seconds", type=float, default=300.0, help="the most that one recipe may take")
    parser.add_argument("--build-only", action="store_true", help="make the models, time nothing")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument(
        "--output", type=Path, default=Path("build/compression"), help="where models and results are kept"
    )
    parser.add_argument(
        "--peers", type=Path, default=Path("build/peers"), help="where the peers' environments are kept"
    )
    parser.add_argument("--docs", type=Path, help="write the tables into this page, between its markers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
