"""The pickle scan against the real unpickler: what runs there is refused here, by name, and nothing runs."""

from __future__ import annotations

import collections
import copyreg
import io
import pickle
import pickletools
import struct

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hauberk.errors import RefusedModelError
from hauberk.ingest.scan import examine_pickle, scan_pickle

EXTENSION = 0xE7


class Calls:
    """Pickles into a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def text(string: str) -> bytes:
    """BINUNICODE."""
    raw = string.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def short(string: str) -> bytes:
    """SHORT_BINUNICODE, of protocol 4."""
    raw = string.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def payloads(flag) -> dict[str, tuple[bytes, str]]:
    """Pickles that make the file `flag` when the real unpickler loads them, and the name that each must ask for."""
    import os
    import runpy
    import subprocess

    touch = f"touch {flag}"
    python = f"open({str(flag)!r}, 'w').close()"
    script = flag.with_suffix(".py")
    script.write_text(python)
    line = touch.encode()
    found = {
        f"os.system, protocol {protocol}": (pickle.dumps(Calls(os.system, touch), protocol), "posix.system")
        for protocol in range(6)
    }
    call = text(touch) + b"\x85R."
    found |= {
        "builtins.eval": (pickle.dumps(Calls(eval, python), 2), "builtins.eval"),
        "builtins.exec": (pickle.dumps(Calls(exec, python), 4), "builtins.exec"),
        "python 2 name": (b"c__builtin__\neval\n" + text(python) + b"\x85R.", "builtins.eval"),
        "subprocess": (pickle.dumps(Calls(subprocess.check_call, ["touch", str(flag)]), 2), "subprocess.check_call"),
        "runpy": (pickle.dumps(Calls(runpy.run_path, str(script)), 2), "runpy.run_path"),
        "nested getattr": (
            b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n" + text("os") + b"\x85R" + text("system") + b"tR" + call,
            "builtins.getattr, builtins.__import__",
        ),
        "INST": (b"(S'" + line + b"'\nios\nsystem\n.", "os.system"),
        "OBJ": (b"(cos\nsystem\nS'" + line + b"'\no.", "os.system"),
        "NEWOBJ": (
            b"\x80\x02cbuiltins\nbytes\ncbuiltins\nmap\ncos\nsystem\n" + text(touch) + b"\x85\x86\x81\x85\x81.",
            "os.system",
        ),
        "BUILD": (
            b"\x80\x02cargparse\nNamespace\n)\x81}" + text("__setstate__") + b"cos\nsystem\nsb" + text(touch) + b"b.",
            "argparse.Namespace",
        ),
        "dotted name": (b"\x80\x04" + short("shutil") + short("os.system") + b"\x93" + call, "shutil.os.system"),
        "STACK_GLOBAL": (b"\x80\x04" + short("os") + short("system") + b"\x93" + call, "os.system"),
        "STACK_GLOBAL from memo": (
            b"\x80\x04" + short("system") + b"\x94" + short("os") + b"\x940" + b"0h\x01h\x00\x93" + call,
            "os.system",
        ),
        "STACK_GLOBAL with a memo entry overwritten": (
            b"\x80\x04" + text("collections") + b"q\x07" + text("os") + b"q\x0700" + text("system") + b"q\x080"
            b"h\x07h\x08\x93" + call,
            "os.system",
        ),
        "STACK_GLOBAL between decoys": (
            b"\x80\x04" + text("os") + b"(" + text("collections") + b"1" + text("system") + text("OrderedDict") + b"0"
            b"\x93" + call,
            "os.system",
        ),
        "STACK_GLOBAL from an escaped string": (b"\x80\x04V\\u006fs\n" + short("system") + b"\x93" + call, "os.system"),
        "STACK_GLOBAL of a python 2 string": (b"U\x02osU\x06system\x93" + call, "os.system"),
        "STACK_GLOBAL of one string twice": (
            b"\x80\x04" + short("datetime") + b"2\x930" + short("os") + short("system") + b"\x93" + call,
            "os.system",
        ),
        "extension registry": (b"\x80\x02\x82" + bytes([EXTENSION]) + call, f"extension {EXTENSION}"),
        "an allowed name first": (
            b"\x80\x02ccollections\nOrderedDict\n)R0cos\nsystem\n" + call,
            "os.system",
        ),
    }  # fmt: skip
    return found


NAMES = [
    *(f"os.system, protocol {protocol}" for protocol in range(6)),
    "builtins.eval", "builtins.exec", "python 2 name", "subprocess", "runpy", "nested getattr", "INST", "OBJ", "NEWOBJ",
    "BUILD", "dotted name", "STACK_GLOBAL", "STACK_GLOBAL from memo", "STACK_GLOBAL with a memo entry overwritten",
    "STACK_GLOBAL between decoys", "STACK_GLOBAL from an escaped string", "STACK_GLOBAL of a python 2 string",
    "STACK_GLOBAL of one string twice", "extension registry", "an allowed name first",
]  # fmt: skip


@pytest.fixture
def registered():
    copyreg.add_extension("os", "system", EXTENSION)
    yield
    copyreg.remove_extension("os", "system", EXTENSION)


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_that_runs_in_the_real_unpickler_is_refused_by_name(tmp_path, registered, name):
    flag = tmp_path / "ran"
    payload, asks_for = payloads(flag)[name]
    with pytest.raises(RefusedModelError) as raised:
        scan_pickle(payload, "model.pt")
    assert not flag.exists()
    assert asks_for in str(raised.value)
    assert "nothing of it was run" in str(raised.value)
    pickle.loads(payload)
    assert flag.exists(), "the payload is a dud, so refusing it proves nothing"


def test_the_list_of_payloads_is_complete(tmp_path):
    assert set(payloads(tmp_path / "ran")) == set(NAMES)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"\x80\x02Pstorage\n.", "persistent id 'storage', which is no tensor storage"),
        (b"\x80\x02" + text("os") + b"Q.", "persistent id that is no tensor storage"),
        (
            b"\x80\x02(" + text("storage") + b"ccollections\nOrderedDict\n" + text("0") + text("cpu") + b"K\x01tQ.",
            "persistent id that is no tensor storage",
        ),
        (b"\x80\x04N.", "protocol 4"),
        (b"\x80\x02cbuiltins\nint\n.", "asks for builtins.int,"),
        (b"\x80\x02ctorch\nload\n.", "asks for torch.load,"),
        (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.", "asks for torch._utils._rebuild_qtensor"),
        (b"\x80\x02ctorch\nfloat32\n)R.", "calls torch.float32, which rebuilds no tensor"),
        (b"\x80\x02N)R.", "calls something, which rebuilds no tensor"),
        (b"\x80\x02" + text("collections") + text("OrderedDict") + b"\x86)R.", "calls something"),
        (b"\x80\x02]N}b.", "sets the state of an object that is no ordered dictionary"),
        (b"\x80\x02\x8f.", "uses the pickle instruction EMPTY_SET"),
        (b"\x80\x04)" + text("b") + b"\x93.", "asks for a name that it computes while it loads"),
        (b"\x80\x02N.tail", "something follows the pickle"),
        (b"\x80\x02N", "not a readable pickle"),
        (b"\x80\x020.", "not a readable pickle"),
        (b"\x80\x02h\x05.", "not a readable pickle"),
        (b"\x80\x02\xff.", "not a readable pickle"),
        (b"\x80\x02cos\nsys", "not a readable pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fabc", "not a readable pickle"),
        (b"", "not a readable pickle"),
    ],
)
def test_anything_but_tensors_is_refused(payload, says):
    with pytest.raises(RefusedModelError) as raised:
        scan_pickle(payload, "model.pt")
    assert says in str(raised.value)


def test_a_name_in_the_message_cannot_drive_the_terminal():
    payload = b"\x80\x04" + text("os\x1b[2J\nfake") + text("x" * 500) + b"\x93."
    with pytest.raises(RefusedModelError) as raised:
        scan_pickle(payload, "model.pt")
    message = str(raised.value)
    assert message.isprintable()
    assert "os\\u001b[2J\\u000afake" in message
    assert len(message) < 400


def test_many_names_are_counted():
    payload = b"\x80\x02" + b"".join(b"cm%d\nf\n" % number for number in range(9)) + b"."
    with pytest.raises(RefusedModelError, match=r"asks for m0\.f, m1\.f, m2\.f, m3\.f, m4\.f and 4 more"):
        scan_pickle(payload, "model.pt")


@pytest.mark.parametrize(
    "nest",
    [b"\x80\x02N" + b"\x85" * 500_000 + b")R.", b"\x80\x02N" + b"2\x86" * 100_000 + b")R."],
    ids=["deep", "shared"],
)
def test_nested_tuples_neither_crash_nor_stall_the_scan(nest):
    with pytest.raises(RefusedModelError, match="calls something"):
        scan_pickle(nest, "model.pt")


def test_a_huge_pickle_is_refused_unread():
    with pytest.raises(RefusedModelError, match="at most"):
        scan_pickle(bytes((16 << 20) + 1), "model.pt")


def state_dict_pickle(state: object) -> bytes:
    """`data.pkl` as torch.save writes it."""
    import zipfile

    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def test_a_state_dict_of_every_allowed_dtype_is_accepted():
    state = collections.OrderedDict(
        (str(dtype), torch.ones(2, 3).to(dtype))
        for dtype in (
            torch.float64,
            torch.float32,
            torch.float16,
            torch.bfloat16,
            torch.int64,
            torch.uint16,
            torch.bool,
        )
    )
    assert [storage.size for storage in scan_pickle(state_dict_pickle(state), "model.pt")] == [
        48,
        24,
        12,
        12,
        48,
        12,
        6,
    ]


def test_modules_and_checkpoints_as_people_save_them_are_accepted():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    checkpoint = {"model": module.state_dict(), "optimiser": optimiser.state_dict(), "epoch": 3, "loss": 0.5}
    assert scan_pickle(state_dict_pickle(module.state_dict()), "model.pt")
    assert scan_pickle(state_dict_pickle(checkpoint), "model.pt")
    assert scan_pickle(state_dict_pickle({"weight": torch.nn.Parameter(torch.ones(2))}), "model.pt")


def test_a_whole_module_is_refused_with_its_class():
    with pytest.raises(RefusedModelError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        scan_pickle(state_dict_pickle(torch.nn.Linear(2, 2)), "model.pt")


class Recorder(pickle._Unpickler):
    """CPython's own unpickler, which notes each name that it is asked for and hands out a harmless stand-in."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.asked: list[str] = []

    def find_class(self, module, name):
        self.asked.append(f"{module}.{name}")
        return StandIn

    def persistent_load(self, pid):
        return None


