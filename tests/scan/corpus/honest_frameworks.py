"""Honest files of other frameworks: written by their own libraries, here or once (`fixtures/README.md`)."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import SAFE, Case
from corpus.fitted_models import by_skops, honest
from corpus.frameworks_files import packed
from corpus.frameworks_gguf import gguf, setting, template, tensor
from corpus.frameworks_graphs import constant, node, saved_model
from corpus.frameworks_hdf5 import hdf5, weights
from corpus.frameworks_keras import keras, layer, legacy, sequential
from corpus.frameworks_tflite import tflite
from corpus.messages import FIXTURES, field, written


def fixture(name: str) -> Callable[[Path], Path]:
    """A file that is kept, copied so that it stands alone."""
    return lambda folder: Path(shutil.copy(FIXTURES / name, folder / Path(name).name))


def _records() -> tuple[Any, Any]:
    import numpy as np

    numbers = np.random.default_rng(0).random((60, 4))
    return numbers, (numbers[:, 0] > 0.5).astype(int)


def skops(make: Callable[[], Any]) -> Callable[[Path], Path]:
    """Fits an estimator and saves it with skops."""

    def write(folder: Path) -> Path:
        from skops.io import dump

        estimator = make().fit(*_records())
        dump(estimator, folder / "model.skops")
        return folder / "model.skops"

    return write


def _pipeline() -> Any:
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), SelectKBest(f_classif, k=2), LogisticRegression())


def _forest() -> Any:
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(4, random_state=np.random.RandomState(1))


def _boosting() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=3, random_state=0)


def _isolation() -> Any:
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=3, random_state=0)


def _network() -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((4,), tol=0.1, n_iter_no_change=2, random_state=0)


def _vectors() -> Any:
    from sklearn.svm import SVC

    return SVC()


def _logarithm() -> Any:
    import numpy as np
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(np.log1p)


def _words() -> Any:
    """A vocabulary with the word that names what functions write into."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer().fit(["in and out"])


def xgboost(name: str, **options: Any) -> Callable[[Path], Path]:
    """Trains a few trees with XGBoost."""

    def write(folder: Path) -> Path:
        import xgboost as library

        numbers, labels = _records()
        booster = library.train(
            {"nthread": 1, "seed": 0, **options}, library.DMatrix(numbers, labels), num_boost_round=3
        )
        booster.save_model(folder / name)
        return folder / name

    return write


def lightgbm(**options: Any) -> Callable[[Path], Path]:
    """Trains a few trees with LightGBM."""

    def write(folder: Path) -> Path:
        import lightgbm as library
        import numpy as np

        numbers, labels = _records()
        numbers[:, 3] = np.arange(60) % 7
        options_ = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2, "min_data_per_group": 2, "cat_smooth": 1}
        data = library.Dataset(numbers, labels, categorical_feature=[3])
        booster = library.train({**options_, **options}, data, num_boost_round=3)
        booster.save_model(folder / "model.txt")
        return folder / "model.txt"

    return write


def _dense(file: Any) -> None:
    """More links and attributes than a header keeps, and what HDF5 has besides."""
    import h5py
    import numpy as np

    for index in range(300):
        file.create_dataset(f"many/variable_{index}", data=np.arange(3.0))
        file.attrs[f"attribute_{index}"] = f"text {index}"
    file.create_dataset("packed", data=np.zeros((50, 50)), chunks=(10, 10), compression="gzip", shuffle=True)
    file.create_dataset("texts", data=["a", "b"], dtype=h5py.string_dtype())
    file["again"] = file["packed"]


def _many_forms(file: Any) -> None:
    """What h5py writes: types, chunks and filters, links, references, texts."""
    import h5py
    import numpy as np

    for index, kind in enumerate(("f2", "f4", "f8", "g", ">i4", "u1", "S5", "c8", "?", "V7")):
        file.create_dataset(f"types/{index}", data=np.zeros(2, kind))
    file.create_dataset("record", data=np.zeros(3, [("a", "f4"), ("b", "i8", (2,))]))
    file.create_dataset("level", data=np.array([1, 0]), dtype=h5py.enum_dtype({"A": 0, "BB": 1}, basetype="i1"))
    file.create_dataset("texts", data=["a", "größer"])
    file.create_dataset("pointer", data=np.array([file.ref], dtype=h5py.ref_dtype))
    file.create_dataset("empty", shape=(2, 2), dtype="i4", fillvalue=3)
    file.create_dataset("empty_texts", shape=(2,), dtype=h5py.string_dtype(), fillvalue="none")
    file.create_dataset("packed", data=np.arange(20), chunks=(3,), compression="gzip", shuffle=True, fletcher32=True)
    file.create_dataset("quick", data=np.arange(20), chunks=(3,), compression="lzf")
    file.create_dataset("compact", data=np.arange(4), chunks=(4,))
    file["kind"] = np.dtype("f8")
    file.create_dataset("shared", data=np.zeros(2), dtype=file["kind"])
    file["again"] = file["types"]
    file.attrs["list"] = ["a", "bb"]
    file.attrs["ragged"] = np.array([np.arange(2), np.arange(3)], dtype=h5py.vlen_dtype("i4"))


