"""Honest ONNX files, written by torch's two exporters, skl2onnx, ONNX Runtime (optimised, quantized) and onnx."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from corpus import SAFE, Case
from corpus.graphs_trees import listed, listed_chain, tabled, tabled_chain, tabled_roots
from corpus.onnx_models import BOOL, INT64, STRING, graph, model, node, numbers, value, written


@cache
def _torch_models() -> dict[str, tuple[Any, Any, dict[int, str]]]:
    """Module, example and free axes by name, with the same weights each time."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(100, 32)
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(32, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layers(self.words(x)).mean(1))

    class Pictures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
            self.up, self.back = nn.Upsample(scale_factor=2), nn.ConvTranspose2d(8, 4, 2, 2)
            self.head = nn.Conv2d(12, 6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = self.stem(x)
            boxes = self.head(torch.cat([self.up(seen), self.back(seen)], 1))
            records, channels, height, width = boxes.shape
            return boxes.permute(0, 2, 3, 1).reshape(records, height * width, channels)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (
                nn.LSTM(12, 16, batch_first=True, bidirectional=True),
                nn.GRU(32, 8, batch_first=True),
            )
            self.head = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(self.first(x)[0])[0][:, -1])

    class Rounds(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = x
            for place in range(x.size(1)):
                total = total + x[:, place : place + 1]
            return total

    with _quietly():
        rounds = torch.jit.script(Rounds())
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    return {
        "layers": (layers, torch.randn(2, 8), {0: "batch"}),
        "attention": (Attention(), torch.randint(0, 99, (2, 7)), {0: "batch", 1: "words"}),
        "pictures": (Pictures(), torch.randn(2, 3, 64, 64), {0: "batch", 2: "height", 3: "width"}),
        "recurrent": (Recurrent(), torch.randn(2, 9, 12), {0: "batch", 1: "time"}),
        "rounds": (rounds, torch.randn(2, 5), {0: "batch", 1: "columns"}),
    }


@contextlib.contextmanager
def _quietly() -> Any:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@cache
def _exported(name: str) -> bytes:
    """By torch's older exporter."""
    module, example, free = _torch_models()[name]
    target = io.BytesIO()
    with _quietly():
        torch.onnx.export(
            module.eval(),
            (example,),
            target,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": free, "y": {0: "batch"}},
            opset_version=17,
        )
    return target.getvalue()


def dynamo(name: str) -> Callable[[Path], Path]:
    """By torch's newer exporter, weights in a file beside the model, as it does by itself."""

    def make(folder: Path) -> Path:
        module, example, free = _torch_models()[name]
        sizes = {
            axis: torch.export.Dim.AUTO if axis > 1 else torch.export.Dim(label, min=2) for axis, label in free.items()
        }
        with _quietly():
            torch.onnx.export(module.eval(), (example,), folder / "model.onnx", dynamo=True, dynamic_shapes=[sizes])
        return folder / "model.onnx"

    return make


def optimised(source: Callable[[], bytes], level: str) -> Callable[[Path], Path]:
    """As ONNX Runtime saves it after its own optimisations."""

    def make(folder: Path) -> Path:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        options.optimized_model_filepath = str(folder / "model.onnx")
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        onnxruntime.InferenceSession(source(), options, providers=["CPUExecutionProvider"])
        return folder / "model.onnx"

    return make


def _batches_in_the_middle() -> bytes:
    """Products of transposed batches, which ONNX Runtime fuses into nodes with `transBatchA` and `transBatchB`."""
    turned = [node("Transpose", ["x"], "a", perm=[1, 0, 2]), node("Transpose", ["w"], "b", perm=[1, 0, 2])]
    inputs = [value("x", [5, "n", 7]), value("w", [7, "n", 6])]
    return model([*turned, node("MatMul", ["a", "b"])], inputs=inputs).SerializeToString(deterministic=True)


def quantized(name: str, way: str) -> Callable[[Path], Path]:
    """By ONNX Runtime's quantizers."""

    def make(folder: Path) -> Path:
        from onnxruntime import quantization

        source = written(lambda: _exported(name), "float.onnx")(folder)
        target = folder / "model.onnx"
        example = _torch_models()[name][1].numpy()
        with _quietly():
            if way == "dynamic":
                quantization.quantize_dynamic(source, target)
            else:
                records = type(
                    "Records", (quantization.CalibrationDataReader,), {"get_next": lambda self: next(self.left, None)}
                )()
                records.left = iter([{"x": example}])
                quantization.quantize_static(source, target, records, quant_format=quantization.QuantFormat[way])
        return target

    return make


@cache
def _learned(name: str) -> bytes:
    """By skl2onnx."""
    from skl2onnx import convert_sklearn, to_onnx
    from skl2onnx.common.data_types import StringTensorType
    from sklearn import ensemble, linear_model, mixture, neighbors, neural_network, pipeline, preprocessing, svm
    from sklearn.feature_extraction.text import TfidfVectorizer

    random = np.random.default_rng(0)
    records, labels = random.random((60, 4), np.float32), np.arange(60) % 3
    if name in {"words", "categories"}:
        column = np.array([["tcp get"], ["udp put"], ["tcp put"], ["icmp get"]])
        first = TfidfVectorizer() if name == "words" else preprocessing.OneHotEncoder(handle_unknown="ignore")
        fitted = pipeline.make_pipeline(first, linear_model.LogisticRegression())
        fitted.fit(column[:, 0] if name == "words" else column, [0, 1, 0, 1])
        made = convert_sklearn(fitted, initial_types=[("x", StringTensorType([None, 1]))], target_opset=18)
        return made.SerializeToString(deterministic=True)
    estimators = {
        "forest": ensemble.RandomForestClassifier(20, random_state=0),
        "boosted": ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0),
        "isolation": ensemble.IsolationForest(n_estimators=5, random_state=0),
        "support-vectors": pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC()),
        "neighbours": neighbors.KNeighborsClassifier(3),
        "outliers": neighbors.LocalOutlierFactor(novelty=True),
        "network": neural_network.MLPClassifier((8,), max_iter=5, random_state=0),
        "mixture": mixture.GaussianMixture(2, random_state=0),
        "polynomials": pipeline.make_pipeline(preprocessing.PolynomialFeatures(2), linear_model.Ridge()),
    }
    with _quietly():
        fitted = estimators[name].fit(records, labels)
        made = to_onnx(fitted, records[:1], target_opset={"": 18, "ai.onnx.ml": 3})
    return made.SerializeToString(deterministic=True)