class StandIn:
    def __new__(cls, *arguments, **keywords):
        return super().__new__(cls)

    def __init__(self, *arguments, **keywords):
        pass

    def __setstate__(self, state):
        pass


WORDS = st.sampled_from(["os", "system", "m.n", "λ", "x\ny", ""])
STRINGS = st.one_of(
    WORDS.map(text),
    WORDS.map(short),
    WORDS.map(lambda word: b"V" + ascii(word)[1:-1].replace("\\n", "\\u000a").replace("\\x", "\\u00").encode() + b"\n"),
)
KEYS = st.integers(0, 3)
PUT = st.one_of(KEYS.map(lambda key: b"q%c" % key), KEYS.map(lambda key: b"p%d\n" % key), st.just(b"\x94"))
GET = st.one_of(KEYS.map(lambda key: b"h%c" % key), KEYS.map(lambda key: b"g%d\n" % key))
NEUTRAL = st.sampled_from(
    [b"2", b"20", b"N0", b"(N1", b"((t1", b"\x85)0", b"(K\x07Nl0"]
)  # leave a string below them alone
PUSH = st.one_of(STRINGS, GET, st.tuples(STRINGS, PUT).map(b"".join), st.tuples(STRINGS, NEUTRAL).map(b"".join))
ASK = st.one_of(
    st.tuples(PUSH, PUSH, st.just(b"\x93")).map(b"".join),
    st.sampled_from([b"\x93", b"cmodule\nname\n", b"(N(ithing\nother\n"]),
)
USE = st.sampled_from([b")R", b")\x81", b"Nb", b"]Na", b"}NNs", b"NQ", b"0", b"2"])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PUSH, ASK, ASK, USE), min_size=3, max_size=15))
def test_every_name_that_cpython_is_asked_for_is_found(instructions):
    """Random programs over a memo of four strings: what CPython looks up before it ends or fails, the scan finds."""
    memo = b"".join(text(word) + b"q%c0" % key for key, word in enumerate(("a", "b", "c", "d")))
    program = b"\x80\x04" + memo + b"".join(instructions) + b"N."
    real = Recorder(program)
    try:
        real.load()
    except Exception as error:  # noqa: BLE001 - random programs fail in every way
        event(f"ends with {type(error).__name__}")
        finished = False
    else:
        finished = True
    event(f"asks for {min(len(set(real.asked)), 3)} names or more")
    found = examine_pickle(program)
    assert set(real.asked) <= {f"{name.module}.{name.name}" for name in found.names}
    if finished:
        assert found.end == len(program)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_the_scan_fail_in_another_way(data):
    examine_pickle(data)
    examine_pickle(b"\x80\x02" + data)


def test_what_the_scan_accepts_torch_accepts():
    """The allow-list is a part of what torch's restricted unpickler allows, so an accepted file loads."""
    from torch._weights_only_unpickler import _get_allowed_globals

    from hauberk.ingest.scan.pickle import _ALLOWED

    assert {str(name) for name in _ALLOWED} <= set(_get_allowed_globals())


def test_every_allowed_instruction_exists():
    from hauberk.ingest.scan.pickle import _INSTRUCTIONS

    assert {instruction.name for instruction in pickletools.opcodes} >= _INSTRUCTIONS
