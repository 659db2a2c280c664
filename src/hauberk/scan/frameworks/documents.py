"""JSON files: configurations of Keras, models of XGBoost, notebooks, and settings that name code.

One format, because JSON says what it is only after it was parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.frameworks import json_text, keras_config, xgboost
from hauberk.scan.frameworks.json_text import nodes
from hauberk.scan.frameworks.templates import RULES as TEMPLATE_RULES
from hauberk.scan.frameworks.templates import examine_document, examine_template
from hauberk.scan.inert import text
from hauberk.scan.report import Outcome, Rule, Severity, shown

NAMES_CODE = Rule(
    "json-names-code",
    "a configuration that names code",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "With `trust_remote_code` the loader downloads and runs the module that stands here.",
    "https://huggingface.co/docs/transformers/custom_models",
)
OBJECTS = Rule(
    "json-python-object",
    "JSON that makes Python objects",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "jsonpickle imports and calls what keys such as `py/object` and `py/reduce` name.",
    "https://jsonpickle.readthedocs.io/en/latest/#jsonpickle-usage",
)
NOTEBOOK = Rule(
    "source-notebook",
    "a notebook",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Its cells are code, and its outputs may hold scripts. Read it before running it.",
    "https://nbformat.readthedocs.io/en/latest/format_description.html",
)
TREE_MODEL = Rule(
    "catboost-json",
    "a model of CatBoost as JSON",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The scan does not follow this form. Save the model in CatBoost's binary form.",
    "https://catboost.ai/docs/en/concepts/json-model",
)
FOREIGN_FORM = Rule(
    "json-model",
    "a model as JSON",
    Severity.LOW,
    Outcome.UNKNOWN,
    "TensorFlow.js and PFA keep graphs and programs as JSON; the scan does not follow them.",
    "https://dmg.org/pfa/docs/document_structure/",
)
GRAPH_MODEL = Rule(
    "mxnet-json",
    "a graph of MXNet as JSON",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It may name operators of its own, which are code; the scan does not follow it. Export the model to ONNX.",
    "https://mxnet.apache.org/versions/1.9.1/api/python/docs/api/symbol/index.html",
)
_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_SPACE_MOST = 1 << 20
_AFTER_BRACKET = b'"{[]-0123456789tfn'
_CODE_KEYS = {"auto_map", "custom_pipelines", "custom_pipeline"}
_KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_EXPRESSION = re.compile(r"\$\s*+(?:import\s|from\s|.*(?:[\w\])]\(|__\w|\b(?:os|subprocess)\.\w))", re.DOTALL)
_CODE = re.compile(
    r"\$\s*+(?:import\s+\w|from\s+[\w.]++\s+import\s|.*?(?:__\w|\b(?:eval|exec|getattr)\(|\b(?:os|subprocess)\.\w))",
    re.DOTALL,
)
"""Expressions that can be nothing else; others might be formulas or prices."""
_EXPRESSION_KEYS = {"_target_", "_requires_", "imports"}
"""Of MONAI: in a document with one of them, any expression counts."""
_ADAPTED = ("transformers", "diffusers", "peft", "timm")
_TYPE_NAME = re.compile(r"[A-Za-z_][\w.]*")
_BOOSTERS = (("learner", "gradient_booster"), ("Model", "learner"))
_TELLING = (
    b"{{", b"{%", b"$", b"auto_map", b"custom_pipeline", b"attn_implementation", b"parent_library", b'"idx"', b"py/",
    b"_target_", b"class_name", b"_diffusers_version", b"\\u", b"\\/", b"\0",
)  # fmt: skip
"""One of these stands in every text in whose settings `_examine_settings` finds something: the last three are ways to
write the others otherwise."""
_OF_MODELS = frozenset(
    {"learner", "Model", "class_name", "cells", "nodes", "oblivious_trees", "trees", "modelTopology", "action"}
)
"""One of these keys stands in every object that is a model, a graph or a notebook."""
_LIBRARIES = {"diffusers", "transformers", "onnxruntime", "optimum", "flax", "sentence_transformers", None}


def recognise(head: bytes, content: Content) -> bool:
    """An object or a list, by its first two signs, however much space stands around them."""
    start = head.removeprefix(_MARK).lstrip(_SPACE)
    if len(start) < 2 or not start[1:].strip(_SPACE):
        start = content.head(_SPACE_MOST).removeprefix(_MARK).lstrip(_SPACE)
    rest = start[1:].lstrip(_SPACE)
    if not start:
        return content.size > _SPACE_MOST
    if start[:1] == b"{":
        return rest[:1] in {b'"', b"}"} or content.size > _SPACE_MOST
    return start[:1] == b"[" and bool(rest) and rest[:1] in _AFTER_BRACKET


def examine(content: Content, examination: Examination) -> str:
    """Parse it, and follow it for what it is."""
    if content.size <= json_text.LARGEST:
        raw = content.read(0, content.size)
        try:
            value, repeated = json_text.load(raw)
        except RecursionError:
            pass  # found below
        except ValueError as error:
            if "Extra data" in str(error) and _is_json(raw.split(b"\n", 1)[0]):
                return _examine_lines(raw, examination)
            if raw.removeprefix(_MARK).lstrip(_SPACE)[:1] == b"[" and text.recognise(raw[:64], content):
                return text.examine(content, examination)  # a section of an INI file, a date in brackets
        else:
            json_text.find_repeated(repeated, examination)
            kind = _examine_value(value, examination, settings=_may_hold_settings(raw))
            if _is_marked(raw):
                examined = _marked(value, examination) if kind == "json" else ()  # in models no template is looked for
                examine_document(raw.decode("utf-8", "replace"), examined, examination)
            return kind
    return _examine_value(json_text.parse(content, examination), examination)


def _may_hold_settings(raw: bytes) -> bool:
    """Whether a text must be looked through for what libraries import; most data sets and tables need not be."""
    return any(word in raw for word in _TELLING)


def _examine_value(value: Any, examination: Examination, *, settings: bool = True) -> str:
    """Follow parsed JSON, its settings only where there may be some; returns what it is."""
    if isinstance(value, dict) and not _OF_MODELS.isdisjoint(value):
        if any(
            isinstance(value.get(key), dict) and ("version" in value or inner in value[key]) for key, inner in _BOOSTERS
        ):
            xgboost.examine_model(value, examination)
            return "xgboost-json"
        if keras_config.looks_like_config(value):
            keras_config.examine_config(value, examination)
            return "keras-config"
        if "cells" in value and "nbformat" in value:
            examination.find(NOTEBOOK, f"{len(value['cells'])} cells" if isinstance(value["cells"], list) else "cells")
            return "jupyter-notebook"
        if {"nodes", "arg_nodes", "heads"} <= value.keys():
            examination.find(GRAPH_MODEL, f"{len(value['nodes'])} nodes" if isinstance(value["nodes"], list) else "")
            return "mxnet-json"
        if "oblivious_trees" in value or ("trees" in value and "model_info" in value):
            examination.find(TREE_MODEL, "a model of CatBoost")
            return "catboost-json"
        if "modelTopology" in value or _is_portable(value):
            examination.find(FOREIGN_FORM, "a model of TensorFlow.js or PFA")
    if settings:
        _examine_settings(value, examination)
    return "json"


def _is_portable(value: dict[str, Any]) -> bool:
    """Whether it is a program of PFA: what comes in and goes out are schemas, and what is done is written out."""
    return isinstance(value.get("action"), dict | list) and all(
        _is_schema(value.get(key), 2) for key in ("input", "output")
    )


def _is_schema(value: Any, depth: int) -> bool:
    """Whether it may be a schema of Avro: the name of a type, an object with one, or a list of schemas."""
    if isinstance(value, list):
        return bool(value) and depth > 0 and all(_is_schema(each, depth - 1) for each in value)
    return "type" in value if isinstance(value, dict) else isinstance(value, str) and bool(_TYPE_NAME.fullmatch(value))


def _examine_settings(value: Any, examination: Examination) -> None:
    """What libraries take from settings to import something."""
    expressions: list[tuple[str, str]] = []
    evaluates = False
    for where, each in nodes(value, examination):
        _examine_templates(each, examination, where)
        if not isinstance(each, dict):
            continue
        evaluates = evaluates or not _EXPRESSION_KEYS.isdisjoint(each)
        expressions += ((where, text) for text in _expressions(each))
        for named in _named_code(each):
            examination.find(NAMES_CODE, shown(named), at=where or None)
        if any(key.startswith("py/") for key in each):
            found = next(key for key in each if key.startswith("py/"))
            examination.find(OBJECTS, shown(f"{found}: {each[found]}"), at=where or None)
        if isinstance(each.get("_target_"), str):
            text.examine_target(each["_target_"], examination, at=where or "_target_")
        if keras_config.looks_like_config(each):
            keras_config.examine_config(each, examination, where)
        if "_diffusers_version" in each:
            _examine_pipeline(each, examination, where)
    for where, expression in expressions:
        if evaluates or _CODE.match(expression):
            examination.find(NAMES_CODE, shown(expression), at=where or None)


def _expressions(each: dict[str, Any]) -> Iterator[str]:
    """Texts that MONAI would evaluate."""
    for inner in each.values():
        if isinstance(inner, str) and inner.lstrip().startswith("$") and _EXPRESSION.match(inner.lstrip()):
            yield inner.lstrip()


def _named_code(each: dict[str, Any]) -> Iterator[str]:
    """What of an object a library imports, or downloads and runs."""
    yield from (f"{key}: {each[key]}" for key in each.keys() & _CODE_KEYS)
    for key in _KERNELS:  # the name of a repository of kernels, which are native code
        if "/" in str(each.get(key, "")):
            yield f"{key}: {each[key]}"
    library = each.get("parent_library")
    if library is not None and str(library).partition(".")[0] not in _ADAPTED:
        yield f"parent_library: {library}"
    if {"idx", "name", "path", "type"} <= each.keys():
        kind = str(each["type"])  # without a dot nothing is imported
        if "." in kind and not kind.startswith("sentence_transformers."):
            yield f"type: {kind}"


def _is_marked(text: Any) -> bool:
    """Whether there is a mark of code in a text, or in its bytes."""
    if isinstance(text, bytes):
        return b"{{" in text or b"{%" in text
    return isinstance(text, str) and ("{{" in text or "{%" in text)


def _marked(value: Any, examination: Examination) -> Iterator[str]:
    """The texts with marks of code in a value, keys left out."""
    for _, each in nodes(value, examination):
        yield from filter(_is_marked, each.values() if isinstance(each, dict) else each)


def _examine_templates(each: dict[str, Any] | list[Any], examination: Examination, where: str) -> None:
    """Texts that are templates by their place, or might be one by their marks."""
    for key, inner in each.items() if isinstance(each, dict) else enumerate(each):
        if _is_marked(inner):
            place = f"{where}.{key}" if where else str(key)
            certain = "chat_template" in place or key == "template"
            examine_template(inner, examination, place, certain=certain)


def _examine_pipeline(each: dict[str, Any], examination: Examination, where: str) -> None:
    """Parts of a pipeline of diffusers: a library to import and a class of it."""
    for key, part in each.items():
        if isinstance(part, list) and len(part) == 2 and not (part[0] in _LIBRARIES if _plain(part[0]) else False):
            examination.find(NAMES_CODE, shown(f"{key}: {part}"), at=where or None)


def _is_json(text: bytes) -> bool:
    """Whether a text is one JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _examine_lines(raw: bytes, examination: Examination) -> str:
    """One JSON value a line."""
    reader, settings, marked = json_text.Reader(), _may_hold_settings(raw), _is_marked(raw)
    templates: list[str] = []
    for count, line in enumerate(raw.split(b"\n")):
        if count % 1024 == 0:
            examination.check_time()
        if line.strip():
            try:
                value = json_text.parse_text(line, examination, place=f"line {count + 1}", reader=reader)
            except StopScan:
                return "json-lines"
            kind = _examine_value(value, examination, settings=settings)  # XGBoost reads the first value and no further
            if marked and kind == "json":
                templates += _marked(value, examination)
    if marked:
        examine_document(raw.decode("utf-8", "replace"), templates, examination)
    return "json-lines"


JSON = Format(
    "json",
    recognise,
    examine,
    (
        NAMES_CODE,
        OBJECTS,
        NOTEBOOK,
        TREE_MODEL,
        FOREIGN_FORM,
        GRAPH_MODEL,
        *json_text.RULES,
        *keras_config.RULES,
        *TEMPLATE_RULES,
        *xgboost.FORMATS[0].rules,
        *text.RULES,
    ),
)
