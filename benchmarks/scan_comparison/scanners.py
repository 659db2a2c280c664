"""The scanners, the environments that they run in, and a process of each that answers questions.

Each has an environment of its own, with pinned versions, so that none decides which versions another one gets; ours
runs in the one that runs this program.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from environments import python_in

HERE = Path(__file__).parent
OURS = "hauberk"
_MEMORY = 16 << 30
_PATIENCE = 10
"""Times as long on the wall as on a processor: the machine may have other work."""

QUIET = {
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "NO_COLOR": "1",
}
"""One of them reports its use unless told not to."""


@dataclass(frozen=True)
class Scanner:
    """A scanner as it is asked here.

    Attributes:
        name: As tables show it, and as `ask.py` knows it.
        environment: Which of `requirements/*.txt` it runs in; empty for the one that runs this.
        speaks: Name in `ask.py`, where it is another.
        command: Its command line for a file or folder, without the program's folder; empty where it has none.
        folders: Whether the command line takes folders.
    """

    name: str
    environment: str = ""
    speaks: str = ""
    command: tuple[str, ...] = ()
    folders: bool = True


SCANNERS = (
    Scanner(OURS, command=("hauberk", "scan")),
    Scanner("picklescan", "picklescan", command=("picklescan", "-p")),
    Scanner("fickling", "fickling", command=("fickling", "--check-safety"), folders=False),
    Scanner("modelscan", "modelscan", command=("modelscan", "scan", "-p")),
    Scanner("modelaudit", "modelaudit", command=("modelaudit", "scan", "--no-cache")),
)
"""Those that are timed."""
CATCHERS = (
    SCANNERS[0],
    SCANNERS[1],
    Scanner("picklescan --strict", "picklescan", speaks="picklescan-strict"),
    SCANNERS[2],
    Scanner("modelscan", "modelscan-extras", speaks="modelscan"),
    SCANNERS[4],
)
"""Those that are asked who is hostile: with all that they can be installed with, and in their stricter form too."""


def python_of(scanner: Scanner, environments: Path) -> Path:
    """The interpreter that a scanner runs in; see `python_in`."""
    return python_in(_requirements(scanner), environments) if scanner.environment else Path(sys.executable)


def _requirements(scanner: Scanner) -> Path:
    return HERE / "requirements" / f"{scanner.environment}.txt"


def version_of(scanner: Scanner) -> str:
    """The version of a scanner, as pinned; ours as installed."""
    if not scanner.environment:
        import hauberk

        return hauberk.__version__
    package = scanner.environment.removesuffix("-extras")
    lines = _requirements(scanner).read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def digest_of(scanner: Scanner) -> str:
    """SHA-256 (hex) of all that decides what another scanner says of a file: its versions, and how it is asked."""
    parts = (repr(scanner).encode(), _requirements(scanner).read_bytes(), (HERE / "ask.py").read_bytes())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a scanner said.

    Attributes:
        seconds: For all files together, as its process measured it, by the clock on the wall.
        processor: Processor time of its process and of those that it started for it.
        words: `flagged`, `clean`, `undecided` for each file, or `died` for what ended the process or ran out of time.
    """

    seconds: float
    processor: float
    words: tuple[str, ...]


class Asked:
    """A process of a scanner; use it as a context manager. It is started again after it has died.

    Args:
        scanner: Whom to ask.
        environments: Where environments lie.
    """

    def __init__(self, scanner: Scanner, environments: Path) -> None:
        self.scanner = scanner
        self._python = python_of(scanner, environments)
        self._start()

    def _start(self) -> None:
        command = [str(self._python), str(HERE / "ask.py"), self.scanner.speaks or self.scanner.name]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            env=os.environ | QUIET,
        )
        resource.prlimit(self._process.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.prlimit(self._process.pid, resource.RLIMIT_CORE, (0, 0))
        line = self._line(120.0)
        if not line:
            raise RuntimeError(f"{self.scanner.name} does not start in its environment")
        self.imported: float = json.loads(line)["imported"]

    def scan(self, paths: Sequence[Path], seconds: float = 600.0) -> Answer:
        """Ask about files, all in one go.

        Args:
            paths: Files, or folders of files that belong together.
            seconds: Processor time for all of them; ten times as much on the wall.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(path) for path in paths]).encode() + b"\n")
        self._process.stdin.flush()
        started = time.perf_counter()
        line = self._line(seconds)
        if not line:
            self._end()
            self._start()
            return Answer(time.perf_counter() - started, 0.0, ("died",) * len(paths))
        answer = json.loads(line)
        return Answer(answer["seconds"], answer["processor"], tuple(answer["words"]))

    def _line(self, seconds: float) -> bytes:
        """What it writes next; empty where it ends instead, or takes longer."""
        assert self._process.stdout is not None
        spent, end = self._processor(), time.monotonic() + _PATIENCE * seconds
        while not select.select([self._process.stdout], [], [], 1.0)[0]:
            if self._processor() - spent > seconds or time.monotonic() > end:
                return b""
        return self._process.stdout.readline()

    def _processor(self) -> float:
        """Seconds that the process and those it started have spent on processors."""
        try:
            process = psutil.Process(self._process.pid)
            return sum(sum(each.cpu_times()[:4]) for each in (process, *process.children(recursive=True)))
        except psutil.NoSuchProcess:  # it, or one that it started, has just ended
            return 0.0

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()


@dataclass(frozen=True)
class Process:
    """One run of a command line.

    Attributes:
        seconds: From start to end.
        peak: Bytes of resident memory at the highest.
        code: Exit code.
    """

    seconds: float
    peak: int
    code: int


_LAUNCH = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
"""


def run_command(
    scanner: Scanner, path: Path, environments: Path, scratch: Path, seconds: float = 60.0
) -> Process | None:
    """Run a scanner's own command line on a file or folder, its output thrown away.

    Args:
        scanner: Whose.
        path: What to scan.
        environments: Where environments lie.
        scratch: A folder to run in: one of them writes a report where it stands.
        seconds: Time for it.

    Returns:
        What it took; `None` where it was not done in time.
    """
    python = python_of(scanner, environments)
    program, *options = scanner.command
    command = [str(python.parent / program), *options, str(path)]
    started = time.perf_counter()
    # Between the two stands a small process: the peak that the kernel tells of begins with that of who started it.
    command = [sys.executable, "-I", "-S", "-c", _LAUNCH, *command]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | QUIET,
        cwd=scratch,
        start_new_session=True,
    )
    killer = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    _, status, usage = os.wait4(process.pid, 0)
    killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == -signal.SIGKILL:
        return None
    return Process(time.perf_counter() - started, usage.ru_maxrss * 1024, process.returncode)
