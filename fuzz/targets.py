"""What is fuzzed: every parser of the scan on files of its format, and the pickle machine against the real unpicklers.

A target takes bytes and tells what it complains of, if anything. Both drivers of `run.py` use the same ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agreement import Reading
    from real_unpickler import RealUnpickler
    from real_unpickler import Run as Unpickled

_TESTS = Path(__file__).parents[1] / "tests" / "scan"
sys.path.insert(0, str(_TESTS))

Complaint = str
Found = Iterable[tuple[bytes, Complaint]]
"""Complaints, each with the input it is about."""


@dataclass(frozen=True)
class Run:
    """A target at work.

    Attributes:
        check: Takes an input; returns complaints about it, or about some that came earlier.
        rest: Complaints about whatever still waits.
        keep: Held as long as the target is at work.
    """

    check: Callable[[bytes], Found]
    rest: Callable[[], Found] = tuple
    keep: object = None


@dataclass(frozen=True)
class Target:
    """One thing to fuzz.

    Attributes:
        name: As it is asked for.
        formats: Files that the scan recognises as one of these are its seeds; empty for programs made of choices.
        longest: Bytes of an input.
        prepare: Makes the function that is run on every input.
    """

    name: str
    formats: tuple[str, ...]
    longest: int
    prepare: Callable[[], Run]


def scanning() -> Run:
    """A whole scan: it must not fail inside, not take long, and not need memory out of proportion."""
    from observed import LIMITS, HangError, observe, watching

    watch = watching()
    faults = watch.__enter__()  # for the life of the process
    peak = _peak()

    def complaint(data: bytes) -> Complaint:
        nonlocal peak
        try:
            seen = observe(data, faults)
        except HangError:
            return "hang: it went on for three times its deadline"
        faults.clear()
        if seen.fault:
            return f"fault: {seen.fault}"
        if seen.seconds > LIMITS.seconds * 1.5:
            return f"slow: {seen.seconds:.1f} s with {seen.report.format or 'no format'}, deadline {LIMITS.seconds} s"
        now = _peak()
        grown, peak = now - peak, max(now, peak)
        if grown > _MOST_GROWN:
            return f"memory: one input of {len(data)} bytes took {grown >> 20} MiB more than any before"
        return ""

    return Run(lambda data: [(data, found)] if (found := complaint(data)) else (), keep=watch)


_MOST_GROWN = 192 << 20
"""What one input may add to the peak: the scan unpacks up to 64 MiB in one piece."""


class Compared:
    """Readings of the scan, held against what a real unpickler does with the same pickle, a group at a time.

    The scan reads a pickle at once, for coverage. To ask a process about each one would take most of the time, so they
    wait until there are enough; whatever is found in a group is tried again alone.

    Args:
        real: The unpickler.
        complaint: Of what the unpickler did and the scan's reading.
    """

    def __init__(self, real: RealUnpickler, complaint: Callable[[Waiting, dict[str, Unpickled]], Complaint]) -> None:
        self._real = real
        self._complaint = complaint
        self._waiting: list[Waiting] = []

    def add(self, waiting: Waiting) -> Found:
        """Complaints about what has been compared now: most often nothing."""
        self._waiting.append(waiting)
        return self.compare() if len(self._waiting) >= _GROUP else ()

    def compare(self) -> Found:
        """Complaints about everything that waits."""
        group, self._waiting = self._waiting, []
        if not group:
            return
        answers = self._real.load_many([(each.stream, each.encoding) for each in group])
        for waiting, did in zip(group, answers, strict=True):
            if found := self._complaint(waiting, did):
                alone = self._complaint(waiting, self._real.load(waiting.stream, waiting.encoding))
                leaked = "" if alone else "one stream has changed what another one did: "
                yield waiting.data, f"{leaked}{found} | {waiting.stream!r}"


class Waiting(NamedTuple):
    """An input, the pickle made of it, how its byte strings are read, and what the scan read."""

    data: bytes
    stream: bytes
    encoding: str
    reading: Reading | None


_GROUP = 128


def agreeing() -> Run:
    """The first byte is chosen, the rest is a program: what the scan saw must be what the real unpicklers did."""
    from agreement import scan
    from pickle_programs import program
    from real_unpickler import ENCODINGS

    compared = _with_real_unpicklers()

    def check(data: bytes) -> Found:
        encoding = ENCODINGS[(data[0] if data else 0) % len(ENCODINGS)]
        stream = _damaged(program(data[1:]), data)
        return compared.add(Waiting(data, stream, encoding, scan(stream)))

    return Run(check, compared.compare)


def agreeing_on_bytes() -> Run:
    """The same with the input as the pickle itself."""
    from agreement import scan

    compared = _with_real_unpicklers()
    return Run(lambda data: compared.add(Waiting(data, data, "latin1", scan(data))), compared.compare)


def _with_real_unpicklers() -> Compared:
    from agreement import disagreements
    from real_unpickler import RealUnpickler

    def complaint(waiting: Waiting, did: dict[str, Unpickled]) -> Complaint:
        found = disagreements(waiting.stream, did, encoding=waiting.encoding, reading=waiting.reading)
        return next(found, "")

    return Compared(RealUnpickler(), complaint)


def _damaged(stream: bytes, data: bytes) -> bytes:
    """One in four is damaged; the same for the same input."""
    from mutations import mutate

    return mutate(stream, (), random.Random(data)) if data and data[0] >= 192 else stream


def agreeing_with_joblib() -> Run:
    """Streams with arrays between the instructions: what is called safe must be harmless to joblib's own reader."""
    from joblib_programs import joblib_program

    from hauberk.scan.pickles.policy import allowed

    names = allowed()

    def complaint(_waiting: Waiting, did: dict[str, Unpickled]) -> Complaint:
        run = did["joblib"]
        refused = [name for name in run.names if name not in names] or run.of("extension", "persistent", "audit")
        if refused or not run.finished:
            return f"joblib did {refused} and ended with {run.error or 'nothing'}, and the scan says safe"
        return ""

    return _harmless_to("joblib", joblib_program, complaint)


