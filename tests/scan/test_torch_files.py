"""Zip archives of torch: checkpoints, TorchScript and exported programs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
import torch.package
from corpus import hostile_torch
from corpus.examined import examined, rules_of
from corpus.hostile_torch import checkpoint, program, script
from torch import nn

from hauberk.scan.archives.exported_grammar import is_arithmetic, is_guard, is_quick
from hauberk.scan.archives.torch_rules import PT2_RULES, SCRIPT_RULES, TORCH_RULES
from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination
from hauberk.scan.formats import examine
from hauberk.scan.report import Verdict

RULE_OF = {
    "torch-hostile-pickle-behind": "torch-trailing", "torch-other-root": "torch-root",
    "torch-pickle-only-in-capitals": "torch-no-pickle", "torch-storage-missing": "torch-storage",
    "torch-storage-too-short": "torch-storage", "torch-storage-longer": "torch-storage-longer",
    "torch-storage-absurd": "torch-storage", "torch-storage-outside": "torch-storage",
    "torch-storage-compressed": "torch-compressed-storage", "torch-byte-order-unknown": "torch-record",
    "torch-version-no-number": "torch-record", "script": "torchscript-code",
    "script-writes-a-file": "torchscript-operator", "script-reads-a-file": "torchscript-operator",
    "script-by-namespace": "torchscript-operator", "script-broken-by-a-line": "torchscript-operator",
    "script-broken-by-a-comment": "torchscript-operator", "script-calls-a-machine": "torchscript-operator",
    "script-reads-by-torchvision": "torchscript-operator", "script-custom-operator": "torchscript-custom-operator",
    "script-no-text": "torchscript-text", "program-calls-os": "pt2-target", "program-calls-load": "pt2-target",
    "program-calls-library": "pt2-target", "program-calls-method-caller": "pt2-target",
    "program-reads-a-file": "pt2-file-operator", "program-custom-operator": "pt2-custom-operator",
    "program-expression-is-code": "pt2-expression", "program-expression-text-in-function": "pt2-expression",
    "program-expression-attribute": "pt2-expression", "program-expression-explodes": "pt2-expression",
    "program-guard-is-code": "pt2-guard", "program-guard-ends-its-text": "pt2-guard",
    "program-guard-by-name-of-input": "pt2-guard", "program-structure-imports-factory": "pt2-structure",
    "program-structure-imports-enum": "pt2-structure", "program-structure-of-own-type": "pt2-structure-type",
    "program-weight-elsewhere": "pt2-place", "program-custom-object": "pt2-object",
    "program-native-code": "pt2-native-code", "program-two-graphs-in-one": "pt2-json", "program-no-graph": "pt2-json",
    "program-old-form": "pt2-target", "torch-storage-is-an-array-of-objects": "pickle-call",
    "torch-storage-named": "torch-storage-name", "torch-hdf5-inside": "scan-polyglot",
    "torch-package-with-own-module": "torch-package", "torch-package-and-checkpoint": "torch-package",
    "script-of-small-interpreter-alone": "torchscript-code", "script-of-torch-1": "torchscript-code",
    "program-graph-under-another-name": "pt2-target", "program-legacy-weights-called-numbers": "pt2-place",
    "program-numbers-are-an-array-of-objects": "pickle-call",
    "program-numbers-are-a-compressed-array": "pickle-call", "program-weight-of-no-bytes": "torch-storage",
    "program-expression-without-end": "pt2-long-expression", "program-structure-calls-builtin": "pt2-structure",
    "compiled-without-a-format": "pt2-native-code", "compiled-without-a-folder": "pt2-native-code",
}  # fmt: skip


@pytest.mark.parametrize(("name", "rule"), RULE_OF.items())
def test_each_lie_is_found_by_its_rule(name, rule):
    build = next(build for case, build, *_ in hostile_torch._FILES if case == name)
    assert rule in rules_of(build())


def test_every_rule_has_a_case():
    elsewhere = {"pickle-call", "scan-polyglot"}
    assert set(RULE_OF.values()) - elsewhere == {rule.id for rule in (*TORCH_RULES, *SCRIPT_RULES, *PT2_RULES)}


def test_the_honest_templates_are_safe():
    """What makes a case hostile is what it changes, nothing else."""
    assert examined(checkpoint()).findings == ()
    assert examined(program()).findings == ()
    assert [finding.rule for finding in examined(script("torch.relu(x)")).findings] == ["torchscript-code"]


def test_the_template_of_a_checkpoint_is_one_to_torch():
    loaded = torch.load(io.BytesIO(checkpoint()), weights_only=True)
    assert torch.equal(loaded["a"], torch.zeros(4))


class _Counting(BytesContent):
    read_bytes = 0

    def _read(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return super()._read(offset, length)


def test_storages_are_not_read():
    buffer = io.BytesIO()
    torch.save({str(index): torch.zeros(500_000) for index in range(20)}, buffer)
    content = _Counting(buffer.getvalue())
    examination = Examination()
    examine(content, examination)
    assert examination.verdict is Verdict.SAFE
    assert examination.facts["storages"] == 20
    assert content.size > 40_000_000
    assert content.read_bytes < 150_000


def test_a_storage_that_is_claimed_twice_counts_by_the_larger_claim():
    """Torch takes the first claim for all; neither may reach beyond the storage, nor leave a part of it unclaimed."""
    data = io.BytesIO()
    whole = torch.arange(8.0)
    torch.save({"a": whole, "b": whole[2:5]}, data)
    assert examined(data.getvalue()).verdict is Verdict.SAFE


class _Model(nn.Module):
    """A little of everything that TorchScript has: attributes, a table, a branch, a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 3)
        self.sizes = [1, 2]
        self.names = ["a"]
        self.table = {"a": torch.ones(2)}
        self.register_buffer("mean", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.layer(x)
        if y.sum() > 0:
            return y * torch.tensor([1.0, 2.0, 3.0]) + self.table["a"].sum()
        return y + self.sizes[0]


def scripted(model: nn.Module) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), buffer)
    return buffer.getvalue()


