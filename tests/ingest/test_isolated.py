"""The process that parses: what is hostile in there stays in there, and this one reads a line about it."""

from __future__ import annotations

import ast
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hauberk.errors import RefusedModelError
from hauberk.ingest import isolated, load_model
from hauberk.ingest.private import PrivateCopy, anonymous
from hauberk.ingest.weights import read_checkpoint, read_safetensors
from hauberk.models import TabularMLP
from hauberk.sandbox import landlock, seccomp
from hauberk.sandbox.forks import ForkServer
from hauberk.sandbox.limits import GIBIBYTE, Check, Limits, offered

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "hauberk"
WALLS = Limits(read_only=(), network=False, system_calls="compute")

needs_walls = pytest.mark.skipif(offered(WALLS)[1] != (), reason=f"this kernel cannot refuse {offered(WALLS)[1]}")


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[PrivateCopy]:
    torch.save({"weight": torch.arange(12.0).reshape(3, 4)}, tmp_path / "model.pt")
    with PrivateCopy(tmp_path / "model.pt") as made:
        yield made


@pytest.fixture(scope="class")
def hostile() -> Iterator[None]:
    """The parser of these tests instead of the real one, in a server of its own."""
    isolated.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.setattr(isolated, "_READER", "handlers")
        yield
    isolated.stop()


def server(imports: tuple[str, ...] = ()) -> ForkServer:
    return isolated.server_for(imports)


def ask(function: str, copy: PrivateCopy, question: bytes = b"") -> bytes:
    return isolated.ask(function, question, copy, memory=GIBIBYTE, imports=())


class TestHostile:
    @pytest.mark.parametrize(
        ("function", "says"),
        [
            ("die", "the process that reads it failed.*SIGSEGV"),
            ("fail", r"failed.*\(ZeroDivisionError\)"),
            ("take_memory", "stopped by a limit: out of memory"),
            ("sleep", r"stopped by a limit: no answer within the time limit of 0\.5"),
            ("spin", r"stopped by a limit: no answer within the time limit of 0\.5"),
        ],
    )
    def test_a_parser_that_breaks_is_one_line_and_nothing_is_left(
        self, hostile: None, copy: PrivateCopy, monkeypatch: pytest.MonkeyPatch, function: str, says: str
    ) -> None:
        monkeypatch.setattr(isolated, "_SECONDS", 0.5 if function in {"sleep", "spin"} else 60.0)
        with pytest.raises(RefusedModelError, match=says) as raised:
            ask(function, copy)
        message = str(raised.value)
        assert message.isprintable()
        assert "secret" not in message
        assert message.startswith(f"{copy.source}: refused: ")
        started = server()
        assert Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text() == ""
        assert ask("lie", copy, b"alive") == b"alive"

    @needs_walls
    def test_a_parser_that_was_taken_over_gets_nowhere(self, hostile: None, copy: PrivateCopy, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("a secret")
        assert ask("escape", copy, os.fsencode(tmp_path)) == b"[]"
        assert (tmp_path / "secret").exists()
        assert not (tmp_path / "flag").exists()

    def test_it_cannot_change_what_was_scanned(self, hostile: None, copy: PrivateCopy) -> None:
        assert ask("spoil_the_copy", copy) == b"[]"

    def test_it_has_its_connection_and_what_it_was_handed(self, hostile: None, copy: PrivateCopy) -> None:
        assert ask("descriptors_of", copy) == b"s"

    def test_it_cannot_take_memory_that_is_shared(self, hostile: None, copy: PrivateCopy) -> None:
        with pytest.raises(RefusedModelError, match="the worker failed"):
            ask("take_shared_memory", copy)

    @needs_walls
    def test_it_cannot_seal_its_output(self, hostile: None, copy: PrivateCopy) -> None:
        output = anonymous(in_memory=True)
        try:
            answer = isolated.ask(
                "seal_the_output", b"", copy, memory=GIBIBYTE, imports=(), output=output, most_output=100
            )
        finally:
            os.close(output)
        assert answer == b"[]"

    def test_an_output_that_cannot_be_sealed_is_refused(
        self, copy: PrivateCopy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def seal(*_: object, output: int, **__: object) -> bytes:
            fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
            return b""

        monkeypatch.setattr("hauberk.ingest.weights.ask", seal)
        with pytest.raises(RefusedModelError, match="did not leave its output to us"):
            read_checkpoint(copy)

    def test_an_answer_that_is_longer_than_any_table_of_the_file_is_not_taken(
        self, hostile: None, copy: PrivateCopy
    ) -> None:
        with pytest.raises(RefusedModelError, match="an answer of 5000000 bytes"):
            ask("talk_long", copy)

    def test_nor_is_one_that_a_large_file_could_have(self, hostile: None, tmp_path: Path) -> None:
        with (tmp_path / "large").open("wb") as file:
            file.truncate(64 << 20)
        with PrivateCopy(tmp_path / "large") as large:
            with pytest.raises(RefusedModelError, match="an answer of 70000000 bytes, at most 67108864 are taken"):
                ask("talk_long", large, b"70000000")
            with pytest.raises(RefusedModelError, match="at most 4194304 are taken"):
                isolated.ask("talk_long", b"", large, memory=GIBIBYTE, imports=(), longest_answer=4 << 20)

    def test_it_cannot_fill_the_memory_through_the_output(
        self, hostile: None, copy: PrivateCopy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "hauberk.ingest.weights.ask",
            lambda _, *rest, **options: isolated.ask("fill_the_output", *rest, **{**options, "imports": []}),
        )
        with pytest.raises(RefusedModelError, match=r"SIGXFSZ|OSError"):
            read_checkpoint(copy)

    def test_what_is_no_table_is_refused(
        self, hostile: None, copy: PrivateCopy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "hauberk.ingest.weights.ask",
            lambda _, *rest, **options: isolated.ask("babble", *rest, **{**options, "imports": []}),
        )
        with pytest.raises(RefusedModelError, match="the process that reads it answered nonsense"):
            read_checkpoint(copy)


def mappings() -> list[tuple[int, int]]:
    """Where this process has mapped sealed copies."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "memfd:hauberk-model" in line:
            start, _, end = line.split()[0].partition("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def private_memory() -> int:
    """Bytes of memory that belong to no file: what a copy of a tensor would take."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


BIG = 16 << 20  # floats


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_tensors_are_where_the_file_was_copied_to_and_nowhere_else(tmp_path: Path, name: str) -> None:
    save = torch.save if name == "a.pt" else safetensors.torch.save_file
    save({"big": torch.ones(BIG), "small": torch.arange(3.0)}, tmp_path / name)
    read = read_checkpoint if name == "a.pt" else read_safetensors
    with PrivateCopy(tmp_path / name) as copy:
        before = private_memory()
        state = read(copy)
        assert float(state["big"].sum()) == BIG
        assert private_memory() - before < 4 * BIG // 4
    assert any(start <= state["big"].data_ptr() < end for start, end in mappings())
    assert torch.equal(state["small"], torch.arange(3.0))


def test_a_module_that_is_built_from_a_card_has_the_mapped_tensors_themselves(tmp_path: Path) -> None:
    from hauberk.ingest.weights import fit

    torch.save(TabularMLP(3, (4,)).state_dict(), tmp_path / "a.pt")
    with torch.device("meta"):
        module = TabularMLP(3, (4,))
    with PrivateCopy(tmp_path / "a.pt") as copy:
        fit(module, read_checkpoint(copy), "a.pt")
    for parameter in module.parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in mappings())


def test_writing_into_a_tensor_changes_neither_copy_nor_other_readers(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3000)}, tmp_path / "a.pt")
    with PrivateCopy(tmp_path / "a.pt") as copy:
        first, second = read_checkpoint(copy), read_checkpoint(copy)
        before = copy.read(0, copy.size)
        first["weight"].zero_()
        assert copy.read(0, copy.size) == before
    assert float(second["weight"].sum()) == 3000


