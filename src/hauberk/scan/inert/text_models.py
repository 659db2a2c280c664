"""Models and settings of models as text: what a library reads as a model, and what makes one import or call something.

Each of these is text to everybody else, so it is told by words that the library itself looks for, wherever they stand
and however much space is around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hauberk.scan.report import Outcome, Rule, Severity

PROTOBUF_TEXT = Rule(
    "tensorflow-text",
    "a TensorFlow graph as text",
    Severity.LOW,
    Outcome.UNKNOWN,
    "TensorFlow loads `saved_model.pbtxt` like the binary form, and the scan follows only that. Save it as binary.",
    "https://www.tensorflow.org/guide/saved_model",
)
MARKUP_MODEL = Rule(
    "model-markup",
    "a model as XML",
    Severity.LOW,
    Outcome.UNKNOWN,
    "PMML and OpenVINO keep models as XML; the scan does not follow them.",
    "https://dmg.org/pmml/v4-4-1/GeneralStructure.html",
)
MARKUP = Rule(
    "markup-reaches-out",
    "markup that holds scripts or names files",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Whoever opens it runs the script, or reads the file or address that an entity names.",
    "https://cwe.mitre.org/data/definitions/611.html",
)
TEXT_MODEL = Rule(
    "text-model",
    "a model as text",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Trees of LightGBM behind other lines, models of libsvm and liblinear, networks of Caffe (whose layers may be"
    " Python) and ncnn, graphs of MLIR, objects of R: their libraries read them, and the scan does not follow them.",
    "https://cwe.mitre.org/data/definitions/129.html",
)
RULES = (PROTOBUF_TEXT, MARKUP_MODEL, MARKUP, TEXT_MODEL)

# Rule, words of which one must stand in a text before the pattern is tried, the pattern.
_SIGNS: tuple[tuple[Rule, tuple[bytes, ...], re.Pattern[bytes]], ...] = (
    (
        PROTOBUF_TEXT,
        (b"meta_graphs", b"saved_model_schema_version", b"graph_def"),
        re.compile(rb"\bmeta_graphs\b|\b(?:saved_model_schema_version|graph_def)\b\s*[:{<]"),
    ),
    (PROTOBUF_TEXT, (b"node",), re.compile(rb"\bnode\s*:?\s*[{<](?=(?s:.{0,4000}?)\bop\s*:\s*[\"'])")),
    (MARKUP_MODEL, (b"PMML", b"<net"), re.compile(rb"<(?:[\w.-]+:)?PMML[\s>/]|<net[\s>/]")),
    (MARKUP, (b"<!ENTITY", b"SYSTEM"), re.compile(rb"<!ENTITY\s|<!DOCTYPE\s[^>]*\sSYSTEM\s")),
    (MARKUP, (b"<script", b"<SCRIPT", b"<Script"), re.compile(rb"<script[\s>/]", re.IGNORECASE)),
    (
        MARKUP,
        (b"<svg", b"<html", b"<HTML", b"<body", b"<img"),
        re.compile(rb"<\w[^>]{0,2000}?[\s\"'/]on[a-z]{3,20}\s*="),
    ),
    (TEXT_MODEL, (b"num_leaves",), re.compile(rb"(?:^|[\r\n])[ \t]*num_leaves[ \t]*=[ \t]*\d|\bnum_leaves=\d+\r")),
    (TEXT_MODEL, (b"svm_type", b"solver_type"), re.compile(rb"(?:^|\s)(?:svm_type|solver_type)\s+[A-Za-z]\w*\s")),
    (
        TEXT_MODEL,
        (b"layer",),
        re.compile(rb"(?:^|[\s}>])layers?\s*\{|\blayers?\s*:?\s*[{<](?=(?s:.{0,2000}?)\bbottom\s*:)"),
    ),
    (TEXT_MODEL, (b"python_param",), re.compile(rb"\bpython_param\s*:?\s*[{<]")),
    (TEXT_MODEL, (b"func.func", b"builtin.module"), re.compile(rb"\bfunc\.func\b|\bbuiltin\.module\b")),
    (TEXT_MODEL, (b"7767517",), re.compile(rb"\A\s*7767517\s")),
    (TEXT_MODEL, (b"A\n", b"A\r", b"RD"), re.compile(rb"\A(?:RD[ABX]\d\r?\n)?[ABX]\r?\n\d{1,3}\r?\n\d+\r?\n")),
)


def signs(block: bytes, start: int) -> Iterator[tuple[Rule, bytes, int]]:
    """What a piece of text holds of models.

    Args:
        block: The piece.
        start: Where it begins in the text; what only the beginning of a file can be is looked for at 0.

    Yields:
        A rule, what was found, and where in the piece.
    """
    for rule, words, pattern in _SIGNS:
        if any(word in block for word in words) and not (start and pattern.pattern.startswith(rb"\A")):
            found = pattern.search(block)
            if found:
                yield rule, found.group(0).strip(), found.start()
