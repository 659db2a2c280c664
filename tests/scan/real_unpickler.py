"""What Python's own unpicklers ask for and call when they are given a stream: the truth that the scan is compared with.

`RealUnpickler` holds a process of its own. For each group of streams that process forks, puts the fork under limits and
lets it load them one by one, each with the unpickler written in C and with the one written in Python. Nothing real is
ever reached: importing is replaced, every module is a stand-in, and every name in it is a recorder that notes that it
was asked for, called, or filled. The finding of classes is the unpicklers' own, with the renaming of old modules, the
walk along dotted names and the registry of extensions; an audit hook notes everything else that happens in the
interpreter. All that a stream can reach is made anew for each; where a stream ends the fork, the next one gets a fresh
one.

Run as a program, this file is the process.
"""

from __future__ import annotations

import builtins
import codecs
import copyreg
import io
import json
import math
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

ENCODINGS = ("ASCII", "latin1", "bytes")
"""How loaders read the byte strings of Python 2: `pickle.load`, `numpy.load` and joblib differ."""
REGISTERED = "registered"
EXTENSIONS = {1: "one", 0x1234: "two", 0x12345678: "four"}
"""What the process has in its `copyreg` registry, under the module `REGISTERED`; a scanner cannot know it."""

_SECONDS = 0.5
"""Of processor time, for one stream."""
_PATIENCE = 100
"""Times as long on the wall: the machine may have other work."""
_MEMORY = 1 << 30
_MEMORY_WITH_NUMPY = 4 << 30
_MOST_EVENTS = 5_000


