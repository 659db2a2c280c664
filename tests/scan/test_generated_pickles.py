"""The scan's pickle machine against Python's own unpicklers, on programs that nobody wrote by hand.

`HAUBERK_PICKLES=20000 python -m pytest tests/scan/test_generated_pickles.py` tries more of them.
"""

from __future__ import annotations

import os
import pickle
import random
from collections import OrderedDict

import numpy as np
import pytest
from agreement import REFUSED, disagreements, scan
from chained_programs import chained_program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joblib_programs import joblib_program
from mutations import mutate
from observed import observe, watching
from pickle_programs import HARMLESS, HOSTILE, program
from real_unpickler import ENCODINGS, RealUnpickler

from hauberk.scan.pickles.policy import allowed, resolve
from hauberk.scan.report import Verdict

EXAMPLES = int(os.environ.get("HAUBERK_PICKLES", "200"))
GENERATED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="HAUBERK_PICKLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

_plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=True),
    st.text(st.characters(codec=None), max_size=20),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
)
_hashable = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.binary(max_size=8)),
    lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
_arrays = st.builds(
    lambda kind, shape, order: np.asarray(np.arange(int(np.prod(shape))).reshape(shape).astype(kind), order=order),
    st.sampled_from(["<f4", ">f8", "<i8", "|u1", "|b1", "<c8", "<U3", "|S4", "<f2"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from("CF"),
)
_objects = st.recursive(
    st.one_of(_plain, _arrays, _arrays.map(lambda array: array.dtype), st.integers(0, 9).map(np.float32)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(_hashable, inner, max_size=5),
        st.dictionaries(_hashable, inner, max_size=5).map(OrderedDict),
        st.sets(_hashable, max_size=4),
        st.lists(inner, min_size=1, max_size=1).map(lambda items: [items[0], items[0], items]),
    ),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def joblib():
    with RealUnpickler("joblib") as unpickler:
        yield unpickler


@pytest.fixture(scope="module")
def with_one_memo():
    with RealUnpickler("one memo") as unpickler:
        yield unpickler


@pytest.fixture(scope="module")
def real():
    with RealUnpickler() as unpickler:
        yield unpickler


def test_names_of_programs_are_what_the_programs_hold_them_for():
    assert all(resolve(*name, protocol=4).entry is not None for name in HARMLESS)
    assert all(resolve(*name, protocol=4).entry is None for name in HOSTILE)


@given(choices=st.binary(min_size=40, max_size=200), encoding=st.sampled_from(ENCODINGS))
@GENERATED
def test_generated_programs(real, choices, encoding):
    data = program(choices)
    assert not list(disagreements(data, real.load(data, encoding), encoding=encoding)), data


@given(choices=st.binary(min_size=40, max_size=200), seed=st.integers(0, 2**32))
@GENERATED
def test_generated_programs_damaged(real, choices, seed):
    data = mutate(program(choices), (), random.Random(seed))
    assert not list(disagreements(data, real.load(data, "latin1"), encoding="latin1")), data


@given(thing=_objects, protocol=st.integers(0, 5), in_python=st.booleans())
@GENERATED
def test_objects_of_data_are_safe(real, thing, protocol, in_python):
    dumps = pickle._dumps if in_python else pickle.dumps
    data = dumps(thing, protocol)
    result, examination = scan(data)
    assert examination.verdict is Verdict.SAFE, (examination.findings, data)
    assert result.end == len(data)
    assert not list(disagreements(data, real.load(data))), data


@given(thing=_objects, protocol=st.integers(0, 5), seed=st.integers(0, 2**32))
@GENERATED
def test_objects_damaged(real, thing, protocol, seed):
    data = mutate(pickle.dumps(thing, protocol), (), random.Random(seed))
    assert not list(disagreements(data, real.load(data, "latin1"), encoding="latin1")), data


@given(thing=_objects, protocol=st.integers(0, 5), part=st.floats(0, 0.999))
@GENERATED
def test_what_is_cut_is_never_safe(thing, protocol, part):
    data = pickle.dumps(thing, protocol)
    assert scan(data[: int(part * len(data))])[1].verdict is not Verdict.SAFE


@given(choices=st.binary(min_size=10, max_size=80), seed=st.none() | st.integers(0, 2**32))
@GENERATED
def test_generated_joblib_streams(joblib, choices, seed):
    """joblib reads arrays where other unpicklers see instructions; what is called safe is harmless to it as well."""
    data = joblib_program(choices)
    if seed is not None:
        data = mutate(data, (), random.Random(seed))
    with watching() as faults:
        seen = observe(data, faults)
    assert not seen.fault, data
    run = joblib.load(data)["joblib"]
    assert not run.of("audit"), data
    if seen.report.verdict is Verdict.SAFE and seen.report.format not in TEXTS:
        assert not [name for name in run.names if name not in allowed()], data
        assert not run.of("extension", "persistent"), data
        assert run.finished, (run.error, data)


@given(choices=st.binary(min_size=40, max_size=120))
@GENERATED
def test_pickles_behind_one_another(with_one_memo, choices):
    """Each is harmless by itself; what is called safe is harmless to a reader whose memo stays, too."""
    data = chained_program(choices)
    with watching() as faults:
        seen = observe(data, faults)
    assert not seen.fault, data
    run = with_one_memo.load(data)["one memo"]
    assert not run.of("audit"), data
    if seen.report.verdict is Verdict.SAFE:
        assert not {event[1].replace(" ", ".") for event in run.of("call")} & REFUSED, data


TEXTS = {"text", "json"}
"""What is no pickle to the scan: an unpickler that is handed it breaks at its end, having imported at most a name."""


def test_the_recorder_tells_apart_what_it_must(real):
    """The truth itself: each way to a name and a call is seen, in both unpicklers."""
    streams = {
        b"cos\nsystem\n(S'x'\ntR.": ("os", "system"),
        b"(S'x'\nios\nsystem\n.": ("os", "system"),
        b"(cos\nsystem\nS'x'\no.": ("os", "system"),
        b"\x80\x04\x8c\x02os\x8c\x06system\x93)\x81.": ("os", "system"),
        b"\x80\x02c__builtin__\neval\n)R.": ("builtins", "eval"),
        b"\x80\x04c__builtin__\neval\n)R.": ("__builtin__", "eval"),
        b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93)R.": ("torch", "serialization.os.system"),
    }
    for stream, name in streams.items():
        for run in real.load(stream).values():
            assert run.names == (name,)
            assert run.of("call") == (("call", " ".join(name)),)
            assert run.finished
    for run in real.load(b"\x82\x01)R.").values():
        assert run.of("extension") == (("extension", "registered", "one"),)
    for run in real.load(b"Pkey\n}b.").values():
        assert run.of("persistent", "build") == (("persistent", "data"), ("build", "persistent load()"))
    attack = b"cos\nsystem\n(S'x'\ntR."
    crossed = b"\x80\x04\x95\4\0\0\0\0\0\0\0\x8c\x10AA" + b"B" * 14 + b"U" + bytes([len(attack)]) + attack + b"0."
    c, python = real.load(crossed).values()
    assert c.names == (("os", "system"),), "the unpickler in C drops what it had of a frame"
    assert python.error == "UnpicklingError", "the one in Python minds the end of a frame"
