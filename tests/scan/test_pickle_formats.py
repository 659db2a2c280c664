"""Files that hold pickles: which are recognised, and what is followed in them."""

from __future__ import annotations

import ast
import io
import pickle
import random
import tracemalloc

import joblib
import numpy as np
import pytest
import torch
from corpus.pickle_bytes import Raw, call, name, pickled, value
from corpus.pickle_carriers import EVIL, npy, wrapper
from corpus.pickle_numpy import array
from corpus.pickle_structures import dtype
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.scan import scan_paths
from hauberk.scan.content import BytesContent, Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import recognise
from hauberk.scan.pickles import FORMATS
from hauberk.scan.pickles.bare import examine_bare
from hauberk.scan.pickles.literals import literal
from hauberk.scan.report import Verdict


def report(folder, data: bytes, name: str = "file"):
    path = folder / name
    path.write_bytes(data)
    (found,) = scan_paths([path])
    return found


def ours(data: bytes) -> str:
    """Which of the formats of pickles takes a content, asked in their order."""
    content = BytesContent(data)
    return next((each.name for each in FORMATS if each.recognise(content.head(64), content)), "")


TEXTS = (
    b"cats\ndogs\nRabbits.\n",
    b"city\nname\n(population)\n",
    b"(see below)\n\nIntroduction.\n",
    b"I am a text.\n",
    b"Nothing here.\n",
    b"{\"name\": \"value\"}\n",
    b"]\n[\n",
    b"class Model:\n    pass\n",
    b"import os\nos.system('x')\n",
    b"csv\nos\n",
    b"ip,port\n1.2.3.4,80\n",
    b"Global warming is\nreal.\n",
    b"2026-11-21 12:00:00 INFO started.\n",
    b"0.1 0.2 0.3\n0.4 0.5 0.6\n",
    b"Very\nlong\nlist\nof\nwords.\n" * 5000,
    "Übung macht den Meister.\n".encode(),
    b"",
    b".",
)  # fmt: skip


@pytest.mark.parametrize("data", TEXTS, ids=range(len(TEXTS)))
def test_text_is_no_pickle(data):
    assert ours(data) == ""


def test_noise_is_no_hostile_pickle():
    noise = random.Random(7)
    for _ in range(30):
        assert ours(b"\xf0" + noise.randbytes(200_000)) == ""


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("thing", [{"a": [1, 2]}, [1.5, None], (1,), "text" * 30_000, list(range(40_000)), {1}, True])
def test_pickles_of_every_protocol_are_recognised(thing, protocol):
    assert recognise(BytesContent(pickle.dumps(thing, protocol))).name == "pickle"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_checkpoints_of_torch_without_zip(tmp_path, protocol):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimiser = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    path = tmp_path / "model.pt"
    state = {"model": module.state_dict(), "optimiser": optimiser.state_dict(), "half": torch.ones(5).half()}
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    (found,) = scan_paths([path])
    assert (found.format, found.verdict.value) == ("pytorch-stream", "safe"), found.findings
    whole = path.read_bytes()
    for end in range(40, len(whole), 97):
        assert report(tmp_path, whole[:end], "cut.pt").verdict.value != "safe"


def test_a_whole_module_is_refused_by_its_class(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=False)
    (found,) = scan_paths([path])
    assert found.verdict.value == "unsafe"
    assert any("torch.nn.modules.linear.Linear" in finding.what for finding in found.findings)


def test_where_arrays_of_joblib_end_is_where_joblib_goes_on(tmp_path):
    thing = [np.arange(7, dtype="u1"), {"a": np.ones((300, 40))}, np.array(["x", None], dtype=object), np.float64(2)]
    out = io.BytesIO()
    joblib.dump(thing, out)
    found = report(tmp_path, out.getvalue() + EVIL)
    assert found.format == "joblib"
    assert found.facts["pickles"] == 2
    assert {finding.where for finding in found.findings} <= {
        f"byte {place}" for place in range(len(out.getvalue()), len(out.getvalue() + EVIL))
    }


def test_an_array_that_others_take_for_instructions_is_told_as_what_it_is(tmp_path):
    honest = pickled(Raw(wrapper(dtype("i1"), (600,), None) + bytes(range(200)) * 3))
    hostile = pickled(Raw(wrapper(dtype("i1"), (len(EVIL) - 2,), None) + EVIL[2:]))
    assert report(tmp_path, honest).verdict.value == "safe"
    assert {finding.rule for finding in report(tmp_path, hostile).findings} == {"pickle-embedded"}


_FIELDS = ([("a", "f4", (3,)), ("b", "O")], [("b", "O"), ("a", "S3", (2, 2)), ("c", "i8")])