@dataclass(frozen=True)
class Run:
    """What one unpickler did with one stream.

    Attributes:
        events: In order: `("find", module, name)` with the names that Python 3 looks up, `("extension", module, name)`
            for one that came from the registry, `("call", who)`, `("build", who)`, `("fill", who)`,
            `("persistent", what)`, and `("audit", event)` for what should never happen.
        finished: It returned an object.
        error: The exception that ended it, by name; empty where none did; `killed` where a limit did.
        consumed: Bytes up to where it stopped reading; -1 where it was killed.
    """

    events: tuple[tuple[str, ...], ...]
    finished: bool
    error: str
    consumed: int

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Names that were asked for, each once, in order; those of the registry of extensions left out."""
        return tuple(dict.fromkeys((event[1], event[2]) for event in self.events if event[0] == "find"))

    def of(self, *kinds: str) -> tuple[tuple[str, ...], ...]:
        """Events of these kinds."""
        return tuple(event for event in self.events if event[0] in kinds)


class RealUnpickler:
    """The process that unpickles; use it as a context manager, or call `close`.

    Args:
        readers: Whose runs are wanted, by name: `c` and `python`; `joblib`, which reads arrays between instructions;
            `one memo`, the unpickler in C that is called again and again until the stream is at its end.
    """

    def __init__(self, *readers: str) -> None:
        self._names = readers or ("c", "python")
        bare = () if "joblib" in readers else ("-S",)
        command = [sys.executable, "-I", *bare, str(Path(__file__)), *self._names]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def load(self, data: bytes, encoding: str = "ASCII") -> dict[str, Run]:
        """Both unpicklers on one stream, by name: `c` and `python`."""
        return self.load_many([(data, encoding)])[0]

    def load_many(self, streams: Sequence[tuple[bytes, str]]) -> list[dict[str, Run]]:
        """The same for many streams with their encodings, which takes far less time for each than one by one."""
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<I", len(streams)))
        for data, encoding in streams:
            self._process.stdin.write(struct.pack("<IB", len(data), ENCODINGS.index(encoding)) + data)
        self._process.stdin.flush()
        return [{name: self._run() for name in self._names} for _ in streams]

    def _run(self) -> Run:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the unpickling process ended")
        run = json.loads(line)
        return Run(tuple(tuple(event) for event in run["events"]), run["finished"], run["error"], run["consumed"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Journal:
    """What happens while one stream is loaded."""

    def __init__(self) -> None:
        self.open = False
        self.events: list[tuple[str, ...]] = []
        self.imported = ""
        self._modules: dict[str, Any] = {}

    @contextmanager
    def begun(self) -> Iterator[None]:
        """A fresh journal; whatever the stream has reached is gone afterwards."""
        copyreg.clear_extension_cache()
        self.events, self.imported = [], ""
        importing, builtins.__import__, self.open = builtins.__import__, _pretend_import, True
        try:
            yield
        finally:
            builtins.__import__, self.open = importing, False
            for name, module in self._modules.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
            self._modules.clear()
            _PATHS.clear()

    def stand_in(self, name: str) -> Any:
        """Another module where this one was or would be, until the end of the stream."""
        self._modules.setdefault(name, sys.modules.get(name))
        self.imported = name
        made: Any = _Module(name)
        sys.modules[name] = made
        return made

    def note(self, *event: str) -> None:
        if len(self.events) < _MOST_EVENTS:
            self.events.append(event)


_PATHS: dict[type, tuple[str, str]] = {}
"""Of every recorder: module and dotted name."""
_JOURNAL = _Journal()


def _who(thing: object) -> str:
    path = _PATHS.get(thing if isinstance(thing, type) else type(thing))
    return "data" if path is None else f"{path[0]} {path[1]}" + ("" if isinstance(thing, type) else "()")


class _Everything(type):
    """A name that was found: a class, so that NEWOBJ takes it, all of whose attributes are names again."""

    def __getattribute__(cls, attribute: str) -> Any:
        if attribute == "__new__":
            return lambda made, *_arguments, **_keywords: _Thing.__new__(made)
        if attribute == "__setstate__":
            return lambda *_state: _JOURNAL.note("build", _who(cls))
        if attribute in {"__getinitargs__", "__class__", "__bases__"}:  # asked by the unpicklers and isinstance
            raise AttributeError(attribute)
        module, name = _PATHS[cls]
        return _recorder(module, f"{name}.{attribute}")

    def __call__(cls, *_arguments: object, **_keywords: object) -> object:
        _JOURNAL.note("call", _who(cls))
        return object.__new__(cls)


class _Thing:
    """What a call returns: takes whatever an unpickler does to an object."""

    def __new__(cls, *_arguments: object, **_keywords: object) -> Any:
        _JOURNAL.note("call", _who(cls))
        return object.__new__(cls)

    def __call__(self, *_arguments: object, **_keywords: object) -> object:
        _JOURNAL.note("call", _who(self))
        return object.__new__(type(self))

    def __setstate__(self, *_state: object) -> None:
        _JOURNAL.note("build", _who(self))

    def append(self, _item: object) -> None:
        _JOURNAL.note("fill", _who(self))

    extend = add = append

    def __setitem__(self, _key: object, _value: object) -> None:
        _JOURNAL.note("fill", _who(self))


def _recorder(module: str, name: str) -> type:
    made = _Everything("recorder", (_Thing,), {})
    _PATHS[made] = module, name
    return made


class _Module:
    """A stand-in for any module."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "path", name)

    def __getattribute__(self, attribute: str) -> Any:
        return _recorder(object.__getattribute__(self, "path"), attribute)


def _pretend_import(name: str, *_rest: object, **_keywords: object) -> object:
    return _JOURNAL.stand_in(name)


class _FindsStandIns:
    """Notes what the unpickler's own `find_class` arrives at."""

    def find_class(self, module: str, name: str) -> Any:
        _JOURNAL.imported = module
        try:
            found = super().find_class(module, name)  # type: ignore[misc]
        except BaseException:
            _JOURNAL.note("find", _JOURNAL.imported, name)  # asked for all the same
            raise
        _JOURNAL.note("extension" if module == REGISTERED else "find", *_PATHS.get(found, (module, name)))
        return found

    def persistent_load(self, identifier: object) -> object:
        _JOURNAL.note("persistent", _who(identifier))
        return object.__new__(_recorder("persistent", "load"))


class _InC(_FindsStandIns, pickle.Unpickler):
    pass


class _WithOneMemo(_InC):
    def load(self) -> object:
        while True:
            super().load()


class _InPython(_FindsStandIns, pickle._Unpickler):  # type: ignore[name-defined,misc]
    pass


_EXPECTED = {"pickle.find_class", "object.__getattr__", "sys.excepthook", "sys.unraisablehook"}
"""The hooks are called where CPython's own clean-up after a failed allocation complains."""


