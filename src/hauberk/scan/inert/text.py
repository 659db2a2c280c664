"""Text: no loader of models runs it, but some of it names code, and some of it is code.

`safe` of a text says that it is no model and asks no loader for anything; a shell or a Python interpreter that is
handed it may well do something. So source code and files that make loaders run code are never called safe.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.templates import RULES as TEMPLATE_RULES
from hauberk.scan.frameworks.templates import TOO_LARGE as TEMPLATE_TOO_LARGE
from hauberk.scan.frameworks.templates import examine_text
from hauberk.scan.inert import quoted, text_models
from hauberk.scan.report import Outcome, Rule, Severity, shown

YAML_OBJECT = Rule(
    "yaml-python-object",
    "YAML that makes Python objects",
    Severity.CRITICAL,
    Outcome.UNSAFE,
    "`yaml.load` with the full or the unsafe loader imports and calls what the tag names.",
    "https://github.com/yaml/pyyaml/wiki/PyYAML-yaml.load(input)-Deprecation",
)
CALLABLE = Rule(
    "config-names-callable",
    "a configuration that names what is to be called",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Hydra's `instantiate` and what is built on it import and call the target with arguments from the file.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-23304",
)
TARGET = Rule(
    "config-names-class",
    "a configuration that names classes",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Whoever instantiates it imports and calls the target; whether it is harmless is not known here.",
    "https://nvd.nist.gov/vuln/detail/CVE-2025-23304",
)
SCRIPT = Rule(
    "source-script",
    "source code",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Code beside weights runs when it is imported, or when a loader is told to trust it (`trust_remote_code`). Read it,"
    " and pass an architecture as code of your own.",
    "https://huggingface.co/docs/transformers/custom_models",
)
TOO_LARGE = Rule(
    "text-too-large",
    "more wide text than is looked at",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Of text in UTF-16 the first 64 MiB are looked at. Keep it in UTF-8.",
    "https://www.rfc-editor.org/rfc/rfc3629",
)
RULES = (TOO_LARGE, YAML_OBJECT, CALLABLE, TARGET, SCRIPT, *text_models.RULES, *TEMPLATE_RULES)

_HEAD, _BLOCK = 1 << 12, 1 << 20
_SMALL = 1 << 20
_OVERLAP = 1 << 12
_WIDE_MOST = 64 << 20
_CONTROL = bytes(code for code in range(256) if code < 0x20 and code not in b"\t\n\f\r\x1b") + b"\x7f"
_NO_CONTROL = bytes(code for code in range(256) if code not in _CONTROL)
_YAML = re.compile(rb"!!python/[a-z]{1,99}|tag:yaml\.org,2002:python/|!(?:ruby|java|php)/")
_TAG = re.compile(rb"(?<![\w/%=&.!#~+)'*;@$>-])!(?=[\w!<%])[^\s\[\]{}()\"|`]*+")
"""A tag where YAML allows one: not in a word or an address. It takes all of its letters, so no letter is read twice."""
_FOREIGN = re.compile(rb"[!:](?:python|ruby|java|php)/|!!javax?\.")
_SHORTHAND = re.compile(rb"%TAG[ \t]+![\w-]*!?[ \t]+([^\s\x85]+)")
"""Wherever it stands: readers of YAML end lines at more signs than others, and step over a byte order mark."""
_FAR_SHORTHAND = re.compile(rb"%TAG[ \t](?=[ \t\w!-]{1000})[ \t\w!-]{76}")
"""One whose parts stand so far apart that a piece of the text may hold one of them alone."""
_PYTHON_TAG = "tag:yaml.org,2002:python/"
_TARGET = re.compile(rb"""(?<!\w)_target_(?!\w)(?:["']?\s*[:=]\s*["']?([\w.]+))?""")
_CODE = re.compile(
    rb"^(?:import[ \t]+[\w.]+(?:[ \t]*(?:,|as |;|#|$))|from [\w.]+ import [\w*(]|(?:async )?def \w+[ \t]*\("
    rb"|class \w+[ \t]*[(:]|@\w[\w.]*(?:\(|$)|if __name__ ==)|__import__\(|\b(?:exec|eval|compile)\([^()\n]*+[()]"
    rb"|\bos\.system\(|\bsubprocess\.\w",
    re.MULTILINE,
)
_HYPER = re.compile(rb"""!(new|apply|name|module|include)%?:\s*["']?([\w./-]*)""")
"""Tags of HyperPyYAML, by which SpeechBrain makes objects and calls functions."""
_LOADER = re.compile(rb"""(?<![\w-])loader_module["']?\s*[:=]\s*["']?([\w.]*)""")
"""What MLflow imports to load a model."""
_CODE_WORDS = (
    b"import",
    b"def ",
    b"class ",
    b"@",
    b"__",
    b"exec(",
    b"eval(",
    b"compile(",
    b"os.system",
    b"subprocess.",
)
_FENCE = re.compile(rb"^[ \t]*+(?:```|~~~)([^\n]*+)", re.MULTILINE)
_TEMPLATE_MOST = 16 << 20  # of a text that may be a template is looked at
_TEMPLATE_MARK = re.compile(rb"\{%[-+]?[\s\x1c-\x1f\x80-\xff]*(?:[a-z]|\Z)|\{\{[^}]")
"""Jinja skips what Unicode calls blank, and what follows may lie in the next piece."""
_BREAK = rb"(?:[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9])"  # what ends a line in YAML
_ESCAPED_NAME = re.compile(rb"\\(?:[xuU][\da-fA-F]|" + _BREAK + rb")")
_ESCAPED_MARK = re.compile(rb"\\(?:x|u00|U000000)(?:7[bB]|25)|\{\\" + _BREAK)
NOTORIOUS = re.compile(
    r"^(?:builtins|os|posix|nt|sys|subprocess|shutil|socket|importlib|runpy|pty|code|ctypes|pickle|marshal|urllib|requests"
    r"|http|webbrowser|tempfile|pathlib|io|_io|torch\.(?:load|hub|package|jit\.load|ops\.load|utils\.cpp)|numpy\.load"
    r"|joblib|dill|cloudpickle|operator|functools|timeit|pydoc|pip|multiprocessing|threading|signal|inspect|gc)\b"
)
"""Targets that no configuration of a model needs."""


def recognise(head: bytes, content: Content) -> bool:
    """UTF-8 without control characters, all of it; UTF-16 by its mark."""
    if not head or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return bool(head) and _decodes(content, "utf-16")
    return not _holds_control(head) and _decodes(content, "utf-8")


def _decodes(
    content: Content, encoding: str, *, controls: bool = False, check_time: Callable[[], None] = lambda: None
) -> bool:
    """Whether all of it does, in UTF-8 without control characters unless these are taken.

    The first 4 KiB are read alone, so that other contents cost one small read.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for at in (0, *range(_HEAD, content.size, _BLOCK)):
            check_time()
            block = content.read(at, min(_BLOCK if at else _HEAD, content.size - at))
            if encoding == "utf-8" and not controls and _holds_control(block):
                return False
            decoder.decode(block, final=at + len(block) == content.size)
    except UnicodeDecodeError:
        return False
    return True


def _holds_control(block: bytes) -> bool:
    """Whether there is a control character; fifteen times as fast as an expression."""
    return bool(block.translate(None, _NO_CONTROL))


def blocks(content: Content, examination: Examination) -> Iterator[tuple[int, bytes]]:
    """A content in pieces that overlap, so that what is looked for is never cut in two; UTF-16 comes as UTF-8."""
    if content.head(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        if content.size > _WIDE_MOST:
            examination.find(TOO_LARGE, f"{content.size} bytes of UTF-16")
        text = content.read(0, min(content.size, _WIDE_MOST)).decode("utf-16", "replace").encode()
        examination.unpack(len(text))
        yield 0, text
        return
    for at in range(0, content.size, _BLOCK):
        examination.check_time()
        start = max(0, at - _OVERLAP)
        yield start, content.read(start, min(at + _BLOCK, content.size) - start)


def examine(content: Content, examination: Examination) -> str:
    """Look for what names code or is code; returns what kind of text it is."""
    head = content.head(_HEAD)
    if head.startswith((b"#!", b"@echo", b"@ECHO")):
        examination.find(SCRIPT, shown(head.split(b"\n")[0]), at=0)
    template = b""
    for start, block in blocks(content, examination):
        _examine_block(block, start, examination)
        if not template and _may_hold_template(block):
            wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            template = block if wide else content.read(0, min(content.size, _TEMPLATE_MOST + 1))
    if template:
        _examine_template(template, examination)
    return "text"


def examine_as_text(content: Content, examination: Examination) -> None:
    """Look at a content of another format as those do who take it for YAML or a template by its name, if it is UTF-8.

    Zeros are text, too, and tensors may be gigabytes of them: of a large content with control characters no more than
    the beginning is read.

    Args:
        content: Any.
        examination: Reported to.

    Raises:
        StopScan: Time is up.
    """
    if not _decodes(content, "utf-8", controls=content.size <= _SMALL, check_time=examination.check_time):
        return
    template = False
    for start, block in blocks(content, examination):
        _examine_yaml(block, start, examination)
        _examine_targets(block, start, examination)
        template = template or _may_hold_template(block)
    if template:
        _examine_template(content.read(0, min(content.size, _TEMPLATE_MOST + 1)), examination)


def _examine_template(data: bytes, examination: Examination) -> None:
    """Look at a text that may be a template, or YAML with one in quotes, which stands there otherwise."""
    if len(data) > _TEMPLATE_MOST:  # whether Jinja would refuse the rest cannot be said
        examination.find(TEMPLATE_TOO_LARGE, f"more than {_TEMPLATE_MOST} bytes", at="text")
    text = data[:_TEMPLATE_MOST].decode("utf-8", "replace")
    examine_text(text, (quoted.unescaped(text), quoted.single(text)), examination)


def _may_hold_template(block: bytes) -> bool:
    """Whether there is a mark of code, perhaps in escapes."""
    plain = text_models.stands((b"{{", b"{%"), block) and _TEMPLATE_MARK.search(block)
    return bool(plain or (b"\\" in block and _ESCAPED_MARK.search(block)))


def _examine_block(block: bytes, start: int, examination: Examination) -> None:
    """What stands in a piece of text; a quick look for words comes first, since most text has none of them."""
    _examine_yaml(block, start, examination)
    _examine_targets(block, start, examination)
    examination.check_time()
    prose = _without_fenced(block)
    for rule, what, place in text_models.signs(block, prose, start, examination):
        examination.find(rule, shown(what[:60].split(b"\n")[0]), at=start + place)
    if text_models.stands(_CODE_WORDS, block):
        code = _CODE.search(prose)
        if code:
            examination.find(SCRIPT, shown(code.group(0).strip()))


def _without_fenced(block: bytes) -> bytes:
    """A text with blanks for what stands between the fences of Markdown, fences included; each in its place."""
    if b"```" not in block and b"~~~" not in block:
        return block
    parts, done, opened = [], 0, -1
    for fence in _FENCE.finditer(block):
        if opened < 0:
            opened = fence.start()
        elif not fence.group(1).strip():
            parts += [block[done:opened], b" " * (fence.end() - opened)]
            done, opened = fence.end(), -1
    return b"".join((*parts, block[done:]))


def _examine_yaml(block: bytes, start: int, examination: Examination) -> None:
    """Tags that make objects of Python."""
    if b"!" in block:
        for found in _YAML.finditer(block):
            line = block[found.start() : found.end() + 40].split(b"\n")[0]
            examination.find(YAML_OBJECT, shown(line), at=start + found.start())
        if b"%" in block:  # tags may have letters written as numbers
            for found in _TAG.finditer(block):
                if b"%" in found.group(0) and _FOREIGN.search(unquote_to_bytes(found.group(0))):
                    examination.find(YAML_OBJECT, shown(found.group(0)[:80]), at=start + found.start())
    if b"%TAG" in block:
        for found in _SHORTHAND.finditer(block):
            prefix = found.group(1).decode("utf-8", "replace")
            if "%" in prefix or _PYTHON_TAG.startswith(prefix) or prefix.startswith(_PYTHON_TAG):
                examination.find(YAML_OBJECT, shown(found.group(0)), at=start + found.start())
        for found in _FAR_SHORTHAND.finditer(block):
            examination.find(YAML_OBJECT, shown(found.group(0)), at=start + found.start())


def _examine_targets(block: bytes, start: int, examination: Examination) -> None:
    """What `instantiate` of Hydra would call, however the key is written."""
    if b"_target_" in block:
        for found in _TARGET.finditer(block):
            target = (found.group(1) or b"written otherwise").decode("ascii", "replace")
            examine_target(target, examination, at=start + found.start())
    if b"!" in block:
        for found in _HYPER.finditer(block):
            target = found.group(2).decode("ascii", "replace")
            examine_target(
                target if found.group(1) != b"include" else "another file", examination, at=start + found.start()
            )
    if b"loader_module" in block:
        for found in _LOADER.finditer(block):
            if not found.group(1).startswith(b"mlflow."):
                examination.find(TARGET, shown(found.group(0)), at=start + found.start())
    if b"\\" in block and _ESCAPED_NAME.search(block) and quoted.escaped(block.decode("utf-8", "replace"), "_target_"):
        examination.find(CALLABLE, "the key `_target_`, written with escapes", at=start)


def examine_target(target: str, examination: Examination, at: int | str) -> None:
    """A name that `instantiate` of Hydra would call."""
    examination.find(CALLABLE if NOTORIOUS.match(target) else TARGET, shown(target), at=at)


TEXT = Format("text", recognise, examine, RULES)
