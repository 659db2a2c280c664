"""Every reference architecture through one recipe twice: from its torch source, and as an ONNX file that nobody knows.

The recipe prunes, distils, quantizes with training and cleans up. The file is a plain export under another opset, whose
tensors and nodes have lost their names, as if another program had written it; there is no card and no source code.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from hauberk.artifact import OnnxArtifact
from hauberk.compress import STEPS
from hauberk.graph.passes import PASSES
from hauberk.ingest.architecture import build_own
from hauberk.recipe import LabelledFeatures, Recipe
from hauberk.search.compression import Compressed, compress
from hauberk.search.material import DataSource, Material, gather
from hauberk.search.prepare import ModelSource
from hauberk.train import TrainingOptions, train

SOURCE = Path(__file__).with_name("architectures.py")
ARCHITECTURES = (
    "tabular_mlp",
    "autoencoder",
    "window_cnn",
    "window_lstm",
    "window_gru",
    "window_transformer",
    "residual_cnn",
    "SmallResNet",
)
RECORDS = 120
RECIPE = b"""{"name": "all of it", "steps": [
    {"step": "prune-structured", "amount": 0.4, "tuning": {"epochs": 16, "learning_rate": 3e-3}},
    {"step": "distill", "student": {"kind": "itself"}, "tuning": {"epochs": 2, "learning_rate": 3e-3}},
    {"step": "quantize-aware", "tuning": {"epochs": 1}},
    {"step": "clean-up"},
    {"step": "share-initializers"},
    {"step": "strip-metadata"}
]}"""


@dataclass(frozen=True)
class Way:
    """One way through the recipe."""

    material: Material
    made: OnnxArtifact
    account: Compressed


@dataclass(frozen=True)
class Both:
    """What came of the source, and what of the file."""

    module: nn.Module
    file: Path
    ways: tuple[Way, Way]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(request, tmp_path_factory) -> Both:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    arch = f"{SOURCE}:{request.param}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_own(arch).module
    data = records(module.record_shape)
    task = "classification" if len(module.record_shape) == 3 else "detection"
    train(module, data, data, TrainingOptions(epochs=10, batch_size=16, learning_rate=3e-3, task=task))
    table = written(data, folder)
    weights, file = folder / "weights.safetensors", folder / "model.onnx"
    safetensors.torch.save_file(module.state_dict(), weights)
    onnx.save(nameless(exported(module)), file)
    source, alone = ModelSource(weights, None, None, arch, "none"), ModelSource(file, None, None, None, "none")
    return Both(module, file, (through(source, table), through(alone, table)))


def through(source: ModelSource, data: Path) -> Way:
    material = gather(source, DataSource(data, label="label" if data.suffix == ".csv" else None), seed=0)
    made, account = compress(material, Recipe.from_json(RECIPE, (*STEPS, *PASSES)), timing=0.02)
    return Way(material, made, account)


def records(shape: tuple[int, ...]) -> LabelledFeatures:
    """Two classes of records and windows, three of images, which differ in their mean."""
    features = np.random.default_rng(0).normal(size=(RECORDS, *shape)).astype(np.float32)
    targets = np.arange(RECORDS) % (3 if len(shape) == 3 else 2)
    distance = 0.7 if len(shape) == 3 else 1.5
    features += np.float32(distance) * targets.astype(np.float32).reshape(-1, *[1] * len(shape))
    return LabelledFeatures(features, targets.astype(np.int64))


def written(data: LabelledFeatures, folder: Path) -> Path:
    """The records as a user has them: columns as a table, all else as features."""
    if data.features.ndim > 2:
        np.savez(folder / "data.npz", features=data.features, labels=data.targets)
        return folder / "data.npz"
    header = ",".join([*(f"f{column}" for column in range(data.features.shape[1])), "label"])
    rows = np.column_stack([data.features, data.targets])
    np.savetxt(folder / "data.csv", rows, fmt="%.6g", delimiter=",", header=header, comments="")
    return folder / "data.csv"


def exported(module: nn.Module) -> onnx.ModelProto:
    """As torch's exporter writes it where nobody asks for more than a free batch."""
    example = torch.zeros(2, *module.record_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("n", min=1)
        return torch.onnx.export(module, (example,), dynamic_shapes=({0: batch},), verbose=False).model_proto


def nameless(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With numbers for names, without metadata, and with the weights in another order."""
    numbers, names, graph = count(), {"": ""}, proto.graph
    weights = list(graph.initializer)[::-1]
    del graph.initializer[:], graph.value_info[:], graph.metadata_props[:], proto.metadata_props[:]
    graph.initializer.extend(weights)
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.setdefault(value, f"{next(numbers)}") for value in values]
        for field in ("name", "doc_string", "metadata_props"):
            node.ClearField(field)
    for value in (*graph.initializer, *graph.input, *graph.output):
        value.name = names[value.name]
        value.ClearField("metadata_props")
    return proto


def without_names(model: bytes) -> list[tuple[object, ...]]:
    """Each node: what it is, and of each input which constant, bit for bit, or which node's output it is."""
    graph = onnx.load_from_string(model).graph
    known: dict[str, object] = {"": "absent"} | {value.name: "features" for value in graph.input}
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        known[tensor.name] = (tensor.data_type, array.shape, array.tobytes())
    nodes: list[tuple[object, ...]] = []
    for place, node in enumerate(graph.node):
        attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        nodes.append((node.domain, node.op_type, attributes, [known[name] for name in node.input]))
        known |= {name: (place, output) for output, name in enumerate(node.output)}
    return [*nodes, *((value.name, known[value.name]) for value in graph.output)]


def test_every_step_holds_and_the_result_is_smaller(both):
    for account in (way.account for way in both.ways):
        steps = [(step.step, step.kept) for step in account.steps]
        assert steps == [(step["step"], True) for step in account.recipe["steps"]]
        assert account.after.bytes < 0.6 * account.before.bytes
        assert account.after.parameters < 0.7 * account.before.parameters
        assert account.after.macs < 0.8 * account.before.macs


def test_the_file_gives_what_the_source_gives_bit_for_bit(both):
    """Names apart, the same graph comes of both, every trained and rounded weight included."""
    source, alone = both.ways
    assert source.material.core.model != alone.material.core.model, "the file still has the source's names"
    assert without_names(source.material.core.model) == without_names(alone.material.core.model)
    assert without_names(source.made.model) == without_names(alone.made.model)
    assert without_names(source.made.model) != without_names(source.material.core.model)


def test_the_result_decides_like_the_module_that_it_came_from(both):
    """By ONNX Runtime and torch alone, on records that no step has seen."""
    test = both.ways[0].material.test.features
    with torch.inference_mode():
        expected = both.module(torch.tensor(test)).numpy()
    foreign = answers(both.file.read_bytes(), test)
    np.testing.assert_allclose(foreign, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))
    for way in both.ways:
        assert (decided(answers(way.made.model, test)) == decided(expected)).mean() >= 0.9


def answers(model: bytes, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: features})[0]


def decided(logits: np.ndarray) -> np.ndarray:
    return logits[:, 0] >= 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
