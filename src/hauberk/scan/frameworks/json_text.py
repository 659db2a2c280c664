"""JSON from a file that nobody has admitted yet: bounded, and the same to every reader or not read at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import Outcome, Rule, Severity, shown

LARGEST = 64 << 20
"""Bytes of JSON text that are parsed; parsed, they take up to ten times as much memory."""
_SHOWN_KEYS = 3
_LONGEST_PATH = 300
_CONTAINERS = (dict, list)
_CONTAINERS_MOST, _VALUES_MOST = 1 << 21, 1 << 24

BROKEN = Rule(
    "json-broken",
    "JSON that cannot be read",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The text ends early, is nested too deeply or breaks the rules; what a lenient reader makes of it is open.",
    "https://www.rfc-editor.org/rfc/rfc8259",
)
TOO_LARGE = Rule(
    "json-too-large",
    "more JSON than is parsed",
    Severity.LOW,
    Outcome.UNKNOWN,
    f"Text beyond {LARGEST >> 20} MiB is not parsed, so nothing is known about it. Keep large models in a binary form.",
)
DUPLICATE = Rule(
    "json-duplicate-key",
    "one key, two values",
    Severity.MEDIUM,
    Outcome.UNSAFE,
    "Readers disagree on which of two equal keys counts, so a check can see another model than the one that is loaded.",
    "https://www.rfc-editor.org/rfc/rfc8259#section-4",
)
RULES = (BROKEN, TOO_LARGE, DUPLICATE)


def parse(content: Content, examination: Examination, *, place: str = "") -> Any:
    """Parse a whole content.

    Args:
        content: The text, in UTF-8, UTF-16 or UTF-32 as Python's reader takes it.
        examination: Reported to.
        place: Where a finding lies, in words.

    Returns:
        The value.

    Raises:
        StopScan: It cannot be parsed; the finding is noted.
    """
    if content.size > LARGEST:
        examination.find(TOO_LARGE, f"{content.size} bytes", at=place or None)
        raise StopScan
    return parse_text(content.read(0, content.size), examination, place=place)


def parse_text(text: bytes | str, examination: Examination, *, place: str = "", reader: Reader | None = None) -> Any:
    """Parse a text that has been read; see `parse`.

    Args:
        text: As for `parse`.
        examination: As for `parse`.
        place: As for `parse`.
        reader: Of somebody who parses many.

    Raises:
        StopScan: It cannot be parsed; the finding is noted.
    """
    try:
        value, repeated = (reader or Reader()).load(text)
    except RecursionError:
        examination.find(BROKEN, "nested too deeply", at=place or None)
        raise StopScan from None
    except ValueError as error:
        examination.find(BROKEN, shown(str(error)), at=place or None)
        raise StopScan from None
    find_repeated(repeated, examination, place=place)
    return value


def find_repeated(repeated: list[str], examination: Examination, *, place: str = "") -> None:
    """Report keys that stand twice."""
    for key in repeated[:_SHOWN_KEYS]:
        examination.find(DUPLICATE, f"the key {shown(key)!r} stands twice", at=place or None)


def load(text: bytes | str) -> tuple[Any, list[str]]:
    """The value of a text, and the first keys in it that stand twice in one object; see `Reader.load`."""
    return Reader().load(text)


class Reader:
    """Parses one text after the other."""

    def __init__(self) -> None:
        self._repeated: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._unique)

    def load(self, text: bytes | str) -> tuple[Any, list[str]]:
        """The value of a text, and the first keys in it that stand twice in one object.

        Raises:
            ValueError: It is no JSON, in no Unicode encoding, or holds a number of thousands of digits.
            RecursionError: It is nested too deeply.
        """
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        elif text.startswith("\ufeff"):
            raise ValueError("a byte order mark where the text is already decoded")
        containers, commas = text.count("{") + text.count("["), text.count(",")
        if containers > _CONTAINERS_MOST or commas > _VALUES_MOST:
            raise ValueError(f"about {containers} objects and lists and {commas} values are more than is parsed")
        self._repeated = []
        return self._decoder.decode(text), self._repeated

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs) and len(self._repeated) < _SHOWN_KEYS:
            counts = Counter(key for key, _ in pairs)
            self._repeated.extend(key for key, count in counts.items() if count > 1)
        return found


def nodes(value: Any, examination: Examination) -> Iterator[tuple[str, Any]]:
    """Every object and every list inside, outermost first, in the order of the text, without recursion.

    Args:
        value: Parsed JSON.
        examination: Its time limit holds.

    Yields:
        A path such as `config.layers[2]`, the middle of a long one left out, and the object or list.
    """
    stack: list[tuple[str, Iterator[tuple[Any, Any]]]] = [("", iter([(None, value)]))]
    count = 0
    while stack:
        above, children = stack[-1]
        for key, child in children:
            if isinstance(child, _CONTAINERS):
                count += 1
                if count % 4096 == 0:
                    examination.check_time()
                place = _joined(above, key)
                yield place, child
                stack.append((place, iter(child.items() if isinstance(child, dict) else enumerate(child))))
                break
        else:
            stack.pop()


def _joined(above: str, key: Any) -> str:
    """The path of something below another path."""
    if len(above) > _LONGEST_PATH:
        above = f"{above[:20]}…{above[-(_LONGEST_PATH // 2) :]}"
    if key is None:
        return above
    return (
        f"{above}[{key}]"
        if isinstance(key, int)
        else f"{above}.{key[:_LONGEST_PATH]}"
        if above
        else key[:_LONGEST_PATH]
    )