@pytest.mark.parametrize("fields", _FIELDS, ids=["before", "behind"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_beside_little_arrays_hurt_nobody(tmp_path, fields, protocol):
    """Readers that know nothing of arrays in the stream break off before they come to the little arrays."""
    records = np.zeros(2, fields)
    records["b"] = [{"x": 1}, "text"]
    out = io.BytesIO()
    joblib.dump({"records": records, "more": [records.copy()]}, out, protocol=protocol)
    found = report(tmp_path, out.getvalue())
    assert (found.format, found.verdict, found.findings) == ("joblib", Verdict.SAFE, ())
    assert (joblib.load(tmp_path / "file")["more"][0] == records).all()
    with pytest.raises((pickle.UnpicklingError, TypeError, ImportError)):
        pickle.loads(out.getvalue())


@pytest.mark.parametrize(
    ("called", "verdict"), [(name("numpy:dtype"), "unsafe"), (name("numpy:ndarray"), "unknown"), (b"X\0\0\0\0", "safe")]
)
def test_harm_to_readers_without_arrays_counts_as_far_as_they_get(tmp_path, called, verdict):
    """With the memo of the outer pickle, the array's dtype holds objects; with its own, numbers."""
    held = Raw(dtype("f8") + b"\x940" + name("numpy:dtype") + b"\x940")
    kind = Raw(b"h\1(" + value("f8") + b"\x89\x88tR0")
    objects = Raw(held + kind + array(dtype("O8"), (1,), [array(Raw(b"h\0"), (1,), bytes(8))]))
    outer = Raw(dtype("O8") + b"\x940" + called + b"\x940" + wrapper(dtype("O8"), (1,), b"") + pickled(objects))
    found = report(tmp_path, pickled(outer))
    assert (found.verdict.value, found.format) == (verdict, "joblib")


def test_a_sparse_file_of_gigabytes_is_stepped_over(tmp_path):
    head = npy("'<f8'", (1 << 29,), b"")
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + (8 << 29))
    tracemalloc.start()
    (found,) = scan_paths([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.verdict.value == "safe", found.findings
    assert peak < 8 << 20


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("description", ["'<f8'", "'|S5'", "'<U3'", "[('a', '<f8'), ('b', '<i4', (2,))]", "'<M8[ns]'"])
def test_headers_are_read_as_numpy_reads_them(tmp_path, version, description):
    kind = np.dtype(ast.literal_eval(description))
    data = npy(description, (3, 2), bytes(kind.itemsize * 6), version)
    assert np.load(io.BytesIO(data)).dtype == kind
    assert report(tmp_path, data).verdict.value == "safe"
    assert report(tmp_path, data[:-1]).verdict.value == "unknown"
    assert report(tmp_path, data + b"x").verdict.value == "unknown"


LITERALS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.text("abc<>|=f8 ", max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(LITERALS)
def test_literals_are_read_as_python_reads_them(thing):
    assert literal(repr(thing)) == thing


@settings(max_examples=300, deadline=None)
@given(st.text("()[]{},:'\"aT0-. \\\n", max_size=20))
def test_what_is_read_as_a_literal_is_one(text):
    try:
        value = literal(text)
    except ValueError:
        return
    assert ast.literal_eval(text.strip()) == value


def test_a_hostile_pickle_is_found_wherever_it_begins(tmp_path):
    for place in (1, 63, 64, 1000, (1 << 20) - 10, 1 << 20, 3 << 20):
        found = report(tmp_path, b"\xfe" * place + EVIL)
        assert [(finding.rule, finding.where) for finding in found.findings] == [("pickle-embedded", f"byte {place}")]


def test_mutated_pickles_of_models_are_never_worse_than_refused(tmp_path):
    """A few hundred damaged files: no failure of the scan, and nothing that both is safe and asks for more."""
    model = pickled(call("collections:OrderedDict")) + pickle.dumps({"w": np.arange(30.0), "n": ["a"] * 5}, 2)
    chance = random.Random(3)
    for _ in range(400):
        data = bytearray(model)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        found = report(tmp_path, bytes(data))
        assert not any(finding.rule == "scan-failed" for finding in found.findings), bytes(data)


class ForwardContent(Content):
    """Bytes that cannot be read twice, as of a compressed stream where going back costs all that was unpacked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.reached = 0

    def _read(self, offset: int, length: int) -> bytes:
        assert offset >= self.reached
        self.reached = offset + length
        return self._data[offset : offset + length]


def test_streams_are_read_forward_only():
    from sklearn.ensemble import RandomForestClassifier

    records = np.random.default_rng(0).normal(size=(2000, 5))
    forest = RandomForestClassifier(12, random_state=0).fit(records, records[:, 0] * records[:, 1] > 0)
    out = io.BytesIO()
    joblib.dump([forest, np.ones(200_000), list(range(5000))], out)
    data = out.getvalue() + b"".join(map(pickle.dumps, range(300)))
    assert len(data) > 1 << 20
    content, examination = ForwardContent(data), Examination()
    assert examine_bare(content, examination) == "joblib"
    assert examination.verdict is Verdict.SAFE
    assert examination.facts["pickles"] == 301
    assert content.reached == content.size
