"""torch's format before zip archives: four pickles behind one another, then the storages as they are.

The pickles are a magic number, a version, facts of the machine, the object; a fifth lists the storages in the order in
which they follow, each with its number of elements in front.

Source: torch 2.13 `serialization.py`, `_legacy_load` and `_legacy_save`.
"""

from __future__ import annotations

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.bare import examine_bare
from hauberk.scan.pickles.embedded import find_embedded
from hauberk.scan.pickles.machine import Machine
from hauberk.scan.pickles.torch_names import torch_storage
from hauberk.scan.pickles.values import Mapping, Storage
from hauberk.scan.report import Outcome, Rule, Severity, shown

_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
_VERSION = 1001
_ARRAYS = "joblib.numpy_pickle.NumpyArrayWrapper"
_PARTS = ("magic number", "protocol version", "machine", "object", "keys")

STORAGE = Rule(
    "torch-stream-storage",
    "storages that are not what the pickle says",
    Severity.HIGH,
    Outcome.UNSAFE,
    "A storage that is longer or shorter than the tensors on it believe lets them read memory that is not theirs.",
    "https://nvd.nist.gov/vuln/detail/CVE-2026-24747",
)
CUT = Rule(
    "torch-stream-cut",
    "a checkpoint that is cut",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "Storages are missing at the end; download or save it again.",
)
ODD = Rule(
    "torch-stream-odd",
    "a checkpoint that torch would not write",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It has the magic number of torch's old format and does not follow it.",
)
RULES = (STORAGE, CUT, ODD, *rules.RULES, rules.EMBEDDED)


def recognise(head: bytes, _: Content) -> bool:
    """By the magic number in the first pickle."""
    return head[:1] == b"\x80" and b"\x8a\x0a" + _MAGIC_BYTES in head[:24]


def examine(content: Content, examination: Examination) -> None:
    """Follow the five pickles, then see that the storages are what they say."""
    at = 0
    results: list[object] = []
    storages: list[Storage] = []
    names: dict[str, None] = {}
    for part in _PARTS:
        machine = Machine(content, examination, start=at, persistent=torch_storage)
        machine.run()
        names |= machine.names
        if machine.end is None:
            find_embedded(content, examination, at + 1)
            return
        at = machine.end
        results.append(machine.result)
        storages += machine.storages
        if machine.storages and part != "object":
            examination.find(ODD, f"storages in the pickle of the {part}", at=at)
    magic, version, machine_facts, _, keys = results
    if magic != _MAGIC or version != _VERSION or not isinstance(machine_facts, Mapping):
        examination.find(ODD, "a magic number, version or machine that is none")
    if _ARRAYS in names:  # torch runs on where joblib steps over an array
        examination.find(ODD, "joblib's arrays")
        examine_bare(content, examination)
    examination.facts["storages"] = len({storage.key for storage in storages})
    if type(keys) is list:
        _check_storages(content, examination, at, keys, storages)
    else:
        examination.find(ODD, "no list of storages", at=at)


def _check_storages(
    content: Content, examination: Examination, at: int, keys: list[object], storages: list[Storage]
) -> None:
    known: dict[str, Storage] = {}
    for storage in storages:
        if (known.setdefault(storage.key, storage).size, storage.itemsize) != (storage.size, storage.itemsize):
            examination.find(STORAGE, f"storage {shown(storage.key)} with {storage.size} bytes, and with others")
    _check_views(examination, storages, known)
    listed = [key for key in keys if type(key) is str]  # to torch, "1" and 1 are two storages
    if len(listed) != len(keys) or set(listed) != set(known) or len(listed) != len(known):
        examination.find(STORAGE, f"{len(keys)} storages are listed, {len(known)} are used", at=at)
        return
    try:
        for number, key in enumerate(listed):
            count = int.from_bytes(content.read(at, 8), "little", signed=True)
            if count != known[key].count:
                examination.find(STORAGE, f"{count} elements in storage {shown(key)} of {known[key].count}", at=at)
                return
            at += 8 + known[key].size
            if number % 1024 == 0:
                examination.check_time()
        content.read(at, 0)
    except CutError as error:
        examination.find(CUT, str(error), at=at)
        return
    if at != content.size and not find_embedded(content, examination, at):
        examination.find(rules.TRAILING, f"{content.size - at} bytes", at=at)


def _check_views(examination: Examination, storages: list[Storage], known: dict[str, Storage]) -> None:
    """A view is known to torch by its key only, kept where storages are; torch takes the first of each key."""
    views: dict[str, Storage] = {}
    for storage in storages:
        if storage.view is None:
            continue
        first = views.setdefault(storage.view[0], storage)
        same = (first.view, first.key, first.kind) == (storage.view, storage.key, storage.kind)
        if not same or storage.view[0] in known:
            examination.find(STORAGE, f"a view {shown(storage.view[0])} that is also something else")
