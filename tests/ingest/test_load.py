"""Loading a model: each format, each refusal, and nothing that runs."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
import zipfile

import msgspec
import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest import find_card, load_model
from hauberk.models import ModelCard, TabularMLP, write_card
from hauberk.schema import Decision, NumericFeature, Preprocessing, RecordSchema, Scaling

ARCHITECTURE = """
from hauberk.models import TabularMLP

def make():
    return TabularMLP(3, (4,))
"""


@pytest.fixture
def module():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TabularMLP(3, (4,)).eval()


@pytest.fixture
def arch(tmp_path):
    (tmp_path / "nets.py").write_text(ARCHITECTURE)
    return f"{tmp_path / 'nets.py'}:make"


def card_for(path, **changes) -> ModelCard:
    fields = {
        "architecture": "tabular-mlp",
        "parameters": {"inputs": 3, "widths": [4], "outputs": 2},
        "schema": RecordSchema(tuple(NumericFeature(name=name, low=0.0, high=1.0) for name in "abc")),
        "preprocessing": Preprocessing((Scaling(False, 0.0, 1.0),) * 3),
        "decision": Decision(),
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return ModelCard(**{**fields, **changes})


def save(module, path):
    """Save by the ending of the name."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path)
    return path


def same(loaded, module) -> bool:
    features = torch.randn(5, 3)
    return torch.equal(loaded.artifact.module(features), module(features))


@pytest.mark.parametrize("name", ["detector.safetensors", "detector.pt", "detector.pth"])
def test_a_model_with_a_card_beside_it_is_loaded(tmp_path, module, name):
    path = save(module, tmp_path / name)
    write_card(card_for(path), tmp_path / "detector.json")
    loaded = load_model(path)
    assert isinstance(loaded.artifact, TorchArtifact)
    assert same(loaded, module)
    assert loaded.card == card_for(path)


@pytest.mark.parametrize("name", ["detector.safetensors", "detector.pt"])
def test_a_model_with_an_architecture_of_ones_own_is_loaded(tmp_path, module, arch, name):
    loaded = load_model(save(module, tmp_path / name), arch=arch, inputs=3)
    assert same(loaded, module)
    assert loaded.card is None


def test_the_folder_that_train_writes_is_loaded(tmp_path, module):
    save(module, tmp_path / "detector.safetensors")
    write_card(card_for(tmp_path / "detector.safetensors"), tmp_path / "detector.json")
    assert same(load_model(tmp_path), module)


def test_a_card_elsewhere_is_named(tmp_path, module):
    path = save(module, tmp_path / "a.pt")
    write_card(card_for(path), tmp_path / "b.json")
    assert load_model(path, card=tmp_path / "b.json").card is not None


