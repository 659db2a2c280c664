"""`make demo`: one detector, from training to an answer over HTTP, on the data set that is in the repository.

Everything it writes lies in `demo/`, keys included, so that nothing is left elsewhere. Each step is a command that you
can type yourself; it is printed before it runs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hauberk.data import Dataset, load_splits

FOLDER = Path("demo")
HAUBERK = Path(sys.executable).with_name("hauberk")
BATCH = 256


def run(*words: str) -> None:
    """Print a command and run it; the demonstration ends where one fails."""
    print(f"\n$ hauberk {shlex.join(words)}", flush=True)
    done = subprocess.run([HAUBERK, *words], check=False)
    if done.returncode != 0:
        sys.exit(f"demo: 'hauberk {words[0]}' left with exit code {done.returncode}")


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """Serve a bundle on a free port while the block runs, then stop it gracefully. Yields the address."""
    words = ["serve", str(bundle), "--port", "0"]
    print(f"\n$ hauberk {shlex.join(words)} &", flush=True)
    server = subprocess.Popen([HAUBERK, *words], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        for line in server.stderr:
            print(line, end="", flush=True)
            if listening := re.search(r"listening on (http://[^\s,]+)", line):
                yield listening[1]
                break
        else:
            sys.exit("demo: the server did not start")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def score(address: str, records: Dataset) -> tuple[np.ndarray, float]:
    """Labels of all records, asked for over HTTP in batches; and the seconds that it took."""
    labels: list[int] = []
    started = time.perf_counter()
    for first in range(0, len(records), BATCH):
        numeric = records.coded.numeric[first : first + BATCH]
        tensor = {"name": "numeric", "datatype": "FP32", "shape": numeric.shape, "data": numeric.ravel().tolist()}
        request = urllib.request.Request(
            f"{address}/v2/models/detector/infer",
            data=json.dumps({"inputs": [tensor]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}
        labels.extend(outputs["labels"])
    return np.array(labels), time.perf_counter() - started


def confusion(labels: np.ndarray, targets: np.ndarray) -> None:
    """Print the confusion table and its two rates."""
    (quiet, false_alarms), (missed, caught) = (
        [int(np.sum((targets == truth) & (labels == answer))) for answer in (0, 1)] for truth in (0, 1)
    )
    print("\n             no alert   alert")
    print(
        f"  ham        {quiet:8d} {false_alarms:7d}   false-positive rate {false_alarms / (quiet + false_alarms):.2%}"
    )
    print(f"  spam       {missed:8d} {caught:7d}   detection rate      {caught / (missed + caught):.2%}")


def main() -> None:
    """Train, harden, verify, serve, score."""
    started = time.perf_counter()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    os.environ["HAUBERK_HOME"] = str(FOLDER.resolve() / "keys")
    bundle = FOLDER / "detector.hbk"
    run("train", "--data", "spambase", "--out", str(FOLDER / "detector"))
    run(
        *("harden", str(FOLDER / "detector"), "--data", "spambase"),
        *("--require", "latency.p99 <= 200us"),
        *("--require", "detection_rate@fpr=5% >= baseline - 4pt"),
        *("--require", "robust_accuracy >= baseline - 4pt"),
        *("--out", str(bundle), "--report", str(FOLDER / "report.html")),
    )
    run("verify", str(bundle))
    held_out = load_splits("spambase").test
    with served(bundle) as address:
        labels, seconds = score(address, held_out)
    print(f"\n{len(held_out)} held-out records scored over HTTP in {seconds:.2f} s:")
    confusion(labels, held_out.targets)
    print(f"\nThe report is {FOLDER / 'report.html'}; the bundle is {bundle}.")
    print(f"{time.perf_counter() - started:.0f} s in all.")


if __name__ == "__main__":
    main()
