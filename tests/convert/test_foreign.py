"""Models of other frameworks: each converted graph is held to its framework, in the isolated process as in this one."""

from __future__ import annotations

import io
import tempfile
import warnings
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import skops.io
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from hauberk.convert import convert, inside, isolated
from hauberk.convert.admission import CONTAINED
from hauberk.convert.frameworks.estimator import Estimator
from hauberk.convert.frameworks.pt2 import Program
from hauberk.convert.frameworks.torchscript import Script
from hauberk.convert.isolated import require
from hauberk.convert.messages import Array, Setup, packed, unpacked
from hauberk.errors import InputError, LimitError, MissingExtraError, RefusedModelError
from hauberk.scan import Verdict, scan_content
from hauberk.scan.content import BytesContent


def test_a_pipeline_goes_through_its_isolated_process(spam, tmp_path):
    forest = RandomForestClassifier(3, random_state=0).fit(spam.features[:, :6], spam.targets)
    skops.io.dump(forest, tmp_path / "forest.skops")
    done = convert(tmp_path / "forest.skops", tmp_path / "forest.onnx")
    assert (done.verdict, done.source.format, done.comparison.holds) == ("safe", "skops", True)
    assert done.comparison.framework.startswith("scikit-learn ")
    assert next(family for family in done.comparison.families if family.name == "thresholds").records > 100


def test_a_type_that_is_not_listed_is_refused_before_skops_sees_it(tmp_path, spam):
    model = skops.io.dumps(LogisticRegression().fit(spam.features, spam.targets))
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(model)) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"sklearn.linear_model._logistic", b"subprocess"))
    (tmp_path / "in.skops").write_bytes(changed.getvalue())
    with pytest.raises(RefusedModelError, match="the scan says"):
        convert(tmp_path / "in.skops", tmp_path / "out.onnx")
    with pytest.raises((RefusedModelError, InputError)):
        Estimator(changed.getvalue())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval()


def test_torchscript_is_converted_in_its_isolated_process_only(network, tmp_path, runs):
    torch.jit.script(network).save(tmp_path / "program.pt")
    done = convert(tmp_path / "program.pt", tmp_path / "program.onnx")
    assert (done.verdict, done.source.format, done.comparison.holds) == ("unknown", "torchscript", True)
    assert any("isolated process only" in note for note in done.notes)
    features = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    with torch.no_grad():
        truth = network(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(runs((tmp_path / "program.onnx").read_bytes(), features), truth, rtol=1e-5, atol=1e-6)


class Endless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        while bool((features == features).all()):
            features = features + 0.0
        return self.linear(features)


def test_a_program_that_never_ends_is_stopped_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "_CONVERT_SECONDS", 1.0)
    torch.jit.script(Endless()).save(tmp_path / "program.pt")
    with pytest.raises(
        LimitError, match=r"program\.pt: in its isolated process: no answer within the time limit of 1 s"
    ):
        convert(tmp_path / "program.pt", tmp_path / "program.onnx")
    assert not (tmp_path / "program.onnx").exists()


def test_an_exported_program_keeps_its_free_batch(network, tmp_path, runs):
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(network, (torch.zeros(2, 6),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "program.pt2")
    done = convert(tmp_path / "program.pt2", tmp_path / "program.onnx")
    assert (done.verdict, done.source.format, done.comparison.holds) == ("safe", "pt2", True)
    features = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    with torch.no_grad():
        truth = network(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(runs((tmp_path / "program.onnx").read_bytes(), features), truth, rtol=1e-5, atol=1e-6)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.left(left) + self.right(right), left


def stored(program):
    content = io.BytesIO()
    torch.jit.save(program, content)
    return content.getvalue()


def test_a_program_of_several_tensors_is_named():
    with pytest.raises(InputError, match=r"takes Tensor, Tensor; .* torch\.export"):
        Script(stored(torch.jit.script(Several()))).convert()


def test_a_trace_is_no_more_than_a_program():
    """torch keeps example inputs beside it, without their bytes."""
    trace = torch.jit.trace(Several(), (torch.ones(2, 4), torch.ones(2, 2)))
    report = scan_content(BytesContent(stored(trace)), path=Path("trace.pt"))
    assert report.verdict is Verdict.UNKNOWN
    assert {each.rule for each in report.findings} <= CONTAINED["torchscript"]


def test_an_exported_program_of_complex_numbers_is_named():
    class Squared(nn.Module):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            return (wave * wave.conj()).real

    content = io.BytesIO()
    torch.export.save(torch.export.export(Squared(), (torch.ones(2, 4, dtype=torch.complex64),)), content)
    with pytest.raises(InputError, match="'wave' takes complex numbers"):
        Program(content.getvalue())


def test_a_missing_framework_is_named_with_its_extra():
    with pytest.raises(MissingExtraError, match=r"needs no_such_library, .* pip install 'hauberk\[trees\]'"):
        require("no_such_library", "trees", "model.txt: comparing")


def test_what_a_library_does_not_read_is_an_error_of_ours(monkeypatch, tmp_path):
    for name in ("TORCHINDUCTOR_CACHE_DIR", "KERAS_HOME", "TF_CPP_MIN_LOG_LEVEL", "HDF5_USE_FILE_LOCKING"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with warnings.catch_warnings(), pytest.raises(InputError, match="lightgbm does not read it: LightGBMError"):
        inside.start(msgspec.msgpack.encode(Setup("lightgbm", b"tree\nno model at all\n")))


@pytest.mark.parametrize(
    "array",
    [
        Array("<f4", (2, 3), b"\0" * 23),
        Array("<f4", (-1,), b""),
        Array("O", (1,), b"\0" * 8),
        Array("no dtype", (1,), b"\0"),
        Array("<f4", (1,) * 9, b"\0" * 4),
        Array("V4", (1,), b"\0" * 4),
        Array("9" * 5000 + "f4", (1,), b"\0" * 4),
        Array("<f4", (0, 1 << 70), b""),
        Array("<f4", (0, 1 << 62, 1 << 62), b""),
    ],
)
def test_an_array_that_lies_about_itself_is_refused(array):
    with pytest.raises(InputError, match="isolated process"):
        unpacked(array)


def test_arrays_come_through_unchanged():
    for array in (np.arange(6.0).reshape(2, 3).T, np.array(True), np.zeros((0, 4), np.int8)):
        back = unpacked(packed(array))
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert np.array_equal(back, array)