def _crowd(file: Any) -> None:
    for index in range(3000):
        file.create_group(f"many/{index}")


def _old_saver(folder: Path) -> Path:
    """A saver and a table as TensorFlow 1 keeps them: the vocabulary's place on the machine where it was made."""
    default = node("save/filename", "PlaceholderWithDefault", "save/filename/input")
    nodes = (
        constant("save/filename/input", "model"),
        default,
        node("save/Const", "PlaceholderWithDefault", "save/filename"),
        constant("save/StringJoin/inputs_1", "_temp_5e5d0a1c/part"),
        node("save/StringJoin", "StringJoin", "save/Const", "save/StringJoin/inputs_1"),
        node("save/ShardedFilename", "ShardedFilename", "save/StringJoin", "shard", "shards"),
        node("save/SaveV2", "SaveV2", "save/ShardedFilename", "names", "slices", "v"),
        node("save/MergeV2Checkpoints/prefixes", "Pack", "save/ShardedFilename", "^save/SaveV2"),
        node("save/MergeV2Checkpoints", "MergeV2Checkpoints", "save/MergeV2Checkpoints/prefixes", "save/Const"),
        node("save/RestoreV2", "RestoreV2", "save/Const", "names", "slices"),
        constant("vocab", "/home/someone/data/vocab.txt"),
        node("table", "HashTableV2"),
        node("key_value_init", "InitializeTableFromTextFileV2", "table", "vocab"),
        node("init", "NoOp", "^key_value_init"),
        node("x", "Placeholder"),
        node("y", "LookupTableFindV2", "table", "x", "zero"),
    )
    others = (
        node("save_1/Const", "PlaceholderWithDefault", "save/filename"),
        node("save_1/RestoreV2", "RestoreV2", "save_1/Const", "names", "slices"),
    )
    saver = field(3, field(1, "save/Const:0") + field(2, "save/Identity:0") + field(3, "save/restore_all"))
    first = field(4, field(1, "legacy_init_op") + field(2, field(1, field(1, "init"))))
    asset = field(1, field(1, "vocab:0")) + field(2, "vocab.txt")
    typed = field(1, field(1, "type.googleapis.com/tensorflow.AssetFileDef") + field(2, asset))
    assets = field(4, field(1, "saved_model_assets") + field(2, field(5, typed)))
    answer = field(5, field(1, "serve") + field(2, field(2, field(1, "y") + field(2, field(1, "y:0")))))
    return saved_model(*nodes, *others, more=saver + first + assets + answer)(folder)


def _checkpoint(folder: Path) -> Path:
    """An index with the file of numbers beside it, which nothing recognises by itself."""
    written(folder / "variables.data-00000-of-00001", bytes(282))
    return Path(shutil.copy(FIXTURES / "saved_model" / "variables.index", folder / "variables.index"))


TOKENS = {"merges": ["$ (", "$x(", "a b"], "vocab": {"$": 1, "$(": 2}, "post_processor": {"pair": "$A:0 [SEP] $B:1"}}
ADAPTER = {
    "peft_type": "LORA",
    "auto_mapping": {"base_model_class": "BertModel", "parent_library": "transformers.models.bert.modeling_bert"},
    "attn_implementation": "sdpa",
}


def _model(file: Any) -> None:
    file.attrs["model_config"] = json.dumps(sequential(layer("Dense", units=2))).encode()


def _sound(folder: Path) -> Path:
    with wave.open(str(folder / "x.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "none"))
        sound.writeframes(bytes(100))
    return folder / "x.wav"


def _picture(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(folder / "x.png")
    Image.new("RGB", (4, 4)).save(folder / "x.jpg")
    Image.new("P", (4, 4)).save(folder / "x.gif")
    Image.new("RGB", (4, 4)).save(folder / "x.webp")
    return folder


README = """# A model

Loads with:

```python
import torch

model = torch.load("x.pt", weights_only=True)
```

It is from the class of models that import nothing.
"""
CHAT = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- endif %}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message.content | trim }}{% if loop.last and add_generation_prompt %}"
    "{{ raise_exception('no') if messages | length == 0 else '' }}{% endif %}{% endfor %}"
)
BESIDE = (
    "{%- for m in messages %}{# an answer's neighbours #}{%- if loop.first or messages[loop.index0 - 1].role != '' %}"
    "{{- '\\n' + m.content | default('') }}{%- endif %}{{ loop.index0 % 2 ~ m.role if loop.index0 % 2 == 0 and m }}\n"
    "{%- endfor %}{{ messages | map('tojson') | join }}{{ tools | tojson(indent=4) }}{{ '%s: %d' % (m.role, 3) }}\n"
)
MARKS = {"marks": ["{{", "}}"], "{{name}}": "{{ name }}", "chat_template": [CHAT, BESIDE]}
TRANSFORMERS = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "_name_or_path": "bert"}