def agreeing_with_one_memo() -> Run:
    """Pickles behind one another: what is called safe calls nothing harmful where one unpickler reads them all."""
    from agreement import REFUSED
    from chained_programs import chained_program

    def complaint(_waiting: Waiting, did: dict[str, Unpickled]) -> Complaint:
        run = did["one memo"]
        called = sorted({event[1].replace(" ", ".") for event in run.of("call")} & REFUSED) or run.of("audit")
        return f"a reader with one memo called {called}, and the scan says safe" if called else ""

    return _harmless_to("one memo", chained_program, complaint)


def _harmless_to(
    reader: str,
    program: Callable[[bytes], bytes],
    complaint: Callable[[Waiting, dict[str, Unpickled]], Complaint],
) -> Run:
    """Whole files, some of them damaged: those that are called safe are given to a reader."""
    from observed import observe, watching
    from real_unpickler import RealUnpickler

    from hauberk.scan.report import Verdict

    watch = watching()
    faults = watch.__enter__()  # for the life of the process
    compared = Compared(RealUnpickler(reader), complaint)

    def check(data: bytes) -> Found:
        stream = _damaged(program(data[1:]), data)
        seen = observe(stream, faults)
        faults.clear()
        if seen.fault:
            return [(data, f"fault: {seen.fault}")]
        if seen.report.verdict is not Verdict.SAFE or seen.report.format in {"text", "json"}:
            return ()
        return compared.add(Waiting(data, stream, "ASCII", None))

    return Run(check, compared.compare, watch)


