"""Models and settings of models as text: what a library reads as a model, and what makes one import or call something.

Each of these is text to everybody else, so it is told by words that the library itself looks for, wherever they stand
and however much space is around them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from hauberk.scan.examination import Examination
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


@dataclass(frozen=True)
class _Sign:
    """What tells one kind of model.

    No pattern may take more than a few steps a byte, whatever the text is: a repetition without bound never matches
    what the pattern itself begins with, and what has to follow somewhere later is searched for by itself.

    Attributes:
        rule: What is found.
        words: One of them must stand in a text before the pattern is tried; in small letters where the pattern takes
            letters of either case.
        pattern: What is looked for.
        also: What must follow it.
        within: Bytes, at most, from the end of the one to the beginning of the other.
        fenced: Whether it is looked for between the fences of Markdown, too: where a library that reads the model
            steps over them, or a comment can hold them.
    """

    rule: Rule
    words: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    also: re.Pattern[bytes] | None = None
    within: int = 0
    fenced: bool = False

    @cached_property
    def at_start(self) -> bool:
        """Whether it can only stand at the beginning of a file."""
        return self.pattern.pattern.startswith(rb"\A")

    @cached_property
    def folded(self) -> bool:
        """Whether the pattern takes letters of either case."""
        return bool(self.pattern.flags & re.IGNORECASE)


_SIGNS = (
    _Sign(
        PROTOBUF_TEXT,
        (b"meta_graphs", b"saved_model_schema_version", b"graph_def"),
        re.compile(rb"\bmeta_graphs\b|\bsaved_model_schema_version\b\s*[:{<]|\bgraph_def\b[\s:]*[{<#]"),
    ),
    _Sign(
        PROTOBUF_TEXT, (b"node",), re.compile(rb"\bnode\b[\s:]*[{<#]"), re.compile(rb"\bop\s*:\s*[\"']"), within=4000
    ),
    _Sign(MARKUP_MODEL, (b"PMML", b"<net"), re.compile(rb"<(?:[\w.-]+:)?PMML[\s>/]|<net[\s>/]"), fenced=True),
    _Sign(MARKUP, (b"<!ENTITY", b"SYSTEM"), re.compile(rb"<!ENTITY\s|<!DOCTYPE\s[^<>]*\sSYSTEM\s"), fenced=True),
    _Sign(MARKUP, (b"<script",), re.compile(rb"<script[\s>/]", re.IGNORECASE), fenced=True),
    _Sign(
        TEXT_MODEL,
        (b"split_feature=", b"left_child="),
        re.compile(rb"(?:^|[\r\n])(?:split_feature|left_child)=[ ]{0,500}-?\d"),
        fenced=True,
    ),
    _Sign(TEXT_MODEL, (b"svm_type", b"solver_type"), re.compile(rb"(?:^|\s)(?:svm_type|solver_type)\s+[A-Za-z]\w*\s")),
    _Sign(
        TEXT_MODEL,
        (b"layer",),
        re.compile(rb"\blayers?[\s:]*[{<#]"),
        re.compile(rb"\b(?:bottom|top)\s*:\s*[\"']|\btype\s*:\s*[\"'][A-Z]"),
        within=1 << 20,
    ),
    _Sign(TEXT_MODEL, (b"python_param",), re.compile(rb"\bpython_param[\s:]*[{<]")),
    _Sign(TEXT_MODEL, (b"func.func",), re.compile(rb"\bfunc\.func\b"), re.compile(rb"@[\w$.-]{1,200}\("), within=4000),
    _Sign(
        TEXT_MODEL,
        (b"func.func", b"builtin.module"),
        re.compile(
            rb"\"(?:func\.func|builtin\.module)\"\s*\("
            rb"|\bbuiltin\.module\b\s*(?:@[\w$.-]{1,200}\s{0,200})?(?:attributes\b|\{|//)"
        ),
    ),
    _Sign(TEXT_MODEL, (b"7767517",), re.compile(rb"\A\s*7767517\s")),
    _Sign(
        TEXT_MODEL,
        (b"A\n", b"A\r", b"RD"),
        # In what R writes as text, the version of the form, of R and of the oldest R that reads it; or names.
        re.compile(
            rb"\A(?:RD[ABX]\d\r?\n[ABX]\r?\n\d|[ABX]\r?\n[23]\s{1,99}(?:\d{5,7}\s{1,99}\d{5,7}\s"
            rb"|(?:\d{1,9}\s{1,9}){2,20}[A-Za-z]))"
        ),
    ),
)
_MARKUP_WORDS = (b"<svg", b"<html", b"<body", b"<img")  # of a text in small letters
_HANDLER = re.compile(
    rb"[\s\"'/](?!on(?:line|set|going|wards?|board|site|shore|screen|device)\b)on[a-z]{3,20}\s{0,500}=", re.IGNORECASE
)
"""What a browser runs, but for words of English that begin alike."""
_TAG = re.compile(rb"<\w")
_QUOTED = re.compile(rb"=\s{0,9}(?:\"[^\"]*+\"|'[^']*+')")
_TAG_LONGEST = 2000
_RARE = (b"<", b"{", b"@", b"=", b"(", b"_")
_SHORT = 1 << 12


def stands(words: tuple[bytes, ...], text: bytes) -> bool:
    """Whether one of these words stands in a text.

    A single byte is found, or not, some thirty times as fast as a word, so words with a rare sign are looked for where
    that is.
    """
    if len(text) < _SHORT:
        return any(word in text for word in words)
    return any(word in text for word in words if (rare := _rare_sign(word)) is None or rare in text)


@cache
def _rare_sign(word: bytes) -> bytes | None:
    return next((sign for sign in _RARE if sign in word), None)


def signs(block: bytes, prose: bytes, start: int, examination: Examination) -> Iterator[tuple[Rule, bytes, int]]:
    """What a piece of text holds of models.

    Args:
        block: The piece.
        prose: The same with blanks for what stands between the fences of Markdown.
        start: Where it begins in the text; what only the beginning of a file can be is looked for at 0.
        examination: Asked for the time before each pattern.

    Yields:
        A rule, what was found, and where in the piece.

    Raises:
        StopScan: Time is up.
    """
    lowered = block.lower()
    for sign in _SIGNS:
        if start and sign.at_start:
            continue
        if stands(sign.words, lowered if sign.folded else block):
            examination.check_time()
            found = _first(sign, block if sign.fenced else prose)
            if found:
                yield sign.rule, found.group(0).strip(), found.start()
    if stands(_MARKUP_WORDS, lowered):
        examination.check_time()
        handler = _first_handler(block, examination)
        if handler:
            yield MARKUP, handler.group(0).strip(), handler.start()


def _first(sign: _Sign, text: bytes) -> re.Match[bytes] | None:
    """The first place of a sign that is followed by what must follow it."""
    if sign.also is None:
        return sign.pattern.search(text)
    places = [found.start() for found in sign.also.finditer(text)]
    for found in sign.pattern.finditer(text) if places else ():
        nearest = bisect_left(places, found.end())
        if nearest < len(places) and places[nearest] - found.end() <= sign.within:
            return found
    return None


def _first_handler(text: bytes, examination: Examination) -> re.Match[bytes] | None:
    """The first script that stands in a tag, under a name such as `onload`.

    A sign that ends tags may stand in quotes, and quotes may stand in what is no tag: either reading counts.
    """
    for found in _HANDLER.finditer(text):
        examination.check_time()
        before = text[max(0, found.start() - _TAG_LONGEST) : found.start() + 1]
        if b"<" in before and (_open_tag(before) or (b">" in before and _open_tag(_QUOTED.sub(b"", before)))):
            return found
    return None


def _open_tag(text: bytes) -> bool:
    """Whether a tag begins and does not end."""
    return _TAG.search(text, text.rfind(b">") + 1) is not None
