"""`hauberk optimize`: what it prints, what it writes, and how it leaves."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import parser

from hauberk.artifact import Artifact
from hauberk.cli import main
from hauberk.graph.passes import PASSES
from hauberk.recipe import Context, Contract, Exact, Step

HEADER = '<ir_version: 10, opset_import: ["" : 20]> g '
PLAIN = "(float[n,4] x) => (float[n,4] y) { a = Relu(x) b = Relu(x) y = Add(a, b) }"
RANDOM = "(float[n,4] x) => (float[n,4] y) { a = RandomNormalLike(x) i = Identity(a) y = Add(i, x) }"


@pytest.fixture
def file_of(tmp_path):
    def save(text: str, name: str = "in.onnx"):
        onnx.save(parser.parse_model(HEADER + text), tmp_path / name)
        return str(tmp_path / name)

    return save


def test_passes_nodes_and_outcomes_are_shown(file_of, tmp_path, capsys):
    source = file_of(PLAIN)
    assert main(["optimize", source, str(tmp_path / "out.onnx"), "--timing", "0.02"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["pass", "nodes", "before", "after", "outcome"]
    assert next(line for line in lines if line.startswith("clean-up")).split()[1:] == ["3", "2", "kept"]
    assert lines[-1].startswith("latency   ")
    assert len(onnx.load(tmp_path / "out.onnx").graph.node) == 2


def test_passes_that_found_nothing_to_do_share_a_line(file_of, tmp_path, capsys):
    arguments = ["optimize", file_of(PLAIN), str(tmp_path / "out.onnx"), "--timing", "0.02"]
    assert main([*arguments, "--passes", "clean-up,merge-casts,fuse-gelu"]) == 0
    header, row, idle, empty, *_ = capsys.readouterr().out.splitlines()
    assert (header.split()[0], row.split()[0], empty) == ("pass", "clean-up", "")
    assert idle == "2 other passes found nothing to do: merge-casts, fuse-gelu"
    assert main([*arguments, "--passes", "merge-casts"]) == 0
    assert capsys.readouterr().out.startswith("1 pass found nothing to do: merge-casts\n\n")


def test_explain_shows_every_pass(file_of, tmp_path, capsys):
    arguments = ["--passes", "clean-up,merge-casts", "--timing", "0.02", "--explain"]
    assert main(["optimize", file_of(PLAIN), str(tmp_path / "out.onnx"), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["clean-up", "merge-casts"]
    assert "nothing to do" in lines[2]


def test_json_is_one_document_with_both_digests(file_of, tmp_path, capsys):
    source = file_of(PLAIN)
    assert main(["optimize", source, str(tmp_path / "out.onnx"), "--json", "--explain", "--timing", "0.02"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["source"]["nodes"] == 3
    assert len(document["result"]["sha256"]) == 64
    assert document["passes"][0]["outcome"] == "kept"
    assert len(document["passes"]) == len(PASSES)


def test_a_graph_that_cannot_be_verified_is_left_alone_with_3(file_of, tmp_path, capsys):
    source = file_of(RANDOM)
    assert main(["optimize", source, str(tmp_path / "out.onnx"), "--passes", "clean-up", "--timing", "0.02"]) == 3
    out = capsys.readouterr().out
    assert "clean-up: undone: cannot be verified: RandomNormalLike (node 'a') draws random numbers" in out
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.onnx", "out.onnx"], "missing.onnx: cannot read the model: no such file or directory"),
        (["text.onnx", "out.onnx"], "text.onnx: not a model that Hauberk reads"),
        (["in.onnx", "nowhere/out.onnx"], "the folder nowhere does not exist"),
        (["in.onnx", "out.onnx", "--passes", "x"], "--passes: 'x' is no pass"),
        (["in.onnx", "out.onnx", "--data", "none.npz"], "none.npz: cannot read: no such file or directory"),
        (["in.onnx", "out.onnx", "--seed", "-1"], "--seed: -1 is below 0"),
        (["in.onnx", "out.onnx", "--timing", "-1"], "--timing is -1; seconds above 0 are needed"),
        (["in.onnx", "out.onnx", "--timing", "nan"], "--timing is nan; seconds above 0 are needed"),
        (["in.onnx", "out.onnx", "--data", "holes.npz"], "holes.npz: 'x' is nan at [3, 2]; give finite numbers"),
        ([".", "out.onnx"], "a folder; name an .onnx file"),
        (["cut.onnx", "out.onnx"], "cut.onnx: refused, nobody can say that it is safe: a field of"),
    ],
)
def test_bad_input_is_one_line_and_2(file_of, tmp_path, monkeypatch, capsys, arguments, says):
    file_of(PLAIN)
    (tmp_path / "text.onnx").write_text("This is no model.")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "in.onnx").read_bytes()[:-9])
    holes = np.ones((5, 4), np.float32)
    holes[3, 2] = np.nan
    np.savez(tmp_path / "holes.npz", x=holes)
    monkeypatch.chdir(tmp_path)
    assert main(["optimize", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err.replace(f"{tmp_path}/", "")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_may_be_written_over_itself(file_of, tmp_path):
    source = file_of(PLAIN)
    assert main(["optimize", source, source, "--passes", "clean-up", "--timing", "0.02"]) == 0
    assert len(onnx.load(source).graph.node) == 2


def test_a_latency_names_the_records_of_a_call(file_of, tmp_path, capsys):
    arguments = ["optimize", file_of(PLAIN), str(tmp_path / "out.onnx"), "--passes", "clean-up", "--timing", "0.02"]
    assert main(arguments) == 0
    assert " with one record a call, " in capsys.readouterr().out
    assert main([*arguments, "--fix-batch", "256"]) == 0
    assert " with 256 records a call, " in capsys.readouterr().out
    assert main([*arguments, "--fix-batch", "256", "--json"]) == 0
    for measured in json.loads(capsys.readouterr().out)["latency"]["measurements"].values():
        assert {figure["note"] for figure in measured.values()} == {"256 records a call"}


class There(Step, frozen=True, kw_only=True, tag="there"):
    """Renames a tensor, and `Back` renames it back."""

    names: tuple[str, str] = ("a", "other")

    @property
    def contract(self) -> Contract:
        return Exact()

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        old, new = self.names
        renamed = onnx.load_from_string(artifact.model)
        for node in renamed.graph.node:
            for tensors in (node.input, node.output):
                tensors[:] = [new if name == old else name for name in tensors]
        return dataclasses.replace(artifact, model=renamed.SerializeToString())


class Back(There, frozen=True, kw_only=True, tag="back"):
    names: tuple[str, str] = ("other", "a")


def test_a_result_that_is_the_original_is_not_called_faster(file_of, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hauberk.optimisation.choose", lambda names, fix_batch: (There(), Back()))
    source = file_of(PLAIN)
    assert main(["optimize", source, str(tmp_path / "out.onnx"), "--timing", "0.02"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["kept", "kept"]
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    assert lines[-1] == "latency   unchanged: the result is the original, byte for byte"
