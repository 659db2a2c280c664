"""Checkpoints, TorchScript and exported programs of torch that are built to do more than hold weights."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE, Case
from corpus.hostile_zips import EVIL, GOOD
from corpus.zip_files import DEFLATED, Entry, archive

_WEIGHTS_ONLY = "CVE-2025-32434"
_OUT_OF_BOUNDS = "https://cwe.mitre.org/data/definitions/125.html"
_TOTAL = "https://cwe.mitre.org/data/definitions/436.html"
_LOOKUP = "https://cwe.mitre.org/data/definitions/470.html"
_CODE = "https://cwe.mitre.org/data/definitions/94.html"
_SYMPIFY = "https://docs.sympy.org/latest/modules/core.html#sympy.core.sympify.sympify"
_NATIVE = "https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html"

_FLAG = "__import__('pathlib').Path('flag').touch()"


def _state(numbers: int, key: bytes = b"0", count: int = 4) -> bytes:
    """The pickle of one tensor of so many numbers, whose storage claims `count`."""
    return (
        b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storageq\x03"
        b"ctorch\nFloatStorage\nq\x04X" + struct.pack("<L", len(key)) + key + b"q\x05X\x03\x00\x00\x00cpuq\x06J"
        + struct.pack("<l", count) + b"tq\x07QK\x00J" + struct.pack("<l", numbers)
        + b"\x85q\x08K\x01\x85q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds."
    )  # fmt: skip


def checkpoint(changed: Mapping[str, bytes | None] = {}, *, more: tuple[Entry, ...] = (), root: str = "m") -> bytes:
    """What `torch.save` writes for four numbers, with members changed, added or (`None`) left out."""
    members = {"data.pkl": _state(4), "byteorder": b"little", "data/0": bytes(16), "version": b"3\n", **changed}
    return archive([*(Entry(f"{root}/{name}", data) for name, data in members.items() if data is not None), *more])


def _deflated(name: str) -> bytes:
    whole = {"data.pkl": _state(4), "data/0": bytes(16), "version": b"3\n"}
    return archive([Entry(f"m/{key}", data, DEFLATED if key == name else 0) for key, data in whole.items()])


SCRIPT = "class M(Module):\n  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return {}\n"


def script(body: str, changed: Mapping[str, bytes | None] = {}) -> bytes:
    """A TorchScript archive whose one method gives back an expression."""
    model = b"\x80\x02c__torch__\nM\nq\x00)\x81}X\x08\x00\x00\x00training\x89sb."
    members = {
        "data.pkl": model, "code/__torch__.py": SCRIPT.format(body).encode(), "constants.pkl": b"\x80\x02).",
        "version": b"3\n", "byteorder": b"little", **changed,
    }  # fmt: skip
    return archive([Entry(f"m/{name}", data) for name, data in members.items() if data is not None])


def _node(target: str) -> dict[str, object]:
    argument = {"name": "input", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}
    return {"target": target, "inputs": [argument], "outputs": [{"as_tensor": {"name": "y"}}], "metadata": {}}


def _structure(context: object = None, kind: str = "builtins.tuple") -> str:
    return json.dumps([1, {"type": kind, "context": json.dumps(context), "children_spec": []}])


def program(
    *,
    target: str = "torch.ops.aten.relu.default",
    expression: str = "Symbol('s0', positive=True, integer=True)",
    guards: list[str] | None = None,
    structure: str | None = None,
    weight: Mapping[str, object] = {},
    members: Mapping[str, bytes] = {},
    graph: bytes | None = None,
) -> bytes:
    """An exported program of one node."""
    model = {
        "graph_module": {
            "graph": {"inputs": [], "outputs": [], "nodes": [_node(target)],
                      "sym_int_values": {"s0": {"as_expr": {"expr_str": expression, "hint": {"as_int": 2}}}}},
            "signature": {"input_specs": [], "output_specs": []},
            "module_call_graph": [{"fqn": "", "signature": {"in_spec": structure or _structure(), "inputs": []}}],
        },
        "opset_version": {"aten": 10}, "schema_version": {"major": 8, "minor": 20}, "guards_code": guards or [],
    }  # fmt: skip
    entry = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": {}, **weight}
    whole = {
        "archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little", ".data/version": b"6\n",
        "models/model.json": graph or json.dumps(model).encode(),
        "data/weights/weight_0": bytes(16),
        "data/weights/model_weights_config.json": json.dumps({"config": {"w": entry}}).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        **members,
    }  # fmt: skip
    return archive([Entry(f"m/{name}", data) for name, data in whole.items()])


def _arrays() -> bytes:
    """What numpy writes for an array of objects, whose pickle is not what it should be."""
    described = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(described)) + described + EVIL
    return data + bytes(-len(data) % 4)


def _with_array() -> bytes:
    data = _arrays()
    return checkpoint({"data.pkl": _state(4, count=len(data) // 4), "data/0": data})


def _with_hdf5() -> bytes:
    """A storage in which the library for HDF5 finds a file: it looks at byte 512, 1024, 2048 and so on."""
    members = {"data.pkl": _state(4, count=1024), "data/0": bytes(4096)}
    plain = checkpoint(members)
    start = 2048 - plain.index(bytes(4096))
    data = bytes(start) + b"\x89HDF\r\n\x1a\n"
    return checkpoint({**members, "data/0": data.ljust(4096, b"\0")})


def _compiled(root: str) -> bytes:
    """A program for AOTInductor as source: its reader compiles and loads it, and asks for no other member."""
    folder = f"{root}data/aotinductor/model/"
    settings = b'{"AOTI_DEVICE_KEY": "cpu"}'
    return archive(
        [Entry(f"{folder}c.wrapper_metadata.json", settings), Entry(f"{folder}c.wrapper.cpp", b"int answer = 42;\n")]
    )


def _package() -> bytes:
    """An object of a class that is allowed, and a module of that name which torch.package takes before Python's."""
    members = {
        ".data/extern_modules": b"", ".data/version": b"6\n", ".data/python_version": b"3.11.7",
        "model/model.pkl": b"\x80\x02ccollections\nOrderedDict\n)R.",
        "collections/__init__.py": b"OrderedDict = dict\n",
    }  # fmt: skip
    return archive([Entry(f"m/{name}", data) for name, data in members.items()])


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return [(name.removeprefix("m/"), file.read(name)) for name in file.namelist()]