def _watch(event: str, _arguments: object) -> None:
    if _JOURNAL.open and event not in _EXPECTED:
        _JOURNAL.note("audit", event)


def _unpickle(kind: type, data: bytes, encoding: str) -> dict[str, object]:
    """In a fork."""
    stream = io.BytesIO(data)
    unpickler = kind(stream, encoding=encoding)
    finished, error = False, ""
    with _JOURNAL.begun():
        try:
            unpickler.load()
            finished = True
        except BaseException as raised:  # noqa: BLE001 - whatever a stream makes the unpickler raise is a result
            error = type(raised).__name__
    return {"events": _JOURNAL.events, "finished": finished, "error": error, "consumed": stream.tell()}


Task = tuple[type, bytes, str]
"""Unpickler, stream, encoding."""
_KILLED = json.dumps({"events": [], "finished": False, "error": "killed", "consumed": -1}).encode()


def _in_forks(tasks: Sequence[Task]) -> Iterator[bytes]:
    """A line for each; a fork does as many as it lives to."""
    done = 0
    while done < len(tasks):
        # joblib has real classes and real types of arrays, which a stream may change for those that come later.
        some = tasks[done : done + 1] if "numpy" in sys.modules else tasks[done:]
        lines = _in_a_fork(some)
        yield from lines
        if len(lines) < len(some):
            yield _KILLED
        done += min(len(lines) + 1, len(some))


def _in_a_fork(tasks: Sequence[Task]) -> list[bytes]:
    """What a fork answered before it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            _limit(_SECONDS * len(tasks))
            sys.addaudithook(_watch)
            with os.fdopen(writing, "wb") as answers:
                for task in tasks:
                    signal.setitimer(signal.ITIMER_PROF, _SECONDS)  # ends the fork
                    line = json.dumps(_unpickle(*task)).encode()
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    answers.write(line + b"\n")
                    answers.flush()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        lines = answers.read().split(b"\n")[:-1]  # behind the last line end there is nothing, or a line cut short
    os.waitpid(child, 0)
    return lines


def _limit(seconds: float) -> None:
    memory = _MEMORY_WITH_NUMPY if "numpy" in sys.modules else _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds) + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(math.ceil(_PATIENCE * seconds))


def _in_joblib() -> type:
    """joblib's unpickler, with its own wrapper and numpy's types for real: it reads arrays by them."""
    import numpy as np
    from joblib import numpy_pickle

    genuine = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): numpy_pickle.NumpyArrayWrapper,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    class Recording(SimpleNamespace):
        """Stands for the module that joblib loads arrays of objects with."""

        @staticmethod
        def load(stream: Any, **_options: object) -> Any:
            return _InC(stream).load()

    class InJoblib(_FindsStandIns, numpy_pickle.NumpyUnpickler):  # type: ignore[misc]
        def __init__(self, stream: io.BytesIO, encoding: str) -> None:  # joblib has its own
            numpy_pickle.NumpyUnpickler.__init__(self, "", stream, ensure_native_byte_order=False)

        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in genuine:
                _JOURNAL.note("find", module, name)
                return genuine[module, name]
            return super().find_class(module, name)

    numpy_pickle.pickle = Recording()
    return InJoblib


def _serve() -> None:
    known = {"c": _InC, "python": _InPython, "one memo": _WithOneMemo}
    kinds = [_in_joblib() if name == "joblib" else known[name] for name in sys.argv[1:]]
    for code, name in EXTENSIONS.items():
        copyreg.add_extension(REGISTERED, name, code)
    for codec in ("ascii", "latin-1", "utf-8", "raw-unicode-escape", "unicode-escape"):
        codecs.lookup(codec)  # before importing is replaced
    while header := sys.stdin.buffer.read(4):
        tasks: list[Task] = []
        for _ in range(*struct.unpack("<I", header)):
            size, encoding = struct.unpack("<IB", sys.stdin.buffer.read(5))
            data = sys.stdin.buffer.read(size)
            tasks += [(kind, data, ENCODINGS[encoding]) for kind in kinds]
        for line in _in_forks(tasks):
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
