"""numpy's headers, and what loading costs, against numpy and CPython themselves."""

from __future__ import annotations

import io
import random
import struct
import warnings

import numpy as np
import pytest
from corpus.pickle_bytes import Raw, call, name, pickled, value
from corpus.pickle_numpy import HOSTILE
from numpy.lib import format as numpy_format

from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination
from hauberk.scan.pickles import examine_pickle, npy, torch_storage

_HEADERS = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }",
    "{'descr': [('a', '<f8'), ('b', '|S3', (2,))], 'fortran_order': True, 'shape': (5,), }",
    "{'shape': (2L, 10L), 'fortran_order': False, 'descr': '<M8[ns]'}",
    "{'descr': [(('t', 'a'), '<U2'), ('', '|V4'), ('c', [('d', '>i2')])], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': ('<f8', (2, 3)), 'fortran_order': False, 'shape': (), }",
)
_PIECES = (
    "0", "1", "01", "-", "+", " ", "\n", "\t", "\r", "\x0b", "\x0c", "\x00", "\x1c", "\x85", "\xa0", "L", "_", "'", '"',
    "\\", "(", ")", "[", "]", "{", "}", ",", ":", "True", "None", "u", "b", "r", "0x1", "1_0", "1e3", "\u0663", "#a\n",
    "''", "<i8", "|O", "V0", "S0", "a10", "\u2028", "\ufeff", "1j", "-0", "--1", "'shape'", "'descr'",
)  # fmt: skip


def _mutated(chance: random.Random) -> bytes:
    text = chance.choice(_HEADERS)
    for _ in range(chance.choice((0, 1, 1, 2))):
        place, kind = chance.randrange(len(text) + 1), chance.random()
        if kind < 0.5:
            text = text[:place] + chance.choice(_PIECES) + text[place:]
        elif kind < 0.7:
            text = text[:place] + text[place + 1 :]
        elif kind < 0.9:
            text = text[:place] + chance.choice(_PIECES) + text[place + 1 :]
        else:
            text = text[:place] + text[chance.randrange(len(text) + 1) :]
    version = chance.choice((1, 2, 3))
    raw = (text + chance.choice(("\n", "   \n", ""))).encode("utf-8" if version == 3 else "latin-1", "replace")
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return numpy_format.MAGIC_PREFIX + bytes([version, 0]) + length + raw


def _as_numpy_reads(data: bytes) -> tuple[int, bool, tuple[int, ...]]:
    from numpy.lib import _format_impl

    stream = io.BytesIO(data)
    version = numpy_format.read_magic(stream)
    shape, _, dtype = _format_impl._read_array_header(stream, version)
    return dtype.itemsize, dtype.hasobject, shape


def test_headers_are_read_as_numpy_reads_them():
    """What is understood: nothing that numpy refuses, nothing that means something else to it."""
    chance = random.Random(22)
    understood = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3000):
            data = _mutated(chance)
            try:
                text, _, long = npy._header(BytesContent(data), 0)
                ours = npy._described(npy.literal(text, long=long))
            except ValueError:
                continue
            understood += 1
            assert ours == _as_numpy_reads(data), data
    assert understood > 500


@pytest.mark.parametrize("order", [">", "<", "="])
def test_numpy_itself_never_gives_objects_a_byte_order(order):
    """Why one is refused: numpy writes `|` for objects however it is asked, so no honest file has another."""
    kind = np.dtype(f"{order}O")
    assert kind.__reduce__()[2][1] == "|"
    assert kind.newbyteorder(">").__reduce__()[2][1] == "|"


def test_memory_is_reported_as_what_it_is():
    for case in ("objects-in-another-byte-order", "dtype-that-holds-itself", "dtypes-in-one-another"):
        examination = Examination()
        examine_pickle(BytesContent(HOSTILE[case][0]), examination)
        assert "pickle-memory" in {finding.rule for finding in examination.findings}, case


@pytest.mark.parametrize(
    "line", [b"I010", b"I0x10", b"I1_0", b"I+1", b"I 1", b"I-0", b"L1_0L", b"F1_0", b"F 1.5", b"F1e400", b"F0x1p3"]
)
def test_numbers_that_readers_take_differently_are_never_safe(line):
    examination = Examination()
    examine_pickle(BytesContent(line + b"\n."), examination)
    assert {finding.rule for finding in examination.findings} == {"pickle-readers-disagree"}


@pytest.mark.parametrize("number", [0, -1, 7, 1 << 70, -(1 << 70), 0.5, -1e-300, 1e22, float("inf"), float("nan")])
@pytest.mark.parametrize("protocol", [0, 1])
def test_numbers_as_picklers_write_them_are_safe(number, protocol):
    import pickle

    examination = Examination()
    examine_pickle(BytesContent(pickle.dumps(number, protocol)), examination)
    assert not examination.findings


def test_hooks_are_empty_however_they_were_made():
    storage = Raw(value(("storage", name("torch:FloatStorage"), "0", "cpu", 4)) + b"Q")
    for items, found in (([], set()), ([(1, name("collections:Counter"))], {"pickle-call"})):
        examination = Examination()
        hooks = call("collections:OrderedDict", items)
        tensor = call("torch._utils:_rebuild_tensor_v2", storage, 0, (4,), (1,), False, hooks)
        examine_pickle(BytesContent(pickled(tensor, 2)), examination, persistent=torch_storage)
        assert {finding.rule for finding in examination.findings} == found


def test_copies_count_against_the_size_of_the_file():
    """A list that is copied as often as a larger file might is no fault."""
    items = value([0] * 1000)
    stream = (
        b"\x80\x04" + name("collections:deque") + b"q\x000" + items + b"q\x010](" + b"h\x00h\x01\x85R" * 100 + b"e."
    )
    examination = Examination()
    examine_pickle(BytesContent(stream), examination)
    assert not examination.findings