def test_where_a_card_is_looked_for(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    assert find_card(tmp_path / "a.pt") == tmp_path / "a.json"
    assert find_card(tmp_path / "b.pt") is None
    assert find_card(tmp_path) == tmp_path / "detector.json"
    assert find_card(tmp_path / "a.pt", tmp_path / "other.json") == tmp_path / "other.json"


def test_content_decides_not_the_name(tmp_path, module, arch):
    path = save(module, tmp_path / "a.safetensors").rename(tmp_path / "a.pt")
    assert same(load_model(path, arch=arch), module)


def test_admission_is_the_first_entry_of_the_history(tmp_path, module, arch):
    path = save(module, tmp_path / "detector.pt")
    artifact = load_model(path, arch=arch).artifact
    (record,) = artifact.history
    assert artifact.origin == record.before == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.after == artifact.digest
    assert (record.step, record.kept, record.verdict) == ("admit", True, None)
    assert record.parameters == {
        "file": "detector.pt",
        "format": "pytorch",
        "architecture": {
            "file": "nets.py",
            "callable": "make",
            "sha256": hashlib.sha256(ARCHITECTURE.encode()).hexdigest(),
        },
    }
    assert str(tmp_path) not in msgspec.json.encode(record).decode()


def test_safetensors_and_pytorch_files_of_one_model_have_one_digest(tmp_path, module, arch):
    digests = {
        load_model(save(module, tmp_path / name), arch=arch).artifact.digest for name in ("a.pt", "b.safetensors")
    }
    assert len(digests) == 1


def test_weights_without_card_or_architecture_say_what_is_missing(tmp_path, module):
    with pytest.raises(InputError, match=r"give a model card \(a\.json beside the file, or --card\) or --arch"):
        load_model(save(module, tmp_path / "a.pt"))


def test_a_card_of_another_file_is_refused(tmp_path, module):
    path = save(module, tmp_path / "a.pt")
    write_card(card_for(path, weights_sha256="00" * 32), tmp_path / "a.json")
    with pytest.raises(RefusedModelError, match="do not belong together"):
        load_model(path)


def test_a_card_whose_schema_has_another_width_is_refused(tmp_path, module):
    path = save(module, tmp_path / "a.pt")
    schema = RecordSchema((NumericFeature(name="a", low=0.0, high=1.0),))
    card = card_for(path, schema=schema, preprocessing=Preprocessing((Scaling(False, 0.0, 1.0),)))
    write_card(card, tmp_path / "a.json")
    with pytest.raises(InputError, match="the model takes 3 features, its model card's schema makes 1"):
        load_model(path)


def test_a_card_with_another_number_of_logits_is_refused(tmp_path, module):
    path = save(module, tmp_path / "a.pt")
    write_card(card_for(path, decision=Decision(outputs=1)), tmp_path / "a.json")
    with pytest.raises(InputError, match="the model card says 1 logits, the model gives 2"):
        load_model(path)


def test_a_card_cannot_ask_for_more_memory_than_the_file_has(tmp_path, module):
    """Sixteen terabytes by the card: the shapes differ before a byte of them is allocated."""
    path = save(module, tmp_path / "a.pt")
    write_card(card_for(path, parameters={"inputs": 3, "widths": [1 << 20] * 4}), tmp_path / "a.json")
    with pytest.raises(InputError, match="do not fit the architecture"):
        load_model(path)


def test_neither_can_card_and_file_together(tmp_path):
    """Sixteen gigabytes of the right shapes in a file of a few kilobytes, which holds each number once."""
    wide = {"inputs": 3, "widths": [1 << 16, 1 << 16]}
    with torch.device("meta"):
        shapes = {name: each.shape for name, each in TabularMLP(3, (1 << 16, 1 << 16)).state_dict().items()}
    path = tmp_path / "a.pt"
    torch.save({name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}, path)
    write_card(card_for(path, parameters=wide), tmp_path / "a.json")
    with pytest.raises(RefusedModelError, match="its tensors repeat what they hold"):
        load_model(path)


def test_a_file_without_tensors_does_not_fit(tmp_path, arch):
    safetensors.torch.save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"'layers\.0\.weight' is missing"):
        load_model(tmp_path / "a.safetensors", arch=arch)


def test_data_of_another_width_is_named(tmp_path, module, arch):
    path = save(module, tmp_path / "a.pt")
    with pytest.raises(InputError, match="the model takes 3 features, the data has 41"):
        load_model(path, arch=arch, inputs=41)
    write_card(card_for(path), tmp_path / "a.json")
    with pytest.raises(InputError, match="the model takes 3 features, the data has 41"):
        load_model(path, inputs=41)


class Touch:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


def evil_zip(flag, path):
    torch.save({"weight": torch.ones(2), "extra": Touch(flag)}, path)


def evil_legacy(flag, path):
    torch.save({"weight": torch.ones(2), "extra": Touch(flag)}, path, _use_new_zipfile_serialization=False)


def evil_bare(flag, path):
    path.write_bytes(pickle.dumps(Touch(flag), protocol=4))


def evil_text(flag, path):
    path.write_bytes(f"(S'touch {flag}'\nios\nsystem\n.".encode())


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.onnx", "model.pkl"])
@pytest.mark.parametrize("make", [evil_zip, evil_legacy, evil_bare, evil_text])
def test_a_pickle_that_asks_for_more_is_refused_by_name_and_runs_nothing(tmp_path, arch, make, name):
    flag, path = tmp_path / "ran", tmp_path / name
    make(flag, path)
    with pytest.raises(RefusedModelError, match=r"refused, unsafe: asks for (posix|os)\.system") as raised:
        load_model(path, arch=arch)
    assert "save model.state_dict()" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not flag.exists()


