"""Environments for the tools that we compare with, one each, so that no tool decides which versions another one gets.

What a peer is given is a float32 ONNX file and calibration records; what it hands back is a file, which is timed in our
own process beside everything else. See `PEERS` for who is asked for what.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from environments import python_in

HERE = Path(__file__).parent
_OUT_OF_TIME = "it took more than"


@dataclass(frozen=True)
class Peer:
    """One way of one tool to make a model smaller or faster.

    Attributes:
        name: As the tables show it.
        environment: Which of `requirements/*.txt` it runs in.
        script: The file here that calls it.
        method: What the script is asked for.
        workaround: Flags that are added in a second attempt where the documented call fails, and what they do.
        quantizes: Whether it lowers precision, rather than rewriting the graph.
        engine: What runs its result: "onnxruntime" or "openvino".
    """

    name: str
    environment: str
    script: str
    method: str
    workaround: dict[str, str] = field(default_factory=dict)
    quantizes: bool = True
    engine: str = "onnxruntime"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides what the peer makes of a model: how it is asked, and in which versions."""
        files = (HERE / self.script, _requirements(self.environment))
        return hashlib.sha256(b"".join([repr(self).encode(), *(file.read_bytes() for file in files)])).hexdigest()


_CLEAR = {"--clear-shapes": "inferred shapes removed from the model"}

PEERS = (
    Peer("ORT quantize_dynamic", "onnxruntime", "call_onnxruntime.py", "dynamic", _CLEAR),
    Peer("ORT quantize_static", "onnxruntime", "call_onnxruntime.py", "static", _CLEAR),
    Peer("ORT quantize_static, per channel", "onnxruntime", "call_onnxruntime.py", "static-per-channel", _CLEAR),
    Peer("NNCF PTQ, ONNX", "nncf", "call_nncf.py", "onnx", _CLEAR),
    Peer("NNCF PTQ, OpenVINO", "nncf", "call_nncf.py", "openvino", _CLEAR, engine="openvino"),
    Peer("onnxslim", "onnxslim", "call_onnxslim.py", "slim", quantizes=False),
    Peer("onnxsim", "onnxsim", "call_onnxsim.py", "simplify", quantizes=False),
)


@dataclass(frozen=True)
class Outcome:
    """What came of asking a peer.

    Attributes:
        file: The model that it wrote, or `None` where it failed.
        note: What had to be done, or why it failed; empty where the documented call worked.
        seconds: How long it took, its start included.
        settled: False where it failed by the clock or the network, so that another attempt may end otherwise.
    """

    file: Path | None
    note: str
    seconds: float
    settled: bool = True


def _requirements(environment: str) -> Path:
    return HERE / "requirements" / f"{environment}.txt"


def python_of(environment: str, folder: Path) -> Path:
    """The interpreter of an environment; see `python_in`."""
    return python_in(_requirements(environment), folder)


def ask(peer: Peer, model: Path, calibration: Path, result: Path, *, folder: Path, seconds: float) -> Outcome:
    """Let a peer work on a model: as its documentation shows it, then with its workaround where that fails.

    Args:
        peer: Whom to ask.
        model: The float32 model.
        calibration: A `.npy` file of records float32 [N, *shape].
        result: Where to write the model; with the suffix `.xml` for OpenVINO.
        folder: Where environments lie.
        seconds: Time for one attempt.
    """
    started = time.perf_counter()
    try:
        python = python_of(peer.environment, folder)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines() or [str(error)]
        note = f"its environment cannot be built: {said[-1][:200]}"
        return Outcome(None, note, time.perf_counter() - started, settled=False)
    command = [str(python), str(HERE / peer.script), peer.method, str(model), str(calibration), str(result)]
    failure = _attempt(command, seconds)
    if not failure:
        return Outcome(result, "", time.perf_counter() - started)
    notes = [f"as documented it fails: {failure}"]
    for flag, meaning in peer.workaround.items():
        failure = _attempt([*command, flag], seconds)
        notes.append(f"with {meaning} it {'fails: ' + failure if failure else 'works'}")
    settled = not any(_OUT_OF_TIME in note for note in notes)
    return Outcome(None if failure else result, "; ".join(notes), time.perf_counter() - started, settled)


def _attempt(command: list[str], seconds: float) -> str:
    """Run a script of ours in its environment; what went wrong, in one line, or nothing."""
    # Both tools that report their use have a switch; without a home folder to write to they could not anyway.
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        return f"{_OUT_OF_TIME} {seconds:g} s"
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and last.startswith("{"):
        return str(json.loads(last)["failure"])
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return " ".join(said[-1].split())[:240]
