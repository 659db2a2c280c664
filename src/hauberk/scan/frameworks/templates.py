"""Chat templates: programs in the language of Jinja that travel with language models and are run for every prompt.

Most runtimes put them in Jinja's sandbox; not all did (CVE-2024-34359). From any object of a template, attributes with
leading underscores lead to Python's own functions, and no template has use for them.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import pairwise

from hauberk.scan.examination import Examination
from hauberk.scan.frameworks.template_code import (
    Code,
    RefusedError,
    Token,
    TooLargeError,
    UnreadableTemplateError,
    code_of,
    parts_of,
)
from hauberk.scan.frameworks.template_grammar import words
from hauberk.scan.frameworks.template_policy import Objection, leads_inward, objections
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
    "a template that may do more than put a prompt together",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "What it does is on none of the lists of what prompts need, or it cannot be read as Jinja reads it; the finding"
    " says which. Read it before anything runs it.",
    "https://jinja.palletsprojects.com/en/stable/sandbox/",
)
TOO_LARGE = Rule(
    "template-too-large",
    "a text that is too large to be looked at as a template",
    Severity.LOW,
    Outcome.UNKNOWN,
    "It has marks of templates, and more text, more code or deeper nesting than is looked at; what the code does, if it"
    " is any, is not known.",
    "https://jinja.palletsprojects.com/en/stable/templates/",
)
PRESENT = Rule(
    "template-present",
    "a chat template",
    Severity.NOTE,
    Outcome.NOTE,
    "A small program that decides what a model is told; read it if the model answers people you do not know.",
    "https://huggingface.co/docs/transformers/chat_templating",
)
RULES = (ATTACK, UNUSUAL, TOO_LARGE, PRESENT)

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
_OTHER = re.compile(r"^-?\s*(?:include|import|from|extends)\b")
_NO_SETTINGS = ("{%", "{{")  # what neither YAML nor INI nor TOML begins with, but for keys that are no text
_LARGEST = 1 << 20  # four times the code that is read
_ACTING = words("[ ( | * ** %")


def examine_template(text: str, examination: Examination, place: str, *, certain: bool = True) -> None:
    """Look at the code of a template.

    Args:
        text: All of it.
        examination: Reported to.
        place: Where it stands, in words.
        certain: Whether it is a template. Any other text is taken for one if it has statements, or expressions that do
            more than name something, and nothing in it is certain to be refused by Jinja.
    """
    if "{" in text and _examine_whole(text, examination, place, certain=certain) is None:
        examine_parts(text, examination, place)


def examine_text(text: str, meanings: Iterable[str], examination: Examination) -> None:
    """Look at a text that may be a template, or hold some: a value of YAML is one without what stands around it.

    What a template hides, in comments and between `raw` and `endraw`, such a value may be; and names that a template
    binds are not bound in a value of its own, unless no such file begins as the text does.

    Args:
        text: All of it.
        meanings: What it stands for to somebody who takes a part out of it.
        examination: Reported to.
    """
    known = _examine_whole(text, examination, "text", certain=False)
    if not text.lstrip().startswith(_NO_SETTINGS):
        known = None
    for meant in dict.fromkeys((text, *meanings)):
        examine_parts(meant, examination, "text" if meant == text else "text in quotes", known or frozenset())


def _examine_whole(
    text: str, examination: Examination, place: str, *, certain: bool
) -> AbstractSet[tuple[Token, ...]] | None:
    """Look at a text that Jinja takes; returns the words of its code, and nothing where Jinja refuses it."""
    codes: list[Code] = []
    trouble: UnreadableTemplateError | None = None
    try:
        codes.extend(code_of(text, examination.check_time))
    except UnreadableTemplateError as error:
        trouble = error
    if not certain and isinstance(trouble, RefusedError):
        return None
    for code in codes:
        _examine_words(code, examination, place)
    known = frozenset(map(_words_of, codes))
    if not certain and not (trouble or any(map(_acts, codes))):
        return known
    if len(text) > _LARGEST:
        examination.find(TOO_LARGE, f"{len(text)} characters", at=place)
        return known
    examination.find(PRESENT, f"{len(text)} characters", at=place)
    _examine_patterns(text, examination, place)
    try:
        if trouble:
            raise trouble
        found = objections(Reading(codes, examination.check_time), examination.check_time)
        _report(found, examination, place)
    except (UnreadableTemplateError, RecursionError) as error:
        examination.find(_rule_of(error), shown(str(error)), at=place)
    return known


def _words_of(code: Code) -> tuple[Token, ...]:
    """What code says, however its texts are written."""
    return (Token("sign", "{%" if code.statement else "{{"), *code.tokens)


def examine_document(text: str, inner: Iterable[str], examination: Examination) -> None:
    """Look at a text of JSON as a template: who renders a file does not ask whether it is JSON.

    Where all of its code stands within the texts of the document, nothing is left to be looked at.

    Args:
        text: All of it.
        inner: What the texts in it stand for; each is looked at on its own.
        examination: Reported to.
    """
    try:
        found = [_of_json(code.source) for code in code_of(text, examination.check_time)]
        if Counter(found) == Counter(_sources(inner, examination)):
            return
    except RefusedError:
        return
    except TooLargeError:  # reported below
        pass
    examine_template(text, examination, "the whole text", certain=False)


def _sources(texts: Iterable[str], examination: Examination) -> Iterator[str]:
    for text in texts:
        with contextlib.suppress(RefusedError):
            yield from (code.source for code in code_of(text, examination.check_time))


def _of_json(source: str) -> str:
    """What a part of a text of JSON stands for; it itself where it is more than that."""
    with contextlib.suppress(ValueError):
        return str(json.loads(f'"{source}"', strict=False))
    return source


def examine_parts(
    text: str, examination: Examination, place: str, known: AbstractSet[tuple[Token, ...]] = frozenset()
) -> None:
    """Look at what may be code in a text that Jinja would refuse as a whole: somebody may take a part out of it.

    Prose has braces, too: where nothing reads as a statement, only what looks up by a name counts.

    Args:
        text: All of it.
        examination: Reported to.
        place: Where it stands, in words.
        known: The words of code that was looked at in another way.
    """
    try:
        parts = (code for code in parts_of(text, examination.check_time) if _words_of(code) not in known)
        reading = Reading(parts, examination.check_time, whole=False)
        acting = any(code.statement for code in reading.read)
        found = objections(reading, examination.check_time)
        _report((each for each in found if acting or each.lookup), examination, place)
    except (UnreadableTemplateError, RecursionError) as error:
        examination.find(_rule_of(error), shown(str(error)), at=place)


def _report(found: Iterable[Objection], examination: Examination, place: str) -> None:
    told: set[tuple[int, str, bool]] = set()
    for each in found:
        examination.check_time()
        if (what := (id(each.code), each.what, each.attack)) not in told:  # long code may be wrong in many places
            told.add(what)
            examination.find(ATTACK if each.attack else UNUSUAL, f"{each.what}: {_words(each.code)}", at=place)


def _rule_of(error: UnreadableTemplateError | RecursionError) -> Rule:
    return TOO_LARGE if isinstance(error, TooLargeError | RecursionError) else UNUSUAL


def _acts(code: Code) -> bool:
    """Whether code is a statement, or looks up by a key, calls, filters or multiplies."""
    return code.statement or any(token.kind == "sign" and token.value in _ACTING for token in code.tokens)


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


def _examine_words(code: Code, examination: Examination, place: str) -> None:
    """One expression or statement, by its words alone."""
    for before, token in pairwise((Token("sign", ""), *code.tokens)):
        inward = leads_inward(token.value) if before == ("sign", ".") else "__" in token.value
        if (inward and token.kind in {"name", "text"}) or (token.value == "attr" and before.value in {"|", "filter"}):
            examination.find(ATTACK, _words(code), at=place)


def _words(code: Code) -> str:
    return shown(" ".join(code.source.split()))


def _without_text(code: str) -> str:
    """Code without what stands in quotes, where names are mere text; what an open quote begins stays."""
    return _TEXT.sub(lambda found: found["rest"] or "''", code)