def following() -> Run:
    """The pickle machine alone, on programs made of choices: quick, for coverage."""
    from pickle_programs import program

    run = scanning()
    return Run(lambda data: run.check(program(data)), keep=run)


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_LONG = 1 << 16
_TENSORFLOW = (
    "tensorflow-saved-model",
    "tensorflow-graph",
    "tensorflow-keras-metadata",
    "tensorflow-fingerprint",
    "tensorflow-checkpoint-index",
)
_INERT = (
    *("text", "json", "json-lines", "image", "audio", "media", "jupyter-notebook"),
    *("keras-config", "mxnet-json", "arrow", "parquet"),
)
TARGETS = {
    target.name: target
    for target in (
        Target("pickle", ("pickle", "joblib", "pickle-embedded"), 1 << 14, scanning),
        Target("pickle-programs", (), 400, following),
        Target("pickle-agreement", (), 400, agreeing),
        Target("pickle-agreement-bytes", ("pickle",), 4096, agreeing_on_bytes),
        Target("joblib-agreement", (), 200, agreeing_with_joblib),
        Target("chained-agreement", (), 200, agreeing_with_one_memo),
        Target("torch-stream", ("pytorch-stream",), 1 << 14, scanning),
        Target("npy", ("npy", "npz"), 1 << 14, scanning),
        Target("zip", ("zip", "npz"), 1 << 14, scanning),
        Target("torch-zip", ("pytorch-zip", "torchscript", "torch-exported-program"), 1 << 15, scanning),
        Target("tar", ("tar", "torch-legacy-tar"), _LONG, scanning),
        Target(
            "streams",
            ("gzip", "bzip2", "xz", "zlib", "lzma", "zstandard", "lz4", "7z", "rar", "cab", "joblib-zfile"),
            1 << 14,
            scanning,
        ),
        Target("safetensors", ("safetensors",), 1 << 14, scanning),
        Target("gguf", ("gguf",), 1 << 14, scanning),
        Target("onnx", ("onnx", "onnx-text", "onnx-ort"), 1 << 15, scanning),
        Target("hdf5", ("hdf5", "keras-h5"), _LONG, scanning),
        Target("keras", ("keras",), _LONG, scanning),
        Target("tensorflow", _TENSORFLOW, 1 << 15, scanning),
        Target("tflite", ("tflite",), 1 << 15, scanning),
        Target("skops", ("skops",), 1 << 15, scanning),
        Target("xgboost", ("xgboost-json", "xgboost-ubjson", "xgboost-legacy"), 1 << 14, scanning),
        Target("lightgbm", ("lightgbm",), 1 << 14, scanning),
        Target("catboost", ("catboost",), 1 << 14, scanning),
        Target("inert", _INERT, 1 << 14, scanning),
        Target("executables", ("native-code", "python-bytecode"), 1 << 14, scanning),
    )
}


def seeds(target: Target, folder: Path) -> int:
    """Write files to begin with: honest and hostile ones of the target's formats, made by the tests' own code.

    Args:
        target: Which.
        folder: Where to.

    Returns:
        How many there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not target.formats:
        generator = random.Random(target.name)
        for number in range(200):
            (folder / f"choices-{number}").write_bytes(generator.randbytes(generator.randint(40, 300)))
        return 200
    for name, data in _all_files(folder.parents[1] / "seeds"):
        if _format(data) in target.formats and len(data) <= target.longest:
            (folder / name).write_bytes(data)
    return len(list(folder.iterdir()))


def _format(data: bytes) -> str:
    from observed import LIMITS

    from hauberk.scan.content import BytesContent
    from hauberk.scan.walk import scan_content

    return scan_content(BytesContent(data), path=Path("seed"), limits=LIMITS).format


def _all_files(kept: Path) -> Iterator[tuple[str, bytes]]:
    """Small files, from the seeds and the corpora of the tests; kept until the code of either changes."""
    sources = hashlib.sha256()
    for source in (_TESTS / "seeds.py", *sorted((_TESTS / "corpus").glob("*.py"))):
        sources.update(hashlib.sha256(source.read_bytes()).digest())
    made = kept / sources.hexdigest()[:16]
    if not made.is_dir():
        _make_all(made)
    for path in sorted(made.iterdir()):
        yield path.name, path.read_bytes()


def _make_all(kept: Path) -> None:
    from corpus import HONEST, HOSTILE
    from seeds import seeds as small_files

    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as place:
        made = Path(place) / "all"
        made.mkdir()
        for name, data in small_files():
            (made / f"seed-{name}").write_bytes(data)
        for area in (*HONEST, *HOSTILE):
            for case, path in _cases(area):
                for number, file in enumerate([path] if path.is_file() else sorted(path.rglob("*"))):
                    if file.is_file() and not file.is_symlink() and file.stat().st_size <= _LONG:
                        (made / f"{area}-{case}-{number}").write_bytes(file.read_bytes())
        with contextlib.suppress(OSError):  # another run made them in the meantime
            made.rename(kept)


def _cases(area: str) -> Iterator[tuple[str, Path]]:
    from corpus import cases

    try:
        found = list(cases((area,)))
    except ModuleNotFoundError as error:
        print(f"{area}: {error}", file=sys.stderr)
        return
    for _, case in found:
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield case.name, case.make(Path(folder))
            except ImportError as error:
                print(f"{area}: {case.name} needs {error.name}", file=sys.stderr)
