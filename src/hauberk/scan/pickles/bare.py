"""Pickles that lie in a file as they are: one, or several behind one another, with joblib's arrays between.

What follows a pickle is followed too: programs call `pickle.load` again on the same file. What is behind the last one
and is no pickle makes the verdict unknown.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.instructions import RARE
from hauberk.scan.pickles.machine import Machine
from hauberk.scan.pickles.notorious import runs_code
from hauberk.scan.pickles.policy import allowed
from hauberk.scan.pickles.torch_names import torch_storage
from hauberk.scan.pickles.values import Bag, Mapping
from hauberk.scan.report import Outcome, Rule, shown

NEWEST_PROTOCOL = 5
_PROBED = 1 << 16
_PROBE_SECONDS = 5.0
_MOST_PICKLES = 10_000
_IDENTIFIER = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_STARTS = frozenset(code for code in range(256) if RARE[code]) | frozenset(b"(KMJGNX\x8c")


class Listener:
    """Hears what a machine finds and reports nothing.

    Args:
        examination: Keeps the time, if there is one.
        seconds: For as long it listens by itself.

    Attributes:
        heard: The rules.
        dangerous: The first thing that makes a file unsafe, in words.
    """

    def __init__(self, examination: Examination | None = None, *, seconds: float = math.inf) -> None:
        self.heard: set[Rule] = set()
        self.dangerous = ""
        self._examination = examination
        self._deadline = time.monotonic() + seconds

    def find(self, rule: Rule, what: str, *, at: int | str | None = None) -> None:
        """Keep the rule."""
        del at
        self.heard.add(rule)
        if rule.outcome is Outcome.UNSAFE and not self.dangerous:
            self.dangerous = what

    def check_time(self) -> None:
        """Raise `StopScan` when time is up."""
        if self._examination:
            self._examination.check_time()
        if time.monotonic() > self._deadline:
            raise StopScan

    @property
    def hostile(self) -> bool:
        """Whether anything was unsafe."""
        return any(rule.outcome is Outcome.UNSAFE for rule in self.heard)


def begins_pickle(head: bytes, content: Content) -> bool:
    """Whether a content is a pickle: by its first instruction, or, without one that tells, by being followed.

    Without `PROTO` in front (protocols 0 and 1, and whoever leaves it out) it must reach STOP, or call something before
    it breaks, or ask for a name that exists.
    """
    if len(head) < 2 or head[0] not in _STARTS:
        return False
    if head[0] == 0x80 and head[1] <= NEWEST_PROTOCOL:
        return True
    return _reads_as_pickle(content.part(0, min(content.size, _PROBED)), content)


def _reads_as_pickle(part: Content, content: Content) -> bool:
    listener = Listener(seconds=_PROBE_SECONDS)
    machine = Machine(part, listener, persistent=torch_storage, joblib=True)
    try:
        machine.run()
    except StopScan:
        return True
    if machine.end is not None or asks_in_earnest(machine, listener):
        return True
    if not machine.cut or part.size == content.size:
        return False
    # So far it is one. What keeps nothing (a long line, say) may still be text, and only the rest can tell.
    return bool(machine.memo) or _reads_as_pickle(content, content)


def asks_in_earnest(machine: Machine, listener: Listener) -> bool:
    """Whether what was followed, and broke, is more than text or noise that looks like a pickle."""
    refused = _identifiers(machine)
    if not refused:
        return False
    if rules.CALL in listener.heard and machine.calls:
        return True
    return len(refused) == len(machine.refused) and _exists(refused)


def _exists(names: Iterable[str]) -> bool:
    """Whether one of these names is Python's own, or known for running code."""
    return any(name.partition(".")[0] in sys.stdlib_module_names or runs_code(*_parts(name)) for name in names)


def _parts(name: str) -> tuple[str, str]:
    module, _, last = name.rpartition(".")
    return module, last


def examine_bare(content: Content, examination: Examination, start: int = 0) -> str:
    """Follow a pickle and all that come behind it; returns `joblib` where arrays lay between.

    Args:
        content: Holds them.
        examination: Is told.
        start: Where the first one begins.
    """
    from hauberk.scan.pickles.embedded import find_embedded  # noqa: PLC0415 - it looks for what this recognises

    arrays = 0
    ambiguous: list[int] = []
    first, memos = start, 0
    previous: Machine | None = None
    for count in range(1, _MOST_PICKLES + 1):
        machine = Machine(content, examination, start=start, persistent=torch_storage, joblib=True)
        if previous:
            machine.follow_on(previous)
        machine.run()
        previous = machine
        arrays += machine.arrays
        memos += bool(machine.memo)
        if machine.ambiguous:
            ambiguous.append(start)
        if machine.end is None:
            find_embedded(content, examination, start + 1)
            break
        examination.facts["pickles"] = count
        start = machine.end
        if start == content.size:
            break
        rest = content.part(start, content.size - start)
        if not begins_pickle(machine.read(start, min(64, rest.size)), rest):
            if not find_embedded(content, examination, start):
                examination.find(rules.TRAILING, f"{content.size - start} bytes", at=start)
            break
    else:
        examination.find(rules.COMPLEX, f"more than {_MOST_PICKLES} pickles", at=start)
    for each in ambiguous:
        _examine_without_arrays(content, examination, each)
    if memos > 1:
        _examine_with_one_memo(content, examination, first)
    return "joblib" if arrays else "pickle"