_CALLS_OS = json.dumps({"graph_module": {"graph": {"nodes": [_node("torch.serialization.os.system")]}}}).encode()
_LISTED = b'{"config": {"w": {"path_name": "model.pt", "is_param": true, "use_pickle": false, "tensor_meta": {}}}}'
_SUMS = "*".join(f"(s{index}+s{index + 1}+1)" for index in range(12))
_OTHER_SUMS = "*".join(f"(s{index}+s{index + 2}+2)" for index in range(12))
_NO_NUMBERS = {"sizes": [{"as_int": 10**12}], "strides": [{"as_int": 1}], "storage_offset": {"as_int": 0}}
_OLD_SCRIPT = json.dumps({"mainModule": {"name": "M", "torchscriptArena": {"key": "code/m.txt"}}, "protoVersion": "6"})
_BREAKS = {"default_factory_module": "builtins", "default_factory_name": "breakpoint", "dict_context": []}

_FACTORY = {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}
_QUOTE = """L["x' + __import__('os').system('true') + '"].size()[0] == 3"""
_TWO_KEYS = b'{"graph_module": {}, "graph_module": {"graph": {"nodes": []}}}'

_FILES: tuple[tuple[str, Callable[[], bytes], frozenset[str], str], ...] = (
    ("torch-hostile-pickle", lambda: checkpoint({"data.pkl": EVIL}), UNSAFE, _WEIGHTS_ONLY),
    ("torch-hostile-pickle-behind", lambda: checkpoint({"data.pkl": _state(4) + EVIL}), NEVER_SAFE, _TOTAL),
    ("torch-hostile-second-pickle", lambda: checkpoint({"extra.pkl": EVIL}), UNSAFE, _TOTAL),
    ("torch-hostile-in-unused-storage", lambda: checkpoint({"data/1": EVIL}), UNSAFE, _TOTAL),
    ("torch-hostile-other-root", lambda: checkpoint(more=(Entry("other/data.pkl", EVIL),)), UNSAFE, _TOTAL),
    ("torch-other-root", lambda: checkpoint(more=(Entry("other/data.pkl", GOOD),)), NEVER_SAFE, _TOTAL),
    ("torch-hostile-first-root", lambda: archive([Entry("a/data.pkl", EVIL), Entry("m/data.pkl", GOOD)]),
     UNSAFE, _TOTAL),
    ("torch-hostile-case", lambda: checkpoint({"DATA.PKL": EVIL}), UNSAFE, _TOTAL),
    ("torch-pickle-only-in-capitals", lambda: checkpoint({"data.pkl": None, "DATA.PKL": _state(4)}),
     NEVER_SAFE, _TOTAL),
    ("torch-storage-missing", lambda: checkpoint({"data/0": None}), UNSAFE, _OUT_OF_BOUNDS),
    ("torch-storage-too-short", lambda: checkpoint({"data/0": bytes(12)}), UNSAFE, _OUT_OF_BOUNDS),
    ("torch-storage-longer", lambda: checkpoint({"data/0": bytes(64)}), NEVER_SAFE, _TOTAL),
    ("torch-storage-absurd", lambda: checkpoint({"data.pkl": _state(4, count=0x7FFFFFFF)}), UNSAFE, _OUT_OF_BOUNDS),
    ("torch-storage-negative", lambda: checkpoint({"data.pkl": _state(4, count=-4)}), NEVER_SAFE, _OUT_OF_BOUNDS),
    ("torch-view-too-large", lambda: checkpoint({"data.pkl": _state(999)}), UNSAFE, "CVE-2026-24747"),
    ("torch-storage-outside", lambda: checkpoint({"data.pkl": _state(4, b"../0")}), UNSAFE, _OUT_OF_BOUNDS),
    ("torch-storage-compressed", lambda: _deflated("data/0"), NEVER_SAFE, _TOTAL),
    ("torch-byte-order-unknown", lambda: checkpoint({"byteorder": b"middle"}), NEVER_SAFE, _TOTAL),
    ("torch-version-no-number", lambda: checkpoint({"version": EVIL}), NEVER_SAFE, _TOTAL),
    ("torch-no-pickle", lambda: checkpoint({"data.pkl": None}), NEVER_SAFE, _TOTAL),
    ("torch-pickle-cut", lambda: checkpoint({"data.pkl": _state(4)[:-9]}), NEVER_SAFE, _TOTAL),
    ("script", lambda: script("torch.relu(x)"), UNKNOWN, "https://docs.pytorch.org/docs/stable/jit.html"),
    ("script-writes-a-file", lambda: script('torch.save(x, "/tmp/flag")'), UNSAFE, _WEIGHTS_ONLY),
    ("script-reads-a-file", lambda: script('torch.from_file("/etc/passwd", False, 99)'), UNSAFE, _WEIGHTS_ONLY),
    ("script-by-namespace", lambda: script('ops.aten.from_file("/etc/passwd", False, 99)'), UNSAFE, _WEIGHTS_ONLY),
    ("script-broken-by-a-line", lambda: script('torch.\\\n  from_file("/etc/passwd", False)'), UNSAFE, _WEIGHTS_ONLY),
    ("script-broken-by-a-comment", lambda: script('torch. # x\n  save(x, "/tmp/flag")'), UNSAFE, _WEIGHTS_ONLY),
    ("script-calls-a-machine", lambda: script('ops.prim.rpc_sync("other", "f", (x,))'), UNSAFE, _WEIGHTS_ONLY),
    ("script-reads-by-torchvision", lambda: script('ops.image.read_file("/etc/passwd")'), UNSAFE, _WEIGHTS_ONLY),
    ("script-custom-operator", lambda: script("ops.mine.do(x)"), UNKNOWN, _WEIGHTS_ONLY),
    ("script-hostile-pickle", lambda: script("x", {"data.pkl": EVIL}), UNSAFE, _WEIGHTS_ONLY),
    ("script-hostile-constants", lambda: script("x", {"constants.pkl": EVIL}), UNSAFE, _WEIGHTS_ONLY),
    ("script-hostile-debug", lambda: script("x", {"code/__torch__.py.debug_pkl": EVIL}), UNSAFE, _WEIGHTS_ONLY),
    ("script-hostile-extra", lambda: script("x", {"extra/notes.txt": EVIL}), UNSAFE, _WEIGHTS_ONLY),
    ("script-no-text", lambda: script("x", {"code/__torch__.py": b"\xff\xfe\x00"}), NEVER_SAFE, _WEIGHTS_ONLY),
    ("program-calls-os", lambda: program(target="torch.serialization.os.system"), UNSAFE, _LOOKUP),
    ("program-calls-load", lambda: program(target="torch.load"), UNSAFE, _LOOKUP),
    ("program-calls-library", lambda: program(target="torch.ops.load_library"), UNSAFE, _LOOKUP),
    ("program-calls-method-caller", lambda: program(target="_operator.methodcaller"), UNSAFE, _LOOKUP),
    ("program-reads-a-file", lambda: program(target="torch.ops.aten.from_file.default"), UNSAFE, _LOOKUP),
    ("program-custom-operator", lambda: program(target="torch.ops.mine.do.default"), UNKNOWN, _LOOKUP),
    ("program-expression-is-code", lambda: program(expression=_FLAG), UNSAFE, _SYMPIFY),
    ("program-expression-text-in-function", lambda: program(expression=f'Add("{_FLAG}", 1)'), UNSAFE, _SYMPIFY),
    ("program-expression-attribute", lambda: program(expression="Symbol('s0').__class__"), UNSAFE, _SYMPIFY),
    ("program-expression-explodes", lambda: program(expression="9**9**9**9"), UNSAFE, _SYMPIFY),
    ("program-guard-is-code", lambda: program(guards=[_FLAG]), UNSAFE, _CODE),
    ("program-guard-ends-its-text", lambda: program(guards=[_QUOTE]), UNSAFE, _CODE),
    ("program-guard-by-name-of-input", lambda: program(guards=["L['x'].size()[0] == 3"],
     structure=_structure([_FLAG], "builtins.dict")), UNSAFE, _CODE),
    ("program-structure-imports-factory", lambda: program(structure=_structure(_FACTORY, "collections.defaultdict")),
     UNSAFE, _LOOKUP),
    ("program-structure-imports-enum", lambda: program(structure=_structure({"__enum__": True, "fqn": "antigravity:x",
     "name": "y"}, "builtins.dict")), UNSAFE, _LOOKUP),
    ("program-structure-of-own-type", lambda: program(structure=_structure(None, "mine.Thing")), UNKNOWN, _LOOKUP),
    ("program-weight-is-a-pickle", lambda: program(weight={"use_pickle": True},
     members={"data/weights/weight_0": EVIL}), UNSAFE, _WEIGHTS_ONLY),
    ("program-weight-elsewhere", lambda: program(weight={"path_name": "../../x"}), NEVER_SAFE, _TOTAL),
    ("program-opaque-object", lambda: program(members={"data/constants/opaque_obj_0": EVIL,
     "data/constants/model_constants_config.json": b'{"config": {"a": {"path_name": "opaque_obj_0"}}}'}),
     UNSAFE, _WEIGHTS_ONLY),
    ("program-custom-object", lambda: program(members={"data/constants/custom_obj_0": GOOD,
     "data/constants/model_constants_config.json": b'{"config": {"a": {"path_name": "custom_obj_0"}}}'}),
     NEVER_SAFE, _WEIGHTS_ONLY),
    ("program-hostile-sample", lambda: program(members={"data/sample_inputs/model.pt": checkpoint({"data.pkl": EVIL})}),
     UNSAFE, _WEIGHTS_ONLY),
    ("program-legacy-weights", lambda: program(members={"data/weights/model.pt": EVIL}), UNSAFE, _WEIGHTS_ONLY),
    ("program-native-code", lambda: program(members={"data/aotinductor/model/x.so": b"\x7fELF"}), UNSAFE, _NATIVE),
    ("program-two-graphs-in-one", lambda: program(graph=_TWO_KEYS), NEVER_SAFE, _TOTAL),
    ("program-no-graph", lambda: program(graph=b"[" * 100_000), NEVER_SAFE, _TOTAL),
    ("torch-storage-is-an-array-of-objects", _with_array, UNSAFE, _TOTAL),
    ("torch-storage-named", lambda: checkpoint({"data.pkl": _state(4, b"x.py"), "data/0": None,
     "data/x.py": bytes(16)}), NEVER_SAFE, _TOTAL),
    ("torch-hdf5-inside", _with_hdf5, UNSAFE, _TOTAL),
    ("torch-package-with-own-module", _package, UNSAFE, "https://docs.pytorch.org/docs/stable/package.html"),
    ("torch-package-and-checkpoint", lambda: checkpoint({".data/extern_modules": b""}), UNSAFE, _TOTAL),
    ("script-of-small-interpreter-alone", lambda: script("x", {"constants.pkl": None, "code/__torch__.py": None,
     "bytecode.pkl": b"\x80\x02K\x08\x85."}), NEVER_SAFE, _WEIGHTS_ONLY),
    ("script-of-torch-1", lambda: archive([Entry("m/model.json", _OLD_SCRIPT.encode()), Entry("m/version", b"1\n"),
     Entry("m/code/m.txt", b"op_version_set = 1\n")]), NEVER_SAFE, _WEIGHTS_ONLY),
    ("program-graph-under-another-name", lambda: program(members={"models/other.yaml": _CALLS_OS}), UNSAFE, _LOOKUP),
    ("program-legacy-weights-called-numbers", lambda: program(members={"data/weights/model.pt":
     checkpoint({"data.pkl": EVIL}), "data/weights/z_config.json": _LISTED}), UNSAFE, _WEIGHTS_ONLY),
    ("program-numbers-are-an-array-of-objects", lambda: program(members={"data/weights/weight_0": _arrays()}),
     UNSAFE, _TOTAL),
    ("program-numbers-are-a-compressed-array", lambda: archive([Entry(f"m/{name}", data, DEFLATED) for name, data in
     _members(program(members={"data/weights/weight_0": _arrays()}))]), UNSAFE, _TOTAL),
    ("program-weight-of-no-bytes", lambda: program(weight={"tensor_meta": _NO_NUMBERS},
     members={"data/weights/weight_0": b""}), UNSAFE, "https://cwe.mitre.org/data/definitions/789.html"),
    ("program-expression-without-end", lambda: program(expression=f"PythonMod({_SUMS}, 3*({_OTHER_SUMS}))"),
     NEVER_SAFE, "https://cwe.mitre.org/data/definitions/1333.html"),
    ("program-structure-calls-builtin", lambda: program(structure=_structure(_BREAKS, "collections.defaultdict")),
     UNSAFE, _LOOKUP),
    ("compiled-without-a-format", lambda: _compiled("m/"), UNSAFE, _NATIVE),
    ("compiled-without-a-folder", lambda: _compiled(""), UNSAFE, _NATIVE),
    ("program-old-form", lambda: archive([Entry("serialized_exported_program.json",
     json.dumps({"nodes": [_node("torch.os.system")]}).encode()), Entry("version", b"8.8")]), UNSAFE, _LOOKUP),
)  # fmt: skip


def _maker(name: str, build: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"{name}.pt"
        path.write_bytes(build())
        return path

    return make


CASES = tuple(Case(name, _maker(name, build), expected, about) for name, build, expected, about in _FILES)