PLAIN_TEXTS = (
    ("badge", "![a](https://img.example.org/badge/Try%20it-now!!%20-green) !important%3B python/%20\n"),
    ("percent-table", "url,n\nhttp://a/try!now%20x,1\nlogin?q=Hello!%20,2\nerror!!%0d,3\n"),
    ("tag-of-colour", "a: !colour%20red x\n"),
    ("boosting-call", "Train it with\n\n    num_leaves=31,\n    max_depth=5,\n"),
    ("boosting-settings", "objective = binary\nnum_leaves = 63\n"),
    ("fenced-graph", 'A layer:\n\n```\nlayer { type: "Data" top: "x" }\nnode { op: "Add" }\n```\n'),
    ("mlir-in-prose", "A pass on `func.func`, inside of a builtin.module, that inlines.\n"),
    ("graph-in-prose", "graph_def: the graph to import.\n"),
    ("css", "@layer base;\nlayer {\n  top: 0;\n}\n"),
    ("hocon", "layer {\n  width = 4\n}\n"),
    ("one-column", "A\n3\n50\n41\n7\n"),
    ("titles", "title={{BERT: Pre-training of Deep (2019)}},\nauthor={{A. Vaswani and B. C.}},\nyear={{2019}}\n"),
    (
        "go-template",
        "{{ if .System }}{{ .System | upper }}{{ end }}{{ range $i, $m := .Messages }}{{ $m[0] }}{{ end }}\n",
    ),
    ("initialisers", 'static entry table[] = {{"__dict__", get, set}, {"b", f(c[d], {{e}})}};\n'),
    ("folds", "Folds begin with {{{ and end with }}}, as in\n#{{{ __init__ and others\n"),
    ("prose-beside-lookups", "See {{ this paper }}, {{ items[0] }}, {{Attention(2017)}} and {{cite|url}}.\n"),
    ("comment-of-tex", "\\section{% and so on\nA}{%expr%}{{ a b }}\n"),
    ("macro-of-tex", "\\newcommand{\\x}[1]{%\n  for #1 \\[a[i]\\]%\n}\n"),
    ("variable-of-a-page", "Hello {{ user.name }}, you are {{ age }}.\n"),
    ("lesser-than", '<img src="a.png">\n\nOf all <n and later online=1 is set.\n'),
)
PLAIN_SETTINGS = (
    ("formula", {"answer": "$f(x) = 2$", "price": "$100(approx)", "tex": "$\\sin(x)$"}),
    ("pictures", [{"idx": 0, "name": "a", "path": "a.png", "type": "image"}]),
    ("agent", {"input": "Find a hotel.", "output": "Done.", "action": "search"}),
    ("agent-call", {"input": "Find a hotel.", "output": "Done.", "action": {"tool": "search"}}),
    ("adapter-timm", {"auto_mapping": {"base_model_class": "X", "parent_library": "timm.models.resnet"}}),
)

