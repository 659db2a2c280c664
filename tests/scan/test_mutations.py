"""Honest files of every format, damaged in thousands of ways: the scan neither fails, hangs nor swells.

What it still calls safe, the format's own loader reads (`real_loaders`), and a hostile pickle that was damaged and is
called safe asks for nothing that is refused (`real_unpickler`). `HAUBERK_MUTATIONS=2000` makes so many of every file.
"""

from __future__ import annotations

import os
import pickle

import pytest
from agreement import REFUSED
from mutations import mutations
from observed import LIMITS, observe, peak_memory, watching
from real_loaders import RealLoaders
from real_unpickler import RealUnpickler
from seeds import seeds

from hauberk.scan.report import Verdict

COUNT = int(os.environ.get("HAUBERK_MUTATIONS", "60"))
LOADED = 5 if COUNT < 100 else COUNT
"""Files of each kind that are called safe and handed to the real loader."""
SEEDS = dict(seeds())
CODE = {"torchscript", "notebook"}
"""Formats that hold code by design, and are never safe."""
LOADERS = {
    "npy": "npy",
    "npz": "npz",
    "torch-zip": "torch",
    "torch-legacy": "torch",
    "safetensors": "safetensors",
    "onnx": "onnx",
    "zip": "zip",
    "tar-0": "tar",
    "tar-1": "tar",
    "tar-2": "tar",
    "gzip": "gzip",
    "bzip2": "bzip2",
    "xz": "xz",
    "zlib": "zlib",
    "keras": "zip",
    "skops": "zip",
}
"""Who reads each kind of file for real, and must be able to read what is called safe."""
CAREFUL_LOADERS = {
    "hdf5": "hdf5",
    "keras-h5": "hdf5",
    "xgboost-json": "xgboost",
    "xgboost-ubj": "xgboost",
    "lightgbm": "lightgbm",
}
"""Those that may refuse what is called safe (the scan knows what they interpret, not what they make of it), but must
not die of it."""


@pytest.fixture(scope="module")
def loaders():
    with RealLoaders() as process:
        yield process


@pytest.fixture(scope="module")
def real():
    with RealUnpickler() as unpickler:
        yield unpickler


@pytest.fixture
def faults():
    with watching() as seen:
        yield seen


def _damaged(name, faults, count=COUNT):
    """Damaged forms of a seed with what the scan says; fails where the scan does."""
    for mutated in mutations(SEEDS[name], list(SEEDS.values()), count):
        seen = observe(mutated, faults)
        assert not seen.fault, mutated
        assert seen.seconds < LIMITS.seconds + 0.5, mutated
        yield mutated, seen.report


@pytest.mark.parametrize("name", SEEDS)
def test_the_seed_is_honest(name, faults):
    report = observe(SEEDS[name], faults).report
    assert (report.verdict is Verdict.SAFE) != (name in CODE), report.findings


@pytest.mark.parametrize("name", [name for name in SEEDS if name not in LOADERS | CAREFUL_LOADERS])
def test_damage(name, faults):
    assert len(list(_damaged(name, faults))) == COUNT


@pytest.mark.parametrize("name", LOADERS | CAREFUL_LOADERS)
def test_damage_that_is_called_safe_can_be_read(name, faults, loaders):
    own = observe(SEEDS[name], faults).report.format
    loader = (LOADERS | CAREFUL_LOADERS)[name]
    assert not loaders.load(loader, SEEDS[name]), "the file itself"
    loaded = 0
    for mutated, report in _damaged(name, faults):
        # What has become something else, a text say, is safe as such: its loader refuses it.
        if report.verdict is Verdict.SAFE and report.format == own and loaded < LOADED:
            loaded += 1
            answer = loaders.load(loader, mutated)
            assert not answer.startswith(("killed", "ended", "MemoryError")), (answer, mutated)
            assert not answer or name in CAREFUL_LOADERS, (answer, mutated)


class Hostile:
    """Calls what it should not; never loaded here but by recorders."""

    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_stays_hostile_when_damaged(protocol, faults, real):
    """Whatever the scan takes the damaged file for, an unpickler that is handed it must not get to the call."""
    data = pickle.dumps({"weights": [1.0, 2.0], "more": Hostile()}, protocol)
    assert observe(data, faults).report.verdict is Verdict.UNSAFE
    for mutated in mutations(data, list(SEEDS.values()), COUNT):
        if observe(mutated, faults).report.verdict is Verdict.SAFE:
            for run in real.load(mutated, "latin1").values():
                assert not REFUSED.intersection(map(".".join, run.names)), mutated


def test_damage_takes_no_memory(faults):
    def sweep() -> None:
        for data in SEEDS.values():
            for mutated in mutations(data, list(SEEDS.values()), 20, draw=1):
                observe(mutated, faults)

    sweep()
    assert peak_memory(sweep) < LIMITS.unpacked + (32 << 20)
