"""What it costs to begin: `import hauberk`, `hauberk.open` from a cold interpreter, and the size of the core install.

    python benchmarks/startup.py [--bundle FILE.hbk] [--rounds 30] [--no-install] [--json]

Each timing is taken in a fresh interpreter, from its first statement; files are in the page cache. `hauberk.open` is
compared with a script that imports the very same libraries and builds a plain session from the very same graph, the two
taking turns. A bundle must be one that your default keys open; without one, TabularMLP 256-128-64 is sealed.
The core install is made with pip in a fresh environment, from this tree and constraints.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from hauberk.evaluate.intervals import percentile_interval
from hauberk.measurement import Estimate, this_machine
from reference_detector import build_reference, describe_machine

ROOT = Path(__file__).resolve().parents[1]
OUR_OWN = ("hauberk", "pip", "setuptools")
"""Distributions of an environment that are no dependency of ours."""

IMPORT = """
import time; started = time.perf_counter()
import hauberk
print(time.perf_counter() - started)
"""

OPEN = """
import time; started = time.perf_counter()
import sys, hauberk
detector = hauberk.open(sys.argv[1])
print(time.perf_counter() - started)
"""

LIBRARIES = """
import sys, hauberk
hauberk.open(sys.argv[1])
libraries = {"numpy", "onnxruntime", "cryptography", "msgspec"}
print(" ".join(name for name in sys.modules if name.partition(".")[0] in libraries))
"""

PLAIN = """
import time; started = time.perf_counter()
import sys
from importlib import import_module
for name in sys.argv[2:]:
    import_module(name)
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
with open(sys.argv[1], "rb") as file:
    session = onnxruntime.InferenceSession(file.read(), options, providers=["CPUExecutionProvider"])
print(time.perf_counter() - started)
"""


class Figure(NamedTuple):
    """One line of the table."""

    what: str
    target: str
    measured: str
    met: bool | None


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle that your default keys open")
    parser.add_argument("--rounds", type=int, default=30, help="fresh interpreters for each timing (default: 30)")
    parser.add_argument("--no-install", action="store_true", help="leave out the core install")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        figures = measure_start(options.bundle, options.rounds, Path(name))
        if not options.no_install:
            figures += measure_install(Path(name))
    if options.json:
        print(json.dumps({"machine": msgspec.to_builtins(this_machine()), "figures": [f._asdict() for f in figures]}))
    else:
        print(f"{machine}\n\n| | target | measured | met |\n| --- | --- | --- | --- |")
        for figure in figures:
            met = {True: "yes", False: "**no**", None: ""}[figure.met]
            print(f"| {figure.what} | {figure.target} | {figure.measured} | {met} |")
    return 0


def measure_start(bundle: Path | None, rounds: int, folder: Path) -> list[Figure]:
    """Times of fresh interpreters, taking turns."""
    if bundle is None:
        reference = build_reference(folder)
        os.environ["HAUBERK_HOME"] = str(reference.keys.folder)
        bundle = reference.bundle
    graph = folder / "graph.onnx"
    graph.write_bytes(_model(bundle))
    bytecode = folder / "bytecode"
    libraries = _run(bytecode, LIBRARIES, str(bundle)).split()
    scripts = {"import": [IMPORT], "open": [OPEN, str(bundle)], "plain": [PLAIN, str(graph), *libraries]}
    for script in scripts.values():  # compiles what is not compiled yet, and fills the page cache
        _run(bytecode, *script)
    taken = [[float(_run(bytecode, *script)) for script in scripts.values()] for _ in range(rounds)]
    times = dict(zip(scripts, np.array(taken).T, strict=True))
    imported, added = _median(times["import"]), _median(times["open"] - times["plain"])
    return [
        Figure("`import hauberk`", "under 50 ms", _show(imported), imported.high < 0.050),
        Figure("the same libraries and a plain session", "–", _show(_median(times["plain"])), None),
        Figure("`hauberk.open`, import included", "–", _show(_median(times["open"])), None),
        Figure("`hauberk.open` above that", "at most 30 ms", _show(added), added.high <= 0.030),
    ]


def measure_install(folder: Path) -> list[Figure]:
    """Distributions and bytes that `pip install hauberk` brings."""
    environment = folder / "core"
    venv.create(environment, with_pip=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--constraint", "constraints.txt", "."], check=True, cwd=ROOT)
    listed = json.loads(subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True).stdout)
    names = sorted(entry["name"] for entry in listed if entry["name"] not in OUR_OWN)
    (packages,) = environment.glob("lib/python*/site-packages")
    subprocess.run(
        [*pip, "uninstall", "--quiet", "--yes", "setuptools", "pip"], check=True
    )  # the tool, not the install
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    return [
        Figure("core install, distributions", "at most 9", f"{len(names)}: {', '.join(names)}", len(names) <= 9),
        Figure("core install, size, hauberk included", "at most 170 MB", f"{size / 1e6:.0f} MB", size <= 170e6),
    ]


def _model(bundle: Path) -> bytes:
    from hauberk.bundle import read_bundle
    from hauberk.trust import default_encryption_key, default_policy

    return read_bundle(bundle, default_policy()).unlock(default_encryption_key()).model


def _run(bytecode: Path, code: str, *arguments: str) -> str:
    environment = {
        **os.environ,
        # Switched off on one side only, telemetry would make the plain session look slower than it need be.
        "ORT_DISABLE_TELEMETRY": "1",
        # As after an installation: everything is compiled, whatever state this tree is in.
        "PYTHONPYCACHEPREFIX": str(bytecode),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def _median(values: np.ndarray) -> Estimate:
    """The median with its bootstrap interval, in seconds."""
    drawn = np.random.default_rng(0).choice(values, size=(2000, len(values)))
    return percentile_interval(float(np.median(values)), np.median(drawn, axis=1))


def _show(estimate: Estimate) -> str:
    return f"{estimate.value * 1e3:.1f} ms ({estimate.low * 1e3:.1f} … {estimate.high * 1e3:.1f})"


if __name__ == "__main__":
    sys.exit(main())