def test_torchscript_is_unknown_and_lists_its_code():
    examination = examined(scripted(_Model()))
    assert examination.format == "torchscript"
    assert [finding.rule for finding in examination.findings] == ["torchscript-code"]
    assert examination.verdict is Verdict.UNKNOWN
    assert "rnn.py" in examination.findings[0].what
    assert examination.facts["code_files"] >= 2
    assert examination.facts["code_bytes"] > 1000


class _Writer(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "flag")
        return x


def test_torchscript_that_torch_compiles_from_a_write_is_unsafe():
    assert "torchscript-operator" in rules_of(scripted(_Writer()))


def test_the_bytecode_of_the_small_interpreter_is_looked_at(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(_Writer())._save_for_lite_interpreter(str(tmp_path / "model.ptl"))
        torch.jit.script(_Model())._save_for_lite_interpreter(str(tmp_path / "honest.ptl"))
    places = {finding.where for finding in examined((tmp_path / "model.ptl").read_bytes()).findings}
    assert any("bytecode.pkl" in place for place in places)
    assert rules_of((tmp_path / "honest.ptl").read_bytes()) == {"torchscript-code"}


def test_numpy_takes_an_array_out_of_a_checkpoint():
    """Why storages that begin as arrays are looked into; with leave to unpickle, it would."""
    with np.load(io.BytesIO(hostile_torch._with_array())) as file, pytest.raises(ValueError, match="Object arrays"):
        file["m/data/0"]
    honest = io.BytesIO()
    np.save(honest, np.arange(4.0))
    stored = torch.frombuffer(bytearray(honest.getvalue()), dtype=torch.float32)
    whole = io.BytesIO()
    torch.save(stored, whole)
    assert examined(whole.getvalue()).verdict is Verdict.SAFE


def test_a_package_of_torch_brings_its_own_modules():
    data = io.BytesIO(hostile_torch._package())
    assert type(torch.package.PackageImporter(data).load_pickle("model", "model.pkl")) is dict


ARITHMETIC = [
    "s0", "s77", "u0 + 1", "2*s0", "s0//2", "Mod(s0, 8)", "Symbol('s77', positive=True, integer=True)",
    "Mul(Integer(3), Symbol('s77', positive=True, integer=True))", "FloorDiv(Symbol('s0', integer=True), Integer(2))",
    "Add(Symbol('u0', integer=True), Integer(-1))", "GreaterThan(Symbol('u0', integer=True), Integer(0))",
    "Max(1, s0)", "Eq(s0, 3)", "s0 < 10", "Pow(s0, 2)", "s0**2", "Float('1.5', precision=53)", "-s0", "true",
    "And(Ne(s0, 1), s1 >= 2)", "Max(Integer(1), FloorDiv(s0, 2))",
]  # fmt: skip
NO_ARITHMETIC = [
    "", "os", "print(1)", "__import__('os')", "s0.__class__", "s0[0]", "[s0]", "{}", "lambda: 1", "'s0'", "f'{s0}'",
    "Symbol('a b')", "Symbol(s0)", "Add('1', 2)", "Integer('9')", "eval('1')", "s0 if s0 else 1", "(s0 := 1)",
    "9**9**9", "Pow(9, Pow(9, 9))", "s0**1000000", "1 << 4000", "LShift(1, s0)", "Symbol('s0', x=__import__('os'))",
    "9" * 400, "s0 +", "Add(*s0)", "Add(**s0)", "a" * 20_000, "(" * 3000, "Float(f'1')", "sympify('1')",
    "(((9**16)**16)**16)", "Pow(Pow(9, 16), 16)", "math.pow(math.pow(9, 16), 16)",  # numbers of thousands of digits
    "Float('1.5', precision=1000000000)",
    "Symbol('s0').func", "s0; s1", "await s0", "1j", "b'x'", "None", "...",
]  # fmt: skip
GUARDS = [
    "L['x'].size()[0] == 3", "(L['x'].size()[0] // 2) <= 3*L['x'].size()[0]", "L['x'].size()[0] % 8 == 0",
    "2 <= L['x'].size()[0] and L['x'].size()[0] <= 64", "L['args'][0].size()[1] != 1", "L['x'].stride()[0] == 1",
    "L['x'].storage_offset() == 0", "L['n'] == 3", "not L['n'] == 3", "Mod(L['x'].size()[0], 2) == 0",
    "math.floor(L['n'] / 2) == 1", "L['a b'].size()[0] == 3",
]  # fmt: skip
NO_GUARDS = [
    "", "x", "L", "L['x'].data.numpy().tofile('f')", "L['x'].__class__", "L['x'].size(0)", "L['x'].size()[print()]",
    "L[\"x' + evil() + '\"].size()[0] == 1", "L['x\\n'] == 1", "M['x'] == 1", "__import__('os').system('true')",
    "L['x'].size()[0] == __import__('os')", "math.__dict__", "math.exp.__class__", "L['x'](1)", "[L['x']]",
    "torch.load('x')", "L['x'] == 'text'", "1), __import__('os'), (1",
]  # fmt: skip


@pytest.mark.parametrize("text", ARITHMETIC)
def test_arithmetic(text):
    assert is_arithmetic(text)


@pytest.mark.parametrize("text", NO_ARITHMETIC, ids=range(len(NO_ARITHMETIC)))
def test_no_arithmetic(text):
    assert not is_arithmetic(text)


QUICK = [
    *ARITHMETIC, "+".join(f"s{number}" for number in range(100)), "PythonMod(s0*s1*512, s0*s1)",
    "FloorDiv((s0 + s1)*(s2 + 1), 8)", "Max(" + ",".join(f"s{number}" for number in range(60)) + ")",
    "FloorDiv(FloorDiv(FloorDiv(s0 - 1, 2) + 1, 2) + 1, 2)", "(s0 + s1 + s2)**2",
]  # fmt: skip
SLOW = [
    "+".join(f"s{number}" for number in range(200)), "*".join(f"(s{number} + 1)" for number in range(9)),
    "PythonMod(" + "+".join(f"{number}*s{number}" for number in range(9)) + ", s1+s2+s3+s4+s5+s6+s7+s8)",
    "(s0 + s1 + s2 + s3)**16", "(s0 + s1 + s2)//(s0 + 1)*((s3 + s4)**9)",
]  # fmt: skip


@pytest.mark.parametrize("text", QUICK, ids=range(len(QUICK)))
def test_what_is_quick_to_compute(text):
    assert is_quick(text)


@pytest.mark.parametrize("text", SLOW, ids=range(len(SLOW)))
def test_what_may_take_for_ever(text):
    assert is_arithmetic(text)
    assert not is_quick(text)


@pytest.mark.parametrize("text", GUARDS)
def test_guards(text):
    assert is_guard(text)
    assert not examined(program(guards=[text])).findings


@pytest.mark.parametrize("text", NO_GUARDS, ids=range(len(NO_GUARDS)))
def test_no_guards(text):
    assert not is_guard(text)


@pytest.mark.parametrize(
    "target",
    ["torch.ops.aten.add.Tensor", "torch.ops.higher_order.cond", "_operator.getitem", "math.floor", "torch.sym_max",
     "torch.ops.prims.convert_element_type.default", "torch.ops.quantized.add.default"],
)  # fmt: skip
def test_targets(target):
    assert not examined(program(target=target)).findings


@pytest.mark.parametrize(
    "target",
    ["torch", "torch.", "torch.os.system", "torch.ops.aten", "torch.ops.aten.add.default.__class__", "_operator.call",
     "_operator.attrgetter", "math.__loader__", "torch.ops.aten.add.x\n", "torch.hub.load", "torch._C._jit_pass",
     "torch.ops.a\u0430ten.add.default", "torchvision.ops.nms", "builtins.eval", "#mine:do", "os.system"],
)  # fmt: skip
def test_no_targets(target):
    assert examined(program(target=target)).verdict is not Verdict.SAFE


def exported(change) -> bytes:
    """A real exported program with sizes that are decided when it runs, and its description changed."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    buffer = io.BytesIO()
    torch.export.save(
        torch.export.export(model, (torch.ones(4, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},)), buffer
    )
    target = io.BytesIO()
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(target, "w") as file:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("models/model.json"):
                described = json.loads(data)
                change(described)
                data = json.dumps(described).encode()
            file.writestr(entry.filename, data)
    return target.getvalue()


def test_torch_evaluates_what_an_expression_says(tmp_path):
    """Why the rule is there: in a process of its own, reading the file alone sets a flag."""

    def change(described) -> None:
        tensors = described["graph_module"]["graph"]["tensor_values"].values()
        sizes = [size["as_expr"] for tensor in tensors for size in tensor["sizes"] if "as_expr" in size]
        sizes[0]["expr_str"] = "__import__('pathlib').Path('flag').touch() or " + sizes[0]["expr_str"]

    assert examined(exported(lambda _: None)).verdict is Verdict.SAFE
    data = exported(change)
    assert rules_of(data) == {"pt2-expression"}
    (tmp_path / "model.pt2").write_bytes(data)
    code = "import torch; torch.export.load('model.pt2')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=120, capture_output=True, check=False)
    assert (tmp_path / "flag").exists()