CASES = (
    *(
        Case(name.replace("/", "-").replace("_", "-").replace(".", "-"), fixture(name), SAFE)
        for name in (
            "functional.keras",
            "functional.h5",
            "text.keras",
            "saved_model/saved_model.pb",
            "saved_model/fingerprint.pb",
            "saved_model/variables.index",
            "saved_model_keras/saved_model.pb",
            "saved_model_table/saved_model.pb",
            "dense.tflite",
            "conv.tflite",
            "open_batch.tflite",
            "tiny.gguf",
            "catboost_oblivious.cbm",
            "catboost_depthwise.cbm",
            "xgboost_categories.ubj",
            "xgboost_vector_leaves.ubj",
            "xgboost_dart.json",
            "lightgbm_linear.txt",
        )
    ),
    Case("checkpoint-beside-its-numbers", _checkpoint, SAFE),
    Case("tensorflow-old-saver", _old_saver, SAFE),
    Case("tflite-with-labels", packed({"labels.txt": "cat\ndog\n", "vocabulary.json": '["a", "b"]'}), SAFE),
    Case("keras-by-hand", keras(sequential(layer("Dense", units=2, activation="relu"))), SAFE),
    Case("h5-by-hand", legacy(sequential(layer("Dense", units=2)), {"loss": "mse", "metrics": ["accuracy"]}), SAFE),
    *(
        Case(f"h5-{version}{'-in-order' if order else ''}", hdf5(_dense, libver=version, track_order=order), SAFE)
        for version in ("earliest", "v108", "v112", "latest")
        for order in (False, True)
    ),
    Case("h5-user-block", hdf5(_dense, userblock_size=2048), SAFE),
    Case("h5-user-block-model", hdf5(_model, userblock_size=512), SAFE),
    Case("h5-weights-alone", lambda folder: written(folder / "x.weights.h5", weights()), SAFE),
    *honest(by_skops, "skops-fitted-"),
    Case("skops-pipeline", skops(_pipeline), SAFE),
    Case("skops-forest", skops(_forest), SAFE),
    Case("skops-boosting", skops(_boosting), SAFE),
    Case("skops-isolation-forest", skops(_isolation), SAFE),
    Case("skops-network", skops(_network), SAFE),
    Case("skops-support-vectors", skops(_vectors), SAFE),
    Case("skops-logarithm", skops(_logarithm), SAFE),
    Case("skops-words", by_skops(_words), SAFE),
    Case("xgboost-ubjson", xgboost("model.ubj", objective="binary:logistic"), SAFE),
    Case("xgboost-json", xgboost("model.json", objective="multi:softprob", num_class=2), SAFE),
    Case("xgboost-linear", xgboost("model.ubj", booster="gblinear"), SAFE),
    Case("lightgbm-binary", lightgbm(objective="binary"), SAFE),
    Case("lightgbm-classes", lightgbm(objective="multiclass", num_class=2), SAFE),
    Case("lightgbm-one-leaf", lightgbm(objective="regression", min_data_in_leaf=50), SAFE),
    Case("gguf-by-hand", gguf(setting("a", "b"), tensors=(tensor("x", (8,)), tensor("y", (8,), 32)), data=64), SAFE),
    Case("gguf-chat-template", template(CHAT), SAFE),
    Case("template-file", lambda folder: written(folder / "chat_template.jinja", BESIDE), SAFE),
    Case("settings-with-marks", lambda folder: written(folder / "x.json", json.dumps(MARKS)), SAFE),
    Case("settings-of-transformers", lambda folder: written(folder / "config.json", json.dumps(TRANSFORMERS)), SAFE),
    Case(
        "settings-with-template", lambda folder: written(folder / "t.json", json.dumps({"chat_template": CHAT})), SAFE
    ),
    Case("settings-of-tokens", lambda folder: written(folder / "x.json", json.dumps(TOKENS)), SAFE),
    Case("settings-of-adapter", lambda folder: written(folder / "x.json", json.dumps(ADAPTER)), SAFE),
    Case("h5-many-forms", hdf5(_many_forms), SAFE),
    Case("h5-many-forms-latest", hdf5(_many_forms, libver="latest"), SAFE),
    Case("h5-deep-tree", hdf5(_crowd), SAFE),
    Case(
        "text-page", lambda folder: written(folder / "x.html", "<!DOCTYPE html>\n<html><p>one node</p></html>\n"), SAFE
    ),
    Case("json-lines", lambda folder: written(folder / "x.jsonl", '{"a": 1}\n{"a": 2}\n'), SAFE),
    Case("json-empty", lambda folder: written(folder / "x.json", "{}"), SAFE),
    Case("text-readme", lambda folder: written(folder / "README.md", README), SAFE),
    Case("text-table", lambda folder: written(folder / "x.csv", "a,b\n1,2\n" * 5000), SAFE),
    Case("text-ini", lambda folder: written(folder / "x.ini", "[tree]\nx = 1\n"), SAFE),
    Case("text-dates", lambda folder: written(folder / "x.log", "[1] started\n[2] ended\n"), SAFE),
    Case("text-yaml", lambda folder: written(folder / "x.yaml", "model:\n  name: x\n  layers: [1, 2]\n"), SAFE),
    Case("text-wide", lambda folder: written(folder / "x.txt", "größer".encode("utf-16")), SAFE),
    Case("text-words", lambda folder: written(folder / "vocab.txt", "[PAD]\nthe\ndef\nclass\nimport\n. \n"), SAFE),
    *(
        Case(f"text-{name}", lambda folder, text=text: written(folder / "x.txt", text), SAFE)
        for name, text in PLAIN_TEXTS
    ),
    *(
        Case(f"settings-{name}", lambda folder, value=value: written(folder / "x.json", json.dumps(value)), SAFE)
        for name, value in PLAIN_SETTINGS
    ),
    Case(
        "tflite-empty-shape",
        tflite(code=22, inputs=(0, 2), constants=((),), shape=(1,), result=(), data=bytes(4)),
        SAFE,
    ),
    Case("pictures", _picture, SAFE),
    Case("sound", _sound, SAFE),
)