@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("in_memory", [None, 0], ids=["in memory", "on disk"])
def test_every_form_of_a_tensor_comes_back_as_it_was(tmp_path: Path, new: bool, in_memory: int | None) -> None:
    base = torch.arange(60.0).reshape(5, 12)
    state = {
        "whole": base,
        "tied": base,
        "view": base[1:3, 2:9:2],
        "turned": base.t(),
        "expanded": torch.ones(1).expand(4, 7),
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "halves": torch.ones(7).to(torch.bfloat16),
        "bytes": torch.arange(5).to(torch.uint8),
        "flags": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    with PrivateCopy(tmp_path / "a.pt", in_memory=in_memory) as copy:
        found = read_checkpoint(copy)
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor)
        assert (found[name].dtype, found[name].stride()) == (tensor.dtype, tensor.stride())
    assert found["tied"].data_ptr() == found["whole"].data_ptr()
    found["tied"][0, 0] = 99
    assert found["whole"][0, 0] == 99 == found["turned"][0, 0]


def test_a_safetensors_file_whose_tensors_lie_at_odd_places_is_read(tmp_path: Path) -> None:
    """The library aligns them; the format does not ask for it."""
    header = (
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F64","shape":[1],"data_offsets":[8,16]}}'
    )
    header += b" " * (3 - len(header) % 8)
    data = torch.tensor([1.5, 2.5]).numpy().tobytes() + torch.tensor([3.5], dtype=torch.float64).numpy().tobytes()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + data)
    with PrivateCopy(tmp_path / "a") as copy:
        state = read_safetensors(copy)
    assert torch.equal(state["a"], torch.tensor([1.5, 2.5]))
    assert torch.equal(state["b"], torch.tensor([3.5], dtype=torch.float64))


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, str]:
    torch.save(TabularMLP(3, (4,)).state_dict(), tmp_path / "a.pt")
    (tmp_path / "nets.py").write_text(
        "from hauberk.models import TabularMLP\ndef make():\n    return TabularMLP(3, (4,))\n"
    )
    return tmp_path / "a.pt", f"{tmp_path / 'nets.py'}:make"


