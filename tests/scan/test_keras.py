"""Configurations of Keras: which names are let through, and where others are found."""

from __future__ import annotations

import json
import zipfile

import pytest
from corpus.frameworks_keras import CODE, function, keras, layer, legacy, sequential
from corpus.messages import FIXTURES

from hauberk.scan import scan_paths
from hauberk.scan.examination import Examination, ScanLimits, StopScan
from hauberk.scan.frameworks import keras_names
from hauberk.scan.frameworks.keras_config import examine_config


def found(config):
    examination = Examination()
    examine_config(config, examination)
    return {finding.rule for finding in examination.findings}, examination.verdict


def report(make, folder):
    (result,) = scan_paths([make(folder)])
    return result


def test_what_keras_wrote_is_safe_and_every_object_of_it_was_looked_at():
    with zipfile.ZipFile(FIXTURES / "functional.keras") as archive:
        text = archive.read("config.json").decode()
    examination = Examination()
    examine_config(json.loads(text), examination)
    assert examination.verdict == "safe"
    assert examination.facts["objects"] == text.count('"class_name"')


@pytest.mark.parametrize("name", ["Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"])
@pytest.mark.parametrize("module", ["keras.layers", "keras.src.layers.core", None, "tf_keras.layers"])
def test_layers_that_run_or_load_code_are_unsafe_in_any_module(name, module):
    assert found(layer(name, module))[1] == "unsafe"


@pytest.mark.parametrize(
    "name", ["Lambda", "TorchModuleWrapper", "get_file", "load_model", "FeatureSpace", "deserialize"]
)
def test_nothing_that_does_more_than_compute_is_on_the_list(name):
    assert name not in keras_names.CLASSES | keras_names.OPERATIONS | keras_names.FUNCTIONS


@pytest.mark.parametrize(
    ("module", "name", "verdict"),
    [
        ("builtins", "relu", "safe"),
        (None, "relu", "safe"),
        ("keras.activations", "gelu", "safe"),
        ("keras.utils", "get_file", "unsafe"),
        ("keras.src.utils.file_utils", "get_file", "unsafe"),
        ("keras.saving", "load_model", "unsafe"),
        ("os", "relu", "unsafe"),
        ("kerasx.layers", "relu", "unsafe"),
        ("builtins", "exec", "unsafe"),
        ("builtins", "my_function", "unknown"),
    ],
)
def test_functions(module, name, verdict):
    assert found(function(module, name))[1] == verdict


@pytest.mark.parametrize(
    ("config", "verdict"),
    [
        (layer("StringLookup", vocabulary=["a", "b"]), "safe"),
        (layer("StringLookup", vocabulary=None), "safe"),
        (layer("StringLookup", vocabulary="vocab.txt"), "unsafe"),
        (layer("TextVectorization", idf_weights="w.npy"), "unsafe"),
        (layer("Add", "keras.src.ops.numpy"), "safe"),
        (layer("Map", "keras.src.ops.core"), "unsafe"),
        (layer("Brandnew"), "unknown"),
        (layer("mine>Dense", None), "unknown"),
        (layer("mine>Lambda", None), "unsafe"),
        (layer("Brandnew", "keras.src.utils.x"), "unsafe"),
        (layer("Dense", units=1 << 15), "safe"),
        (layer("Embedding", input_dim=1 << 20, output_dim=1 << 9), "safe"),
        (layer("Embedding", input_dim=1 << 30, output_dim=1 << 9), "unsafe"),
        (layer("Dense", units=1 << 31), "unsafe"),
        (layer("Dense", units=(1 << 31) + 1), "unsafe"),
    ],
)
def test_values(config, verdict):
    assert found(config)[1] == verdict


def test_code_is_found_wherever_it_lies():
    place = {"class_name": "__lambda__", "config": {"value": [CODE, None, None]}}
    for key in ("config", "build_config", "compile_config", "anything"):
        model = sequential()
        model[key] = {"deep": [{"down": [place]}]}
        assert found(model) == ({"keras-lambda"}, "unsafe")


def test_an_archive_is_a_model_without_its_metadata_too(tmp_path):
    def make(folder):
        path = folder / "model.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(sequential(layer("Lambda"))))
        return path

    result = report(make, tmp_path)
    assert (result.format, result.verdict) == ("keras", "unsafe")


def test_compressed_weights_are_followed(tmp_path):
    source = keras(sequential(layer("Dense", units=2)))(tmp_path)
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    (result,) = scan_paths([packed])
    assert (result.format, result.verdict) == ("keras", "safe")


def test_where_a_finding_lies(tmp_path):
    result = report(legacy(sequential(layer("Lambda"))), tmp_path)
    assert result.findings[0].where == "/@model_config:config.layers[1]"


def test_the_deadline_holds_within_the_arguments_of_a_call():
    with pytest.raises(StopScan):
        examine_config({"inbound_nodes": [{"args": [1] * 10_000}]}, Examination(ScanLimits(seconds=0)))


def test_what_stands_in_place_of_a_name_is_not_repeated_at_every_level():
    module = "x"
    for _ in range(100):
        module = {"class_name": "Dense", "module": module}
    examination = Examination()
    examine_config(module, examination)
    assert {finding.what for finding in examination.findings} == {"<dict>.Dense", "x.Dense"}
