"""Models of scikit-learn in a `.skops` archive: a tree of nodes in `schema.json`, arrays beside it.

skops asks its user to approve the types that a file names, and several times what was shown for approval was not what
was called. Here every node is judged by what its loader would do with it, against a list of types that only hold data
(`skops_types.txt`); a method, a function of `operator` or any other name is never called safe. Its children must have
the form that skops writes (`skops_forms`).
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

from hauberk.scan.archives.kinds import ZipKind
from hauberk.scan.archives.zip import Zip
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.frameworks import json_text
from hauberk.scan.frameworks.json_text import nodes
from hauberk.scan.frameworks.skops_forms import FormError, check_form
from hauberk.scan.frameworks.skops_names import (
    BY_LOADER,
    ISOTONIC,
    SPARSE,
    UNCHECKED_TYPES,
    listed_for,
)
from hauberk.scan.frameworks.skops_rules import (
    IDENTITY,
    MEMBER,
    METHOD,
    NODE,
    OPERATOR,
    RULES,
    SPECIAL,
    TREE,
    TYPE,
    UNCHECKED,
)
from hauberk.scan.frameworks.skops_trees import Trees
from hauberk.scan.report import Rule, shown

SCHEMA = "schema.json"
_NEWEST_PROTOCOL = 2
_LISTED = {"ObjectNode", "FunctionNode", "LossNode", "TreeNode"}
_ARRAY = b"\x93NUMPY"
_READ_ANEW = 64 << 20
_LARGEST_SCALAR = 1 << 16  # bytes, with the header
_HEAD = 32  # bytes of an array in which numpy writes its type
_PLAIN_TYPE = b"{'descr': '"
_THRESHOLDS = ("X_thresholds_", "y_thresholds_")
_CURVE_COPIES = 10  # of thresholds: sorted, and in more bits


def recognise(archive: Zip) -> bool:
    """A skops archive has its tree of nodes in `schema.json`, in any encoding and spelling that JSON allows.

    Who looked at the first bytes only would take it for a plain archive where spaces or escapes stand in front.
    """
    member = archive.members.get(SCHEMA)
    if member is None or not member.readable:
        return False
    content = archive.content(SCHEMA)
    head = content.head(1 << 16)
    if (
        any(mark in head for mark in (b"__loader__", b"__class__", b"_skops_version"))
        or content.size > json_text.LARGEST
    ):
        return True
    try:
        schema, _ = json_text.load(content.read(0, content.size))
    except (ValueError, RecursionError):
        return True  # what cannot be read is told by whoever examines it
    return isinstance(schema, dict) and not {"__loader__", "__class__", "__module__", "protocol"}.isdisjoint(schema)


def examine(archive: Zip, examination: Examination) -> None:
    """Judge every node of the schema and every array."""
    for name, member in archive.members.items():
        examination.check_time()
        if member.readable:
            if name != SCHEMA and member.size:
                examination.examine(archive.content(name), shown(name))
            with contextlib.suppress(StopScan):
                archive.check(name)
    schema = json_text.parse(archive.content(SCHEMA), examination, place=SCHEMA)
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if isinstance(protocol, bool) or not isinstance(protocol, int) or not 0 <= protocol <= _NEWEST_PROTOCOL:
        examination.find(NODE, shown(f"protocol {protocol!r}"), at=SCHEMA)
    scan = _Schema(archive, examination, protocol)
    for place, each in nodes(schema, examination):
        if isinstance(each, dict) and ({"__loader__", "__class__", "__module__"} & each.keys()):
            scan.node(each, f"{SCHEMA}:{place}" if place else SCHEMA)
    scan.check_trees()
    examination.facts["nodes"] = scan.count


class _Schema:
    """The nodes of one schema."""

    def __init__(self, archive: Zip, examination: Examination, protocol: Any) -> None:
        self._archive = archive
        self._protocol = protocol
        self._examination = examination
        self.count = 0
        self._first: dict[int, dict[str, Any]] = {}
        self._made: dict[Any, Any] = {}
        self._digests: dict[str, bytes] = {}
        self._trees = Trees(archive.content, examination.unpack)
        self._held = sum(member.size for member in archive.members.values())
        self._read: set[tuple[str, int]] = set()
        self._taken = 0

    def node(self, each: dict[str, Any], at: str) -> None:
        """Judge one node; what lies in it is judged on its own."""
        self.count += 1
        loader, module, name = (each.get(key) for key in ("__loader__", "__module__", "__class__"))
        if not (isinstance(loader, str) and isinstance(module, str) and isinstance(name, str)):
            self._find(NODE, "a node without loader, module or class", at)
            return
        if not self._identity(each, at):
            return
        full = f"{module}.{name}"
        if loader == "JsonNode":  # a plain value: nobody looks at the names
            self._form(each, loader, full, at)
        elif loader in BY_LOADER:
            self._plain(each, loader, full, at)
        elif loader in _LISTED:
            self._listed(each, loader, full, at)
        elif loader == "SparseMatrixNode":
            self._sparse(each, module, name, at)
        elif loader == "MethodNode":
            called = each.get("content")
            self._find(METHOD, f"{full}, {called.get('func') if isinstance(called, dict) else 'no function'}", at)
        elif loader == "OperatorFuncNode":
            self._find(OPERATOR, full, at)
        else:
            self._find(NODE, f"{loader} for {full}", at)

    def _identity(self, each: dict[str, Any], at: str) -> bool:
        """A number that was given before stands for the node that had it first, whatever is written here.

        Returns:
            Whether the number is one.
        """
        number = each.get("__id__")
        if number is None:
            return True
        if type(number) is not int or not number:
            self._find(NODE, f"{number!r} as the number of a node", at)
            return False
        first = self._first.setdefault(number, each)
        if first is each or first == each:
            return True
        self._examination.check_time()
        if number not in self._made:
            self._made[number] = self._plainly(first)
        if self._made[number] != self._plainly(each):
            self._find(IDENTITY, f"{number!r} for two nodes", at)
        return True

    def _form(self, each: dict[str, Any], loader: str, full: str, at: str) -> bool:
        """Whether what lies in a node is what its loader takes it for."""
        try:
            check_form(each, loader, full)
        except FormError as error:
            self._find(SPECIAL if error.special else NODE, f"{full} in a {loader}: {error}", at)
            return False
        return True

    def _plainly(self, value: Any) -> Any:
        """A node by what it makes: states are new dictionaries and arrays, with new numbers, each time they are saved.

        That a number within it stands for another node is found when that node is judged.
        """
        if isinstance(value, list):
            return [self._plainly(each) for each in value]
        if not isinstance(value, dict):
            return value
        plain = {key: self._plainly(each) for key, each in value.items() if key != "__id__"}
        if isinstance(file := plain.get("file"), str) and file in self._archive.members:
            plain["file"] = self._digest(file)
        return plain

    def _digest(self, name: str) -> bytes:
        if name not in self._digests:
            self._examination.check_time()
            content = self._archive.content(name)
            self._examination.unpack(content.size)
            self._digests[name] = hashlib.sha256(content.read(0, content.size)).digest()
        return self._digests[name]

    def _plain(self, each: dict[str, Any], loader: str, full: str, at: str) -> None:
        if full not in BY_LOADER[loader]:
            self._find(TYPE, f"{full} in a {loader}", at)
            return
        if self._form(each, loader, full, at):
            if loader in {"NdArrayNode", "BytesNode", "BytearrayNode"}:
                self._member(each, full, at)
            elif loader == "MaskedArrayNode":
                self._masked(each, at)

    def _find(self, rule: Rule, what: str, at: str) -> None:
        self._examination.find(rule, shown(what), at=at)

    def _listed(self, each: dict[str, Any], loader: str, full: str, at: str) -> None:
        content = each.get("content")
        if loader == "FunctionNode" and self._protocol == 0:  # called what stands here, whatever the node is called
            inner = content if isinstance(content, dict) else {}
            full = f"{inner.get('module_path')}.{inner.get('function')}"
        elif loader == "FunctionNode" and content is not None:  # called what stands here by older loaders
            self._find(NODE, f"{full} with another function", at)
        if full.startswith(UNCHECKED_TYPES):
            self._find(UNCHECKED, full, at)
            return
        if full not in listed_for(loader):
            self._find(TYPE, f"{full} in a {loader}", at)
            return
        if not self._form(each, loader, full, at):
            return
        if loader == "TreeNode":
            self._copied(each, each["content"]["content"], at)
        elif full == ISOTONIC:
            state = content.get("content") if isinstance(content, dict) else None  # judged by its form
            held = state if isinstance(state, dict) else {}
            self._copied(each, {name: held.get(name) for name in _THRESHOLDS}, at, _CURVE_COPIES)
        self._trees.keep(each, full, at)

    def _member(self, each: dict[str, Any], full: str, at: str) -> None:
        """The member of an array or of bytes; skops reads it once for each node that names it."""
        array = each["__loader__"] == "NdArrayNode"
        if array and each.get("type") == "json":
            return
        file = each.get("file")
        if not isinstance(file, str) or file not in self._archive.members:
            self._find(MEMBER, f"file {file!r}", at)
            return
        if array and self._archive.content(file).head(len(_ARRAY)) != _ARRAY:
            self._find(MEMBER, f"file {file!r} is no array", at)
        size = self._archive.members[file].size
        if array and full not in {"numpy.ndarray", "numpy.matrix"} and size > _LARGEST_SCALAR:
            self._find(MEMBER, f"{full} made of {size} bytes", at)
        if (key := (file, each.get("__id__") or id(each))) not in self._read:
            self._read.add(key)
            self._take(size, at)

    def _take(self, size: int, at: str) -> None:
        """Account for memory that loading takes."""
        most = 2 * self._held + _READ_ANEW
        self._taken += size
        if self._taken - size <= most < self._taken:
            self._find(MEMBER, f"members of {self._held} bytes are read or copied again and again", at)

    def _copied(self, each: dict[str, Any], parts: dict[str, Any], at: str, times: int = 1) -> None:
        """Account for arrays that a node copies, be they its own or those of others under their numbers."""
        if (key := ("", each.get("__id__") or id(each))) in self._read:
            return
        self._read.add(key)
        for part in parts.values():
            file = part.get("file") if isinstance(part, dict) else None
            if isinstance(file, str) and file in self._archive.members:
                self._take(times * self._archive.members[file].size, at)

    def _masked(self, each: dict[str, Any], at: str) -> None:
        """Numpy makes a mask of its own, with a truth for each field of each item."""
        parts = each["content"]
        self._copied(each, parts, at)
        for part in parts.values():
            file = part.get("file")
            if file in self._archive.members and _PLAIN_TYPE not in self._archive.content(file).head(_HEAD):
                self._find(NODE, "a masked array of structures", at)

    def _sparse(self, each: dict[str, Any], module: str, name: str, at: str) -> None:
        if not module.startswith("scipy.sparse") or name not in SPARSE:
            self._find(TYPE, f"{module}.{name} in a SparseMatrixNode", at)
        elif each.get("type") != "scipy":
            self._find(NODE, "a sparse matrix of another kind", at)
        else:
            self._find(UNCHECKED, f"{module}.{name}", at)

    def check_trees(self) -> None:
        """What is held against trees and their ensembles, once all nodes are known."""
        for doubt, at in self._trees.doubts():
            self._find(TREE if doubt.unsafe else UNCHECKED, doubt.what, at)


ZIP_KINDS = (ZipKind("skops", recognise, examine, (*RULES, *json_text.RULES)),)