def test_the_real_loader_would_have_run_it(tmp_path):
    evil_zip(tmp_path / "ran", tmp_path / "model.pt")
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_torchs_older_stream_format_is_loaded_too(tmp_path, module, arch):
    torch.save(module.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(load_model(tmp_path / "a.pt", arch=arch), module)


def test_a_compressed_archive_is_loaded_as_what_it_holds(tmp_path, module, arch):
    """Torch maps members as they lie there: of compressed ones it would take the compressed bytes for weights."""
    torch.save(module.state_dict(), tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in stored.namelist():
            archive.writestr(name, stored.read(name))
    try:
        loaded = load_model(tmp_path / "a.pt", arch=arch)
    except RefusedModelError:
        return  # that is an answer, too; other weights would be none
    assert same(loaded, module)


def test_torchs_oldest_format_says_how_to_save_again(tmp_path, arch):
    (tmp_path / "storages").write_bytes(b"x")
    with tarfile.open(tmp_path / "a.pt", "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    with pytest.raises(RefusedModelError, match=r"it is tar\)\. For a model of your own, save model\.state_dict\(\)"):
        load_model(tmp_path / "a.pt", arch=arch)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\0" * 100, "not a model that Hauberk reads"),
        (b"import os\nprint(1)\n", "refused, nobody can say that it is safe: import"),
        (b"a,b\n1,2\n", "not a model that Hauberk reads"),
        (b"PK\x03\x04", "no end"),
        (b"\x80\x02N.", "not a model that Hauberk reads"),
        (b"\x80\x05", "it ends"),
        (b"\x08\x0a\x12", "not a model that Hauberk reads"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path, arch, content, says):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError) as raised:
        load_model(tmp_path / "a.pt", arch=arch)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_an_empty_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pt"):
        load_model(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match=r"detector\.json"):
        load_model(tmp_path)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path, arch):
    """The pickle's own sizes lie: a storage of 12 numbers, a tensor that claims 12 more behind it."""
    path = tmp_path / "a.pt"
    torch.save({"layers.0.weight": torch.ones(4, 3)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = members[name].replace(b"K\x04K\x03\x86", b"K\x08K\x03\x86", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(RefusedModelError, match=r"reaches to byte 96 of a storage of 48"):
        load_model(path, arch=arch)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_loaded_or_refused_but_never_crashes(tmp_path, module, arch, name, data):
    good = save(module, tmp_path / name).read_bytes()
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(len(good) // 2, len(good)))]
    (tmp_path / name).write_bytes(bytes(damaged))
    try:
        loaded = load_model(tmp_path / name, arch=arch)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert loaded.artifact.signature.inputs[0].shape == ("batch", 3)
    assert "\n" not in refusal


def linear_onnx() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_an_onnx_model_is_loaded_as_it_is(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(linear_onnx().SerializeToString())
    artifact = load_model(path, inputs=3).artifact
    assert isinstance(artifact, OnnxArtifact)
    assert artifact.model == path.read_bytes()
    assert artifact.signature.inputs[0].name == "x"
    assert artifact.origin == artifact.digest == artifact.history[0].before
    assert artifact.history[0].parameters == {"file": "a.onnx", "format": "onnx"}


def test_an_onnx_model_with_a_card_is_checked_against_it(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(linear_onnx().SerializeToString())
    write_card(card_for(path, architecture="onnx", parameters={}), tmp_path / "a.json")
    assert load_model(path).card is not None
    write_card(card_for(path, architecture="onnx", parameters={}, decision=Decision(outputs=1)), tmp_path / "a.json")
    with pytest.raises(InputError, match="says 1 logits, the model gives 2"):
        load_model(path)


def test_an_onnx_model_takes_no_architecture(tmp_path, arch):
    (tmp_path / "a.onnx").write_bytes(linear_onnx().SerializeToString())
    with pytest.raises(InputError, match="leave --arch away"):
        load_model(tmp_path / "a.onnx", arch=arch)


def test_external_onnx_weights_are_never_read(tmp_path):
    model = linear_onnx()
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    with pytest.raises(RefusedModelError, match=r"its weights lie in 1 other file.* save_as_external_data=False"):
        load_model(tmp_path / "a.onnx")
