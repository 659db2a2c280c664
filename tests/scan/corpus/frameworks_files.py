"""Programs, source code and settings that stand beside models."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import marshal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, UNSAFE, Case
from corpus.messages import FIXTURES, written


def file(name: str, data: bytes | str) -> Callable[[Path], Path]:
    """Writes a file."""
    return lambda folder: written(folder / name, data)


def packed(files: dict[str, bytes | str], *, counted_from_itself: bool = False) -> Callable[[Path], Path]:
    """Writes a TFLite model with files packed behind it, as its metadata's writer does: with a zip writer.

    Args:
        files: By name.
        counted_from_itself: The archive's places are counted from its own beginning, as if it stood alone.
    """

    def make(folder: Path) -> Path:
        stream = io.BytesIO()
        model = (FIXTURES / "dense.tflite").read_bytes()
        stream.write(b"" if counted_from_itself else model)
        with zipfile.ZipFile(stream, "a") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return written(folder / "packed.tflite", (model if counted_from_itself else b"") + stream.getvalue())

    return make


def settings(value: Any) -> Callable[[Path], Path]:
    """Writes JSON."""
    return file("config.json", json.dumps(value))


def _windows() -> bytes:
    return b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(200)


def _compiled() -> bytes:
    code = marshal.dumps(compile("open('flag', 'w')", "x", "exec"))
    return importlib.util.MAGIC_NUMBER + bytes(12) + code


def _safetensors_and_hdf5(folder: Path) -> Path:
    """A tensor in whose numbers the HDF5 library finds a model."""
    from corpus.frameworks_hdf5 import weights
    from corpus.frameworks_keras import LAMBDA, sequential

    def fill(file: Any) -> None:
        file.attrs["model_config"] = json.dumps(sequential(LAMBDA)).encode()

    model = weights(fill, userblock_size=512)
    header = json.dumps({"x": {"dtype": "U8", "shape": [len(model) - 128], "data_offsets": [0, len(model) - 128]}})
    return written(folder / "x.safetensors", (120).to_bytes(8, "little") + header.ljust(120).encode() + model[128:])


HYDRA = "https://nvd.nist.gov/vuln/detail/CVE-2025-23304"
PYYAML = "https://nvd.nist.gov/vuln/detail/CVE-2020-14343"
CUSTOM = "https://huggingface.co/docs/transformers/custom_models"
PICKLE = b"cos\nsystem\n(S'true'\ntR."
"""It would run `true`; nobody loads it."""

JINJA = "https://nvd.nist.gov/vuln/detail/CVE-2024-34359"
JOINED = "{{ cycler[('_'~'_in')~('it_'~'_')][('_'~'_glob')~('als_'~'_')]['o'~'s']['pop'~'en']('true')['read']() }}"
"""It would run `true` outside a sandbox; nobody renders it."""

SHORTHAND, APPLY = "%TAG !e! tag:yaml.org,2002:pyth", "!e!on/object/apply:os.system ['true']"

FILE_CASES = (
    Case("catboost-and-pickle", file("model.cbm", b"CBM1" + (80).to_bytes(4, "little") + bytes(60) + PICKLE), UNSAFE),
    Case("gguf-and-pickle", file("model.gguf", b"GGUF\3\0\0\0\0" + PICKLE), UNSAFE),
    Case("tflite-with-a-pickle-packed", packed({"labels.txt": PICKLE}), UNSAFE),
    Case("tflite-with-a-checkpoint-packed", packed({"m/data.pkl": b"}.", "m/version": "3\n"}), UNSAFE),
    Case("tflite-with-a-path-packed", packed({"../labels.txt": "cat\ndog\n"}), UNSAFE),
    Case("tflite-with-a-program-packed", packed({"__main__.py": "import os\nos.abort()\n"}), UNKNOWN),
    Case("tflite-with-an-archive-of-its-own", packed({"labels.txt": "cat\n"}, counted_from_itself=True), UNSAFE),
    Case("tflite-and-pickle", file("model.tflite", b"U\7\0\0TFL3\0" + PICKLE), UNSAFE),
    Case(
        "native-elf",
        lambda folder: Path(sys.executable).resolve(),
        UNSAFE,
        "https://attack.mitre.org/techniques/T1195/",
    ),
    Case("native-elf-as-weights", file("model.safetensors", b"\x7fELF\x02\x01\x01" + bytes(200)), UNSAFE),
    Case("native-windows", file("custom_op.dll", _windows()), UNSAFE),
    Case("native-mac", file("custom_op.dylib", b"\xcf\xfa\xed\xfe\x07\x00\x00\x01" + bytes(200)), UNSAFE),
    Case("native-wasm", file("model.wasm", b"\0asm\1\0\0\0" + bytes(20)), UNSAFE),
    Case("native-java", file("Model.class", b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(100)), UNSAFE),
    Case("bytecode", file("modeling.pyc", _compiled()), UNSAFE),
    Case("script-shell", file("install", "#!/bin/sh\ntrue\n"), UNKNOWN),
    Case(
        "source-python",
        file("modeling.py", '"""A model."""\n\nimport torch\n\n\nclass Model(torch.nn.Module):\n    pass\n'),
        UNKNOWN,
        CUSTOM,
    ),
    Case("source-python-without-imports", file("x.txt", 'x = 1\n__import__("os").system("true")\n'), UNKNOWN),
    Case("source-python-wide", file("x.py", "import os\n".encode("utf-16")), UNKNOWN),
    Case("source-notebook", settings({"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}), UNKNOWN),
    Case(
        "settings-auto-map",
        settings({"model_type": "x", "auto_map": {"AutoModel": "modeling_x.Model"}}),
        UNKNOWN,
        CUSTOM,
    ),
    Case(
        "settings-pipeline",
        settings({"_class_name": "P", "_diffusers_version": "0.30", "unet": ["os", "system"]}),
        UNKNOWN,
    ),
    Case("settings-hydra", settings({"model": {"_target_": "builtins.exec", "_args_": ["pass"]}}), UNSAFE, HYDRA),
    Case(
        "settings-hydra-yaml",
        file("model_config.yaml", "model:\n  _target_: os.system\n  command: 'true'\n"),
        UNSAFE,
        HYDRA,
    ),
    Case(
        "settings-hydra-class",
        file("model_config.yaml", "model:\n  _target_: nemo.collections.asr.models.Model\n"),
        UNKNOWN,
        HYDRA,
    ),
    Case(
        "settings-jsonpickle", settings({"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["true"]}]}), UNSAFE
    ),
    Case(
        "settings-template",
        settings({"chat_template": "{{ cycler.__init__.__globals__ }}"}),
        UNSAFE,
        "https://nvd.nist.gov/vuln/detail/CVE-2024-34359",
    ),
    Case("yaml-object", file("config.yaml", "a: !!python/object/apply:os.system ['true']\n"), UNSAFE, PYYAML),
    Case(
        "yaml-object-by-tag",
        file("config.yaml", "%TAG ! tag:yaml.org,2002:python/\n---\na: !object/apply:os.system ['true']\n"),
        UNSAFE,
        PYYAML,
    ),
    *(
        Case(f"yaml-object-{name}", file("config.yaml", text), UNSAFE, PYYAML)
        for name, text in (
            ("behind-mark", f"\ufeff{SHORTHAND}\n---\n{APPLY}\n"),
            ("behind-return", f"# a\r{SHORTHAND}\r---\r{APPLY}\r"),
            ("behind-next-line", f"# a\x85{SHORTHAND}\n---\n{APPLY}\n"),
            ("behind-separator", f"# a\u2028{SHORTHAND}\n---\n{APPLY}\n"),
            ("by-one-letter", "%TAG !e! t\n---\n!e!ag:yaml.org,2002:pyt%68on/name:os.system\n"),
            ("by-numbers-in-list", "- [a,!!p%79thon/object/apply:os.system ['true']]\n"),
            ("by-numbers-ruby", "a: !r%75by/object:Gem::Installer {}\n"),
            ("by-numbers-behind-another", "a: [x:!a:!!pyth%6fn/name:os.system]\n"),
            ("by-numbers", "!<tag:yaml.org,2002:pyth%6fn/object/apply:os.system> ['true']\n"),
        )
    ),
    Case("settings-hydra-escaped", file("x.yaml", 'model:\n  "\\x5ftarget_": os.system\n'), UNSAFE, HYDRA),
    Case("settings-hydra-flow", file("x.yaml", "model: {_target_: os.system, command: 'true'}\n"), UNSAFE, HYDRA),
    Case("settings-hydra-continued", file("x.yaml", 'm:\n  ? "_tar\\\n  get_"\n  : os.system\n'), UNSAFE, HYDRA),
    Case("settings-hydra-escaped-name", file("x.yaml", 'm:\n  _target_: "\\x6fs.system"\n'), UNKNOWN, HYDRA),
    Case("settings-hydra-anchor", file("x.yaml", "m:\n  _target_: &a os.system\n"), UNKNOWN, HYDRA),
    Case("yaml-object-far", file("config.yaml", "a: 1\n" * 300_000 + "b: !!python/name:os.system\n"), UNSAFE, PYYAML),
    Case(
        "template-file",
        file("chat_template.jinja", "{% for m in messages %}{{ m.__class__ }}{% endfor %}"),
        UNSAFE,
        "https://nvd.nist.gov/vuln/detail/CVE-2024-34359",
    ),
    Case("template-file-frame", file("chat_template.jinja", "{{ messages.gi_frame.f_builtins }}"), UNSAFE, JINJA),
    Case("template-file-joined", file("chat_template.jinja", JOINED), UNSAFE, JINJA),
    *(
        Case(f"template-file-{name}", file("chat_template.jinja", code), UNKNOWN, JINJA)
        for name, code in (
            ("without-statements", "{{ messages }}{{ ''['ZZclassZZ'.replace('Z', 'x_y'[1])] }}"),
            ("set-with-sign", "{%+ set x = 1 %}{{ ''[x ~ y] }}"),
            ("with", "{% with k = 'x_x'[1::2] %}{{ ''[k] }}{% endwith %}"),
            ("do", "{% do ''[x] %}"),
            ("call", "{% call f() %}{{ ''[x] }}{% endcall %}"),
            ("filter", "{% filter replace('a', ''[x]) %}{% endfilter %}"),
            ("many-brackets", "{{ " + "(" * 99 + "''[x]" + ")" * 99 + " }}"),
            ("far", "a" * (3 << 20) + "{{ ''[x] }}"),
            ("block-handed-over", "{% macro f() %}{{ caller() }}{% endmacro %}{{ f(caller=cycler['mro']) }}"),
            ("width-of-a-product", "{{ '%9999999d' * 1 % 5 }}"),
            ("width-of-a-text", "{{ '%%9999999%s' % 'd' % 5 }}"),
            ("blanks-by-place", "{{ [1] | tojson(0, 9999999) }}"),
            ("blanks-of-each", "{{ [[1]] | map('tojson', indent=9999999) | list }}"),
            ("number-in-base-16", "{{ 0X1F }}{{ 1_0e1_0 }}{{ ''[x] }}"),
        )
    ),
    Case(
        "template-settings-token",
        settings({"chat_template": "{{ ''[functions] }}", "extra_special_tokens": {"functions": "__class__"}}),
        UNKNOWN,
        JINJA,
    ),
    Case("template-settings-joined", settings({"chat_template": JOINED}), UNSAFE, JINJA),
    Case("template-settings-by-name", settings({"chat_template": {"default": JOINED}}), UNSAFE, JINJA),
    Case("markup-model", file("model.xml", '<?xml version="1.0"?>\n<PMML version="4.4"><Header/></PMML>\n'), UNKNOWN),
    Case("json-cut", file("config.json", '{"a": [1, 2, '), UNKNOWN),
    Case("json-lines-with-code", file("x.jsonl", '{"a": 1}\n{"_target_": "os.system"}\n'), UNSAFE, HYDRA),
    Case(
        "picture-with-tail",
        file("x.png", b"\x89PNG\r\n\x1a\n" + bytes(40) + b"IEND\xaeB`\x82" + b"cos\nsystem\n(S'true'\ntR."),
        frozenset({"unsafe", "unknown"}),
    ),
    Case(
        "arrow-pickled-type",
        file("x.arrow", b"ARROW1\0\0" + bytes(40) + b"arrow.py_extension_type" + bytes(40) + b"ARROW1"),
        UNSAFE,
        "https://nvd.nist.gov/vuln/detail/CVE-2023-47248",
    ),
    *(
        Case(
            f"parquet-pickled-type-{shift}",
            file(
                "x.parquet",
                b"PAR1" + bytes(40) + base64.b64encode(b"x" * shift + b"arrow.py_extension_type" + bytes(9)) + b"PAR1",
            ),
            UNSAFE,
            "https://nvd.nist.gov/vuln/detail/CVE-2023-47248",
        )
        for shift in range(3)
    ),
    Case("text-trees", file("x.txt", "# a comment\ntree\nnum_class=1\nTree=0\nnum_leaves=2\nleft_child=9\n"), UNKNOWN),
    Case("text-caffe", file("x.prototxt", 'layer {\n  type: "Python"\n  python_param { module: "x" }\n}\n'), UNKNOWN),
    Case("json-mxnet", settings({"nodes": [{"op": "Custom"}], "arg_nodes": [], "heads": []}), UNKNOWN),
    Case("safetensors-and-hdf5", _safetensors_and_hdf5, UNSAFE, "https://cwe.mitre.org/data/definitions/436.html"),
    Case("text-with-zeros", file("x.txt", b"hello\0world" * 9), UNKNOWN),
)
