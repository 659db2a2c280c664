"""An exported program (`torch.export.save`, `.pt2`): a graph of operators as JSON, and weights beside it.

The file looks like data and is not: reading it looks up the names of what to call in Python's `torch`, attribute by
attribute, hands expressions of sizes to sympy, which evaluates them as Python, imports modules that the structure of
inputs names, and makes Python code of guards. So every such text must be one that torch itself writes, by a grammar
that allows operators, arithmetic and comparisons (`exported_text`, `exported_grammar`); pickles inside are followed
like any other.

Sources: `torch/_export/serde/serialize.py`, `torch/export/pt2_archive/_package.py`, `torch/export/_unlift.py`,
`torch/utils/_pytree.py` (2.13).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from hauberk.scan.archives import torch_rules as rules
from hauberk.scan.archives.exported_grammar import is_arithmetic, is_quick
from hauberk.scan.archives.exported_text import check_guards, check_structure, check_target
from hauberk.scan.archives.torch_members import check_arrays, examine_torch_pickle
from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.report import shown

_LONGEST_JSON = 64 << 20
_NATIVE = ("/data/aotinductor/", "/data/executorch/", "/data/mtia")
_WEIGHTS, _CONSTANTS = "data/weights/", "data/constants/"
_NUMBERS = re.compile(r"(?:weight|tensor)_[0-9]+")
_TARGETS = frozenset({"target", "as_operator"})
_OLD_GRAPH = "serialized_exported_program.json"  # torch up to 2.7, all at the top


def examine_program(archive: Zip, members: dict[str, str], examination: Examination) -> set[str]:
    """Examine an exported program.

    Args:
        archive: The archive.
        members: Its members by their name below torch's root.
        examination: Of the archive.

    Returns:
        The members that were accounted for; the rest is the caller's.
    """
    used: set[str] = set()
    for name in archive.members:
        if any(folder in f"/{name.casefold()}" for folder in _NATIVE):
            examination.find(rules.NATIVE, shown(name))
    for short, name in members.items():
        # Torch takes whatever lies in that folder for a graph, and its name less five characters for the model's.
        if short.startswith("models/") or short == _OLD_GRAPH:
            with examination.inside(shown(name)) as child:
                _examine_graph(_parsed(archive, name, child), child)
            used.add(name)
    for folder in (_WEIGHTS, _CONSTANTS):
        used |= _examine_weights(archive, members, folder, examination)
    return used


def _examine_weights(archive: Zip, members: dict[str, str], folder: str, examination: Examination) -> set[str]:
    """Weights as raw numbers are named by a description; everything else in their folder is examined by its content."""
    used: set[str] = set()
    raw: set[str] = set()
    pickled: set[str] = set()
    for short, name in members.items():
        if not (short.startswith(folder) and short.endswith("_config.json")):
            continue
        with examination.inside(shown(name)) as child:
            header = _parsed(archive, name, child)
            _examine_graph(header, child)
            for path, entry in _places(header, child):
                (raw if entry.get("use_pickle") is False else pickled).add(path)
                _check_shape(archive, members.get(folder + path), entry, child)
        used.add(name)
    for path in sorted(raw | pickled):
        name = members.get(folder + path, "")
        if not name or "/" in path:
            examination.find(rules.PLACE, f"'{shown(path)}' in {folder!r}")
        elif path.startswith("opaque_obj_"):
            examine_torch_pickle(archive, name, examination)
            used.add(name)
        elif path.startswith("custom_obj_"):
            examination.find(rules.OBJECT, shown(path))
            examine_torch_pickle(archive, name, examination)
            used.add(name)
        elif not _NUMBERS.fullmatch(path):
            # Under a name of its own it may be what torch looks for first: `model.pt`, a pickle that may run anything.
            examination.find(rules.PLACE, f"numbers in '{shown(path)}'")
        elif path not in pickled:
            used.add(name)
            check_arrays(archive, {name}, examination)
    return used


def _check_shape(archive: Zip, name: str | None, entry: dict[str, Any], examination: Examination) -> None:
    """Of a weight without bytes torch makes as many zeros as its description asks for."""
    if name is None or archive.members[name].size:
        return
    match entry.get("tensor_meta"):
        case {"sizes": list(sizes)} if {"as_int": 0} in sizes:
            return
    examination.find(rules.STORAGE, f"'{shown(name)}' has no bytes, and a shape")


def _places(header: object, examination: Examination) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of weights, and what is said of each."""
    entries = header.get("config") if isinstance(header, dict) else None
    if not isinstance(entries, dict):
        examination.find(rules.JSON, "no list of weights")
        return
    for entry in entries.values():
        path = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(path, str):
            examination.find(rules.JSON, "a weight without a name")
            continue
        yield path, entry


class _TwiceError(ValueError):
    """A key occurs twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError("a key occurs twice")
    return found


def _parsed(archive: Zip, name: str, examination: Examination) -> object:
    """A member as JSON.

    Raises:
        StopScan: It is none; the finding is noted.
    """
    content = archive.content(name)
    with contextlib.suppress(StopScan):
        archive.check(name)
    if content.size > _LONGEST_JSON:
        examination.find(rules.JSON, f"{content.size} bytes")
        raise StopScan
    try:
        return json.loads(content.read(0, content.size).decode("utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        examination.find(rules.JSON, shown(str(error)))
        raise StopScan from error


def _examine_graph(program: object, examination: Examination) -> None:
    """Every text of a program that its reader does more with than to keep it, wherever it stands."""
    structures: list[str] = []
    guards: list[object] = []
    waiting: list[object] = [program]
    count = 0
    while waiting:
        count += 1
        if not count % 4096:
            examination.check_time()
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
            continue
        if not isinstance(value, dict):
            continue
        for key, each in value.items():
            if isinstance(each, str):
                _check_text(key, each, structures, examination)
            elif key == "guards_code":
                guards.append(each)
            waiting.append(each)
    check_guards(guards, structures, examination)


def _check_text(key: str, text: str, structures: list[str], examination: Examination) -> None:
    if key in _TARGETS:
        check_target(text, examination)
    elif key == "expr_str":
        if not is_arithmetic(text):
            examination.find(rules.EXPRESSION, shown(text))
        elif not is_quick(text):
            examination.find(rules.LONG_EXPRESSION, shown(text))
    elif key in {"in_spec", "out_spec"}:
        structures.append(text)
        check_structure(text, examination)
    elif key == "source_fn_stack":
        for part in text.split(";"):
            check_target(part.rpartition(",")[2], examination, looked_up=True)