def _weights() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.random((64, 64), np.float32), name) for name in ("v", "w")]
    shape = numbers("s", -1, 8, 8)
    nodes = [node("MatMul", ["x", "v"], "a"), node("MatMul", ["a", "w"], "b"), node("Reshape", ["b", "s"])]
    return model(nodes, inputs=[value("x", ["n", 64])], weights=[*weights, shape])


def outside(**how: Any) -> Callable[[Path], Path]:
    """Weights, and a shape, in files beside the model."""

    def make(folder: Path) -> Path:
        (folder / "parts").mkdir()
        onnx.save_model(_weights(), folder / "model.onnx", save_as_external_data=True, size_threshold=0, **how)
        return folder / "model.onnx"

    return make


def _detections() -> onnx.ModelProto:
    """Boxes out of scores: how many is up to data, and bounded."""
    nodes = [
        node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], "kept"),
        node("Gather", ["kept", "last"], "places", axis=1),
        node("Squeeze", ["places", "one"], "flat"),
        node("Squeeze", ["boxes", "zero"], "all"),
        node("Gather", ["all", "flat"]),
    ]
    weights = [
        numbers("most", 100, shape=()),
        *(
            numpy_helper.from_array(np.array([number], np.float32), name)
            for name, number in (("overlap", 0.5), ("least", 0.1))
        ),
        numbers("last", 2),
        numbers("one", 1),
        numbers("zero", 0),
    ]
    return model(nodes, inputs=[value("boxes", [1, "n", 4]), value("scores", [1, 3, "n"])], weights=weights)


def _branches() -> onnx.ModelProto:
    """One branch takes a dimension away and the other does not, as torch writes it."""
    squeezed = graph([node("Squeeze", ["x", "one"], "s")], outputs=[value("s", None)])
    kept = graph([node("Identity", ["x"], "k")], outputs=[value("k", None)])
    nodes = [
        node("Shape", ["x"], "d"),
        node("Gather", ["d", "i"], "size"),
        node("Equal", ["size", "i"], "c"),
        node("If", ["c"], "b", then_branch=squeezed, else_branch=kept),
        node("Relu", ["b"]),
    ]
    return model(nodes, inputs=[value("x", ["n", 1, 8])], weights=[numbers("one", 1), numbers("i", 1, shape=())])


def _loop() -> onnx.ModelProto:
    """Words that are collected, a known number of them."""
    body = graph(
        [node("Identity", ["c"], "d"), node("Concat", ["s_in", "x"], "s_out", axis=1)],
        [value("i", [], INT64), value("c", [], BOOL), value("s_in", None)],
        [value("d", [], BOOL), value("s_out", None)],
    )
    return model([node("Loop", ["n", "", "x"], body=body)], weights=[numbers("n", 32, shape=())])


def _texts() -> onnx.ModelProto:
    nodes = [node("StringNormalizer", ["x"], "a", case_change_action="LOWER"), node("StringConcat", ["a", "a"])]
    return model(nodes, inputs=[value("x", ["n"], STRING)])