class _Plain(Machine):
    """The other reading of a pickle, whose references may lead to things that do not belong there.

    What comes behind the call of something that is never callable happens to nobody: every unpickler stops there.

    Attributes:
        harm: What was found that hurts without a refused name: `UNSAFE` where an unpickler gets to it for sure,
            `UNKNOWN` where it had to get past something refused; `None` for none.
    """

    harm: Outcome | None = None
    _stopped = False
    _doubtful = False

    def find(self, rule: Rule, what: str, at: int) -> None:
        """Report it, and note what it means for those who read this way."""
        if rule in _HARMFUL and not self._stopped and self.harm is not Outcome.UNSAFE:
            self.harm = Outcome.UNKNOWN if self._doubtful else Outcome.UNSAFE
        self._doubtful |= rule.outcome is Outcome.UNSAFE
        super().find(rule, what, at)

    def refuse_call(self, callee: object, at: int) -> None:
        """Something is called that must not be, or cannot be."""
        super().refuse_call(callee, at)
        self._stopped |= type(callee) in _NEVER_CALLED


def _examine_without_arrays(content: Content, examination: Examination, start: int) -> None:
    """The other reading of arrays in the stream: as instructions, by readers that know nothing of joblib.

    They run an array of objects with the memo as it is, where joblib takes a new one, and go on behind its end with
    another pickle. So honest files ask them for names that are put together of parts that do not belong together, such
    as something of `dtype`; but not for names of Python, or for functions that run code.
    """
    for machine, heard in _read_again(content, examination, start, one_memo=False):
        names = _identifiers(machine)
        if _exists(names) or machine.harm is Outcome.UNSAFE:
            asked = f"asks for {', '.join(names)[:100]}" if names else "does harm"
            examination.find(
                rules.EMBEDDED, shown(f"for readers that know nothing of joblib's arrays: {asked}"), at=start
            )
            return
        if machine.harm or (rules.CALL in heard and any(map(_may_exist, names))):
            what = f"readers that know nothing of joblib's arrays are led to {', '.join(names)[:100] or 'harm'}"
            examination.find(rules.UNCHECKED, shown(what), at=start)


def _examine_with_one_memo(content: Content, examination: Examination, start: int) -> None:
    """The other reading of pickles behind one another: by one unpickler, whose memo stays from each to the next.

    Honest files that were written one by one hold references that mean something else then, so what such a reader
    stumbles over says nothing, and what it would do is unknown.
    """
    for machine, heard in _read_again(content, examination, start, one_memo=True):
        names = _identifiers(machine)
        if rules.CALL in heard and any(runs_code(*_parts(name)) for name in names):
            what = f"for a reader that keeps its memo from pickle to pickle: asks for {', '.join(names)[:100]}"
            examination.find(rules.EMBEDDED, shown(what), at=machine.start)
            return
        if machine.harm or (rules.CALL in heard and any(map(_may_be_another, names))):
            what = f"a reader that keeps its memo from pickle to pickle is led to {', '.join(names)[:100] or 'harm'}"
            examination.find(rules.UNCHECKED, shown(what), at=machine.start)
            return


def _read_again(
    content: Content, examination: Examination, start: int, *, one_memo: bool
) -> Iterator[tuple[_Plain, set[Rule]]]:
    """Follow pickles as they lie, without arrays in the stream; each with what was found."""
    previous: Machine | None = None
    for _ in range(_MOST_PICKLES):
        listener = Listener(examination)
        machine = _Plain(content, listener, start=start, persistent=torch_storage)
        if previous:
            machine.follow_on(previous)
            if one_memo:
                machine.memo = previous.memo
        machine.run()
        previous = machine
        yield machine, listener.heard
        if machine.end is None or machine.end >= content.size:
            return
        start = machine.end


def _identifiers(machine: Machine) -> list[str]:
    return [name for name in machine.refused if _IDENTIFIER.fullmatch(name)]


def _may_exist(name: str) -> bool:
    """Whether a refused name may be installed; `dtype` of anything is numpy's, with a wrong module."""
    package, _, rest = name.partition(".")
    return _may_be_another(name) or (package in _PACKAGES and rest.rpartition(".")[2] != "dtype")


def _may_be_another(name: str) -> bool:
    """Whether a refused name is none of the allow-list that got a wrong module."""
    return name.rpartition(".")[2] not in _last_names()


@cache
def _last_names() -> frozenset[str]:
    return frozenset(name for _, name in allowed())


_PACKAGES = {"numpy", "torch", "sklearn", "joblib"}
_HARMFUL = {rules.MEMORY, rules.EXHAUSTS, rules.EXTENSION}
_NEVER_CALLED = {str, bytes, int, float, bool, type(None), tuple, list, Mapping, Bag}