def scanner() -> ForkServer:
    return server(isolated.SCANNER)


def test_a_server_serves_all_files_of_a_process_and_several_threads(model: tuple[Path, str]) -> None:
    path, arch = model
    load_model(path, arch=arch)
    servers = scanner().pid, server(isolated.TORCH).pid
    with ThreadPoolExecutor(4) as pool:
        digests = {each.artifact.digest for each in pool.map(lambda _: load_model(path, arch=arch), range(8))}
    assert len(digests) == 1
    assert (scanner().pid, server(isolated.TORCH).pid) == servers


@pytest.mark.parametrize("imports", [isolated.SCANNER, isolated.TORCH, isolated.ONNX], ids=["scanner", "torch", "onnx"])
def test_a_server_has_one_thread_whatever_it_imports(copy: PrivateCopy, imports: tuple[str, ...]) -> None:
    """A fork copies one thread, and the locks of all."""
    isolated.ask("scan", os.fsencode(copy.source), copy, memory=GIBIBYTE, imports=imports)
    assert len(list(Path(f"/proc/{server(imports).pid}/task").iterdir())) == 1


def test_nothing_imports_torch_to_scan(copy: PrivateCopy) -> None:
    isolated.scan(copy)
    maps = Path(f"/proc/{scanner().pid}/maps").read_text()
    assert "torch" not in maps
    assert "onnx" not in maps


def test_a_server_that_was_killed_is_replaced(copy: PrivateCopy) -> None:
    killed = scanner()
    os.kill(killed.pid, 9)
    killed._process.wait()
    assert isolated.scan(copy).verdict == "safe"
    assert scanner().pid != killed.pid


def test_a_server_outlives_the_thread_that_started_it(copy: PrivateCopy) -> None:
    isolated.stop()
    thread = threading.Thread(target=isolated.scan, args=(copy,))
    thread.start()
    thread.join()
    started = scanner().pid
    time.sleep(0.1)
    assert isolated.scan(copy).verdict == "safe"
    assert scanner().pid == started


def test_a_forked_process_starts_its_own(copy: PrivateCopy) -> None:
    isolated.scan(copy)
    ours = scanner().pid
    child = os.fork()
    if child == 0:
        try:
            code = 0 if isolated.scan(copy).verdict == "safe" and scanner().pid != ours else 1
            isolated.stop()
            os._exit(code)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert isolated.scan(copy).verdict == "safe"
    assert scanner().pid == ours


def test_a_system_that_offers_no_walls_is_told_once_and_files_are_read(
    copy: PrivateCopy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    isolated.stop()
    isolated._shared.forget()
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(seccomp, "available", lambda: False)
    try:
        assert isolated.scan(copy).verdict == "safe"
        isolated.stop()
        assert isolated.scan(copy).verdict == "safe"
    finally:
        isolated.stop()
    (warning,) = [record.getMessage() for record in caplog.records if "does not fully close off" in record.message]
    assert "opening files (no Landlock)" in warning
    assert "sockets (no filter of system calls)" in warning


def test_a_limit_that_does_not_bite_is_told(
    copy: PrivateCopy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Leaky(ForkServer):
        checks = ()

        def __init__(self, limits: Limits, imports: Sequence[str] = ()) -> None:
            super().__init__(limits, imports)
            self.checks = (*self.checks, Check("network", holds=False, detail="a UDP socket is still possible"))

    isolated.stop()
    isolated._shared.forget()
    monkeypatch.setattr(isolated, "ForkServer", Leaky)
    isolated.scan(copy)
    isolated.stop()
    assert any("network (a UDP socket is still possible)" in record.getMessage() for record in caplog.records)


# No switch that runs a pickle's code: calls are read from the source, so that no new one slips in.


def calls() -> Iterator[tuple[str, ast.Call]]:
    words = ("load", "Unpickler", "weights_only", "allow_pickle", "trust_remote_code")
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if any(word in text for word in words) else ():
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


def keyword(call: ast.Call, name: str) -> object:
    for each in call.keywords:
        if each.arg == name:
            return each.value.value if isinstance(each.value, ast.Constant) else "computed"
    return None


def test_every_torch_load_is_restricted_and_nothing_asks_for_the_opposite() -> None:
    loads = 0
    for where, call in calls():
        name = ast.unparse(call.func)
        assert keyword(call, "weights_only") in {None, True}, where
        assert keyword(call, "allow_pickle") in {None, False}, where
        assert keyword(call, "trust_remote_code") in {None, False}, where
        if name == "torch.load":
            loads += 1
            assert keyword(call, "weights_only") is True, where
            assert keyword(call, "map_location") == "cpu", where
        assert name not in {
            "pickle.load",
            "pickle.loads",
            "pickle.Unpickler",
            "joblib.load",
            "dill.load",
            "cloudpickle.load",
        }, where
    assert loads