def _masked() -> onnx.ModelProto:
    """A range as long as the input, compared with lengths that the caller gives."""
    nodes = [
        node("Shape", ["x"], "d", start=1, end=2),
        node("Squeeze", ["d"], "size"),
        node("Range", ["zero", "size", "step"], "r"),
        node("Unsqueeze", ["lengths", "axis"], "l"),
        node("Less", ["r", "l"], "m"),
        node("Where", ["m", "x", "nothing"]),
    ]
    weights = [
        numbers("zero", 0, shape=()),
        numbers("step", 1, shape=()),
        numbers("axis", 1),
        numpy_helper.from_array(np.zeros((), np.float32), "nothing"),
    ]
    return model(nodes, inputs=[value("x", ["n", "time"]), value("lengths", ["n"], INT64)], weights=weights)


def _kernels() -> onnx.ModelProto:
    """Normalisation over channels, regions of a picture (as many samples as said, and as many as fit), a transform."""
    nodes = [
        node("LRN", ["x"], "l", size=5),
        node("RoiAlign", ["l", "regions", "which"], "a", output_height=7, output_width=7, sampling_ratio=2),
        node("Clip", ["regions", "least", "most"], "inside"),
        node("RoiAlign", ["l", "inside", "which"], "b", output_height=7, output_width=7, spatial_scale=0.25),
        node("Div", ["which", "minus"], "c"),
        node("Unsqueeze", ["x", "axis"], "s"),
        node("DFT", ["s"], "y", axis=3),
    ]
    inputs = [value("x", ["n", 8, 60, 60]), value("regions", ["m", 4]), value("which", ["m"], INT64)]
    weights = [
        numpy_helper.from_array(np.float32(0), "least"),
        numpy_helper.from_array(np.float32(60), "most"),
        numbers("minus", -1),
        numbers("axis", 4),
    ]
    outputs = [*(value(name, None) for name in "aby"), value("c", None, INT64)]
    return model(nodes, inputs=inputs, outputs=outputs, weights=weights, opset=18)


def _exported_case(name: str) -> Case:
    return Case(f"onnx-torch-{name}", written(lambda: _exported(name)), SAFE)


def _learned_case(name: str) -> Case:
    return Case(f"onnx-skl2onnx-{name}", written(lambda: _learned(name)), SAFE)


LEARNED = (
    "forest",
    "boosted",
    "isolation",
    "support-vectors",
    "neighbours",
    "outliers",
    "network",
    "mixture",
    "polynomials",
)

CASES: tuple[Case, ...] = (
    *(_exported_case(name) for name in ("layers", "attention", "pictures", "recurrent", "rounds")),
    *(Case(f"onnx-torch-dynamo-{name}", dynamo(name), SAFE) for name in ("attention",)),
    *(_learned_case(name) for name in (*LEARNED, "words", "categories")),
    *(
        Case(f"onnx-optimised-{name}-{level.lower()}", optimised(lambda name=name: _exported(name), level), SAFE)
        for name in ("attention", "pictures", "recurrent")
        for level in ("BASIC", "EXTENDED", "ALL")
    ),
    Case("onnx-optimised-batches-in-the-middle", optimised(_batches_in_the_middle, "ALL"), SAFE),
    *(
        Case(f"onnx-quantized-{name}-dynamic", quantized(name, "dynamic"), SAFE)
        for name in ("layers", "attention", "recurrent")
    ),
    *(Case(f"onnx-quantized-pictures-{way.lower()}", quantized("pictures", way), SAFE) for way in ("QDQ", "QOperator")),
    Case("onnx-external-one-file", outside(location="weights.bin"), SAFE),
    Case("onnx-external-many-files", outside(all_tensors_to_one_file=False), SAFE),
    Case("onnx-external-attributes", outside(location="weights.bin", convert_attribute=True), SAFE),
    Case("onnx-external-folder", outside(location="parts/weights.bin"), SAFE),
    Case("onnx-detections", written(_detections), SAFE),
    Case("onnx-branches", written(_branches), SAFE),
    Case("onnx-loop", written(_loop), SAFE),
    Case("onnx-texts", written(_texts), SAFE),
    Case("onnx-masked", written(_masked), SAFE),
    Case("onnx-kernels", written(_kernels), SAFE),
    Case("onnx-tree-lists", written(listed()), SAFE),
    Case("onnx-tree-tables", written(tabled()), SAFE),
    Case("onnx-tree-lists-of-many-levels", written(lambda: listed_chain(900)), SAFE),
    Case("onnx-tree-tables-of-many-levels", written(lambda: tabled_chain(900)), SAFE),
    Case("onnx-tree-tables-of-many-nodes", written(lambda: tabled_roots(5000)), SAFE),
    Case("onnx-tree-tables-of-many-nodes-typed", written(lambda: tabled_roots(5000, raw=False)), SAFE),
)
