"""The hostile pickles of the corpus are hostile: each is loaded for real, in a process of its own, and makes its flag.

What is loaded here is made by `corpus.pickles`, makes a file named `flag` in the folder in which it runs, and nothing
else. A driver process forks for every case, into a folder of its own and under limits.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from corpus.pickle_bytes import FLAG
from corpus.pickle_carriers import FILES
from corpus.pickles import RUN

_DRIVER = """
import io, os, pickle, resource, signal, sys, warnings
warnings.simplefilter("ignore")
import joblib, numpy
for module in sys.argv[2].split():
    __import__(module)
loaders = {
    "pickle": lambda file: pickle.load(open(file, "rb")),
    "pickle-python": lambda file: pickle._Unpickler(open(file, "rb")).load(),
    "pickle-repeated": lambda file: [pickle.load(stream) for stream in [open(file, "rb")] for _ in range(100)],
    "pickle-one-unpickler": lambda file: [each.load() for each in [pickle.Unpickler(open(file, "rb"))] for _ in "12"],
    "numpy": lambda file: numpy.load(file, allow_pickle=True),
    "numpy-archive": lambda file: dict(numpy.load(file, allow_pickle=True)),
    "joblib": joblib.load,
}
for folder in sorted(os.listdir(sys.argv[1])):
    child = os.fork()
    if not child:
        os.chdir(os.path.join(sys.argv[1], folder))
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        signal.alarm(20)
        loader, _, name = open("loader").read().partition(" ")
        try:
            loaders[loader](name)
        except BaseException:
            pass
        import atexit, threading
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(10)
        atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(child, 0)
"""


def load_all(folder: Path, files: dict[str, tuple[str, str, bytes]]) -> list[str]:
    """Load files, each with a loader, and return the names of those that left no flag."""
    for name, (loader, file, data) in files.items():
        place = folder / name
        place.mkdir()
        (place / file).write_bytes(data)
        (place / "loader").write_text(f"{loader} {file}")
    used = "subprocess ctypes lib2to3.pgen2.grammar numpy.f2py.crackfortran numpy.testing"
    command = [sys.executable, "-I", "-c", _DRIVER, str(folder), used]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
    return [name for name in files if not (folder / name / FLAG).exists()]


def test_pickles_run_when_they_are_loaded(tmp_path):
    files = {name: ("pickle", "model.pkl", data) for name, (data, _) in RUN.items()}
    assert not load_all(tmp_path, files), "duds: that the scan refuses them proves nothing"


_CARRIED = {
    "numpy": (
        "npy-of-objects", "npy-of-objects-in-a-field", "npy-of-objects-version-2", "npy-of-objects-version-3",
        "npy-that-is-a-pickle",
    ),
    "numpy-archive": ("npz-of-objects", "npz-of-objects-compressed"),
    "joblib": (
        "joblib-behind-an-array", "joblib-array-of-objects", "joblib-zlib", "joblib-gzip", "joblib-bz2", "joblib-xz",
        "joblib-lzma", "any-extension", "text-extension", "torch-stream-that-joblib-reads",
    ),
    "pickle": ("joblib-instructions-as-a-padding",),
    "pickle-one-unpickler": ("pickles-for-one-unpickler",),
    "pickle-repeated": ("second-pickle", "second-pickle-of-text", "hundredth-pickle"),
}  # fmt: skip


def test_carriers_run_when_their_loader_loads_them(tmp_path):
    files = {name: (loader, *FILES[name][:2]) for loader, names in _CARRIED.items() for name in names}
    assert not load_all(tmp_path, files)


def test_frames_make_the_unpicklers_of_cpython_disagree(tmp_path):
    """Why crossing a frame is unsafe: one file, two names; the one in C drops what is left of the frame."""
    import io
    import pickle
    import struct

    class AskedError(Exception):
        pass

    class InC(pickle.Unpickler):
        def find_class(self, module, name):
            raise AskedError(module, name)

    stream = b"\x80\x04\x95" + struct.pack("<Q", 6) + b"cos\nab" + b"system\n)R."
    with pytest.raises(AskedError) as from_file:
        InC(io.BytesIO(stream)).load()
    assert from_file.value.args == ("os", "system")
    assert b"os\nabsystem\n" in stream


_ENDS = """
import pickle, resource, sys
import numpy
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
thing = pickle.load(sys.stdin.buffer)
if isinstance(thing, numpy.ndarray):
    thing.copy()
    thing.dtype.hasobject or numpy.sort(thing)
del thing
"""
_DEEPER = ("default-dictionaries-in-one-another", "deques-in-one-another", "deques-made-of-one-another")


def _deeper(name: str) -> bytes:
    """The same pickle, so deep that the stack of this process ends."""
    from corpus import pickle_costs

    data, levels = pickle_costs.HOSTILE[name][0], pickle_costs._LEVELS
    start, end = (data.index(b"q\x000") + 3, data.rindex(b"N")) if b"N" in data[-levels - 2 :] else (0, 0)
    if not end:
        link = b"\x85q\x010h\x00h\x01\x85R"
        return data[: data.index(link)] + link * 200_000 + b"."
    opening = data[start:end]
    return data[:start] + opening * 100 + b"N" + data[end + 1 : -1] * 100 + b"."


@pytest.mark.parametrize(
    "name",
    [
        "field-of-objects-in-another-byte-order",
        "alignment-of-0-for-S8",
        "time-without-its-unit",
        "structure-that-is-sorted-without-the-lock",
        *_DEEPER,
    ],
)
def test_loading_ends_the_process(name):
    from corpus import pickle_numpy

    data = _deeper(name) if name in _DEEPER else pickle_numpy.HOSTILE[name][0]
    done = subprocess.run([sys.executable, "-I", "-c", _ENDS], input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode < 0, "a dud: that the scan refuses it proves nothing"


@pytest.mark.parametrize("name", ["memo-of-four-billion", "byte-array-of-a-terabyte"])
def test_a_few_bytes_make_a_loader_ask_for_gigabytes(tmp_path, name):
    from corpus.pickle_structures import OTHERS

    data, _, _ = OTHERS[name]
    assert len(data) < 20
    load = (
        "import pickle, resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30));"
        f" pickle.loads({data!r})"
    )
    done = subprocess.run([sys.executable, "-I", "-c", load], capture_output=True, text=True, timeout=60, check=False)
    assert "MemoryError" in done.stderr
