"""Chat templates: programs in the language of Jinja that travel with language models and are run for every prompt.

Most runtimes put them in Jinja's sandbox; not all did (CVE-2024-34359). From any object of a template, attributes with
leading underscores lead to Python's own functions, and no template has use for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from hauberk.scan.examination import Examination
from hauberk.scan.frameworks.template_code import Code, Token, UnreadableError, code_of
from hauberk.scan.frameworks.template_grammar import Reader, walk
from hauberk.scan.frameworks.template_policy import objections
from hauberk.scan.frameworks.template_reading import Reading
from hauberk.scan.report import Outcome, Rule, Severity, shown

ATTACK = Rule(
    "template-attack",
    "a template that reaches for Python's internals",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "Outside a sandbox such a template runs commands as soon as a prompt is put together.",
    "https://nvd.nist.gov/vuln/detail/CVE-2024-34359",
)
UNUSUAL = Rule(
    "template-unusual",
    "a template that does more than put a prompt together",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It includes other templates, builds names at run time, or is too large to look at.",
    "https://jinja.palletsprojects.com/en/stable/sandbox/",
)
PRESENT = Rule(
    "template-present",
    "a chat template",
    Severity.NOTE,
    Outcome.NOTE,
    "A small program that decides what a model is told; read it if the model answers people you do not know.",
    "https://huggingface.co/docs/transformers/chat_templating",
)
RULES = (ATTACK, UNUSUAL, PRESENT)

_LARGEST = 1 << 18  # several times what the longest of well-known models have
_CODE = re.compile(r"\{\{(.*?)(?:\}\}|\Z)|\{%(.*?)(?:%\}|\Z)", re.DOTALL)
_LINE_CODE = re.compile(r"^[ \t\v\f\r]*#\s*(?:for|if|set|include|import|from|call|extends)\b", re.MULTILINE)
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_TEXT = re.compile(r"""(?s)'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|(?P<rest>['"].*+)""")
_DUNDER = re.compile(
    r"__|\\x5f|\\u005f|\\137|\\N\{LOW LINE\}"  # two underscores, or one that is written otherwise
    r"|\.\s*_|\[\s*['\"]_|\|\s*attr\b|\bself\s*\.\s*_",
    re.IGNORECASE,
)
_NAMES = re.compile(
    r"\b(?:os|sys|subprocess|builtins|importlib|pty|socket)\s*(?:\.|\[)|\b(?:popen|getattr|eval|exec|mro|globals|locals"
    r"|func_globals|gi_frame|f_globals|get_flashed_messages|url_for|lipsum)\b"
)
_FRAMES = re.compile(r"(?:gi|cr|ag|tb)_(?:frame|code)|f_(?:globals|builtins|locals|back|code)|co_consts")
"""Attributes of generators and frames, from which Python's own functions can be reached without any underscore in
front."""
_OTHER = re.compile(r"^-?\s*(?:include|import|from|extends)\b")


def examine_template(text: str, examination: Examination, place: str, *, certain: bool = True) -> None:
    """Look at the code of a template.

    Args:
        text: All of it.
        examination: Reported to.
        place: Where it stands, in words.
        certain: Whether it is a template; of what only might be one, nothing but an attack is reported.
    """
    if "{" not in text:
        return
    if certain:
        examination.find(PRESENT, f"{len(text)} characters", at=place)
        if len(text) > _LARGEST:
            examination.find(UNUSUAL, f"{len(text)} characters", at=place)
            return
        _examine_patterns(text, examination, place)
    codes: list[Code] = []
    try:
        codes.extend(code_of(text))
        if certain:
            _examine_policy(codes, examination, place)
    except (UnreadableError, RecursionError) as error:
        if certain:
            examination.find(UNUSUAL, shown(str(error)), at=place)
    for code in codes:
        examination.check_time()
        _examine_code(code, examination, place)
        if not certain:
            _examine_lookups(code, examination, place)


def _examine_policy(codes: Sequence[Code], examination: Examination, place: str) -> None:
    """Hold all code of a template against what a prompt needs."""
    reading = Reading(codes)
    examination.check_time()
    for code, what in reading.strange:
        examination.find(UNUSUAL, f"{what}: {_words(code)}", at=place)
    for index, what, node in objections(reading, examination.check_time):
        examination.check_time()
        looked_up = node.parts[1:] if node.kind in {"subscript", "filter"} else ()
        texts = [each.value for part in looked_up for each in walk(part) if each.kind == "text"]
        inward = any("_" in each for each in texts) or "attr" in {node.value, *texts}
        examination.find(ATTACK if inward else UNUSUAL, f"{what}: {_words(reading.expressions[index].code)}", at=place)


def _examine_lookups(code: Code, examination: Examination, place: str) -> None:
    """In what might be no template: names put together of parts that begin or end with an underscore."""
    start = next((index + 1 for index, token in enumerate(code.tokens) if token.value in {"=", "in"}), 1)
    try:
        node = Reader(code.tokens[start if code.statement else 0 :]).several()
        parts = [part for each in walk(node) if each.kind in {"subscript", "filter"} for part in each.parts[1:]]
        texts = {each.value for part in parts if part.kind != "text" for each in walk(part) if each.kind == "text"}
    except (UnreadableError, RecursionError):
        return
    if any(each[:1] == "_" or each[-1:] == "_" for each in texts):
        examination.find(ATTACK, _words(code), at=place)


def _examine_patterns(text: str, examination: Examination, place: str) -> None:
    """What can be seen without reading the code as Jinja does; other programs read it in other ways."""
    end = text.rfind("#}") + 2  # behind it no comment ends, and none is looked for
    text = (_COMMENT.sub("", text[:end]) + text[end:]) if end > 1 else text
    if _LINE_CODE.search(text):
        examination.find(UNUSUAL, "statements on lines of their own", at=place)
    for found in _CODE.finditer(text):
        code = found.group(1) or found.group(2) or ""
        if _DUNDER.search(code) or _NAMES.search(_without_text(code)):
            examination.find(ATTACK, shown(" ".join(code.split())), at=place)
        elif _OTHER.search(code.lstrip("-+ \t\n")):
            examination.find(UNUSUAL, shown(" ".join(code.split())), at=place)


def _examine_code(code: Code, examination: Examination, place: str) -> None:
    """One expression or statement, by its words alone."""
    for before, token in pairwise((Token("sign", ""), *code.tokens)):
        inward = token.value.startswith("_") if before == ("sign", ".") else "__" in token.value
        inward |= bool(_FRAMES.search(token.value))
        if (inward and token.kind in {"name", "text"}) or (token.value == "attr" and before.value in {"|", "filter"}):
            examination.find(ATTACK, _words(code), at=place)
    if joined_underscores(code.tokens):
        examination.find(ATTACK, _words(code), at=place)


def _words(code: Code) -> str:
    return shown(" ".join(code.source.split()))


def joined_underscores(tokens: Sequence[Token]) -> bool:
    """Whether constants are put together so that two underscores meet, or one is repeated."""
    last = ""
    for index, token in enumerate(tokens):
        if token.kind == "text":
            if "__" in last + token.value:
                return True
            last = token.value[-1:] or last
            nearby = (tokens[max(0, index - 1)].value, tokens[min(len(tokens) - 1, index + 1)].value)
            if token.value[:1] == token.value[-1:] == "_" and "*" in nearby:
                return True
        elif token.value not in {"~", "+", "(", ")"}:
            last = ""
    return False


def _without_text(code: str) -> str:
    """Code without what stands in quotes, where names are mere text; what an open quote begins stays."""
    return _TEXT.sub(lambda found: found["rest"] or "''", code)
